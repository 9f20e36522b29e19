"""What is really there, read from the homeserver, the gateway's files, the storage and the sandboxes; and what should
be there, from the pure functions of the declaration."""

import random
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from hashlib import md5
from typing import Any

from appservice import config
from appservice.gateway.files import read_all
from appservice.homeserver import registration
from appservice.homeserver.client import Homeserver
from appservice.policy import roster
from appservice.policy.roster import Names, Roster
from appservice.reconcile.given import access, workspace
from appservice.resources import registry
from appservice.resources.document import Document
from appservice.resources.printing import to_yaml
from appservice.resources.worker import WorkerSpec
from appservice.rooms import desired
from appservice.storage import filer
from appservice.storage.access import Policy, policy
from appservice.storage.connect import connect
from appservice.storage.filer import FilerUsers
from appservice.storage.objects import HEALTH_KEY
from appservice.storage.protocol import Access, Users
from appservice.store import declaring
from appservice.workspace.names import prefix
from tests.support import faults
from tests.support.stack import Stack

SET = "world"


def company(chance: random.Random) -> list[dict[str, Any]]:
    """Some documents that belong together. Most agents do not run: what is compared does not need it."""

    def agent(name: str) -> dict[str, Any]:
        state = chance.choice(["Stopped", "Stopped", "Stopped", "Sleeping", "Running"])
        policy = {"groupDenyExtra": ["nobody"]} if chance.random() < 0.2 else {}
        soul = {"soul": f"Soul {chance.randrange(3)}."} if chance.random() < 0.5 else {}
        return {"name": name, "model": "gpt-test", "state": state, "channelPolicy": policy, **soul}

    specs: dict[tuple[str, str], dict[str, Any]] = {}
    for name in ("w0", "w1"):
        if chance.random() < 0.5:
            specs["Worker", name] = {key: value for key, value in agent(name).items() if key != "name"}
    for name in ("t0", "t1"):
        if chance.random() < 0.5:
            members = [agent(f"{name}-m{n}") for n in range(chance.randrange(3))]
            specs["Team", name] = {"leader": agent(f"{name}-lead"), "workers": members}
            specs["Team", name] |= {"peerMentions": chance.random() < 0.5, "description": chance.choice(["", "Busy."])}
            specs["Team", name] |= {"admin": {"name": "h0"}} if chance.random() < 0.3 else {}
    if chance.random() < 0.4:
        specs["Manager", "default"] = {"model": "gpt-test", "state": "Stopped"}
    for name in ("h0", "h1"):
        if chance.random() < 0.6:
            teams, workers = chance.sample(["t0", "t1"], chance.randrange(3)), chance.sample(["w0", "t0-m0"], 1)
            level = chance.randrange(1, 4)
            specs["Human", name] = {"displayName": name, "permissionLevel": level}
            specs["Human", name] |= {"accessibleTeams": teams, "accessibleWorkers": workers}
    if not specs:
        specs["Worker", "w2"] = {"model": "gpt-test", "state": "Stopped"}
    return [
        {
            "apiVersion": "hiclaw.io/v1beta1",
            "kind": kind,
            "metadata": {"name": name, "labels": {"opsroom.io/set": SET}},
            "spec": spec,
        }
        for (kind, name), spec in chance.sample(sorted(specs.items()), len(specs))
    ]


def edited(chance: random.Random, documents: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The same documents, but for some that are there no more, are new, or are otherwise."""
    now, other = _by_name(documents), _by_name(company(chance))
    names = sorted(now | other)
    for name in {chance.choice(names), *(name for name in names if chance.random() < 0.3)}:
        now.pop(name, None)
        now |= {name: other[name]} if name in other else {}
    return chance.sample(list(now.values()), len(now)) or list(other.values())


def _by_name(documents: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def text_of(documents: Sequence[Mapping[str, Any]]) -> str:
    return "---\n".join(to_yaml(document) for document in documents)


async def should(stack: Stack, text: str) -> dict[str, Any]:
    """What follows from one file, and from who has an account without being declared."""
    documents = registry.parse(text.encode(), source="world.yaml")
    people, specs = _roster(stack, documents), _agents(documents)
    rooms = desired.topology(people, prefix="opsroom-")
    async with _server(stack) as server:
        undeclared = {team.admin for team in people.teams.values() if team.admin} - people.humans.keys()
        absent = {user for user in undeclared if not await server.exists(user)}
    return {
        "rooms": {
            alias: {
                "name": room.name,
                "topic": room.topic,
                "members": sorted((room.members | {people.names.bot}) - absent),
                "powers": dict(room.powers),
                "join": "restricted" if room.open_to else "invite",
                "hangs": bool(room.parent),
            }
            for alias, room in rooms.items()
        },
        "consumers": set(people.agents),
        "storage users": {name: _rights(stack, access(spec, people.agents[name])) for name, spec in specs.items()},
        "files": {name: _sums(workspace(name, spec, people)) for name, spec in specs.items()},
        "sandboxes": {name: spec.state for name, spec in specs.items() if spec.state == "Running"},
    }


async def found(stack: Stack, text: str) -> dict[str, Any]:
    """What is there, in the same form."""
    documents = registry.parse(text.encode(), source="world.yaml")
    people, specs = _roster(stack, documents), _agents(documents)
    stored, users = connect(config.load(stack.data_dir, installation=stack.installation))
    traces = await faults.traces(stack)
    try:
        sums = {item.key: item.etag for item in await stored.list("agents/")}
        told = {name: workspace(name, spec, people) for name, spec in specs.items()}
        return {
            "rooms": await _rooms(stack),
            "consumers": traces["consumers"],
            "storage users": {name: await _policy(users, name) for name in traces["storage users"]},
            "files": {name: {path: sums.get(prefix(name) + path) for path in files} for name, files in told.items()},
            "sandboxes": dict.fromkeys(traces["processes"], "Running"),
        }
    finally:
        await stored.close()
        await users.close()


async def fingerprint(stack: Stack) -> dict[str, Any]:
    """Changes with every write to a room's state or to what the gateway is told, with every new sandbox or user."""
    async with _server(stack) as server:
        rooms = {
            alias: sorted(str(event["event_id"]) for event in await server.state(room))
            for alias, room in rooms_of(stack).items()
        }
    gateway = stack.data_dir / "gateway"
    stored, users = connect(config.load(stack.data_dir, installation=stack.installation))
    try:
        objects = {item.key: item.etag for item in await stored.list("") if item.key != HEALTH_KEY}
    finally:
        await stored.close()
        await users.close()
    return {
        "rooms": rooms,
        "gateway": {path: (gateway / path).stat().st_mtime_ns for path in read_all(gateway)},
        "sandboxes": {name: faults.agent_pids(stack, name) for name in (await faults.traces(stack))["processes"]},
        "objects": objects,
    }


async def _rooms(stack: Stack) -> dict[str, Any]:
    async with _server(stack) as server:
        return {alias: _room(await server.state(room)) for alias, room in rooms_of(stack).items()}


def _room(state: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    one = {event["type"]: event["content"] for event in state if event["state_key"] == ""}
    members = [event for event in state if event["type"] == "m.room.member"]
    return {
        "name": one["m.room.name"]["name"],
        "topic": one["m.room.topic"]["topic"],
        "members": sorted(e["state_key"] for e in members if e["content"]["membership"] in ("join", "invite")),
        "powers": one["m.room.power_levels"]["users"],
        "join": one["m.room.join_rules"]["join_rule"],
        "hangs": any(event["type"] == "m.space.parent" for event in state),
    }


def rooms_of(stack: Stack) -> dict[str, str]:
    """Rooms that follow from what is declared, as the store knows them: alias -> id."""
    with closing(sqlite3.connect(f"file:{stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT alias, room_id FROM rooms WHERE alias <> '' AND purpose NOT IN ('ops', 'journal')")
        return dict(rows.fetchall())


@asynccontextmanager
async def _server(stack: Stack) -> AsyncIterator[Homeserver]:
    """The homeserver as the bot sees it."""
    settings = config.load(stack.data_dir, installation=stack.installation)
    loaded = registration.load(stack.data_dir / "homeserver" / "registration.yaml")
    server = Homeserver(stack.info["homeserver"], loaded, server_name=settings.server_name, bot=settings.bot_id)
    try:
        yield server
    finally:
        await server.close()


def _rights(stack: Stack, given: Access) -> Policy:
    return policy(config.load(stack.data_dir, installation=stack.installation).storage.bucket, given)


async def _policy(users: Users, name: str) -> Policy | None:
    """What a user may do, as the storage has it: the files of SeaweedFS keep it as it was written."""
    assert isinstance(users, FilerUsers)
    return await users._run(users._read, filer._policy(users._user(name)))


def _sums(files: Mapping[str, bytes]) -> dict[str, str]:
    """What the storage has as the etag of each."""
    return {path: md5(content, usedforsecurity=False).hexdigest() for path, content in files.items()}


def _roster(stack: Stack, documents: Sequence[Document]) -> Roster:
    names = Names(bot=f"@opsroom:{stack.info['server_name']}", prefix="agent-", server_name=stack.info["server_name"])
    declared = sorted((one.kind, one.name, registry.canonical(one)["spec"]) for one in documents)
    return roster.build(declared, names=names, operators=frozenset({stack.op.user}))


def _agents(documents: Sequence[Document]) -> dict[str, WorkerSpec]:
    own = {one.name: one.spec for one in documents if isinstance(one.spec, WorkerSpec)}
    return own | {part.name: part.spec for one in documents for part in declaring.parts(one)}
