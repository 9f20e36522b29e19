"""The commands of the room in a shell. What the room says is what the server says here: its text, and whether it went
well; lists and objects are the REST API's."""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Final

from appservice.cli import console, lists, terminal, typed, waiting
from appservice.cli.client import Client
from appservice.errors import Conflict, Denied, Invalid, NotFound, OpsroomError, Unavailable
from appservice.ops import shell

_ERRORS: Final = {kind.code: kind for kind in (Invalid, NotFound, Conflict, Denied, Unavailable)}


def run(command: str, client: Client, options: argparse.Namespace) -> int:
    """Run one command; its exit code."""
    own = {
        "get": lists.get,
        "apply": _apply,
        "plan": _plan,
        "logs": _logs,
        "events": _events,
        "wait": waiting.wait,
        "edit": _edit,
        "export": _export,
    }
    return own[command](client, options) if command in own else _obey(client, shell.words(command, vars(options)))


def client_for(options: argparse.Namespace, data_dir: Path) -> Client:
    """Where the flags, else the environment, say; else the socket of the data directory. Raises OpsroomError."""
    server = options.server or os.environ.get("OPSROOM_SERVER", "")
    if server:
        file = options.token_file or os.environ.get("OPSROOM_TOKEN_FILE")
        return Client.at(server, Path(file) if file else None)
    from appservice import config

    socket = config.load(data_dir).run_dir / "operator.sock"
    if not socket.exists():
        raise Unavailable(
            f"no Opsroom runs on {data_dir}.",
            fix="Start it with `opsroom up`, or name another one with --data-dir or --server.",
        )
    return Client(path=socket)


# -- as the room says it ------------------------------------------------------------------------------


def _obey(client: Client, words: Sequence[str], *, given: str = "", source: str = "the input") -> int:
    console.answer(_said(_answer(client, words, given=given, source=source)))
    return 0


def _answer(client: Client, words: Sequence[str], *, given: str = "", source: str = "the input") -> Mapping[str, Any]:
    """The end of a command; how far it is goes to stderr."""
    shown: set[str] = set()
    sent = {"words": list(words), "input": given, "source": source}
    for event, data in client.follow("POST", "command", sent):
        if event == "progress":
            for line in terminal.plain(data["text"]).splitlines():
                if line not in shown:
                    console.say(line)
                shown.add(line)
        if event == "answer":
            return dict(data)
    raise Unavailable("Opsroom ended before the command did.", fix="Ask again: `opsroom status`.")


def _said(told: Mapping[str, Any]) -> str:
    """What a command says at its end. Raises what ended it."""
    text = terminal.plain(told["file"]["text"] if told["file"] else told["text"])
    if not told["ok"]:
        raise _ERRORS.get(told["code"], OpsroomError)(text)
    return text


def _apply(client: Client, options: argparse.Namespace) -> int:
    text, source = typed.documents(options.files_given)
    if options.dry_run or not options.no_wait:
        return _obey(client, shell.words("apply", vars(options)), given=text, source=source)
    prune = "true" if options.prune else ""
    done = client.ask("POST", "apply", text, dryRun="All", prune=prune)
    goes = [f"{step['kind'].lower()}/{step['name']}" for step in done["plan"] if step["action"] == "delete"]
    if goes and not options.yes:
        raise Invalid(f"this destroys {', '.join(goes)}. Nothing was done.", fix="Say --yes to do it.")
    done = client.ask("POST", "apply", text, prune=prune, planDigest=done["planDigest"])
    for one in done["results"]:
        console.answer(f"{one['action']} {one['kind'].lower()}/{one['name']}")
    return 0


def _plan(client: Client, options: argparse.Namespace) -> int:
    text, source = typed.documents(options.files_given)
    return _obey(client, shell.words("plan", vars(options)), given=text, source=source)


def _export(client: Client, options: argparse.Namespace) -> int:
    told = _answer(client, shell.words("export", vars(options)))
    console.answer(told["file"]["text"].rstrip("\n") if told["file"] else _said(told))
    return 0


def _edit(client: Client, options: argparse.Namespace) -> int:
    """In the editor, and applied when it was changed; where there is no terminal, the file itself."""
    words = shell.words("edit", vars(options))
    told = _answer(client, words)
    if not told["file"]:
        console.answer(_said(told))
        return 0
    before, name = told["file"]["text"], told["file"]["name"]
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        console.answer(before.rstrip("\n"))
        return 0
    file = Path(mkdtemp(prefix="opsroom-edit-")) / name
    file.write_text(before, "utf-8")
    try:
        done = _edited(client, file, words, before, yes=options.yes)
    except (OpsroomError, KeyboardInterrupt):
        console.say(f"What you wrote is kept in {file}. To apply it as it is: opsroom apply -f {file}")
        raise
    rmtree(file.parent)
    return done


def _edited(client: Client, file: Path, words: Sequence[str], before: str, *, yes: bool) -> int:
    """Have somebody change a file, and apply it unless the object is another one by then. Raises OpsroomError."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        subprocess.run([*shlex.split(editor), str(file)], check=True)
        after = file.read_text("utf-8")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise OpsroomError(f"the editor failed: {error}.", fix="VISUAL or EDITOR names another one.") from error
    if after == before:
        console.say("Nothing was changed.")
        return 0
    now = _answer(client, words)
    if not now["file"] or now["file"]["text"] != before:
        raise Conflict("it has changed while you edited it. Nothing was applied.", fix="Edit it again.")
    return _obey(client, ["apply", *(["--yes"] if yes else [])], given=after, source=file.name)


def _events(client: Client, options: argparse.Namespace) -> int:
    found = client.ask("GET", f"{lists.address(client, options.object)}/events", limit=options.last)["items"]
    rows = [[lists.age(one["lastTimestamp"]), one["reason"], str(one["count"]), one["message"]] for one in found]
    console.answer(terminal.table(("AGE", "WHAT", "TIMES", "MESSAGE"), rows))
    return 0


def _logs(client: Client, options: argparse.Namespace) -> int:
    path = f"{lists.address(client, options.object)}/logs"
    if not options.follow:
        text = client.ask("GET", path, lines=options.lines).rstrip("\n")
        if text:
            console.answer(text)
        else:
            console.say(f"{options.object} has written nothing.")
        return 0
    for event, data in client.follow("GET", path, lines=options.lines, follow="true"):
        if event == "line":
            console.answer(data["line"])
    return 0
