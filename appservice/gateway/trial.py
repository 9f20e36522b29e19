"""Try a configuration before it is written: `envoy --mode validate` on all of it as one static file.

Validating the real bootstrap finds nothing, because Envoy does not look into the watched files then.
"""

import asyncio
import copy
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from appservice.errors import Invalid, Unavailable
from appservice.gateway import layout
from appservice.gateway.listener import Json

_PATIENCE_S = 30


async def validate(binary: str, root: Path, static: Mapping[str, Json], dynamic: Mapping[str, Json]) -> None:
    """Raise Invalid with Envoy's own reason when it would refuse these files."""
    with tempfile.NamedTemporaryFile("w", dir=root, prefix=".trial-", suffix=".json") as file:
        json.dump(flatten(static, dynamic), file)
        file.flush()
        code, reason = await _run(binary, "--mode", "validate", "-c", file.name, "-l", "error", cwd=root)
    if code:
        fix = "The old configuration goes on running. This is a fault of Opsroom unless a provider's setting is odd."
        raise Invalid(f"Envoy refuses the new configuration: {reason}", where="gateway", fix=fix)


async def _run(binary: str, *args: str, cwd: Path) -> tuple[int, str]:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            binary, *args, cwd=cwd, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=pipe
        )
    except OSError as error:
        raise Unavailable(f"Envoy cannot be started: {error.strerror}.", where=binary) from error
    try:
        _, said = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
    except TimeoutError as error:
        raise Unavailable("Envoy took too long to check its configuration.", where=binary) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = said.decode(errors="replace").strip().splitlines()
    return process.returncode or 0, lines[-1] if lines else "no reason given"


def flatten(static: Mapping[str, Json], dynamic: Mapping[str, Json]) -> Json:
    """All files as one bootstrap without watched sources."""
    files = copy.deepcopy({**static, **dynamic})
    resources = {path: content["resources"] for path, content in files.items() if path != layout.BOOTSTRAP}
    boot = files[layout.BOOTSTRAP]
    del boot["dynamic_resources"]
    found = [_plain(item) for item in resources[layout.LISTENERS]]
    for item in found:
        for chain in item["filter_chains"]:
            for part in chain["filters"]:
                _inline(part["typed_config"], resources)
    boot["static_resources"] = {
        "listeners": found,
        "clusters": [_without_watched_keys(_plain(item)) for item in resources[layout.CLUSTERS]],
        "secrets": [_plain(item) for path, items in resources.items() if "sds-" in path for item in items],
    }
    return boot


def _plain(resource: Json) -> Json:
    return {key: value for key, value in resource.items() if key != "@type"}


def _source(discovery: Json) -> str:
    return str(discovery["config_source"]["path_config_source"]["path"])


def _inline(manager: Json, resources: Mapping[str, list[Json]]) -> None:
    manager["route_config"] = _plain(resources[_source(manager.pop("rds"))][0])
    for part in manager["http_filters"]:
        if "config_discovery" in part:
            part["typed_config"] = resources[_source(part.pop("config_discovery"))][0]["typed_config"]


def _without_watched_keys(cluster: Json) -> Json:
    for options in cluster.get("typed_extension_protocol_options", {}).values():
        for part in options.get("http_filters", []):
            credential = part["typed_config"].get("credential")
            if credential is not None:
                credential["typed_config"]["credential"].pop("sds_config")
    return cluster
