"""From the upload of a Worker's YAML to ✅ in the ops room, against the bare start of the same sandbox.

Bare, with Docker: `docker run` of the same image with the same door and limits, until its A2A server answers at its
socket. Bare, with processes: the same bubblewrap command line, started by the backend alone. Nobody serves the bare
one's gateway, so "answers" means any answer of /healthz; the agent imports and listens all the same. Alternating.

    .venv/bin/python -m benchmarks.upload [--backend process docker] [--uploads 10]
"""

import argparse
import asyncio
import json
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx

from appservice.backends.choose import default_image
from appservice.backends.door import door
from appservice.backends.inside import agent_user, prepare_folders, write_token
from appservice.backends.process import ProcessBackend
from appservice.backends.protocol import AGENT_DIR, GATEWAY_DIR, SECRETS_DIR, Limits, Sandbox
from appservice.config import load
from benchmarks import _figures as figures
from benchmarks._figures import Spread
from tests.support.stack import Stack, opened, worker_yaml

STEPS = ("MatrixUser", "Room", "Storage", "Workspace", "Consumer", "Sandbox")
LIMIT_S = 60.0


async def answers(socket: Path) -> None:
    """Wait for any answer of /healthz."""
    deadline = time.monotonic() + LIMIT_S
    transport = httpx.AsyncHTTPTransport(uds=str(socket), verify=False)
    async with httpx.AsyncClient(transport=transport, timeout=LIMIT_S) as http:
        while True:
            try:
                await http.get("http://agent/healthz")
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "the bare agent never answered"
                await asyncio.sleep(0.01)
            else:
                return


async def bare_sandbox(stack: Stack, root: Path, name: str) -> Sandbox:
    settings = load(stack.data_dir)
    agents = settings.agents
    sandbox = Sandbox(
        name=name,
        image=default_image(settings),
        gateway_dir=door(settings, name).gateway_dir,
        agent_dir=root / f"{name}-door",
        secrets_dir=root / f"{name}-secrets",
        limits=Limits(memory_bytes=agents.memory_mb * 2**20, cpus=agents.cpus, pids=agents.pids),
    )
    await asyncio.to_thread(prepare_folders, sandbox)
    await write_token(sandbox.secrets_dir, "no.valid.token")
    return sandbox


async def bare_docker(sandbox: Sandbox) -> float:
    user = str(agent_user())
    uid, _, gid = user.partition(":")
    limits = sandbox.limits
    command = [
        *("docker", "run", "--detach", "--rm", "--init", "--network", "none", "--read-only", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges:true", "--user", user, "--name", f"bench-{sandbox.name}"),
        *("--memory", str(limits.memory_bytes), "--cpus", str(limits.cpus), "--pids-limit", str(limits.pids)),
        *("--tmpfs", "/tmp:rw,noexec,nosuid,nodev,mode=1777"),
        *("--tmpfs", f"/home/agent:rw,exec,nosuid,nodev,uid={uid},gid={gid},mode=0700"),
        *("--volume", f"{sandbox.gateway_dir.resolve()}:{GATEWAY_DIR}:ro"),
        *("--volume", f"{sandbox.agent_dir.resolve()}:{AGENT_DIR}"),
        *("--volume", f"{sandbox.secrets_dir.resolve()}:{SECRETS_DIR}:ro"),
        *("--env", f"OPSROOM_AGENT={sandbox.name}", "--env", "HOME=/home/agent", "--workdir", "/home/agent"),
        sandbox.image,
    ]
    begun = time.monotonic()
    await run(*command)
    await answers(sandbox.agent_dir / "a2a.sock")
    took = time.monotonic() - begun
    await run("docker", "rm", "--force", f"bench-{sandbox.name}")
    return took


async def bare_process(sandbox: Sandbox, backend: ProcessBackend) -> float:
    begun = time.monotonic()
    await backend.create(sandbox)
    await backend.start(sandbox.name)
    await answers(sandbox.agent_dir / "a2a.sock")
    took = time.monotonic() - begun
    await backend.remove(sandbox.name)
    return took


async def run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()


async def upload(stack: Stack, name: str) -> float:
    begun = time.monotonic()
    answer = await stack.apply(worker_yaml(name, soul="You are terse."), timeout_s=LIMIT_S * 2)
    took = time.monotonic() - begun
    assert "ready" in answer.text, answer.text
    return took


def steps(stack: Stack, name: str) -> dict[str, float]:
    """Seconds of each step, as the Worker's conditions have them."""
    store = sqlite3.connect(f"file:{load(stack.data_dir).database}?mode=ro", uri=True)
    try:
        [(status,)] = store.execute("SELECT status FROM status WHERE name = ?", (name,)).fetchall()
    finally:
        store.close()
    return {one["type"]: one["took_s"] for one in json.loads(status)["conditions"] if one["type"] in STEPS}


async def measure(backend: str, count: int) -> str:
    root = Path(tempfile.mkdtemp(prefix="ob-"))
    bare: list[float] = []
    ours: list[float] = []
    split: list[dict[str, float]] = []
    alone = ProcessBackend(state_dir=root / "sandboxes", installation="bench")
    async with opened("--no-web", "--backend", backend) as stack:
        for number in range(count + 1):
            sandbox = await bare_sandbox(stack, root, f"bare{number}")
            took = await (bare_docker(sandbox) if backend == "docker" else bare_process(sandbox, alone))
            name = f"made{number}"
            whole = await upload(stack, name)
            if number:  # the first ones warm caches up
                bare.append(took)
                ours.append(whole)
                split.append(steps(stack, name))
            await stack.command(f"!delete worker/{name} --files delete --yes")
    await alone.close()
    shutil.rmtree(root, ignore_errors=True)
    return report(backend, bare, ours, split)


def report(backend: str, bare: list[float], ours: list[float], split: list[dict[str, float]]) -> str:
    title = "docker run alone" if backend == "docker" else "bubblewrap alone"
    base = Spread.of(bare)
    rows = [
        [title, base.n, base.p50, base.p99, 1.0],
        ["upload to ready", len(ours), Spread.of(ours).p50, Spread.of(ours).p99, Spread.of(ours).p50 / base.p50],
        *([f"  {step}", len(split), median(one[step] for one in split), "", ""] for step in STEPS),
    ]
    added = median(one - other for one, other in zip(ours, bare, strict=True))
    return "\n".join(
        [
            figures.table([f"{backend} backend", "n", "p50 s", "p99 s", "x alone"], rows),
            "steps run side by side: MatrixUser then Room, beside Storage, Workspace and Consumer; Sandbox last",
            f"on top of the sandbox's own start, median of pairs: {figures.verdict(added, 1.5, ' s')}",
        ]
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", nargs="*", choices=["process", "docker"], default=["process", "docker"])
    parser.add_argument("--uploads", type=int, default=10)
    options = parser.parse_args()
    for backend in options.backend:
        print(figures.load())
        print(await measure(backend, options.uploads))
        print(figures.load(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
