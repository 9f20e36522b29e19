"""The agent's files. The bucket is the truth; the folder is a working copy of it.

`pull` at the start and when the declaration changed, `push` after every write and before a turn is reported complete.
Managed files (listed in `.opsroom/manifest.json`) belong to the control plane and are never pushed.
"""

import asyncio
import hashlib
import logging
import os
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runtime.bucket import Bucket, Remote
from runtime.declared import CARD, MANIFEST, managed_files, read_json
from runtime.failures import Failure

MAX_FILE = 32 * 2**20
MAX_TOTAL = 256 * 2**20
MAX_FILES = 5000
REBUILDABLE = frozenset({"__pycache__", ".cache", ".venv", "node_modules"})  # never stored: they can be made again
AT_ONCE = 8

log = logging.getLogger("runtime.workspace")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file was not touched since."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Known:
    """A file as it was when folder and bucket last agreed."""

    stamp: Stamp
    etag: str


class Workspace:
    """Keeps folder and bucket the same. One pull or push at a time."""

    def __init__(self, root: Path, bucket: Bucket) -> None:
        self.root = root
        self._bucket = bucket
        self._known: dict[str, Known] = {}
        self._one = asyncio.Lock()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def revision(self) -> str:
        """The revision of the declaration that the managed files were made from; '' before the first pull."""
        return str(read_json(self.root / CARD).get("revision", ""))

    async def pull(self) -> int:
        """Make the folder what the bucket holds; return how many files were fetched. Files changed here and not yet
        pushed are kept, unless they are managed."""
        async with self._one:
            remote = {path: entry for path, entry in (await self._bucket.list()).items() if _usable(path, entry)}
            if sum(entry.size for entry in remote.values()) > MAX_TOTAL:
                raise Failure("My workspace is larger than 256 MB; an operator should remove some files.")
            await asyncio.to_thread(self.root.mkdir, parents=True, exist_ok=True)
            first = {path: remote[path] for path in (MANIFEST,) if path in remote}
            fetched = await self._fetch(first, frozenset({MANIFEST}))
            fetched += await self._fetch(remote, managed_files(self.root))
            await asyncio.to_thread(self._drop_missing, remote)
            return fetched

    async def push(self) -> int:
        """Store what was changed, made or removed here; return how many objects were written or removed. What cannot
        be stored keeps nothing else back: it is told at the end, as a Failure."""
        async with self._one:
            managed = managed_files(self.root)
            found, closed = await asyncio.to_thread(self._scan)
            changed = [p for p, stamp in found.items() if p not in managed and self._stamp_of(p) != stamp]
            problems = [f"The folder {folder} cannot be read, and is not saved." for folder in closed]
            if len(found) > MAX_FILES or sum(stamp.size for stamp in found.values()) > MAX_TOTAL:
                changed = [path for path in changed if path in self._known]
                problems.insert(0, "The workspace is full (256 MB or 5000 files), so new files are not saved.")
            hidden = tuple("" if folder == "." else f"{folder}/" for folder in closed)
            gone = [p for p in self._known if p not in found and p not in managed and not p.startswith(hidden)]
            count = await _together([self._store(path, found[path], problems) for path in changed])
            count += await _together([self._remove(path) for path in gone])
            if problems:
                more = f" {len(problems) - 1} more could not be saved." if len(problems) > 1 else ""
                raise Failure(problems[0] + more)
            return count

    def _stamp_of(self, path: str) -> Stamp | None:
        known = self._known.get(path)
        return known.stamp if known else None

    async def _fetch(self, remote: dict[str, Remote], managed: frozenset[str]) -> int:
        return await _together([self._fetch_one(path, entry, path in managed) for path, entry in remote.items()])

    async def _fetch_one(self, path: str, entry: Remote, managed: bool) -> bool:
        async with self._slots:
            known, here = self._known.get(path), _stamp(self.root / path)
            touched = here != (known.stamp if known else None)
            if known and known.etag == entry.etag and not (managed and touched):
                return False
            if here and touched and not managed and known:
                return False
            if here and await asyncio.to_thread(_md5, self.root / path) == entry.etag:
                self._known[path] = Known(here, entry.etag)
                return False
            data = await self._bucket.get(path)
            self._known[path] = Known(await asyncio.to_thread(self._write, path, data), entry.etag)
            return True

    async def _store(self, path: str, stamp: Stamp, problems: list[str]) -> bool:
        async with self._slots:
            if stamp.size > MAX_FILE:
                problems.append(f"The file {path} is larger than 32 MB and is not saved.")
                return False
            known = self._known.get(path)
            try:
                data = await asyncio.to_thread((self.root / path).read_bytes)
                etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
                if known is None or known.etag != etag:
                    etag = await self._bucket.put(path, data) or etag
            except FileNotFoundError:  # removed since the scan; the next push removes the object
                return False
            except OSError as error:
                problems.append(f"The file {path} cannot be read ({error.strerror}) and is not saved.")
                return False
            except Failure as failure:
                if failure.retry:
                    raise
                problems.append(failure.sentence)
                return False
            self._known[path] = Known(stamp, etag)
            return known is None or known.etag != etag

    async def _remove(self, path: str) -> bool:
        async with self._slots:
            await self._bucket.delete(path)
            del self._known[path]
            return True

    def _write(self, path: str, data: bytes) -> Stamp:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(self.root.resolve()):
            raise Failure(f"The file {path} cannot be loaded: its folder is a link to outside the workspace.")
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except OSError as error:
            os.unlink(temporary)
            raise Failure(f"The file {path} cannot be written: {error.strerror}.") from error
        stamp = _stamp(target)
        if stamp is None:
            raise Failure(f"The file {path} vanished while it was loaded.", retry=True)
        return stamp

    def _drop_missing(self, remote: dict[str, Remote]) -> None:
        for path in [path for path in self._known if path not in remote]:
            if _stamp(self.root / path) == self._known.pop(path).stamp:
                (self.root / path).unlink(missing_ok=True)

    def _scan(self) -> tuple[dict[str, Stamp], list[str]]:
        """The files to store, and the folders that could not be looked into."""
        found: dict[str, Stamp] = {}
        closed: list[str] = []

        def relative(path: Path) -> str:
            return path.relative_to(self.root).as_posix()

        def shut(error: OSError) -> None:
            closed.append(relative(Path(error.filename)))

        for folder, folders, names in os.walk(self.root, onerror=shut):
            folders[:] = [name for name in folders if name not in REBUILDABLE]
            try:
                stamps = {relative(path): _stamp(path) for path in (Path(folder, name) for name in names)}
            except PermissionError:
                closed.append(relative(Path(folder)))
                continue
            found |= {
                path: stamp
                for path, stamp in stamps.items()
                if stamp and path.isprintable() and not path.rpartition("/")[2].startswith(".part-")
            }
        return found, closed


async def _together(jobs: list[Coroutine[None, None, bool]]) -> int:
    """Run all; how many returned True. The first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return sum(task.result() for task in tasks)


def _usable(path: str, entry: Remote) -> bool:
    parts = PurePosixPath(path).parts
    if not path or path.endswith("/") or path.startswith("/") or ".." in parts:
        return False
    if entry.size > MAX_FILE:
        log.warning("%s is larger than 32 MB and is not loaded", path)
        return False
    return True


def _stamp(path: Path) -> Stamp | None:
    """None for what is not a plain file: links and devices are not stored."""
    if path.is_symlink() or not path.is_file():
        return None
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns)


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
