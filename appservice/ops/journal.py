"""What others write into the journal: by an operator it is an apply, by anybody else it is taken back with a notice."""

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from time import time

from appservice.errors import Invalid, OpsroomError
from appservice.health import Health
from appservice.homeserver import content
from appservice.homeserver.client import Homeserver
from appservice.homeserver.dispatch import Effect
from appservice.homeserver.events import JOURNAL, Event
from appservice.homeserver.members import Operators, short
from appservice.homeserver.patience import outlast
from appservice.homeserver.sender import Sender
from appservice.ops import render
from appservice.ops.hands import checked
from appservice.reconcile import journal_events
from appservice.reconcile.desk import Desk
from appservice.reconcile.journal import Journal
from appservice.reconcile.journal_events import Media
from appservice.resources.source import MAX_BYTES
from appservice.store import inbox, journal, objects
from appservice.store.changes import Key
from appservice.store.database import Connection, Database
from appservice.store.declaring import Accepted, Author
from appservice.store.outbox import Outgoing
from appservice.store.rooms import Room

SHOWN = 10  # names in a sentence


class JournalDoor:
    def __init__(
        self,
        *,
        store: Database,
        homeserver: Homeserver,
        operators: Operators,
        sender: Sender,
        desk: Desk,
        writer: Journal,
    ) -> None:
        self._store = store
        self._homeserver = homeserver
        self._operators = operators
        self._sender = sender
        self._desk = desk
        self._journal = writer

    def takes(self, event: Event, room: Room | None) -> bool:
        """Whether this is about the journal: a state event like ours there, or one that takes such away."""
        if room is None or room.purpose != "journal":
            return False
        return event.type == "m.room.redaction" or (event.type == JOURNAL and event.state_key is not None)

    async def handle(self, event: Event) -> Effect | None:
        if event.state_key is None:
            return Effect(after=self._journal.look_again)
        if not await inbox.is_done(self._store, event.id):  # else a try before this one came as far as the room
            notice = await self._taken(event, event.state_key)
            await self._done(event, notice)  # first: whatever ends this, it is taken back in the end
        await self._journal.mend(event.room_id, event.state_key, event.content)
        return None

    async def health(self) -> Health:
        """Whether what is accepted comes into the journal, and what to do when it does not."""
        count, since = await journal.backlog(self._store)
        trouble = self._journal.trouble
        if trouble is None:
            detail = f"{_changes(count)} on the way" if count else "has all changes"
            return Health(part="journal", level="ok", detail=detail)
        wait = f"{_changes(count)} since {render.when(since, time())} wait{'s' * (count == 1)}"
        stuck = wait if count else "what others write there is not put right"
        detail = f"{stuck}, because {trouble.what.rstrip('.')}."
        return Health(part="journal", level="fail" if count else "warn", detail=detail, fix=trouble.fix)

    async def tell(self, keys: Sequence[str]) -> None:
        """That the journal has objects which the store has never heard of: most likely the database was lost."""
        listed = ", ".join(f"`{key}`" for key in keys[:SHOWN])
        listed += f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        text = (
            f"**The journal has {len(keys)} object{'s' * (len(keys) > 1)} that this database does not know:** {listed}."
            " They are left there. If the database was lost, get them back: stop Opsroom, move `opsroom.db` away, run"
            " `opsroom restore --from-room`. To let one go, write `{}` over its state event."
        )
        cause = f"unknown-{sha256(' '.join(keys).encode()).hexdigest()[:16]}"
        await self._tell(self._outgoing(cause, text))

    async def _taken(self, event: Event, state_key: str) -> Outgoing | None:
        """Do what the event asks for; a notice for the ops room when it is refused."""
        if event.sender not in await outlast(self._operators.now, "read who operates"):
            text = f"{short(event.sender)} wrote `{_shown(state_key)}` in the journal and is no operator: taken back."
            return self._notice(event, text)
        try:
            await self._obey(event, journal_events.key_of(state_key))
        except OpsroomError as error:
            text = render.problems(error, source=f"`{_shown(state_key)}` in the journal")
            return self._notice(event, f"{text}\n\nWhat {short(event.sender)} wrote there was taken back.")
        return None

    async def _obey(self, event: Event, key: Key) -> None:
        wanted = journal_events.wish(event.content)
        author = Author(user=event.sender, cause=event.id, now=time())
        if wanted is None:
            stored = await objects.get(self._store, key)
            if stored is not None and stored.owner:
                fix = f"Change it there: `!edit {stored.owner}`"
                raise Invalid(f"`{key}` is part of `{stored.owner}`.", fix=fix)
            if stored is not None and not stored.deleting:
                await self._desk.delete(stored, author, keep_files=True, also=self._settle(event))
            return
        text = await self._fetched(wanted) if isinstance(wanted, Media) else wanted
        document = journal_events.only(key, checked(text.encode(errors="replace"), "document"))
        await self._desk.declare([document], author, also=self._settle(event))

    async def _fetched(self, media: Media) -> str:
        data = await outlast(lambda: self._homeserver.download(media.url, limit=MAX_BYTES), "read a document")
        return media.text(data)

    def _settle(self, event: Event) -> Callable[[Connection, Accepted], Awaitable[None]]:
        """The event leaves the inbox with its effect, so that it is never applied over something newer."""

        async def unit(db: Connection, done: Accepted) -> None:
            await inbox.finish(db, event.id)

        return unit

    def _notice(self, event: Event, text: str) -> Outgoing:
        return self._outgoing(event.id, text)

    def _outgoing(self, cause: str, text: str) -> Outgoing:
        return Outgoing(
            txn_id=f"journal.{cause}.0",
            room_id=self._operators.ops_room,
            sender=self._homeserver.bot,
            type="m.room.message",
            content=content.message(text),
            cause=cause,
        )

    async def _done(self, event: Event, notice: Outgoing | None) -> None:
        """The event had its effect or has none, and who wrote it hears of a refusal: none of it is done once more."""

        async def unit(db: Connection) -> None:
            await inbox.finish(db, event.id)
            if notice is not None:
                await self._sender.keep(db, notice)

        await self._store.write(unit)
        if notice is not None:
            self._sender.soon(notice)

    async def _tell(self, notice: Outgoing) -> None:
        """Once, however often it is asked for."""
        await self._store.write(lambda db: self._sender.keep(db, notice))
        self._sender.soon(notice)


def _changes(count: int) -> str:
    return f"{count} change{'s' * (count != 1)}"


def _shown(state_key: str) -> str:
    """A state key that anybody chose, fit for a sentence."""
    return "".join(letter if letter.isprintable() and letter != "`" else "?" for letter in state_key[:80])
