"""`opsroom backup` and `opsroom restore`."""

import asyncio
from pathlib import Path

from appservice.cli import console
from appservice.embedded import backup as backups
from appservice.errors import Invalid

_NOT_IN_IT = "Agents' files, in the object storage, and the homeserver's rooms and accounts are not in it."


def backup(data_dir: Path, target: Path, *, with_keys: bool, passphrase_file: Path | None) -> int:
    """Write one file."""
    if with_keys != (passphrase_file is not None):
        raise Invalid(
            "keys are only ever kept encrypted.", fix="Give both --with-keys and --passphrase-file, or neither of them."
        )
    passphrase = _passphrase(passphrase_file)
    count = backups.make(data_dir, target.expanduser().resolve(), passphrase=passphrase)
    keys = "with its keys, encrypted" if passphrase else "without keys"
    console.answer(f"{target}: {count} object{'s' * (count != 1)} and all that is known of them, {keys}. {_NOT_IN_IT}")
    return 0


def restore(
    data_dir: Path,
    source: Path | None,
    *,
    from_room: bool,
    passphrase_file: Path | None,
    without_keys: bool,
    force: bool,
) -> int:
    """Read one file, or the journal."""
    if (source is None) != from_room:
        raise Invalid("say from where.", fix="Name the file of a backup, or give --from-room.")
    if source is None:
        return _from_room(data_dir)
    found = backups.restore(
        source.expanduser().resolve(),
        data_dir,
        passphrase=_passphrase(passphrase_file),
        without_keys=without_keys,
        force=force,
    )
    keys = "with its keys" if found.keys else "without keys"
    lines = [f"{data_dir} is as it was at {found.made_at}, {keys}. {_NOT_IN_IT}"]
    if found.before:
        lines.append(f"What was replaced is in {found.before}.")
    console.answer("\n".join([*lines, "Start it with `opsroom up`."]))
    return 0


def _from_room(data_dir: Path) -> int:
    from appservice.embedded.restoring import from_room

    done = asyncio.run(from_room(data_dir, say=console.say))
    for problem in done.problems:
        console.complain(problem)
    for key in done.later:
        console.say(f"{key}: what somebody wrote there last is looked at after the next start.")
    rooms = f"{done.rooms} room{'s' * (done.rooms != 1)}"
    console.answer(f"{done.objects} object{'s' * (done.objects != 1)} restored from the journal ({rooms}).")
    return 1 if done.problems else 0


def _passphrase(path: Path | None) -> str:
    if path is None:
        return ""
    found = path.expanduser().read_text("utf-8").strip("\r\n")
    if len(found) < backups.LEAST_PASSPHRASE:
        raise Invalid(
            f"the passphrase in {path} is too short.", fix=f"Use {backups.LEAST_PASSPHRASE} characters or more."
        )
    return found
