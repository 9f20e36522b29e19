"""The journal by itself: its writer with a real store and a real homeserver, without agents."""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from appservice.config import HomeserverSettings, Settings
from appservice.homeserver import registration
from appservice.homeserver.client import Homeserver
from appservice.homeserver.members import Members, Operators
from appservice.homeserver.sender import Sender
from appservice.ops.journal import JournalDoor
from appservice.policy.roster import Names
from appservice.reconcile.desk import Desk
from appservice.reconcile.identity import Identities
from appservice.reconcile.journal import Journal
from appservice.reconcile.rebuilding import Rebuilt, rebuild
from appservice.reconcile.rooms import RoomKeeper
from appservice.resources import registry
from appservice.rooms.declared import Declared
from appservice.store import declaring, inbox, journal
from appservice.store.changes import Changes, Key
from appservice.store.database import Database
from appservice.store.declaring import Author
from appservice.store.outbox import Outgoing
from tests.support.children import free_port
from tests.support.synapse import SERVER_NAME, Person, Synapse, running_synapse

BOT = f"@opsroom:{SERVER_NAME}"
NAMES = Names(bot=BOT, prefix="agent-", server_name=SERVER_NAME)
TYPE = "org.opsroom.resource"


@dataclass(kw_only=True)
class Journalled:
    """`told`: what the writer has said is unknown to the store, `received`: events that it handed on, `looked`: owners
    that the keeper of rooms has had looked at."""

    synapse: Synapse
    homeserver: Homeserver
    operator: Person
    prefix: str
    root: Path
    exits: AsyncExitStack = field(repr=False)
    told: list[Sequence[str]] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    looked: list[Key] = field(default_factory=list)

    async def store(self, name: str = "opsroom.db") -> Database:
        found = await Database.open(self.root / name)
        self.exits.push_async_callback(found.close)
        return found

    def keeper(self, store: Database) -> RoomKeeper:
        """The keeper of the rooms as a control plane has it that was started just now."""

        async def operators() -> frozenset[str]:
            return frozenset({self.operator.user_id})

        declared = Declared(store, NAMES, operators, prefix=self.prefix)
        return RoomKeeper(self.homeserver, store, declared, Identities(self.homeserver, NAMES), self.looked.append)

    def writer(self, store: Database, *, limit: int = 1000) -> Journal:
        """A writer as a control plane has it that was started just now."""

        async def receive(events: Sequence[dict[str, Any]]) -> None:
            self.received += await store.write(lambda db: inbox.add(db, events, now=0.0))

        async def tell(keys: Sequence[str]) -> None:
            self.told.append(keys)

        found = Journal(
            store=store,
            changes=Changes(),
            homeserver=self.homeserver,
            rooms=self.keeper(store),
            prefix=self.prefix,
            receive=receive,
            tell=tell,
            limit=limit,
        )
        found.caught_up()
        return found

    async def door(self, store: Database, writer: Journal) -> JournalDoor:
        """The door beside it. Its ops room is one that the operator made."""
        members = Members(self.homeserver)
        operators = Operators(self.homeserver, members)
        operators.ops_room = await self.operator.create_room(invite=[BOT], room_version="10")
        await self.homeserver.join(operators.ops_room, user=BOT)

        async def on_dead(item: Outgoing, reason: str) -> None:
            raise AssertionError(item, reason)

        sender = Sender(store, self.homeserver, on_dead=on_dead)
        self.exits.push_async_callback(sender.close)
        desk = Desk(store, Changes(), lambda _: None, NAMES)
        return JournalDoor(
            store=store, homeserver=self.homeserver, operators=operators, sender=sender, desk=desk, writer=writer
        )

    async def publish(self, store: Database, *, limit: int = 1000) -> Journal:
        """A writer that has published everything."""
        found = self.writer(store, limit=limit)
        await found.publish()
        return found

    async def id(self, name: str) -> str | None:
        """Of one of our rooms, by its alias without the prefix."""
        return await self.homeserver.resolve(f"#{self.prefix}{name}:{SERVER_NAME}")

    async def room(self, number: int = 1) -> str:
        """Id of a room of the journal."""
        found = await self.id(f"journal{f'-{number}' if number > 1 else ''}")
        assert found is not None
        return found

    async def state(self, number: int = 1) -> dict[str, Mapping[str, Any]]:
        """What is there, by state key."""
        found = await self.homeserver.state(await self.room(number))
        return {event["state_key"]: event["content"] for event in found if event["type"] == TYPE}

    async def rebuilt(self, store: Database) -> Rebuilt:
        return await rebuild(store, self.homeserver, prefix=self.prefix, names=NAMES)


async def declare(store: Database, text: str, *, cause: str = "$1") -> None:
    documents = registry.parse(text.encode(), source="test")
    author = Author(user="@op:hs", cause=cause, now=1.0)
    await store.write(lambda db: declaring.declare(db, documents, author, is_ours=lambda _: False))


async def published(store: Database, key: Key) -> journal.Change:
    found = await journal.latest_of(store, key)
    assert found is not None
    return found


@asynccontextmanager
async def journalled(root: Path, *, prefix: str = "opsroom-") -> AsyncIterator[Journalled]:
    """A homeserver that knows us, and an operator on it."""
    settings = Settings(homeserver=HomeserverSettings(server_name=SERVER_NAME))
    document = registration.registration_document(
        settings,
        url=f"http://127.0.0.1:{free_port()}",
        as_token=secrets.token_hex(),
        hs_token=secrets.token_hex(),
        sender_localpart="x1",
    )
    path = root / "registration.yaml"
    path.write_text(yaml.safe_dump(document))
    async with AsyncExitStack() as exits:
        synapse = await exits.enter_async_context(running_synapse(root / "synapse", path))
        homeserver = Homeserver(synapse.url, registration.load(path), server_name=SERVER_NAME, bot=BOT)
        exits.push_async_callback(homeserver.close)
        await homeserver.ensure_user(BOT)
        operator = await synapse.person("op")
        yield Journalled(
            synapse=synapse, homeserver=homeserver, operator=operator, prefix=prefix, root=root, exits=exits
        )
