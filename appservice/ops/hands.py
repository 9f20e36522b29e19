"""What verbs work with, and how they find what was named."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from appservice.backends.protocol import Backend
from appservice.config import Settings
from appservice.errors import Conflict, Invalid, NotFound
from appservice.health import Health
from appservice.homeserver.events import Event
from appservice.ops.describe import Tries
from appservice.ops.order import Order
from appservice.policy.roster import Names
from appservice.policy.triggers import Decision
from appservice.reconcile.adoption import Adoption
from appservice.reconcile.desk import Desk
from appservice.resources import registry
from appservice.resources.document import Document
from appservice.resources.suggest import nearest
from appservice.resources.worker import WorkerSpec
from appservice.storage.protocol import Objects
from appservice.store import declaring, objects, status
from appservice.store.changes import Changes, Key
from appservice.store.database import Database
from appservice.store.objects import Stored
from appservice.store.status import Status
from appservice.workspace import skills

HISTORY = 50  # revisions that a command looks back

_KINDS_TO_COME = frozenset(word for kind in registry.NOT_YET for word in (kind.lower(), f"{kind.lower()}s"))

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What verbs work with: `stop_turn` by id and name, `checks` for the doctor, `managed` the paths in an agent's
    prefix that are not its own work, `explain` who may ask whom in which room, `confirm` with the person (raises
    OpsroomError unless they agree), `resolve` an alias to a room's id, `tries` how often a pass has failed, `order`
    whose turn it is to change something."""

    settings: Settings
    store: Database
    changes: Changes
    backend: Backend
    objects: Objects
    desk: Desk
    order: Order
    stop_turn: Callable[[str, str], None]
    checks: Callable[[], Awaitable[Sequence[Health]]]
    managed: Callable[[str], Awaitable[frozenset[str]]]
    explain: Callable[[str, str, str], Awaitable[Decision]]
    names: Names
    tries: Callable[[Key], Tries]
    confirm: Callable[[Event, str], Awaitable[None]]
    resolve: Callable[[str], Awaitable[str | None]]
    adoption: Adoption

    async def find(self, text: str) -> Stored:
        """What `worker/alice`, `alice` or an agent's Matrix id means. Raises NotFound with the nearest name."""
        text = self.names.agent(text) or text
        kind, called = reference(text)
        if not called:  # an agent may be called like a kind: `manager`
            kind, called = "", text
        everything = await objects.every(self.store, kind or None)
        same = [stored for stored in everything if stored.name == called]
        if same:
            return next((stored for stored in same if stored.kind == "Worker"), same[0])
        near = nearest(called, [other.name for other in everything])
        hint = f"Did you mean `{near}`?" if near else "`!get all` lists what there is."
        raise NotFound(f"there is no {kind.lower() if kind else 'object'} called `{called}`", fix=hint)

    async def own(self, text: str) -> Stored:
        """As `find`, for what is changed by itself. Raises Conflict for a part of another object."""
        stored = await self.find(text)
        if stored.owner:
            raise Conflict(
                f"`{stored.key}` is part of `{stored.owner}`.", fix=f"Change it there: `!edit {stored.owner}`"
            )
        return stored

    async def called(self, text: str) -> Key:
        """As `find`, and what is gone: its revisions stay."""
        try:
            return (await self.find(text)).key
        except NotFound:
            gone = await objects.last_called(self.store, *reference(self.names.agent(text) or text))
            if gone is None:
                raise
            return gone

    async def agents_of(self, stored: Stored) -> list[Stored]:
        """The agent itself, or those that an object is made of."""
        return [stored] if stored.kind == "Worker" else await objects.owned_by(self.store, str(stored.key))

    async def agent_of(self, stored: Stored) -> Stored:
        """As `agents_of`, where one is meant. Raises Invalid for none or several."""
        agents = await self.agents_of(stored)
        if len(agents) != 1:
            names = ", ".join(agent.name for agent in agents) or "none"
            raise Invalid(f"`{stored.key}` is not one agent.", fix=f"Its agents: {names}. Name one of them.")
        return agents[0]

    async def known(self) -> dict[Key, Stored]:
        return {stored.key: stored for stored in await objects.every(self.store)}

    async def pair(self, key: Key) -> tuple[Stored | None, Status]:
        return await objects.get(self.store, key), await status.get(self.store, key)

    async def pairs(self, found: Sequence[Stored] | None = None) -> list[tuple[Stored, Status]]:
        known = await status.every(self.store)
        return [(s, known.get(s.key, Status())) for s in found or await objects.every(self.store)]


def reference(text: str) -> tuple[str, str]:
    """`worker/alice`, `workers` or `alice` as (kind, name); '' for what is not said. Raises Invalid for an unknown
    kind."""
    word, _, rest = text.partition("/")
    kind = registry.find_kind(word)
    if kind is not None:
        return kind.name, _plain(rest)
    if word.lower() in _KINDS_TO_COME:
        raise Invalid(f"`{word}` is a kind that is not supported yet.", fix="`!get all` lists what there is.")
    if rest:
        known = ", ".join(kind.plural for kind in registry.KINDS.values())
        raise Invalid(f"`{word}` is not a kind.", fix=f"Known kinds: {known}.")
    return "", _plain(text)


def _plain(name: str) -> str:
    """`alice` for `@alice:example.org`."""
    return name.removeprefix("@").split(":")[0]


def checked(data: bytes, source: str) -> tuple[Document, ...]:
    """Read documents. That skills exist is known only outside of the pure part that reads them."""
    documents = registry.parse(data, source=source)
    for document in documents:
        specs = [part.spec for part in declaring.parts(document)]
        for spec in (*specs, document.spec):
            if isinstance(spec, WorkerSpec):
                skills.chosen(spec.skills)
    return documents
