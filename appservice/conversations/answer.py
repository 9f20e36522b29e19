"""The events of one answer: pure. A text becomes a message in a thread, its last state, and what did not fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appservice.homeserver import content
from appservice.store.outbox import Outgoing
from appservice.store.turns import Turn

PIECE = 12_000  # bytes of text in one message: body, HTML and the edit's copies stay well below 65,536 bytes
PIECES = 3  # beyond this the whole answer goes into a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An answer cut to size: `first` replaces the growing message, `rest` follows it, `file` holds all of it."""

    first: str
    rest: tuple[str, ...] = ()
    file: bytes = b""

    @property
    def cut(self) -> bool:
        """Whether `first` is not all of it."""
        return bool(self.rest or self.file)


def shape(text: str) -> Shape:
    first, left = content.split(text, PIECE)
    rest: list[str] = []
    while left and len(rest) < PIECES - 1:
        piece, left = content.split(left, PIECE)
        rest.append(piece)
    if left:
        return Shape(first=first + "\n\n*The whole answer is in the attached file.*", file=text.encode())
    return Shape(first=first, rest=tuple(rest))


def lane(turn: Turn) -> str:
    """First part of every transaction id of a turn's answer."""
    return f"turn.{turn.id}"


def cause(turn: Turn) -> dict[str, Any]:
    """Causal ids that every event of the answer carries."""
    return {"root": turn.root, "parent": turn.event_id, "hop": turn.hop + 1, "turn": turn.id}


def growing(text: str) -> str:
    """What is shown while the answer grows: its end, when it is too long for one message."""
    if len(text.encode()) <= PIECE:
        return text
    return "…" + text.encode()[-PIECE:].decode(errors="ignore")


def complete(text: str, shown: str) -> bool:
    """Whether what the room shows is the whole answer already."""
    return text == shown and len(text.encode()) <= PIECE


def compose(turn: Turn, text: str, *, calls: Sequence[str] = ()) -> dict[str, Any]:
    """A message of the answer in the question's thread. `calls`: whom its last state mentions; other users' names in
    it are text."""
    why = cause(turn) | ({"final": True} if calls else {})
    made = content.message(text, msgtype="m.text", thread=turn.thread, reply_to=turn.event_id, mention=calls, cause=why)
    return content.with_pills_of(made, calls)


def outgoing(turn: Turn, sender: str, part: str, body: dict[str, Any]) -> Outgoing:
    return Outgoing(
        txn_id=f"{lane(turn)}.{part}",
        room_id=turn.room_id,
        sender=sender,
        type="m.room.message",
        content=body,
        cause=turn.event_id,
    )
