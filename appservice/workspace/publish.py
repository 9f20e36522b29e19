"""Bring the managed files of an agent into its prefix of the bucket, writing only what differs.

The manifest names all managed files. It is written before a new file appears and after an old one is gone, so that a
crash in between leaves no file behind that nobody knows to be managed. The card, whose revision the agent watches,
follows all other files. Everything below the prefix belongs to the agent as well: what is read there is not trusted.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import md5
from pathlib import PurePosixPath
from typing import Protocol

from appservice.errors import NotFound
from appservice.workspace.names import CARD, MANIFEST

_LARGEST_MANIFEST = 1024 * 1024
_TYPES = {".md": "text/markdown; charset=utf-8", ".json": "application/json"}


class Stored(Protocol):
    """One object as the bucket lists it."""

    @property
    def key(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def etag(self) -> str: ...


class Bucket(Protocol):
    """What publishing needs of object storage."""

    async def list(self, prefix: str) -> Sequence[Stored]: ...

    async def get(self, key: str) -> bytes: ...

    async def put(self, key: str, data: bytes, *, content_type: str = ...) -> None: ...

    async def delete(self, keys: Sequence[str]) -> None: ...


async def publish(objects: Bucket, prefix: str, files: Mapping[str, bytes]) -> bool:
    """Make the managed files below the prefix (`agents/NAME/`) these; True if anything was written.

    An object counts as the same when its etag is the MD5 of the content, as it is for every plain put.
    """
    there = {stored.key.removeprefix(prefix): stored for stored in await objects.list(prefix)}
    before = await _managed(objects, prefix, there.get(MANIFEST))
    gone = sorted((before & there.keys()) - files.keys())  # so a path that leads elsewhere can never be deleted
    covering, final = _manifest({*files, *gone}), _manifest(files)
    wrote = await _put_if_other(objects, prefix, MANIFEST, covering, there)
    for path in sorted(files, key=lambda path: (path == CARD, path)):
        wrote |= await _put_if_other(objects, prefix, path, files[path], there)
    if gone:
        await objects.delete([prefix + path for path in gone])
        await _put(objects, prefix, MANIFEST, final)
    return wrote or bool(gone)


async def managed(objects: Bucket, prefix: str) -> frozenset[str]:
    """Paths below the prefix that are the declaration's, not the agent's own work."""
    there = {stored.key.removeprefix(prefix): stored for stored in await objects.list(prefix)}
    return await _managed(objects, prefix, there.get(MANIFEST)) | {MANIFEST}


async def _managed(objects: Bucket, prefix: str, stored: Stored | None) -> frozenset[str]:
    """Paths of the files that were managed so far. A manifest that is missing or spoiled names none."""
    if stored is None or stored.size > _LARGEST_MANIFEST:
        return frozenset()
    try:
        found = json.loads(await objects.get(prefix + MANIFEST))
        listed = found["files"]
    except (NotFound, ValueError, TypeError, KeyError, RecursionError):
        return frozenset()
    named = listed if isinstance(listed, list) else []
    return frozenset(path for path in named if isinstance(path, str) and path != MANIFEST)


async def _put_if_other(objects: Bucket, prefix: str, path: str, data: bytes, there: Mapping[str, Stored]) -> bool:
    same = path in there and there[path].etag == md5(data, usedforsecurity=False).hexdigest()
    if not same:
        await _put(objects, prefix, path, data)
    return not same


async def _put(objects: Bucket, prefix: str, path: str, data: bytes) -> None:
    kind = _TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")
    await objects.put(prefix + path, data, content_type=kind)


def _manifest(paths: Iterable[str]) -> bytes:
    """The same files give the same bytes."""
    return (json.dumps({"files": sorted(paths)}, ensure_ascii=False, indent=2) + "\n").encode()
