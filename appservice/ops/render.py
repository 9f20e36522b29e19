"""How answers look: facts in, Markdown out. The word comes first, the worst row first, and a next step last. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from appservice.errors import OpsroomError, Problem
from appservice.health import Health
from appservice.homeserver.members import short
from appservice.ops.commands import COMMANDS, Command
from appservice.ops.grammar import Asks
from appservice.policy.triggers import Decision
from appservice.store.audit import Entry
from appservice.store.changes import Key
from appservice.store.objects import Revision, Stored
from appservice.store.outbox import Outgoing
from appservice.store.status import NOTES, Status, first_trouble, is_current

SHOWN_PROBLEMS = 10
SHOWN_PROGRESS = 20  # objects, while an apply goes on
INLINE_LOG = 3_000  # bytes of a log shown in the room
_LEVELS = {"ok": "ok", "warn": "WARN", "fail": "FAIL"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def when(at: float, now: float) -> str:
    """`02:14 UTC (41 min)`, with the day when it is another one."""
    moment, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC)
    day = "" if moment.date() == today.date() else f"{moment:%d %b} "
    return f"{day}{moment:%H:%M} UTC ({duration(now - at)})"


def duration(seconds: float) -> str:
    for limit, unit, size in ((90, "s", 1), (90 * 60, "min", 60), (36 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{max(seconds, 0) / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def size(count: int) -> str:
    return f"{count} B" if count < 1024 else f"{count / 1024:.0f} KB" if count < 2**20 else f"{count / 2**20:.1f} MB"


def problems(error: OpsroomError, *, source: str = "") -> str:
    """An error as the room reads it: one sentence, or a list by line; nothing was changed."""
    found = error.problems
    if len(found) == 1 and not found[0].where:
        return f"{_sentence(found[0].what)} {found[0].fix}".strip()
    count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
    lines = [f"**{source or 'This'} has {count}. Nothing was changed.**", ""]
    lines += [_problem(problem, source) for problem in found[:SHOWN_PROBLEMS]]
    if len(found) > SHOWN_PROBLEMS:
        lines.append(f"- … and {len(found) - SHOWN_PROBLEMS} more.")
    return "\n".join(lines)


def _problem(problem: Problem, source: str) -> str:
    *before, field = problem.where.removeprefix(f"{source}, ").split(", ")
    code = f"`{field}`" if "." in field else field  # else clients make a link of `metadata.name`
    where = f"**{', '.join([*before, code])}**: " if field else ""
    return f"- {where}{_sentence(problem.what)} {problem.fix}".rstrip()


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.rstrip().endswith((".", "?", "!", ":")) else text + "."


def help_text() -> str:
    """Grouped by task; each line can be copied."""
    look = [command for command in COMMANDS.values() if command.group == "look"]
    change = [command for command in COMMANDS.values() if command.group == "change"]
    lines = ["**What you can type here**", ""]
    lines += [f"- `!{command.name}` — {command.summary}" for command in look]
    lines += ["", "**What changes things**", ""]
    lines += [f"- `!{command.name}` — {command.summary}" for command in change]
    lines += ["", "Or drop a `.yaml` file here. More about one: `!help apply`"]
    return "\n".join(lines)


def help_for(command: Command) -> str:
    parts = [f"**{command.usage}**", f"{command.summary[0].upper()}{command.summary[1:]}.", command.detail]
    examples = "\n".join(f"- `{example}`" for example in command.examples if "\n" not in example)
    parts += [f"For example:\n\n{examples}" if examples else ""]
    return "\n\n".join(part for part in parts if part)


def checks(found: Sequence[Health]) -> str:
    """A line a check, the worst first."""
    order = {"fail": 0, "warn": 1, "ok": 2}
    bad = sum(check.level != "ok" for check in found)
    need = "checks need" if bad > 1 else "check needs"
    head = f"**{bad} of {len(found)} {need} you.**" if bad else "**All is well.**"
    lines = [head, ""]
    for check in sorted(found, key=lambda check: order[check.level]):
        fix = f" {check.fix}" if check.fix and check.level != "ok" else ""
        lines.append(f"- **{_LEVELS[check.level]}** {check.part}: {check.detail}{fix}")
    return "\n".join(lines)


_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Worker": ("NAME", "STATE", "MODEL", "RUNTIME", "PART OF", "AGE"),
    "Team": ("NAME", "STATE", "LEADER", "WORKERS", "AGE"),
    "Human": ("NAME", "STATE", "DISPLAY NAME", "LEVEL", "MATRIX USER", "AGE"),
    "Manager": ("NAME", "STATE", "MODEL", "AGE"),
}
_ORDER = {"Failed": 0, "Degraded": 0, "Pending": 1, "Updating": 1}


def listing(found: Sequence[tuple[Stored, Status]], now: float) -> str:
    """A table a kind, what is not well first."""
    kinds = [kind for kind in _COLUMNS if any(stored.kind == kind for stored, _ in found)]
    tables = []
    for kind in kinds:
        pairs = [pair for pair in found if pair[0].kind == kind]
        ranked = sorted(pairs, key=lambda pair: (_ORDER.get(state(*pair), 2), pair[0].name))
        owned = any(stored.owner for stored, _ in ranked)
        columns = [column for column in _COLUMNS[kind] if column != "PART OF" or owned]
        rows = [[_column(column, *pair, now=now) for column in columns] for pair in ranked]
        tables.append(f"**{kind}s**\n\n{table(columns, rows)}" if len(kinds) > 1 else table(columns, rows))
    return "\n\n".join(tables)


def _column(column: str, stored: Stored, status: Status, *, now: float) -> str:
    spec, facts = stored.document["spec"], status.facts
    match column:
        case "NAME":
            return stored.name
        case "STATE":
            return state(stored, status)
        case "PART OF":
            return stored.owner
        case "LEADER":
            return str(spec["leader"]["name"])
        case "WORKERS":
            return f"{facts.get('readyWorkers', 0)} of {facts.get('totalWorkers', len(spec.get('workers', ())))} ready"
        case "RUNTIME":
            return str(spec.get("runtime", "native"))
        case "DISPLAY NAME":
            return str(spec["displayName"])
        case "LEVEL":
            return str(spec["permissionLevel"])
        case "MATRIX USER":
            return str(facts.get("matrixUserID", ""))
        case "MODEL":
            return str(facts.get("model") or spec.get("model", ""))
    return duration(now - stored.created_at)


def audit(found: Sequence[Entry], *, now: float) -> str:
    if not found:
        return "Nothing is written down yet."
    lines = [
        f"- {when(one.at, now)}: **{one.verdict.upper()}** {short(one.actor)} → {one.target}"
        f" ({one.action}, rule: {one.rule})"
        for one in found
    ]
    return "\n".join([*lines, "", "Why: `!explain WHO -> AGENT`"])


def state(stored: Stored, status: Status) -> str:
    if stored.deleting or stored.held_by:
        return "Deleting" if stored.deleting else "Paused"
    return status.phase if status.observed_generation == stored.generation else "Updating"


_SETTLED = {
    "Running": "ready",
    "Active": "ready",
    "Sleeping": "asleep; a mention wakes it",
    "Stopped": "stopped",
}


def outcome_line(action: str, stored: Stored | None, status: Status, key: Key | None = None) -> str:
    """One object at the end of an apply: what was done, and "ready" or why not. `key` names one that is gone."""
    if stored is None:
        return f"{action} `{key}`." if key else action
    name, trouble = f"`{stored.key}`", first_trouble(status)
    if stored.held_by:
        tail = f"paused; `!resume {stored.held_by}` goes on"
    elif is_settled(stored, status):
        tail = _SETTLED[status.phase] + (f", but {trouble.message or trouble.reason}" if trouble else "")
    elif trouble is not None:
        tail = f"not ready: {trouble.message or trouble.reason}"
    else:
        tail = "on its way"
    notes = [status.condition(type_) for type_ in NOTES]
    note = "".join(f" {found.message}" for found in notes if found is not None and found.status == "False")
    fresh = status.phase in ("Running", "Active") and action == "created"
    room = f" Its room: {link}" if fresh and (link := room_link(stored.name, status)) else ""
    return f"{action} {name} — {tail.rstrip('.')}.{room}{note}".lstrip()


def room_link(name: str, status: Status) -> str:
    """A link that clients open in place; '' before there is a room."""
    facts = status.facts
    users = [facts.get("matrixUserID", ""), *(member["matrixUserID"] for member in facts.get("members", ()))]
    server = next((user.partition(":")[2] for user in users if user), "")
    room = facts.get("roomID", "")
    return f"[{name}](https://matrix.to/#/{room}?via={server})" if room else ""


def lines(found: Sequence[str]) -> str:
    """One as a sentence, several as a list."""
    return found[0] if len(found) == 1 else "\n".join(f"- {line}" for line in found)


def is_settled(stored: Stored, status: Status) -> bool:
    return is_current(stored, status) and not stored.deleting and status.phase in _SETTLED


def is_stuck(stored: Stored, status: Status) -> bool:
    """Whether it failed in a way that does not pass by itself."""
    trouble = first_trouble(status)
    failed = is_current(stored, status) and status.phase in ("Failed", "Updating") and trouble is not None
    return failed and trouble is not None and trouble.reason not in ("Unavailable", "Waiting")


def progress(pairs: Sequence[tuple[Stored | None, Status]]) -> str:
    """How far an apply is: a line an object; of many, how many are ready, and the first of those that are not."""
    found = [(stored, status) for stored, status in pairs if stored is not None]
    if len(found) == 1:
        return _how_far(*found[0])
    if len(found) <= SHOWN_PROGRESS:
        return "\n".join(f"- {_how_far(*pair)}" for pair in found)
    working = [pair for pair in found if not is_settled(*pair)]
    head = f"{len(found) - len(working)} of {len(found)} are ready."
    return "\n".join([head, *(f"- {_how_far(*pair)}" for pair in working[:SHOWN_PROGRESS])])


def _how_far(stored: Stored, status: Status) -> str:
    """One object, with the steps that are done and the one that is not."""
    steps = [c for c in status.conditions if c.type not in NOTES]
    done = [c.type for c in steps if c.status == "True"]
    trouble = first_trouble(status)
    if is_settled(stored, status):
        tail = "ready"
    elif trouble is not None and trouble.reason != "Waiting":
        tail = f"{trouble.type}: {trouble.message or trouble.reason}"
    else:
        tail = f"working ({len(done)} of {len(steps)} steps)" if done else "working"
        if trouble is not None and trouble.type == "Members":
            tail = f"working. {trouble.message}"
    return f"`{stored.key}` — {tail}"


def overview(
    pairs: Sequence[tuple[Stored, Status]],
    *,
    checks: Sequence[Health],
    letters: Sequence[Outgoing],
    running: int,
    waiting: int,
    backend: str,
    now: float,
) -> str:
    """The first line answers "must I get up?"; then what is wrong, worst first; what is well is a count."""
    bad = [(stored, found) for stored, found in pairs if not is_settled(stored, found) or first_trouble(found)]
    count = len(bad) + len(checks) + len(letters)
    well = len(pairs) - len(bad)
    total = f"{well} of {len(pairs)} objects are well" if pairs else "There are no agents yet"
    head = f"**All is well.** {total}." if not count else f"**{count} thing{'s' * (count > 1)} to look at.** {total}."
    lines = [head, ""]
    for stored, found in sorted(bad, key=lambda pair: pair[0].changed_at):
        trouble = first_trouble(found)
        why = f" {trouble.message or trouble.reason}" if trouble else ""
        since = f", since {when(trouble.since, now)}" if trouble and trouble.since else ""
        lines.append(f"- **{state(stored, found).upper()}** `{stored.key}`{since}.{why} More: `!describe {stored.key}`")
    lines += [f"- **{_LEVELS[check.level]}** {check.part}: {check.detail} {check.fix}".rstrip() for check in checks]
    lines += [f"- **NOT SENT** to {item.room_id} by {item.sender}: {item.error}. It is kept." for item in letters]
    awake = sum(stored.kind == "Worker" and found.phase == "Running" for stored, found in pairs)
    counts = f"{awake} awake, {running} turn{'s' * (running != 1)} running"
    counts += f", {waiting} event{'s' * (waiting != 1)} waiting." if waiting else "."
    lines += ["", counts, "", f"*Sandbox: {backend}*"]
    return "\n".join(lines)


def decision(asked: Asks, found: Decision, source: str) -> str:
    """The verdict, the rule, and where it stands."""
    where = {"": "in a room with others", "dm": "alone with it"}.get(asked.room, f"in {asked.room}")
    verdict = "may" if found.allowed else "may not"
    rule = f"Rule: {found.rule}" + (f" ({source})" if source else "")
    text = f"**{found.verdict.upper()}** {asked.user} {verdict} ask {asked.agent} {where}.\n\n{rule}."
    return text if found.allowed else f"{text} What they are told: “{found.reason}”"


def history(key: Key, found: Sequence[tuple[Revision, Sequence[str]]], *, now: float) -> str:
    """Newest first, each with the fields that it changed."""
    lines = [
        f"- **{one.revision}** {one.action} by {short(one.author)}, {when(one.at, now)}"
        + (f": {', '.join(f'`{field}`' for field in fields)}" if fields else "")
        for one, fields in found
    ]
    return "\n".join([f"**{key}**", "", *lines, "", f"Go back with `!rollback {key} REVISION`."])
