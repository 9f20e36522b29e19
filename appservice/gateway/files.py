"""The gateway's files on disk: read, written atomically (Envoy watches for the rename), and swept."""

import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from appservice.gateway import layout
from appservice.gateway.listener import Json
from appservice.gateway.protocol import Provider
from appservice.gateway.xds import FORMAT

_SECRETS = "secrets"


def write_json(root: Path, path: str, content: Json, *, at_once: bool = False) -> None:
    write(root / path, json.dumps(content, separators=(",", ":")).encode(), at_once=at_once)


def write(target: Path, data: bytes, *, at_once: bool = False) -> None:
    """Replace the file whole: readers see the old or the new content. Mode 0600.

    `at_once`: rename before the disk has it, for revocations, which must not wait for a busy disk. Should the machine
    lose power in between, `intact` finds the damage before Envoy starts."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if at_once:
                Path(temporary).replace(target)
            os.fsync(file.fileno())
        if not at_once:
            Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_json(root: Path, path: str) -> Json | None:
    """The content, or None when there is none of this program's format."""
    try:
        found = json.loads((root / path).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    ours = isinstance(found, dict) and found.get("control_plane", {}).get("identifier") == FORMAT
    return found if ours else None


def key_paths(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.glob(layout.key_file("*")))


def read_all(root: Path) -> dict[str, Json]:
    """Every file that may change while Envoy runs, as it is on disk."""
    names = [layout.DENY, layout.GRANTS, layout.JWT, layout.ROUTES, layout.CLUSTERS, *key_paths(root)]
    found = {name: read_json(root, name) for name in names}
    return {name: content for name, content in found.items() if content is not None}


def keep_secrets(root: Path, providers: Iterable[Provider]) -> Mapping[str, str]:
    """Have a file for each provider's key: the present one while the key is the same, else a new one.

    A new file for a new key, because Envoy must never read half a change."""
    found = {}
    for provider in providers:
        if provider.key:
            found[provider.name] = _present(root, provider) or _new_secret(root, provider)
    return found


def _present(root: Path, provider: Provider) -> str:
    content = read_json(root, layout.key_file(provider.name))
    path = _secret_of(content) if content else ""
    if not path or not (root / path).is_file():
        return ""
    return path if (root / path).read_text() == provider.key else ""


def _new_secret(root: Path, provider: Provider) -> str:
    path = f"{_SECRETS}/{provider.name}-{secrets.token_hex(4)}"
    write(root / path, provider.key.encode())
    return path


def _secret_of(key_content: Json) -> str:
    return str(key_content["resources"][0]["generic_secret"]["secret"]["filename"])


def intact(root: Path) -> bool:
    """Whether Envoy could start from what is on disk."""
    found = read_all(root)
    if not {layout.DENY, layout.GRANTS, layout.JWT, layout.ROUTES, layout.CLUSTERS} <= found.keys():
        return False
    named = json.dumps(found[layout.CLUSTERS])
    present = {path for path in key_paths(root) if path in found and (root / _secret_of(found[path])).is_file()}
    wanted = {part for part in named.split('"') if part.startswith(layout.key_file("").removesuffix(".json"))}
    return wanted <= present


def sweep(root: Path, keep: Iterable[str]) -> None:
    """Delete files of provider keys that nothing names any more, and what a crash left half written."""
    kept = set(keep)
    for path in key_paths(root):
        if path not in kept:
            (root / path).unlink()
    used = {_secret_of(content) for name, content in read_all(root).items() if name in kept and "sds-" in name}
    for file in (root / _SECRETS).iterdir():
        if str(file.relative_to(root)) not in used:
            file.unlink()
    for leftover in (root / "xds").glob(".new-*"):
        leftover.unlink()
