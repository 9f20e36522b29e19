"""How the server and its brain talk: one JSON object a line over pipes.

To the brain: `turn`, `cancel`, `saved`. From it: `text`, `save`, `end`. The brain is a process of its own because the
model libraries weigh more than everything else together: it starts with the first turn and ends when no turn came for a
while, so that an idle agent does not pay for them.
"""

import json
from dataclasses import asdict, dataclass

MAX_LINE = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One question to the agent. `id` is the A2A task's; `context` names room and thread."""

    id: str
    context: str
    question: str
    sender: str = ""
    room: str = ""
    retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a turn ended. `code`: '' when it went well, `canceled`, or that of a `Failure`, with its sentence."""

    code: str = ""
    sentence: str = ""
    retry: bool = False
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Answer to `Save`. `warning` is a sentence when the files could not be stored."""

    id: str
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Files were changed: the brain waits until they are stored."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    id: str
    end: End


Message = Turn | Cancel | Saved | Text | Save | Ended
KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in (Turn, Cancel, Saved, Text, Save, Ended)}


def encode(message: Message) -> bytes:
    """One line."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    fields = json.loads(line)
    kind = KINDS[fields.pop("kind")]
    if kind is Ended:
        return Ended(id=fields["id"], end=End(**fields["end"]))
    return kind(**fields)
