"""The pure parts of the REST API: which error is which status, selectors, merge patches, what is read and written."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from appservice import errors
from appservice.api import identity, problems, shapes, streaming
from appservice.api.bodies import as_yaml, read_map, several, written
from appservice.api.following import fresh_lines
from appservice.api.identity import MOST, Tokens
from appservice.api.merging import merged
from appservice.api.problems import Expired, Malformed, Unauthorized
from appservice.api.selecting import by_fields, by_labels
from appservice.api.streaming import resumed
from appservice.errors import Invalid, OpsroomError, Problem
from appservice.resources import registry
from appservice.resources.worker import KIND
from appservice.store.objects import Stored
from appservice.store.status import Condition, Status


def every_error(kind: type[OpsroomError] = OpsroomError) -> list[type[OpsroomError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in every_error(below))]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_is_one_status_and_has_a_title(kind: type[OpsroomError]) -> None:
    error = kind("what", where="there", fix="mend it")
    told = problems.document(error, instance="urn:x")
    assert 400 <= told["status"] < 600
    assert told["type"] == f"urn:opsroom:problem:{error.code}"
    assert told["title"] == problems.TITLES[error.code]
    assert told["problems"] == [{"what": "what", "where": "there", "fix": "mend it"}]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.Invalid, 422),
        (errors.NotFound, 404),
        (errors.Conflict, 409),
        (errors.Denied, 403),
        (errors.Unavailable, 503),
        (errors.Limit, 429),
        (Malformed, 400),
        (Unauthorized, 401),
        (Expired, 410),
        (type("Later", (errors.Conflict,), {}), 409),
    ],
)
def test_which_error_is_which_status(kind: type[OpsroomError], status: int) -> None:
    assert problems.status_of(kind("x")) == status


def test_a_bug_shows_nothing_but_its_reference() -> None:
    found = problems.foreseen(RuntimeError("a secret"), reference="ab12")
    told = problems.document(found, instance="urn:x")
    assert (told["status"], "ab12" in told["detail"], "secret" in str(told)) == (500, True, False)


def test_what_the_server_refuses_is_a_problem_document_too() -> None:
    wrong = problems.foreseen(web.HTTPMethodNotAllowed("DELETE", {"GET", "POST"}), reference="x")
    assert problems.answer(wrong, instance="x").headers["Allow"] == "GET, POST"
    assert problems.status_of(problems.foreseen(web.HTTPNotFound(), reference="x")) == 404
    assert problems.status_of(problems.foreseen(web.HTTPRequestEntityTooLarge(1, 2), reference="x")) == 413
    assert problems.status_of(problems.foreseen(web.HTTPBadRequest(), reference="x")) == 400


def test_all_problems_of_a_file_are_told() -> None:
    found = [Problem(what="a", where="line 1", excerpt="1 | x"), Problem(what="b")]
    told = problems.document(Invalid("two", problems=found), instance="x")
    assert told["problems"] == [{"what": "a", "where": "line 1", "excerpt": "1 | x"}, {"what": "b"}]


def item(phase: str = "Running", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "alice", "labels": labels}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=api", False),
        ("app!=api", True),
        ("other!=api", True),
        ("app!=web", False),
        ("app", True),
        ("other", False),
        ("app=web,tier=", True),
        (" app = web , tier ", True),
        ("app=web,other", False),
    ],
)
def test_labels_select(selector: str, fits: bool) -> None:
    assert by_labels(selector)(item(app="web", tier="")) is fits


@pytest.mark.parametrize("selector", ["=x", "a=b=c", ",", "a in (b)", "a,,b"])
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(Malformed):
        by_labels(selector)


def test_fields_select() -> None:
    assert by_fields("status.phase=Running,metadata.name!=bob")(item())
    assert not by_fields("status.phase!=Running")(item())
    for wrong in ("spec.model=x", "status.phase", "=x"):
        with pytest.raises(Malformed):
            by_fields(wrong)


# The examples of RFC 7396, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_its_rfc_says(target: Any, patch: Any, result: Any) -> None:
    before = repr(target)
    assert merged(target, patch) == result
    assert repr(target) == before


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"\xff", b'{"a": NaN}', b'{"a": "\\ud800"}', b"[" * 100_000, b'{"a": ' + b"9" * 10_000 + b"}"],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_map(data)


@pytest.mark.parametrize(
    "value", ["yes", "07", "a: b", "line\nline\n", "\t", "\u2028", "é🙂", "\\", '"', " x ", "null", "1e3", "~"]
)
def test_any_text_of_a_json_body_is_read_as_it_is(value: str) -> None:
    declared = {"metadata": {"name": "a"}, "spec": {"model": "m", "soul": value}}
    yaml = as_yaml({"apiVersion": "hiclaw.io/v1beta1", "kind": "Worker", **declared}).data
    [document] = registry.parse(yaml, source="x")
    assert document.data["spec"]["soul"] == value


def test_json_may_leave_out_what_its_address_says() -> None:
    found = written(b'{"metadata": {"resourceVersion": "7"}, "spec": {"model": "m"}}', "application/json", KIND, "a")
    [document] = registry.parse(found.data, source="x")
    assert (document.kind, document.name, found.version) == ("Worker", "a", "7")


def test_yaml_is_kept_as_it_was_written() -> None:
    text = KIND.example.encode() + b"# a remark\n"
    assert written(text, "application/yaml", KIND).data == text
    with pytest.raises(Malformed):
        written(text + b"---\n" + text, "application/yaml", KIND)


def test_several_documents_come_in_several_shapes() -> None:
    one = b'{"apiVersion": "hiclaw.io/v1beta1", "kind": "Worker", "metadata": {"name": "%s"}, "spec": {"model": "m"}}'
    a, b = one % b"a", one % b"b"
    for data in (b"[" + a + b"," + b + b"]", b'{"kind": "WorkerList", "items": [' + a + b"," + b + b"]}"):
        made, _ = several(data, "application/json")
        assert [found.name for found in registry.parse(made, source="x")] == ["a", "b"]
    with pytest.raises(Malformed):
        several(b"[1]", "application/json")


def stored(**more: Any) -> Stored:
    document: Mapping[str, Any] = {
        "apiVersion": "hiclaw.io/v1beta1",
        "kind": "Worker",
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"model": "m"},
    }
    facts: dict[str, Any] = {
        "kind": "Worker",
        "name": "a",
        "api_version": "hiclaw.io/v1beta1",
        "document": document,
        "text": "",
        "generation": 2,
        "restart": "",
        "author": "@op:hs",
        "cause": "$1",
        "created_at": 1.5,
        "changed_at": 2.0,
        "deleting": False,
        "finalizers": ("opsroom/cleanup",),
        "owner": "",
        "paused": False,
    }
    return Stored(**facts | more)


def test_an_object_is_shown_as_kubernetes_shows_one() -> None:
    ready = Condition(type="Room", status="True", reason="Joined", message="!r", since=3.0)
    status = Status(phase="Running", observed_generation=2, conditions=(ready,), facts={"roomID": "!r", "phase": "x"})
    found = shapes.shown(stored(), status, 9)
    assert found["metadata"] == {
        "name": "a",
        "labels": {"x": "y"},
        "uid": found["metadata"]["uid"],
        "generation": 2,
        "resourceVersion": "9",
        "creationTimestamp": "1970-01-01T00:00:01.500Z",
    }
    assert (found["status"]["phase"], found["status"]["roomID"]) == ("Running", "!r")
    room, ready_ = found["status"]["conditions"]
    assert room["lastTransitionTime"] == "1970-01-01T00:00:03.000Z"
    assert (ready_["type"], ready_["status"]) == ("Ready", "True")
    assert shapes.shown(stored(created_at=5.0), status, 9)["metadata"]["uid"] != found["metadata"]["uid"]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, Status(phase="Pending", observed_generation=2)),
        ({"generation": 3}, Status(phase="Running", observed_generation=2)),
        ({"restart": "$2"}, Status(phase="Running", observed_generation=2)),
        ({"deleting": True}, Status(phase="Running", observed_generation=2)),
    ],
)
def test_what_is_not_as_it_was_declared_last_is_not_ready(more: dict[str, Any], status: Status) -> None:
    [ready] = shapes.status_of(stored(**more), status)["conditions"]
    assert (ready["type"], ready["status"]) == ("Ready", "False")


@pytest.mark.parametrize(
    ("before", "now", "fresh"),
    [
        ([], ["a"], ["a"]),
        (["a"], ["a"], []),
        (["a", "b"], ["a", "b", "c"], ["c"]),
        (["a", "b"], ["b", "c"], ["c"]),
        (["a", "a"], ["a", "a", "a"], ["a"]),
        (["a"], ["x", "y"], ["x", "y"]),
    ],
)
def test_a_log_goes_on_where_it_was(before: list[str], now: list[str], fresh: list[str]) -> None:
    assert list(fresh_lines(before, now)) == fresh


def test_a_watch_goes_on_only_where_nothing_is_forgotten() -> None:
    assert resumed("5", newest=9, horizon=5) == 5
    for given in ("4", "10"):
        with pytest.raises(Expired):
            resumed(given, newest=9, horizon=5)
    for given in ("x", "-1", "٣", "1" * 30):
        with pytest.raises(Malformed):
            resumed(given, newest=9, horizon=0)


async def test_tokens_are_asked_about_once_a_minute_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def whoami(token: str) -> str:
        asked.append(token)
        if token == "slow":
            await asyncio.Event().wait()
        return "@op:hs" if token.startswith("good") else ""

    async def operators() -> frozenset[str]:
        return frozenset({"@op:hs"})

    tokens = Tokens(whoami, operators)

    class Asking:
        def __init__(self, header: str) -> None:
            self.headers = {"Authorization": header} if header else {}

    async def identify(header: str) -> Any:
        request: Any = Asking(header)
        return await tokens.identify(request)

    assert (await identify("Bearer good")).operator
    assert (await identify("bearer good")).user == "@op:hs"
    assert asked == ["good"]
    for header in ("", "Basic good", "Bearer", "Bearer bad", "Bearer b\u00e4d"):
        with pytest.raises(Unauthorized):
            await identify(header)
    for number in range(MOST + 50):
        await identify(f"Bearer good{number}")
    assert len(tokens._known) == MOST
    assert identity.KEPT_S <= 60
    monkeypatch.setattr(identity, "PATIENCE_S", 0.01)
    with pytest.raises(errors.Unavailable):
        await identify("Bearer slow")
    assert not any("good" in repr(known) for known in tokens._known)


async def test_a_reader_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SLOW_S", 0.2)
    streams, dropped = streaming.Streams(), asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        async with streams.opened(request, "ab12") as stream:
            while not streams.ended:
                await stream.send("line", {"line": "x" * 100_000})
        dropped.set()
        return stream.response

    app = web.Application()
    app.add_routes([web.get("/", endless)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        [(host, port)] = runner.addresses
        _, writer = await asyncio.open_connection(host, port, limit=1_000)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            await dropped.wait()
        assert streams.open == 0
        writer.close()
    finally:
        await runner.cleanup()
