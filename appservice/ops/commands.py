"""The command table: one entry a verb, from which the parser, the help and the documentation are made."""

from argparse import REMAINDER
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Argument:
    names: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def usage(self) -> str:
        """As it stands in a line of help."""
        if self.options.get("action") == "store_true":
            return f"[{self.names[-1]}]"
        name, word = self.names[-1], str(self.options.get("metavar") or "|".join(self.options.get("choices", ())))
        text = f"{name} {word}" if name.startswith("-") else word
        required = not name.startswith("-") and self.options.get("nargs") != "?"
        return text if required else f"[{text}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`summary` is a line, `detail` what else one must know, `examples` can be copied."""

    name: str
    summary: str
    examples: tuple[str, ...]
    arguments: tuple[Argument, ...] = ()
    aliases: tuple[str, ...] = ()
    detail: str = ""
    group: str = "look"

    @property
    def usage(self) -> str:
        """The command with its arguments: `!logs worker/NAME [--lines N]`."""
        return " ".join([f"!{self.name}", *(argument.usage for argument in self.arguments if argument.usage)])


def _object(**options: Any) -> Argument:
    return Argument(("object",), {"metavar": "worker/NAME", **options})


_PRUNE = Argument(("--prune",), {"action": "store_true"})
_YES = Argument(("--yes",), {"action": "store_true"})  # agreed to already

_ALL = (
    Command(
        name="help",
        summary="what can be typed here, and how",
        examples=("!help", "!help apply"),
        arguments=(Argument(("verb",), {"metavar": "COMMAND", "nargs": "?", "default": ""}),),
        aliases=("hi", "hello", "commands"),
    ),
    Command(
        name="status",
        summary="is all well, and if not, what is wrong",
        examples=("!status",),
    ),
    Command(
        name="apply",
        summary="make what a YAML document declares",
        detail="Upload a `.yaml` file, put fenced blocks under the command, or reply `!apply` to either. An upload"
        " without a word is applied too. All documents are checked first; nothing is applied if one is wrong."
        " `--prune` also deletes what else has the same label `opsroom.io/set`. What destroys something is shown first,"
        " and done once you have marked it with ✅; `--yes` says so beforehand.",
        examples=("!apply", "!apply\n```yaml\nkind: Worker\n…\n```", "!apply --dry-run", "!apply --prune"),
        arguments=(Argument(("--dry-run",), {"action": "store_true"}), _PRUNE, _YES),
        group="change",
    ),
    Command(
        name="plan",
        summary="what an apply would do, field by field; nothing is changed",
        detail="As a reply to an upload, or with a fenced block under it, like `!apply`.",
        examples=("!plan", "!plan\n```yaml\nkind: Worker\n…\n```"),
        arguments=(_PRUNE,),
        aliases=("diff",),
    ),
    Command(
        name="set",
        summary="change single fields of an object",
        detail="A field without a first word is one of `spec`; an empty value unsets it. Quote values with spaces. What"
        " follows `metadata.labels.` or `metadata.annotations.` is one key, dots and all. The file's comments are not"
        " kept.",
        examples=(
            "!set worker/alice model=gpt-5",
            '!set worker/alice "soul=You are brief." state=Sleeping',
            "!set worker/alice metadata.labels.opsroom.io/set=shop",
        ),
        arguments=(_object(), Argument(("fields",), {"metavar": "FIELD=VALUE ...", "nargs": "+"}), _YES),
        group="change",
    ),
    Command(
        name="edit",
        summary="get an object as a file, to change and upload again",
        detail="A file is refused when somebody has changed the object since.",
        examples=("!edit worker/alice",),
        arguments=(_object(),),
    ),
    Command(
        name="export",
        summary="get everything that is declared as one file",
        examples=("!export",),
    ),
    Command(
        name="history",
        summary="who changed an object, when, and what",
        examples=("!history worker/alice",),
        arguments=(_object(),),
    ),
    Command(
        name="rollback",
        summary="declare an object again as it was in an earlier revision",
        detail="Without a number: as before its last change. A number alone is enough, for no two revisions have the"
        " same. Without anything: all that the newest change has changed, whoever made it. A deleted one comes back,"
        " with the files that were kept; an agent that has left its team since goes back into it.",
        examples=("!rollback", "!rollback worker/alice", "!rollback worker/alice 17", "!rollback 17"),
        arguments=(
            _object(metavar="worker/NAME|REVISION", nargs="?", default=""),
            Argument(("revision",), {"metavar": "REVISION", "nargs": "?", "type": int, "default": 0}),
            _YES,
        ),
        group="change",
    ),
    Command(
        name="get",
        summary="list objects, or show one",
        examples=("!get workers", "!get all", "!get worker/alice -o yaml"),
        arguments=(
            Argument(("object",), {"metavar": "KIND[/NAME]", "nargs": "?", "default": "workers"}),
            Argument(("-o", "--output"), {"choices": ["table", "yaml", "json"], "default": "table"}),
        ),
        aliases=("list", "ls"),
    ),
    Command(
        name="describe",
        summary="all about one object: conditions, turns, usage, what happened",
        examples=("!describe worker/alice",),
        arguments=(_object(),),
        aliases=("desc", "show"),
    ),
    Command(
        name="explain",
        summary="may this person or agent call that agent, and which rule says so",
        detail="Without a room: in a room with others. `in dm`: alone with the agent.",
        examples=(
            "!explain @bob -> alice",
            "!explain @bob:example.org -> alice in #lounge",
            "!explain @bob -> alice in dm",
        ),
        arguments=(Argument(("words",), {"metavar": "@USER -> AGENT [in #ROOM]", "nargs": REMAINDER}),),
        aliases=("why",),
    ),
    Command(
        name="audit",
        summary="what was allowed lately and what was not, and by which rule",
        examples=("!audit", "!audit alice --last 50"),
        arguments=(
            Argument(("object",), {"metavar": "AGENT", "nargs": "?", "default": ""}),
            Argument(("--last",), {"type": int, "default": 20, "metavar": "N"}),
        ),
    ),
    Command(
        name="logs",
        summary="what an agent's process wrote",
        examples=("!logs alice", "!logs alice --lines 500"),
        arguments=(_object(), Argument(("-n", "--lines"), {"type": int, "default": 60, "metavar": "N"})),
        aliases=("log",),
    ),
    Command(
        name="restart",
        summary="make an agent's sandbox anew, or those of a team; files stay",
        examples=("!restart alice",),
        arguments=(_object(),),
        group="change",
    ),
    Command(
        name="sleep",
        summary="declare that an agent sleeps until somebody mentions it",
        examples=("!sleep alice",),
        arguments=(_object(), _YES),
        group="change",
    ),
    Command(
        name="wake",
        summary="declare that an agent runs",
        examples=("!wake alice",),
        arguments=(_object(), _YES),
        group="change",
    ),
    Command(
        name="pause",
        summary="leave an object as it is, whatever is declared, until it is resumed",
        detail="For when you must look at something without Opsroom mending it. A team is paused with its agents. Rooms"
        " are kept in line all the same, and agents that run keep their access.",
        examples=("!pause worker/alice", "!pause team/dev"),
        arguments=(_object(),),
        group="change",
    ),
    Command(
        name="resume",
        summary="go on with what was paused",
        examples=("!resume worker/alice",),
        arguments=(_object(),),
        aliases=("unpause",),
        group="change",
    ),
    Command(
        name="stop",
        summary="end what an agent is answering now",
        detail="In an agent's room `!stop` ends what runs in that room or thread; so does a 🛑 on the question or the"
        " answer.",
        examples=("!stop alice",),
        arguments=(_object(),),
        group="change",
    ),
    Command(
        name="delete",
        summary="remove an object and all that was made for it",
        detail="An agent's files need your word: `--files keep` leaves them in the bucket for a later agent of that"
        " name, `--files delete` removes them for good. What goes is shown first, and goes once you have marked it"
        " with ✅; `--yes` says so beforehand.",
        examples=("!delete worker/alice", "!delete worker/alice --files delete --yes"),
        arguments=(
            _object(),
            Argument(("--files",), {"choices": ["keep", "delete"], "default": ""}),
            _YES,
        ),
        aliases=("rm", "remove"),
        group="change",
    ),
    Command(
        name="adopt",
        summary="go on in a room that HiClaw, or somebody else, made: what was said there stays",
        detail="First, in that room: `/invite` the bot and give it power 100 with `/op`. Without an alias it is the one"
        " that HiClaw gives to the room of that object. The room of Opsroom until then is closed and points there."
        " `--leader-dm`: the room of a team's leader alone.",
        examples=("!adopt worker/alice", "!adopt team/dev #old-dev-room", "!adopt team/dev --leader-dm"),
        arguments=(
            _object(),
            Argument(("alias",), {"metavar": "#ALIAS", "nargs": "?", "default": ""}),
            Argument(("--leader-dm",), {"action": "store_true"}),
        ),
        group="change",
    ),
    Command(
        name="doctor",
        summary="check every component, and say how to mend what fails",
        examples=("!doctor",),
    ),
    Command(name="version", summary="which Opsroom this is", examples=("!version",)),
)

COMMANDS: Final[Mapping[str, Command]] = {command.name: command for command in _ALL}
