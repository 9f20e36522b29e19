"""One command's thread: 👀 on receipt, one message edited while the work goes on, ✅ or ❌ at the end."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from appservice.errors import OpsroomError
from appservice.homeserver import content
from appservice.homeserver.client import Homeserver
from appservice.homeserver.events import Event
from appservice.homeserver.live import Live, Pace
from appservice.homeserver.patience import outlast
from appservice.homeserver.sender import Sender
from appservice.ops import render
from appservice.store import commands, outbox
from appservice.store.database import Connection, Database
from appservice.store.outbox import Outgoing

SEEN, OK, FAILED = "👀", "✅", "❌"
_OFFERED = {"yes": OK, "no": FAILED}  # below a question
INLINE = 8_000  # bytes; longer answers become a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command says at its end. `file`: (name, text) when the answer is long; `code`: of the error that ended it,
    '' for none."""

    text: str
    ok: bool = True
    file: tuple[str, str] | None = None
    code: str = ""


def failed(error: OpsroomError, source: str = "") -> Answer:
    """The end of a command that could not be done; `source`: what the person calls the input."""
    return Answer(text=render.problems(error, source=source), ok=False, code=error.code)


class Thread:
    """Answers of one command. `progress` may be called at any rate; `finish` once. `repeated`: an earlier run of the
    command may have begun its message."""

    def __init__(
        self,
        *,
        store: Database,
        homeserver: Homeserver,
        sender: Sender,
        pace: Pace,
        bot: str,
        command: Event,
        repeated: bool,
    ) -> None:
        self._store = store
        self._sender = sender
        self._homeserver = homeserver
        self._bot = bot
        self._command = command
        self._lane = f"command.{command.id}"
        self._repeated = repeated
        self.live = Live(
            homeserver,
            pace,
            room_id=command.room_id,
            sender=bot,
            lane=self._lane,
            compose=self._compose,
            begun=repeated,
        )

    def progress(self, text: str) -> None:
        self.live.show(content.split(text, INLINE)[0])  # a longer one may be more than the homeserver takes

    async def seen(self) -> None:
        await self._sender.send(self._item("seen", "m.reaction", content.reaction(self._command.id, SEEN)))

    async def ask(self, told: str, question: str) -> str:
        """Say what is about to be done and ask, with the marks to choose from below, so that a click is enough. It is
        sent for certain, once the homeserver is there. The message's id, '' when the room does not take it."""
        self.live.tried = True
        text, file = self._cut(told, "plan.md")
        first = self._compose(f"{text}\n\n{question}")
        target = self.live.event_id = await self._sender.send(self._item("0", "m.room.message", first))
        if target and file is not None:
            await self._sender.send(self._item("plan", "m.room.message", await self._upload(*file)))
        for part, key in _OFFERED.items() if target else ():
            await self._sender.send(self._item(part, "m.reaction", content.reaction(target, key)))
        return target

    async def finish(self, answer: Answer) -> None:
        """The last word: the message as it stays, the mark, an attachment."""
        event_id = await self.live.settle()
        text, file = (answer.text, answer.file) if answer.file else self._cut(answer.text, "answer.md")
        first = self._compose(text)
        if self.live.tried and not event_id:
            event_id = await self._sender.send(self._item("0", "m.room.message", first))
        items = []
        if not event_id:
            items.append(self._item("0", "m.room.message", first))
        elif self._repeated or text != self.live.shown:
            items.append(self._item("final", "m.room.message", content.edit(first, event_id)))
        items.append(self._item("mark", "m.reaction", content.reaction(self._command.id, OK if answer.ok else FAILED)))
        if file is not None:
            items.append(self._item("file", "m.room.message", await self._upload(*file)))
        for part in _OFFERED:  # in this run or in an earlier one
            offered = await outbox.get(self._store, f"{self._lane}.{part}")
            if offered is not None and offered.event_id:
                items.append(self._item(f"{part}-gone", "m.room.redaction", {"redacts": offered.event_id}))

        async def unit(db: Connection) -> None:
            await commands.done(db, self._command.id)
            for item in items:
                await self._sender.keep(db, item)

        await outlast(partial(self._store.write, unit), "end a command")
        for item in items:
            self._sender.soon(item)

    def _cut(self, text: str, name: str) -> tuple[str, tuple[str, str] | None]:
        if len(text.encode()) <= INLINE:
            return text, None
        head, _ = content.split(text, 1_000)
        return head + "\n\n*All of it is in the attached file.*", (name, text)

    async def _upload(self, name: str, text: str) -> dict[str, Any]:
        data = text.encode()
        address = await outlast(
            lambda: self._homeserver.upload(data, name=name, mimetype="text/plain"), "store an answer"
        )
        return content.attachment(name, address, len(data), thread=self._root)

    @property
    def _root(self) -> str:
        return self._command.thread or self._command.id

    def _compose(self, text: str) -> dict[str, Any]:
        cause = {"root": self._command.id, "parent": self._command.id, "hop": 0}
        return content.message(text, thread=self._root, reply_to=self._command.id, cause=cause)

    def _item(self, part: str, type_: str, body: dict[str, Any]) -> Outgoing:
        return Outgoing(
            txn_id=f"{self._lane}.{part}",
            room_id=self._command.room_id,
            sender=self._bot,
            type=type_,
            content=body,
            cause=self._command.id,
        )
