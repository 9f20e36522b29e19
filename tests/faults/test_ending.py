"""The end of `opsroom up`: no agent outlives it."""

import os
import signal
from contextlib import suppress

import pytest

from tests.support import faults
from tests.support.stack import opened, worker_yaml

pytestmark = pytest.mark.timeout(300)


async def test_ctrl_c_ends_agents_that_run_or_are_being_started_though_the_homeserver_hangs() -> None:
    late = [f"late-{number}" for number in range(6)]
    async with opened() as stack:
        await stack.worker("steady")
        everybody = [*late, "steady"]

        def running() -> set[str]:
            return {name for name in everybody if faults.sandbox_of(stack, name).observed(0).state == "running"}

        documents = "---\n".join(worker_yaml(name) for name in late)
        await stack.op.upload(stack.ops_room, "late.yaml", documents.encode())
        await faults.until(lambda: len(running()) > 1, "the first of them")
        os.kill(faults.pid_of(stack, "homeserver"), signal.SIGSTOP)
        try:
            await stack.running.stop()
            assert running() == set()
        finally:
            for name in running():
                if (launcher := faults.sandbox_of(stack, name).launcher()) is not None:
                    with suppress(ProcessLookupError):
                        os.kill(launcher.pid, signal.SIGKILL)
