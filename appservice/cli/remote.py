"""The commands of the room in a shell. What the room says is what the server says here: its text, and whether it went
well; lists and objects are the REST API's."""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Final
from urllib.parse import quote

from appservice.cli import console, terminal
from appservice.cli.client import Client
from appservice.errors import Conflict, Denied, Invalid, NotFound, OpsroomError, Unavailable
from appservice.ops import shell
from appservice.resources import registry
from appservice.resources.printing import to_yaml

_YAML: Final = (".yaml", ".yml", ".json")
_ERRORS: Final = {kind.code: kind for kind in (Invalid, NotFound, Conflict, Denied, Unavailable)}


def run(command: str, client: Client, options: argparse.Namespace) -> int:
    """Run one command; its exit code."""
    own = {
        "get": _get,
        "apply": _apply,
        "plan": _plan,
        "logs": _logs,
        "events": _events,
        "wait": _wait,
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
    text, source = _input(options.files_given)
    if not options.no_wait:
        return _obey(client, shell.words("apply", vars(options)), given=text, source=source)
    prune = "true" if options.prune else ""
    done = client.ask("POST", "apply", text, dryRun="All", prune=prune)
    if not options.dry_run:
        goes = [f"{step['kind'].lower()}/{step['name']}" for step in done["plan"] if step["action"] == "delete"]
        if goes and not options.yes:
            raise Invalid(f"this destroys {', '.join(goes)}. Nothing was done.", fix="Say --yes to do it.")
        done = client.ask("POST", "apply", text, prune=prune)
    for one in done["results"]:
        console.answer(f"{one['action']} {one['kind'].lower()}/{one['name']}")
    return 0


def _plan(client: Client, options: argparse.Namespace) -> int:
    text, source = _input(options.files_given)
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


# -- lists and objects ------------------------------------------------------------------------------


def _get(client: Client, options: argparse.Namespace) -> int:
    kinds, name = _kinds(options.object)
    if options.watch:
        return _watch(client, kinds, name, options)
    if name:
        found = [_one(client, kinds[0], name)]
    else:
        found = [item for kind in kinds for item in _listed(client, kind, options.selector)]
    match options.output:
        case "yaml":
            console.answer("---\n".join(to_yaml(item) for item in found).rstrip("\n"))
        case "json":
            many = {"apiVersion": "v1", "kind": "List", "items": found}
            console.answer(json.dumps(found[0] if name else many, indent=2, ensure_ascii=False))
        case "name":
            console.answer("\n".join(_reference(item) for item in found))
        case _ if found:
            console.answer(_tables(found, wide=options.output == "wide"))
        case _:
            console.say("There is nothing of that kind yet." if not options.selector else "Nothing has these labels.")
    return 0


def _watch(client: Client, kinds: Sequence[str], name: str, options: argparse.Namespace) -> int:
    """What there is, then each change in a line, until it is interrupted."""
    query = {"kind": kinds[0] if len(kinds) == 1 else "", "labelSelector": options.selector}
    for event, data in client.follow("GET", "watch", **query, fieldSelector=f"metadata.name={name}" if name else ""):
        item = data.get("object", {})
        match options.output:
            case _ if event == "BOOKMARK":
                continue
            case "yaml":
                console.answer(f"---\n{to_yaml(item)}".rstrip("\n"))
            case "json":
                console.answer(json.dumps(data, ensure_ascii=False))
            case _ if event == "DELETED":
                console.answer(f"{_reference(item)}  Deleted")
            case _:
                row = _row(item, wide=options.output == "wide")
                del row["NAME"], row["AGE"]
                console.answer("  ".join([_reference(item), *(text for text in row.values() if text)]))
    return 0


def _listed(client: Client, plural: str, selector: str) -> Iterator[dict[str, Any]]:
    more = ""
    while True:
        page = client.ask("GET", plural, labelSelector=selector, **{"continue": more})
        yield from page["items"]
        more = page["metadata"].get("continue", "")
        if not more:
            return


def _tables(found: Sequence[Mapping[str, Any]], *, wide: bool) -> str:
    kinds = list(dict.fromkeys(item["kind"] for item in found))
    tables = []
    for kind in kinds:
        rows = [_row(item, wide=wide) for item in found if item["kind"] == kind]
        columns = [name for name in rows[0] if any(row[name] for row in rows)]
        made = terminal.table(columns, [[row[column] for column in columns] for row in rows])
        tables.append(f"{kind}s\n{made}" if len(kinds) > 1 else made)
    return "\n\n".join(tables)


def _row(item: Mapping[str, Any], *, wide: bool) -> dict[str, str]:
    """One object; columns that are empty in every row are left out."""
    spec, status, metadata = item["spec"], item["status"], item["metadata"]
    owner = next((f"{one['kind'].lower()}/{one['name']}" for one in metadata.get("ownerReferences", ())), "")
    model = status.get("model") or spec.get("model", "")
    row = {"NAME": metadata["name"], "STATE": _state(item), "MODEL": model, "PART OF": owner}
    if item["kind"] == "Team":
        ready = f"{status.get('readyWorkers', 0)} of {status.get('totalWorkers', len(spec.get('workers', ())))} ready"
        row |= {"LEADER": spec["leader"]["name"], "WORKERS": ready}
    if item["kind"] == "Human":
        row |= {"LEVEL": str(spec["permissionLevel"]), "MATRIX USER": status.get("matrixUserID", "")}
    row["AGE"] = _age(metadata["creationTimestamp"])
    if wide:
        row |= {
            "MATRIX USER": status.get("matrixUserID", ""),
            "ROOM": status.get("roomID", ""),
            "SANDBOX": str(status.get("container", ""))[:12],
            "GENERATION": str(metadata["generation"]),
            "LABELS": ",".join(f"{name}={value}" for name, value in metadata.get("labels", {}).items()),
        }
    return row


def _state(item: Mapping[str, Any]) -> str:
    if "deletionTimestamp" in item["metadata"]:
        return "Deleting"
    if item["status"]["paused"]:
        return "Paused"
    current = item["status"]["observedGeneration"] == item["metadata"]["generation"]
    return str(item["status"]["phase"] if current else "Updating")


def _events(client: Client, options: argparse.Namespace) -> int:
    kinds, name = _kinds(options.object)
    found = client.ask("GET", f"{kinds[0]}/{name}/events", limit=options.last)["items"]
    rows = [[_age(one["lastTimestamp"]), one["reason"], str(one["count"]), one["message"]] for one in found]
    console.answer(terminal.table(("AGE", "WHAT", "TIMES", "MESSAGE"), rows))
    return 0


def _logs(client: Client, options: argparse.Namespace) -> int:
    kinds, name = _kinds(options.object)
    path = f"{kinds[0]}/{name}/logs"
    if not options.follow:
        text = client.ask("GET", path, lines=options.lines).rstrip("\n")
        if text:
            console.answer(text)
        else:
            console.say(f"{name} has written nothing.")
        return 0
    for event, data in client.follow("GET", path, lines=options.lines, follow="true"):
        if event == "line":
            console.answer(data["line"])
    return 0


# -- waiting ------------------------------------------------------------------------------


def _wait(client: Client, options: argparse.Namespace) -> int:
    wanted = _wanted(options.what)
    seconds = _seconds(options.timeout)
    for word in options.objects:
        kinds, name = _kinds(word)
        if not _comes(client, kinds[0], name, wanted, seconds):
            what = "gone" if wanted == ("delete", "", "") else options.what.partition("=")[2]
            console.complain(f"{word} is not {what} after {options.timeout}. See why: opsroom describe {word}")
            return 1
        console.answer(f"{word}: {options.what}")
    return 0


def _comes(client: Client, plural: str, name: str, wanted: tuple[str, str, str], seconds: float) -> bool:
    """Whether an object becomes what is wanted of it in time."""
    start = client.ask("GET", plural, limit=1)["metadata"]["resourceVersion"]
    try:
        item = _one(client, plural, name)
    except NotFound:
        if wanted[0] == "delete":
            return True
        raise
    if _fits(item, wanted):
        return True
    query = {"watch": "true", "fieldSelector": f"metadata.name={name}", "resourceVersion": start}
    try:
        for event, data in client.follow("GET", plural, timeout_s=seconds, **query):
            if data.get("object", {}).get("metadata", {}).get("name") != name:
                continue
            if event == "DELETED":
                return wanted[0] == "delete"
            if event in ("ADDED", "MODIFIED") and _fits(data["object"], wanted):
                return True
    except TimeoutError:
        return False
    raise Unavailable("Opsroom ended before that.", fix="Wait again.")


def _wanted(what: str) -> tuple[str, str, str]:
    """`condition=Ready`, `condition=Room=False`, `phase=Active` or `delete`, taken apart."""
    kind, _, rest = what.partition("=")
    if kind == "condition" and rest:
        name, _, status = rest.partition("=")
        return kind, name.lower(), (status or "true").lower()
    if kind == "phase" and rest:
        return kind, "", rest.lower()
    if what == "delete":
        return what, "", ""
    raise Invalid(f"nothing can be waited for as {what}.", fix="Use condition=Ready, phase=Active or delete.")


def _fits(item: Mapping[str, Any], wanted: tuple[str, str, str]) -> bool:
    kind, name, value = wanted
    if kind == "condition":
        return any(
            (one["type"].lower(), one["status"].lower()) == (name, value) for one in item["status"]["conditions"]
        )
    return kind == "phase" and _state(item).lower() == value


def _seconds(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    if not number.isdecimal():
        raise Invalid(f"{text} is not a time.", fix="Write 30, 90s, 5m or 1h.")
    return float(number) * unit


# -- what was typed ------------------------------------------------------------------------------


def _one(client: Client, plural: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = client.ask("GET", f"{plural}/{quote(name, safe='')}")
    return found


def _kinds(text: str) -> tuple[list[str], str]:
    """`workers`, `all`, `worker/alice` or `alice` as kinds in the plural, and a name."""
    if text.lower() == "all":
        return [kind.plural for kind in registry.KINDS.values()], ""
    word, _, rest = text.partition("/")
    kind = registry.find_kind(word)
    if kind is not None:
        return [kind.plural], rest
    if rest:
        raise Invalid(f"{word} is not a kind.", fix=f"Known kinds: {', '.join(registry.KINDS)}.")
    return ["workers"], text.removeprefix("@").split(":")[0]


def _reference(item: Mapping[str, Any]) -> str:
    return f"{item['kind'].lower()}/{item['metadata']['name']}"


def _age(moment: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for limit, unit, size in ((90, "s", 1), (90 * 60, "min", 60), (36 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{max(seconds, 0) / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _input(given: Sequence[str]) -> tuple[str, str]:
    """The YAML of all files as one, and what to call it. Raises Invalid; a fault in one of several files is found here,
    where its own lines can be named."""
    if not given:
        raise Invalid("there is nothing to apply.", fix="Name a file, a folder or - for standard input: -f team.yaml.")
    texts = [text for word in given for text in _texts(word)]
    if len(texts) > 1:
        for name, text in texts:
            registry.parse(text.encode(), source=name)
    name = texts[0][0] if len(texts) == 1 else f"{len(texts)} files"
    return "\n---\n".join(text.removeprefix("---\n").rstrip("\n") for _, text in texts) + "\n", name


def _texts(word: str) -> list[tuple[str, str]]:
    if word == "-":
        return [("standard input", sys.stdin.read())]
    path = Path(word).expanduser()
    files = sorted(one for one in path.iterdir() if one.suffix in _YAML) if path.is_dir() else [path]
    if not files:
        raise Invalid(f"{path} has no .yaml file.", fix="Name the file itself.")
    try:
        return [(file.name, file.read_text("utf-8")) for file in files]
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8 text.", fix="Save it as UTF-8.") from error
