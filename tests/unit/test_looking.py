"""Commands that look at one object, where others are called alike."""

from functools import partial

import pytest

from appservice.errors import Invalid
from appservice.store import objects, turns
from appservice.store.changes import Key
from appservice.store.declaring import Author
from appservice.store.turns import Turn
from tests.support.ops import Ops
from tests.support.stack import document, worker_yaml

DEV = document("Team", "dev", leader="{name: lena, model: m}", workers="[{name: bo, model: m}]")


async def asked(ops: Ops, agent: str, sender: str) -> None:
    turn = Turn(
        id=f"turn-{agent}", event_id=f"${agent}", agent=agent, room_id="!r", thread="$q", sender=sender, question="?"
    )
    await ops.store.write(lambda db: turns.add(db, turn))


@pytest.fixture
async def alike(ops: Ops) -> Ops:
    """A Team and a Worker that are both called dev, and a Manager; each of their agents is asked something."""
    await ops.apply(DEV)
    await ops.apply(worker_yaml("dev"))
    await ops.apply(document("Manager", "default", model="m"))
    for agent, sender in (("dev", "@ann:hs"), ("lena", "@ben:hs"), ("manager", "@cid:hs")):
        await asked(ops, agent, sender)
    return ops


async def test_a_log_is_that_of_the_one_agent_that_is_meant(alike: Ops) -> None:
    for named, agent in (("manager/default", "manager"), ("manager", "manager"), ("worker/dev", "dev"), ("dev", "dev")):
        assert (await alike.hands.agent_of(await alike.hands.find(named))).name == agent
    with pytest.raises(Invalid, match="`team/dev` is not one agent") as refused:
        await alike.say("!logs team/dev")
    assert "lena" in str(refused.value)
    assert "bo" in str(refused.value)


async def test_an_object_is_described_with_the_turns_of_its_own_agents(alike: Ops) -> None:
    assert "- lena: queued, asked by @ben" in (team := await alike.say("!describe team/dev"))
    assert "@ann" not in team
    assert "- queued, asked by @cid" in await alike.say("!describe manager/default")
    assert "- queued, asked by @ann" in (worker := await alike.say("!describe worker/dev"))
    assert "@ben" not in worker


async def test_the_audit_of_an_object_is_its_own_and_outlives_it(alike: Ops) -> None:
    await alike.say("!set worker/dev model=other")
    await alike.say("!set team/dev description=ours")
    await alike.say("!set manager/default model=other")
    for named, target in (("worker/dev", "worker/dev"), ("team/dev", "team/dev"), ("default", "manager/default")):
        lines = [line for line in (await alike.say(f"!audit {named}")).splitlines() if "→" in line]
        assert lines
        assert all(f"→ {target} (" in line for line in lines)
    key = Key("Team", "dev")
    going = [*await objects.owned_by(alike.store, str(key)), await alike.stored(key)]
    await alike.desk.delete(going[-1], Author(user="@op:hs", cause="$", now=1.0), keep_files=True)
    for stored in going:
        assert await alike.store.write(partial(objects.forget, key=stored.key))
    assert "→ team/dev (" in await alike.say("!audit team/dev")


async def test_to_stop_a_team_stops_its_agents_and_nobody_called_like_it(alike: Ops) -> None:
    assert await alike.say("!stop team/dev") == "Stopped 1 turn of dev."
    assert alike.stopped == ["turn-lena"]
    await alike.say("!stop manager")
    assert alike.stopped[1:] == ["turn-manager"]
