"""The REST API under whatever its own OpenAPI document allows, and under what it does not: every answer is one that the
document foresees, of the shape that it says, and none is a fault of ours.

Writes are dry runs (the whole of a write, taken back at the end of its unit), so that no agent is started by chance.
"""

from collections.abc import Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from appservice.api.openapi import document
from appservice.api.routing import Route
from appservice.api.table import Table
from tests.support.api import api
from tests.support.stack import Stack

CHECKS: Any = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 20
STOPPED = {"model": "gpt-test", "state": "Stopped"}
THERE: Mapping[str, Any] = {
    "workers": ("fuzzed", STOPPED),
    "teams": ("fuzzed-team", {"leader": {"name": "fuzzed-lead", **STOPPED}, "description": "x"}),
    "humans": ("fuzzed-human", {"displayName": "Fuzzed", "permissionLevel": 3}),
    "managers": ("fuzzed-manager", STOPPED),
}


def _routes() -> list[Route]:
    world: Any = None  # nothing is called
    return list(Table(world).routes())


ROUTES = {route.id: route for route in _routes()}
SCHEMA = schemathesis.openapi.from_dict(document(tuple(ROUTES.values())))
FOUND: list[Any] = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]
OPERATIONS = {operation.definition.raw["operationId"]: operation for operation in FOUND}


@pytest.fixture(scope="module")
async def there(stack: Stack) -> str:
    """Something of each kind, and the address."""
    async with api(stack.info["api"], stack.op.token) as rest:
        for plural, (name, spec) in THERE.items():
            made = await rest.ask("PUT", f"{plural}/{name}", {"spec": spec})
            assert made.status in (200, 201), made.body
    return str(stack.info["api"])


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_foreseen(stack: Stack, there: str, operation: str, mode: GenerationMode) -> None:
    headers = {"Authorization": f"Bearer {stack.op.token}"}
    route = ROUTES[operation]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[operation].as_strategy(generation_mode=mode), real=st.booleans())
    def run(case: Any, real: bool) -> None:
        query = dict(case.query or {})
        if any(parameter.name == "dryRun" for parameter in route.parameters):
            query["dryRun"] = "All"
        for endless in ("watch", "follow"):
            query.pop(endless, None)
        if operation == "watch":
            query["resourceVersion"] = "99999999999"  # a stream that begins has no end
            case.headers.pop("Last-Event-ID", None)
        case.query = query
        if real and route.kind is not None and "{name}" in route.path:
            case.path_parameters = {"name": THERE[route.kind.plural][0]}
        case.call_and_validate(base_url=there, headers=headers, checks=CHECKS, timeout=30)

    try:
        run()
    except Unsatisfiable:
        pytest.skip("nothing of it can be wrong")


async def test_nothing_was_changed_and_nothing_broke(stack: Stack, there: str) -> None:
    async with api(there, stack.op.token) as rest:
        for plural, (name, _) in THERE.items():
            assert (await rest.ask("GET", f"{plural}/{name}")).body["metadata"]["generation"] == 1
        async with rest.http.get(f"{there}/openapi.json") as answer:
            assert await answer.json() == document(tuple(ROUTES.values()))
    assert "request broke" not in stack.log()
