"""The journal: what is declared, as state events that operators read, write, and rebuild an empty store from."""

import os
import signal
from hashlib import sha256
from io import BytesIO
from typing import Any
from urllib.parse import quote

import pytest

from tests.journeys.test_teams import TEAM
from tests.support.stack import Stack, worker_yaml

TYPE = "org.opsroom.resource"


async def journal(stack: Stack, number: int = 1) -> str:
    """Id of a room of the journal, once the operator is in it."""
    name = "Journal" if number == 1 else f"Journal {number}"
    found = await stack.op.until(
        lambda: [room for room, facts in stack.op.rooms.items() if facts.get("name") == name], name
    )
    return str(found[0])


async def published(stack: Stack, key: str, words: str, *, number: int = 1, after: str = "") -> dict[str, Any]:
    """Wait until the newest event of an object, by Opsroom itself, has these words in its document; its content.
    Words of '' wait for a deletion; `after`: somebody else's event that must have been seen before."""
    room = await journal(stack, number)

    def newest() -> dict[str, Any] | None:
        of = [e for e in stack.op.events if (e["room_id"], e["type"], e.get("state_key")) == (room, TYPE, key)]
        content: dict[str, Any] = of[-1]["content"] if of else {}
        ours = bool(of) and of[-1]["sender"].startswith("@opsroom:")
        shown = content.get("document") or content.get("sha256", "")
        there = words in shown if words else not shown
        late = after and after not in [event["event_id"] for event in of]
        return content if ours and there and not late else None

    found: dict[str, Any] = await stack.op.until(newest, f"{key} with {words!r} in the journal")
    return found


async def write(stack: Stack, key: str, content: dict[str, Any], *, room: str = "") -> str:
    """As an operator's client does; the event's id."""
    room = room or await journal(stack)
    path = f"rooms/{quote(room)}/state/{TYPE}/{quote(key, safe='')}"
    return str((await stack.op.call("PUT", path, content))["event_id"])


async def notice(stack: Stack, *words: str) -> str:
    """Wait for a message of Opsroom in the ops room that has all these words."""

    def said() -> list[str]:
        found = [m.text for m in stack.op.messages.values() if m.room == stack.ops_room and m.sender != stack.op.user]
        return [text for text in found if all(word in text for word in words)]

    texts = await stack.op.until(said, f"a notice with {words}")
    return str(texts[-1])


async def test_each_accepted_change_is_a_state_event_with_author_cause_and_revision(stack: Stack) -> None:
    text = worker_yaml("noted", soul="first") + "# a remark\n"
    event = await stack.op.upload(stack.ops_room, "noted.yaml", text.encode())
    await stack.op.ended(event, 150)

    made = await published(stack, "worker/noted", "soul: first")
    assert made["document"] == text
    assert (made["kind"], made["name"], made["generation"], made["action"]) == ("Worker", "noted", 1, "created")
    assert (made["author"], made["cause"], made["version"]) == (stack.op.user, event, 1)

    await stack.command("!set worker/noted soul=second")
    changed = await published(stack, "worker/noted", "soul: second")
    assert (changed["action"], changed["generation"]) == ("changed", 2)
    assert changed["revision"] > made["revision"]

    await stack.command("!delete worker/noted --files delete --yes")
    gone = await published(stack, "worker/noted", "")
    assert (gone["action"], gone["author"], gone["generation"]) == ("deleted", stack.op.user, 3)
    assert gone["revision"] > changed["revision"]


async def test_only_operators_are_in_it_and_agents_of_a_team_follow_from_the_team(stack: Stack) -> None:
    room = await journal(stack)
    await stack.apply(TEAM.format(team="noted-crew"))
    await published(stack, "team/noted-crew", "noted-crew-lead")

    state = await stack.op.call("GET", f"rooms/{quote(room)}/state")
    members = {e["state_key"] for e in state if e["type"] == "m.room.member" and e["content"]["membership"] == "join"}
    assert members == {stack.op.user, f"@opsroom:{stack.info['server_name']}"}
    assert not [e for e in state if e["type"] == TYPE and "noted-crew-" in e["state_key"]]
    [space] = [e["state_key"] for e in state if e["type"] == "m.space.parent"]
    assert space == await stack.op.resolve(f"#opsroom-space:{stack.info['server_name']}")
    await stack.command("!delete team/noted-crew --files delete --yes", 150)


async def test_a_document_that_is_too_large_for_an_event_is_kept_as_a_file(stack: Stack) -> None:
    text = worker_yaml("wordy", soul="x" * 62_000, state="Stopped")
    await stack.apply(text)

    found = await published(stack, "worker/wordy", sha256(text.encode()).hexdigest())
    assert (await stack.op.download(found["document_url"])).decode() == text

    larger = worker_yaml("wordy", soul="y" * 62_000, state="Stopped").encode()
    total = sha256(larger).hexdigest()
    url = await stored(stack, larger)
    await write(stack, "worker/wordy", {"document_url": url, "sha256": "0" * 64})
    assert "is not the one that `sha256` says" in await notice(stack, "`sha256`")
    event = await write(stack, "worker/wordy", {"document_url": url, "sha256": total})
    assert (await published(stack, "worker/wordy", total))["cause"] == event


async def test_what_an_operator_writes_there_is_an_apply(stack: Stack) -> None:
    event = await write(stack, "worker/by-hand", {"document": worker_yaml("by-hand", soul="written by hand")})
    made = await published(stack, "worker/by-hand", "written by hand")
    assert (made["author"], made["cause"], made["action"]) == (stack.op.user, event, "created")
    await stack.op.until(lambda: any(f.get("name") == "by-hand" for f in stack.op.rooms.values()), "its room")

    event = await write(stack, "worker/by-hand", made | {"document": worker_yaml("by-hand", soul="again")})
    changed = await published(stack, "worker/by-hand", "soul: again")
    assert (changed["cause"], changed["generation"]) == (event, 2)
    assert "soul: again" in (await stack.command("!get worker/by-hand -o yaml")).text

    event = await write(stack, "worker/by-hand", {"document": changed["document"]})  # nothing new
    assert await published(stack, "worker/by-hand", "soul: again", after=event) == changed

    event = await write(stack, "worker/by-hand", {})
    assert (await published(stack, "worker/by-hand", ""))["cause"] == event
    assert "deleted by @op" in (await stack.command("!history worker/by-hand")).text


@pytest.mark.parametrize(
    ("key", "content", "words"),
    [
        ("worker/kept", {"document": "apiVersion: hiclaw.io/v1beta1\nkind: Worker\n"}, "metadata"),
        ("worker/kept", {"document": worker_yaml("kept", modle="x")}, "Did you mean `model`?"),
        ("worker/kept", {"document": worker_yaml("other")}, "declares `worker/other`"),
        ("worker/kept", {"document": 7}, "is no text"),
        ("worker/kept", {"document_url": "mxc://ops.local/nothing-there", "sha256": "0" * 64}, "cannot be read"),
        ("worker/never-was", {"note": "hello"}, "no document"),
        ("nonsense", {"document": worker_yaml("kept")}, "names no object"),
    ],
)
async def test_what_is_wrong_is_taken_back_with_a_sentence(
    stack: Stack, key: str, content: dict[str, Any], words: str
) -> None:
    await stack.apply(worker_yaml("kept", soul="as it was", state="Stopped"))
    before = await published(stack, "worker/kept", "as it was")

    event = await write(stack, key, content)

    await notice(stack, words, "was taken back")
    room = await journal(stack)
    await stack.op.until(
        lambda: (
            [e for e in stack.op.events if e.get("state_key") == key and e["room_id"] == room][-1]["event_id"] != event
        ),
        "another event in its place",
    )
    now = await stack.op.call("GET", f"rooms/{quote(room)}/state/{TYPE}/{quote(key, safe='')}")
    assert now == (before if key == "worker/kept" else {})


async def test_who_is_no_operator_any_more_is_refused_even_with_power_there(stack: Stack) -> None:
    await stack.apply(worker_yaml("guarded", soul="as declared", state="Stopped"))
    before = await published(stack, "worker/guarded", "as declared")
    room = await journal(stack)
    former = await stack.somebody("former")
    await stack.op.call("POST", f"rooms/{quote(stack.ops_room)}/invite", {"user_id": former.user})
    await former.until(lambda: stack.ops_room in former.rooms, "the ops room")
    await empower(stack, former.user, 100)
    await former.until(lambda: room in former.rooms, "the journal")

    pid = stack.info["pids"]["control_plane"]
    os.kill(pid, signal.SIGSTOP)
    try:
        await former.call("POST", f"rooms/{quote(stack.ops_room)}/leave", {})
        path = f"rooms/{quote(room)}/state/{TYPE}/{quote('worker/guarded', safe='')}"
        theirs = {"document": worker_yaml("guarded", soul="not theirs to say")}
        written = str((await former.call("PUT", path, theirs))["event_id"])
    finally:
        os.kill(pid, signal.SIGCONT)

    assert "is no operator: taken back" in await notice(stack, "@former wrote `worker/guarded`")
    assert await published(stack, "worker/guarded", "as declared", after=written) == before
    assert "soul: as declared" in (await stack.command("!get worker/guarded -o yaml")).text


async def test_an_event_that_an_operator_removes_comes_back(stack: Stack) -> None:
    await stack.apply(worker_yaml("erased", soul="still declared", state="Stopped"))
    before = await published(stack, "worker/erased", "still declared")
    room = await journal(stack)
    of = [e for e in stack.op.events if e.get("state_key") == "worker/erased" and e["room_id"] == room]

    await stack.op.redact(room, of[-1]["event_id"])

    await stack.op.until(
        lambda: len([e for e in stack.op.events if e.get("state_key") == "worker/erased"]) > len(of), "it again"
    )
    assert await published(stack, "worker/erased", "still declared") == before


async def empower(stack: Stack, user: str, power: int) -> None:
    path = f"rooms/{quote(stack.ops_room)}/state/m.room.power_levels"
    levels = await stack.op.call("GET", path)
    await stack.op.call("PUT", path, levels | {"users": levels["users"] | {user: power}})


async def stored(stack: Stack, data: bytes) -> str:
    """Upload a file without saying so in a room; its address."""
    headers = {"Authorization": f"Bearer {stack.op.token}", "Content-Type": "application/x-yaml"}
    async with stack.op.http.post(
        f"{stack.op.url}/_matrix/media/v3/upload", data=BytesIO(data), headers=headers
    ) as answer:
        return str((await answer.json())["content_uri"])
