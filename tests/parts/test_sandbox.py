"""What an agent finds when it looks around in its sandbox: the gateway, its own folders, and nothing else."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from appservice.backends.inside import agent_user
from appservice.backends.protocol import GATEWAY_SOCKET, Backend, Sandbox
from tests.support.backends import Place, ask
from tests.support.sandbox_probe import FILES, OUTSIDE, POWERS, REACH, SECRETS, machine_addresses, resolvers


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """An agent that looks around, and what there is to be found on the machine it must not reach."""

    kind: str
    alice: Sandbox
    marker: str
    abstract: str
    ports: tuple[int, ...]

    async def probe(self, source: str, **cases: Any) -> Any:
        return await ask(self.alice, f"cases = {cases!r}\n{source}")


@pytest.fixture
async def sandbox_world(place: Place, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Two agents, a gateway's socket, and listeners of the machine on every address, on loopback and without a file."""
    marker, abstract = f"secret{token_hex(12)}", f"opsroom-test-{token_hex(6)}"
    alice, bob = place.sandbox("alice"), place.sandbox("bob")
    monkeypatch.setenv("OPSROOM_TEST_SECRET", marker)
    (place.root / "machine-secret").write_text(marker)
    for sandbox in (alice, bob):
        await place.run(backend, sandbox)
    gateway = await asyncio.start_unix_server(_greet, alice.gateway_dir / GATEWAY_SOCKET)
    (alice.gateway_dir / GATEWAY_SOCKET).chmod(0o666)
    nameless = await asyncio.start_unix_server(_greet, "\0" + abstract)
    everywhere = await asyncio.start_server(_greet, "0.0.0.0", 0)
    at_home = await asyncio.start_server(_greet, "127.0.0.1", 0)
    ports = tuple(server.sockets[0].getsockname()[1] for server in (everywhere, at_home))
    yield World(kind=place.kind, alice=alice, marker=marker, abstract=abstract, ports=ports)
    for server in (gateway, nameless, everywhere, at_home):
        server.close()


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"welcome")
    writer.close()


async def test_the_gateway_is_all_that_answers(sandbox_world: World) -> None:
    ports = [(address, port) for address in sorted(machine_addresses()) for port in sandbox_world.ports]
    found = await sandbox_world.probe(
        REACH, tcp=[*ports, *OUTSIDE], resolvers=[*resolvers(), "8.8.8.8"], abstract=sandbox_world.abstract
    )
    assert found["gateway"] == "welcome"
    assert [case for case, result in found["tcp"].items() if result == "open"] == []
    assert found["interfaces"] == ["lo"]
    assert not any(found["names"]), found["names"]
    assert not any(found["datagrams"]), found["datagrams"]
    assert found["abstract"] == ""
    assert (found["raw"], found["packet"]) == (False, False)


async def test_the_machine_does_listen_where_the_agent_knocked(sandbox_world: World) -> None:
    for port in sandbox_world.ports:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"welcome"
        writer.close()
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0" + sandbox_world.abstract)


async def test_the_internet_fails_at_once_and_not_by_waiting(sandbox_world: World) -> None:
    found = await sandbox_world.probe(REACH, tcp=list(OUTSIDE), resolvers=[], abstract=sandbox_world.abstract)
    assert not any("Timeout" in result or result == "open" for result in found["tcp"].values()), found["tcp"]


async def test_a_process_cannot_talk_to_what_is_below_a_virtual_machine(sandbox_world: World) -> None:
    if sandbox_world.kind == "docker":
        pytest.skip("Docker Engine before 23 lets its containers open vsock; docs/operating.md says so")
    found = await sandbox_world.probe(REACH, tcp=[], resolvers=[], abstract=sandbox_world.abstract)
    assert found["vsock"] is False


async def test_the_only_sockets_are_the_gateways_and_its_own(sandbox_world: World) -> None:
    found = await sandbox_world.probe(FILES)
    assert found["sockets"] == ["/run/opsroom/agent/a2a.sock", "/run/opsroom/gateway/gateway.sock"]


async def test_it_can_write_its_own_folders_only(sandbox_world: World) -> None:
    found = await sandbox_world.probe(FILES)
    own = ("/home/agent", "/tmp", "/run/opsroom/agent", "/dev/shm", "/dev/mqueue", "/dev/pts")
    assert "/home/agent" in found["writable"]
    strange = [path for path in found["writable"] if not any(Path(path).is_relative_to(folder) for folder in own)]
    assert strange == []


async def test_no_secret_but_its_own_token_is_found(sandbox_world: World) -> None:
    found = await sandbox_world.probe(SECRETS, markers=[sandbox_world.marker, "token-of-bob", "token-of-alice"])
    assert found == [["token-of-alice", "/run/opsroom/secrets/token"]]


async def test_its_variables_are_the_documented_ones(sandbox_world: World) -> None:
    found = await sandbox_world.probe(POWERS)
    from_image = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "LC_CTYPE", "LANG", "GPG_KEY"}
    allowed = {"HOME", "USER", "PATH", "PWD", "HOSTNAME", "OPSROOM_AGENT", "GREETING", *from_image}
    assert {"HOME", "USER", "OPSROOM_AGENT", "GREETING"} <= set(found["environment"]) <= allowed


async def test_it_has_no_power(sandbox_world: World) -> None:
    found = await sandbox_world.probe(POWERS)
    user = agent_user()
    assert found["capabilities"] == [""] * 5
    assert (found["no_new_privileges"], found["seccomp"]) == ("1", "2")
    assert found["uids"] == [str(user.uid)] * 4
    assert set(found["groups"]) <= {str(user.gid), "65534"}
    assert (found["user_namespace"], found["mount"], found["setuid"]) == (False, False, False)


async def test_it_sees_only_its_own_processes_and_files(sandbox_world: World) -> None:
    found = await sandbox_world.probe(POWERS)
    assert len(found["processes"]) <= 3
    assert max(found["open_files"]) < 10
    real = {
        point: how for point, how, kind in found["mounts"] if kind not in _VIRTUAL and not point.startswith("/dev/")
    }
    assert {point for point, how in real.items() if how == "rw"} <= {"/run/opsroom/agent", *_DOCKERS}
    assert not any("docker.sock" in point for point in real)


_VIRTUAL = ("tmpfs", "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "devtmpfs")
_DOCKERS = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")  # Docker's own; without write permission for the agent
