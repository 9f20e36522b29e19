"""`opsroom info`, and what `opsroom` alone says: what runs, and what to do next."""

import json
from pathlib import Path
from typing import Any

from appservice.cli import console
from appservice.embedded import upfile
from appservice.errors import Unavailable

_RUNNING = """\
Opsroom runs on {data_dir}.

  opsroom info      addresses, rooms, process ids
  opsroom doctor    check every part
  {client}"""
_NOT_RUNNING = """\
{why}

  opsroom up        start everything
  opsroom up --help what can be set
  opsroom --help    all commands"""


def info(data_dir: Path, *, as_json: bool) -> int:
    """Print what runs."""
    facts = upfile.read(data_dir)
    console.answer(json.dumps(facts, indent=2) if as_json else _table(facts))
    return 0


def summary(data_dir: Path) -> str:
    """Return what runs in one line, and three next steps."""
    try:
        facts = upfile.read(data_dir)
    except Unavailable as error:
        return _NOT_RUNNING.format(why=error.what[0].upper() + error.what[1:])
    return _RUNNING.format(data_dir=data_dir, client=f"open {facts['client']}" if facts["client"] else "")


def _table(facts: dict[str, Any]) -> str:
    rows = {name: value for name, value in facts.items() if name != "pids"}
    rows |= {f"pid of {name.replace('_', ' ')}": pid for name, pid in facts["pids"].items()}
    width = max(len(name) for name in rows)
    return "\n".join(
        f"{name.replace('_', ' '):<{width}}  {'-' if value in (None, '') else value}" for name, value in rows.items()
    )
