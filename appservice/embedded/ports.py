"""Choosing TCP ports on this machine by binding them, and finding out who holds one that is taken."""

import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from appservice.errors import Limit

HOST = "127.0.0.1"
_LISTENING = "0A"
_TRIES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A port somebody would like. `label` names them in sentences. `also`: distances of further ports that must be free
    (SeaweedFS: 10000 for gRPC)."""

    name: str
    port: int
    label: str = ""
    also: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A port that was free a moment ago. `said`: a sentence when it is not the wanted one, '' otherwise."""

    name: str
    port: int
    said: str = ""


def choose(wants: Iterable[Want], reserved: ExitStack) -> dict[str, Chosen]:
    """Give each its port, or the next one that is free.

    Until `reserved` is closed no other Opsroom on this machine chooses them, although nothing listens there yet.
    Raises `Limit` when nothing is free near a wanted port.
    """
    with ExitStack() as bound:
        return {want.name: _choose(want, bound, reserved) for want in wants}


def holder(port: int) -> str:
    """Say who listens on the port: 'nginx (process 812)', or '' when that cannot be found out."""
    inodes = _listening_inodes(port)
    if not inodes:
        return ""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _sockets(process) & inodes:
            return f"{_name(process)} (process {process.name})"
    return ""


def listens(pid: int, port: int) -> bool:
    """Tell whether this very process listens on the port; where there is no /proc, that is believed."""
    process = Path(f"/proc/{pid}")
    if not process.parent.is_dir():
        return True
    return bool(_sockets(process) & _listening_inodes(port))


def _choose(want: Want, bound: ExitStack, reserved: ExitStack) -> Chosen:
    for port in range(want.port, min(want.port + _TRIES, 65536)):
        every = [port, *(port + distance for distance in want.also)]
        if _take(every, _bind, bound) and _take(every, _reserve, reserved):
            return Chosen(name=want.name, port=port, said="" if port == want.port else _said(want, port))
    raise Limit(
        f"no port from {want.port} on is free for {want.label or want.name}.",
        fix="Stop what listens there, or name another port in opsroom.yaml.",
    )


def _said(want: Want, port: int) -> str:
    by = next((who for p in (want.port, *(want.port + d for d in want.also)) if (who := holder(p))), "")
    return f"Port {want.port} is taken{' by ' + by if by else ''}; {want.label or want.name} uses {port}."


def _take(every: list[int], how: Callable[[int, ExitStack], None], keep: ExitStack) -> bool:
    """Take all of these ports, or none."""
    with ExitStack() as taken:
        try:
            for port in every:
                how(port, taken)
        except (OSError, OverflowError):
            return False
        keep.push(taken.pop_all())
        return True


def _bind(port: int, taken: ExitStack) -> None:
    one = taken.enter_context(socket.socket())
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a stopped server left in TIME_WAIT is fine
    one.bind((HOST, port))
    one.listen(1)


def _reserve(port: int, taken: ExitStack) -> None:
    """Bind a name that belongs to the port. Linux keeps such names for each network, as it does ports, and gives them
    back when their owner ends."""
    if sys.platform == "linux":
        taken.enter_context(socket.socket(socket.AF_UNIX)).bind(f"\0opsroom-port-{port}")


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _sockets(process: Path) -> set[str]:
    """Inodes of the sockets a process has open; empty when it is gone or another user's."""
    found = set()
    try:
        for link in (process / "fd").iterdir():
            target = link.readlink().name
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        return found
    return found


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process"
