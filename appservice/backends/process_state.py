"""What a sandboxed local process leaves in its folder, so that any later control plane knows what runs and what ended.

spec     hash, labels, and how often the kernel had ended the agent for want of memory when it was started
pid      pid, start time and boot id of the launcher: together they name one process for ever
info     bubblewrap's word on the sandbox: the pid of its first process
exit     the exit code, written by the launcher
log      what the agent wrote; log.1 is what came before
"""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appservice.backends.inside import exit_phrase
from appservice.backends.protocol import Observed, State

LOG_BYTES = 10 * 2**20
_KEPT_BYTES = LOG_BYTES // 2
_TAIL_BYTES = 2**20
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process, never confused with a later one of the same pid."""

    pid: int
    born: str
    boot: str

    def alive(self) -> bool:
        """Say whether it runs. A zombie is dead: where nobody reaps, it stays visible."""
        if self.boot != _BOOT_ID.read_text().strip():
            return False
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return fields[19] == self.born and fields[0] not in ("Z", "X")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """The state folder of one agent. `folder` need not exist."""

    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def write_spec(self, spec: Mapping[str, object]) -> None:
        fresh = self.folder / "spec.new"
        fresh.write_text(json.dumps(spec))
        fresh.replace(self.folder / "spec")

    def spec(self) -> dict[str, object]:
        """Return what was written; {} when there is nothing, which is what an unfinished creation looks like."""
        text = _read(self.folder / "spec")
        return dict(json.loads(text)) if text else {}

    def launcher(self) -> Identity | None:
        parts = _read(self.folder / "pid").split()
        return Identity(pid=int(parts[0]), born=parts[1], boot=parts[2]) if len(parts) == 3 else None

    def first_process(self) -> int | None:
        """Return the pid, as this machine sees it, of the sandbox's first process: bubblewrap's own, pid 1 inside."""
        with suppress(ValueError):
            return int(json.loads(_read(self.folder / "info"))["child-pid"])
        return None

    def forget_run(self) -> None:
        for name in ("pid", "info", "exit"):
            (self.folder / name).unlink(missing_ok=True)

    def observed(self, oom_kills: int) -> Observed:
        """Return what is there; `oom_kills`: how often the kernel has ended the agent for want of memory by now."""
        name = self.folder.name
        spec = self.spec()
        if not spec:
            return Observed(name=name, state="absent")
        who = self.launcher()
        state: State = "created" if who is None else "running" if who.alive() else "exited"
        ended = state == "exited"
        code = _number(_read(self.folder / "exit")) if ended else None
        out_of_memory = ended and oom_kills > int(str(spec["oom_kills"]))
        return Observed(
            name=name,
            state=state,
            id=str(who.pid) if who else "",
            spec_hash=str(spec["hash"]),
            exit_code=code,
            detail="out of memory" if out_of_memory else _why_ended(code) if ended else "",
            running_since=self._since() if state == "running" else "",
        )

    def tail(self, lines: int) -> str:
        """Return the last lines, of at most 1 MiB."""
        written = _end(self.folder / "log.1") + _end(self.log)
        return "".join(written[-_TAIL_BYTES:].decode(errors="replace").splitlines(keepends=True)[-lines:])

    def trim_log(self) -> None:
        """Keep the log's end as `log.1` and begin anew once it is too long. Its writer appends, so it may stay open."""
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_BYTES:
                (self.folder / "log.1").write_bytes(_end(self.log, _KEPT_BYTES))
                os.truncate(self.log, 0)

    def delete(self) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.folder)

    def _since(self) -> str:
        with suppress(FileNotFoundError):
            return datetime.fromtimestamp((self.folder / "pid").stat().st_mtime, UTC).isoformat()
        return ""


def _why_ended(code: int | None) -> str:
    return "killed, or the machine was restarted" if code is None else exit_phrase(code)


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _end(path: Path, length: int = _TAIL_BYTES) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - length))
            return file.read()
    except FileNotFoundError:
        return b""
