"""What all reconcilers work with."""

from collections.abc import Callable
from dataclasses import dataclass

from appservice.backends.protocol import Backend
from appservice.config import Settings
from appservice.gateway.protocol import Gateway
from appservice.homeserver.client import Homeserver
from appservice.homeserver.sender import Sender
from appservice.reconcile.accounts import Accounts
from appservice.reconcile.identity import Identities
from appservice.reconcile.keeper import GatewayKeeper
from appservice.reconcile.rooms import RoomKeeper
from appservice.resources import registry
from appservice.rooms.declared import Declared
from appservice.runtimes.a2a import Agent
from appservice.storage.keys import Keys
from appservice.storage.protocol import Objects, Users
from appservice.store import objects, status
from appservice.store.changes import Changes
from appservice.store.database import Connection, Database
from appservice.store.objects import Stored
from appservice.store.status import Condition, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that agents, teams and people are made of."""

    settings: Settings
    store: Database
    changes: Changes
    homeserver: Homeserver
    sender: Sender
    backend: Backend
    gateway: Gateway
    keeper: GatewayKeeper
    objects: Objects
    users: Users
    keys: Keys
    image: str
    agent: Callable[[str], Agent]
    declared: Declared
    rooms: RoomKeeper
    identities: Identities
    accounts: Accounts

    async def parts(self, stored: Stored) -> list[tuple[Stored, Status]]:
        """The agents an object is made of, those on their way out included."""
        found = await objects.owned_by(self.store, str(stored.key))
        return [(part, await status.get(self.store, part.key)) for part in found]

    async def forget(self, stored: Stored) -> None:
        """End of a teardown."""

        async def unit(db: Connection) -> None:
            await objects.forget(db, stored.key)

        await self.store.write(unit)
        self.changes.publish(stored.key)


def effective(stored: Stored) -> Condition:
    """Names the fields that are kept and do nothing yet."""
    kind = registry.KINDS[stored.kind]
    waiting = kind.pending(kind.spec.model_validate(stored.document["spec"]))
    if not waiting:
        return Condition(type="FieldsEffective", status="True", reason="AllEffective")
    message = f"Kept, but not yet effective: {', '.join(waiting)}."
    return Condition(type="FieldsEffective", status="False", reason="NotYetEffective", message=message)
