"""Look around in a running agent's sandbox by its own means: its tool runs what the (scripted) model asks for."""

import json
import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import docker
import yaml

from appservice import config
from appservice.backends.door import door
from tests.support.provider import Say, ToolCall
from tests.support.sandbox_probe import FILES, OUTSIDE, REACH, SECRETS, machine_addresses, resolvers
from tests.support.stack import KEY, Stack

# The gateway speaks HTTP, and without a token it says so.
GATEWAY = """
import socket

def status(family, address):
    with socket.socket(family) as one:
        one.settimeout(5)
        one.connect(address)
        one.sendall(b"GET /v1/models HTTP/1.1\\r\\nhost: gateway\\r\\nconnection: close\\r\\n\\r\\n")
        return one.recv(100).decode().split()[1]

answer = status(socket.AF_UNIX, "/run/opsroom/gateway/gateway.sock")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Insider:
    """An agent that is asked to look around."""

    stack: Stack
    name: str
    room: str

    @classmethod
    async def made(cls, stack: Stack, name: str) -> "Insider":
        return cls(stack=stack, name=name, room=await stack.worker(name))

    async def run(self, command: str) -> str:
        """What a shell command says that the agent's own tool runs."""
        mark = token_hex(6)
        call = ToolCall("run_command", {"command": command, "timeout_s": 120})
        self.stack.provider.when(mark, call, Say(f"seen {mark}"))
        question = await self.stack.ask(self.room, self.name, f"look around {mark}")
        await self.stack.op.answer_to(question, f"seen {mark}", 150)
        [*_, last] = [call for call in self.stack.provider.calls if mark in call.prompt]
        return str(next(m["content"] for m in reversed(last.body["messages"]) if m["role"] == "tool"))

    async def probe(self, source: str, **cases: Any) -> Any:
        """The value of `answer` after some Python. The cases are hidden in hex: what is looked for must not be found
        on the probe's own command line."""
        hidden = json.dumps(cases).encode().hex()
        script = f"import json\ncases = json.loads(bytes.fromhex('{hidden}'))\n{source}\n"
        said = await self.run(f"python3 - <<'PROBE'\n{script}print('<<' + json.dumps(answer) + '>>')\nPROBE")
        found = re.search(r"<<(.*)>>", said, re.DOTALL)
        assert found, said
        return json.loads(found.group(1))


async def gateway_alone_answers(insider: Insider) -> None:
    """Fails when anything but the gateway can be reached."""
    info = insider.stack.info
    ports = [urlsplit(info[name]).port for name in ("homeserver", "storage")]
    settings = config.load(insider.stack.data_dir)
    ports += [settings.homeserver.listen_port, insider.stack.provider.port, 22, 2375, 53]
    cases = [(address, port) for address in sorted(machine_addresses()) for port in ports]

    assert await insider.probe(GATEWAY) == "401"
    found = await insider.probe(
        REACH, tcp=[*cases, *OUTSIDE], resolvers=[*resolvers(), "8.8.8.8"], abstract="opsroom-nobody"
    )
    assert [case for case, result in found["tcp"].items() if result == "open"] == []
    assert found["interfaces"] == ["lo"]
    assert not any(found["names"]), found["names"]
    assert not any(found["datagrams"]), found["datagrams"]
    assert (found["raw"], found["packet"], found["vsock"]) == (False, False, False)
    sockets = await insider.probe(f"{FILES}\nanswer = answer['sockets']")
    assert sockets == ["/run/opsroom/agent/a2a.sock", "/run/opsroom/gateway/gateway.sock"]


async def own_token_is_the_only_secret(insider: Insider, other: str) -> None:
    """Fails when a secret of the installation is found in variables, command lines or files. `other`: another agent."""
    stack = insider.stack
    settings = config.load(stack.data_dir)
    own, others = (door(settings, name).token.read_text().strip() for name in (insider.name, other))
    found = await insider.probe(SECRETS, markers=[own, others, KEY, *installation_secrets(stack.data_dir)])
    assert found == [[own, "/run/opsroom/secrets/token"]]


def installation_secrets(data_dir: Path) -> list[str]:
    """Every secret that a running installation has on its disk, but for agents' tokens."""
    registration = yaml.safe_load((data_dir / "homeserver" / "registration.yaml").read_text())
    found = [registration["as_token"], registration["hs_token"]]
    for path in (data_dir / "secrets").iterdir():
        text = path.read_text(errors="replace")
        found += json.loads(text).values() if path.suffix == ".json" else [text.strip().splitlines()[-2:][0]]
    return [value for value in found if isinstance(value, str) and len(value) >= 12]


def containers(installation: str, name: str = "", *, host: str = "") -> list[Any]:
    """Containers of an installation, or of one of its agents, in any state."""
    labels = [f"org.opsroom.installation={installation}"] + ([f"org.opsroom.agent={name}"] if name else [])
    with closing(docker.DockerClient(base_url=host) if host else docker.from_env()) as client:
        return list(client.containers.list(all=True, filters={"label": labels}, ignore_removed=True))
