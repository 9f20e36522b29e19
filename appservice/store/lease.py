"""One control plane at a time on one database: whoever comes second waits, and takes over when the first is gone.

An OS lock on a file beside the database says who works. The kernel lets go of it when its holder ends, `kill -9`
included, so there is no clock, no renewing, and no moment in which two believe that they work. One that is stopped
(SIGSTOP) or hangs goes on holding it: nobody takes over from a process that may wake up and go on.

What it does not cover: a file system that does not keep locks for all machines that mount it (NFS with `nolock`), or
that takes one back while its holder goes on (NFSv4 after a long loss of the network); a lock file that was deleted by
hand while it was held; two copies of a database. SQLite's own log needs one machine and a local disk all the same.
"""

import asyncio
import fcntl
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import structlog

from appservice.errors import Conflict, Unavailable

ENDING = ".lock"
LOOK_EVERY_S = 0.2

log = structlog.get_logger()


@asynccontextmanager
async def alone(database: Path) -> AsyncIterator[None]:
    """Wait until nobody else works on this database, and be the one who does. Raises Unavailable where files cannot
    be locked."""
    path = _beside(database)
    held, told = _open(path), False
    try:
        while not _locked(held, path):
            if not told:
                sentence = f"waits for {_holder(held)}, which works on this database"
                log.warning(sentence, lock=str(path))
                told = True
            await asyncio.sleep(LOOK_EVERY_S)
        _sign(held)
        if told:
            log.warning("takes over the database", lock=str(path))
        yield
    finally:
        os.close(held)


@contextmanager
def at_once(database: Path) -> Iterator[None]:
    """The same for whoever does not wait. Raises Conflict, which names who works on it."""
    path = _beside(database)
    held = _open(path)
    try:
        if not _locked(held, path):
            raise Conflict(
                f"{_holder(held)} works on {database}.",
                fix="Stop it first: a service where services are stopped, another `opsroom` with Ctrl-C or `kill`.",
            )
        _sign(held)
        yield
    finally:
        os.close(held)


def somebody_else(database: Path, pid: int) -> str:
    """Who works on this database, '' when nobody does or this process."""
    path = _beside(database)
    held = _open(path)
    try:
        found = "" if _locked(held, path) else _holder(held)
    finally:
        os.close(held)
    return "" if found == _name(pid) else found


def _beside(database: Path) -> Path:
    """The same file, by whichever link the database is named. It stays when it is let go of: a deleted one could be
    locked by two."""
    found = database.resolve()
    found.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return found.with_name(found.name + ENDING)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _locked(held: int, path: Path) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be locked: {error.strerror}. Two could work on one database at the same time.",
            fix="Keep the data directory on a local disk.",
        ) from error
    return True


def _sign(held: int) -> None:
    os.ftruncate(held, 0)
    os.pwrite(held, _name(os.getpid()).encode(), 0)


def _holder(held: int) -> str:
    return os.pread(held, 200, 0).decode(errors="replace") or "another process"


def _name(pid: int) -> str:
    return f"process {pid} on {socket.gethostname()}"
