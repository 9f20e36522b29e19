"""What both backends give an agent: its user, its home, its variables and the three folders of its door."""

import asyncio
import os
import re
import signal
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appservice.backends.protocol import TOKEN_FILE, Sandbox
from appservice.errors import Invalid, Unavailable

HOME = "/home/agent"
HOME_BYTES = 256 * 2**20
TMP_BYTES = 64 * 2**20
OPEN_FILES = 4096
_AGENT_ID = 10001
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUser:
    """The user an agent runs as."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


def agent_user() -> AgentUser:
    """Return a user that is nobody on this machine; without root, our own.

    Only root can give the door's folders to another user, and the token must be readable by its owner alone.
    """
    if os.geteuid() == 0:
        return AgentUser(uid=_AGENT_ID, gid=_AGENT_ID)
    return AgentUser(uid=os.geteuid(), gid=os.getegid())


def environment(sandbox: Sandbox) -> Mapping[str, str]:
    """Return the agent's variables. What the sandbox declares wins, but for its name and home."""
    return {"USER": "agent", **sandbox.environment, "HOME": HOME, "OPSROOM_AGENT": sandbox.name}


def check_name(name: str) -> str:
    """Return the name. Raises `Invalid` when it could mean a path or an option."""
    if _NAME.fullmatch(name) is None:
        raise Invalid(
            f"{name!r} cannot name a sandbox.", fix="Use lower-case letters, digits and dashes, at most 63 of them."
        )
    return name


def exit_phrase(code: int | None) -> str:
    """Say how a program ended; '' when it ended well or not at all."""
    if not code:
        return ""
    with suppress(ValueError):
        if code > 128:
            return f"killed by {signal.Signals(code - 128).name}"
    return f"exit code {code}"


def prepare_folders(sandbox: Sandbox) -> None:
    """Make the folders of the door, so that the agent can make its socket and read its token. The gateway's stays
    the gateway's."""
    sandbox.gateway_dir.mkdir(parents=True, exist_ok=True)
    for folder in (sandbox.agent_dir, sandbox.secrets_dir):
        _own_folder(folder)


async def write_token(secrets_dir: Path, token: str) -> None:
    """Replace the agent's token at once, running or not: mode 0400, owned by the agent's user."""
    await asyncio.to_thread(_write_token, secrets_dir, token)


def _write_token(secrets_dir: Path, token: str) -> None:
    _own_folder(secrets_dir)
    fresh = secrets_dir / f".{TOKEN_FILE}.new"
    user = agent_user()
    try:
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
        with open(handle, "w", encoding="utf-8") as file:
            os.fchown(file.fileno(), user.uid, user.gid)
            file.write(token)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(secrets_dir / TOKEN_FILE)
    except OSError as error:
        raise _unwritable(secrets_dir, error) from error


def _own_folder(folder: Path) -> None:
    user = agent_user()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            found = os.fstat(handle)
            if (found.st_uid, found.st_gid) != (user.uid, user.gid):
                os.fchown(handle, user.uid, user.gid)
            if stat.S_IMODE(found.st_mode) != 0o700:
                os.fchmod(handle, 0o700)
        finally:
            os.close(handle)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"{folder} cannot be prepared for the agent: {error.strerror}.",
        fix=f"Give {folder.parent} to the user Opsroom runs as, and see that its disk is not full.",
    )
