"""The web client that we ship, against a real Synapse; a plain user answers as the bot would."""

import re
import struct
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from appservice.embedded import webclient
from tests.support.browser import Client, bare, served
from tests.support.synapse import Person, Synapse

pytestmark = pytest.mark.browser

WORKER = b"apiVersion: hiclaw.io/v1beta1\nkind: Worker\nmetadata:\n  name: ada\nspec:\n  model: demo\n"
TABLE = (
    "<table><thead><tr><th>name</th><th>state</th></tr></thead>"
    "<tbody><tr><td>ada</td><td>ready</td></tr><tr><td>bob</td><td>asleep</td></tr></tbody></table>"
)


@dataclass(frozen=True, kw_only=True)
class Room:
    """A room of an operator and a bot, open in the operator's client."""

    id: str
    name: str
    operator: Person
    bot: Person
    client: Client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client_url(client_dist: Path, synapse: Synapse) -> AsyncIterator[str]:
    app = webclient.client_app(client_dist, base_url=synapse.url, server_name=synapse.server_name)
    async with served(app) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def room(chromium: Browser, client_url: str, synapse: Synapse) -> AsyncIterator[Room]:
    mark = token_hex(3)
    operator, bot = await synapse.person(f"op-{mark}"), await synapse.person(f"opsroom-{mark}")
    await bot.call("PUT", f"/profile/{bot.user_id}/displayname", {"displayname": "Opsroom"})
    name = f"Ops {mark}"
    invite = {"name": name, "invite": [operator.user_id], "room_alias_name": f"ops-{mark}"}
    room_id = await bot.create_room(**invite)
    await bot.event(room_id, lambda event: event["content"].get("membership") == "join" and joined(event, operator))
    async with Client(chromium, client_url) as client:
        await client.login(operator.user_id, operator.password)
        yield Room(id=room_id, name=name, operator=operator, bot=bot, client=client)


def joined(event: dict[str, Any], who: Person) -> bool:
    return bool(event["type"] == "m.room.member" and event["state_key"] == who.user_id)


def said(event: dict[str, Any], body: str) -> bool:
    return bool(event["content"].get("body") == body)


async def test_a_command_is_answered_in_a_thread_with_a_table(room: Room) -> None:
    timeline = await room.client.open_room(room.name)
    await timeline.send("!status")
    asked = await room.bot.event(room.id, lambda event: said(event, "!status"))
    await room.bot.react(room.id, asked["event_id"], "👀")
    await room.bot.answer(room.id, asked["event_id"], "ada: ready\nbob: asleep", f"Two workers.{TABLE}")
    message = await timeline.see("!status")
    await message.reacted("👀")
    thread = await message.open_thread()
    answer = await thread.see("Two workers.")
    await expect(answer.tile.locator("table td")).to_have_text(["ada", "ready", "bob", "asleep"])
    await room.client.screenshot("web-thread-table")


async def test_an_answer_in_the_thread_reaches_the_bot(room: Room) -> None:
    timeline = await room.client.open_room(f"#ops-{room.name.removeprefix('Ops ')}:{room.bot.server.server_name}")
    await room.bot.say(room.id, "What shall I do?")
    thread = await (await timeline.see("What shall I do?")).begin_thread()
    await thread.send("wait")
    event = await room.bot.event(room.id, lambda event: said(event, "wait"))
    assert event["content"]["m.relates_to"]["rel_type"] == "m.thread"


async def test_a_yaml_file_arrives_byte_by_byte(room: Room, tmp_path: Path) -> None:
    path = tmp_path / "ada.yaml"
    path.write_bytes(WORKER)
    timeline = await room.client.open_room(room.name)
    await timeline.upload(path)
    event = await room.bot.event(room.id, lambda event: event["content"].get("msgtype") == "m.file")
    assert event["content"]["body"] == "ada.yaml"
    assert await room.bot.download(event["content"]["url"]) == WORKER
    await timeline.see("ada.yaml")


async def test_a_file_of_the_bot_can_be_downloaded(room: Room) -> None:
    mxc = await room.bot.upload(b"line\n" * 500, "ada.log", "text/plain")
    content = {"msgtype": "m.file", "body": "ada.log", "url": mxc, "info": {"size": 2500, "mimetype": "text/plain"}}
    await room.bot.send(room.id, content)
    timeline = await room.client.open_room(room.name)
    download = await (await timeline.see("ada.log")).download()
    assert download.suggested_filename == "ada.log"
    assert Path(await download.path()).read_bytes() == b"line\n" * 500


async def test_an_edit_replaces_the_text_in_place(room: Room) -> None:
    timeline = await room.client.open_room(room.name)
    sent = await room.bot.say(room.id, "Creating ada …")
    await timeline.see("Creating ada …")
    await room.bot.edit(room.id, sent, "ada is ready.")
    message = await timeline.see("ada is ready.")
    await message.edited()
    await expect(timeline.message("Creating ada …").tile).to_have_count(0)
    assert await message.event_id() == sent


async def test_a_message_that_grows_in_a_new_thread_is_drawn_to_its_end(room: Room) -> None:
    timeline = await room.client.open_room(room.name)
    await timeline.send("Tell me")
    asked = await room.bot.event(room.id, lambda event: said(event, "Tell me"))
    sent = await room.bot.answer(room.id, asked["event_id"], "One", "One")
    await room.bot.edit(room.id, sent, "One two")
    thread = await (await timeline.see("Tell me")).open_thread()
    await thread.see("One two")
    for text in ("One two three", "One two three four"):
        await room.bot.edit(room.id, sent, text)
        await thread.see(re.compile(f"{text}($|\\W)"))


async def test_a_pill_mentions_the_user(room: Room) -> None:
    timeline = await room.client.open_room(room.name)
    await timeline.send("how are you?", mention="Opsroom")
    event = await room.bot.event(room.id, lambda event: "how are you?" in event["content"].get("body", ""))
    assert event["content"]["m.mentions"] == {"user_ids": [room.bot.user_id]}
    assert f"https://matrix.to/#/{room.bot.user_id}" in event["content"]["formatted_body"]


@pytest.mark.parametrize("emoji", ["🛑", "✅"])
async def test_a_reaction_reaches_the_bot_and_can_be_taken_back(room: Room, emoji: str) -> None:
    timeline = await room.client.open_room(room.name)
    asked = await room.bot.say(room.id, "Delete ada?")
    message = await timeline.see("Delete ada?")
    await message.react(emoji)
    event = await room.bot.event(room.id, lambda event: event["type"] == "m.reaction")
    relation = event["content"]["m.relates_to"]
    assert (relation["event_id"], bare(relation["key"])) == (asked, emoji)
    await message.reaction(emoji).click()
    await room.bot.event(room.id, lambda gone: gone.get("redacts") == event["event_id"] or _redacts(gone, event))


def _redacts(event: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(event["content"].get("redacts") == other["event_id"])


async def test_one_click_joins_a_reaction_of_the_bot(room: Room) -> None:
    timeline = await room.client.open_room(room.name)
    asked = await room.bot.say(room.id, "Apply?")
    for emoji in ("✅", "❌"):
        await room.bot.react(room.id, asked, emoji)
    await (await timeline.see("Apply?")).reaction("✅").click()
    event = await room.bot.event(room.id, lambda event: event["sender"] == room.operator.user_id and _reacts(event))
    assert event["content"]["m.relates_to"] == {"rel_type": "m.annotation", "event_id": asked, "key": "✅"}
    await room.client.screenshot("web-approval")


def _reacts(event: dict[str, Any]) -> bool:
    return bool(event["type"] == "m.reaction")


async def test_avatars_are_shown_although_media_needs_a_token(room: Room) -> None:
    mxc = await room.bot.upload(png(64, (29, 91, 88)), "face.png", "image/png")
    await room.bot.call("PUT", f"/profile/{room.bot.user_id}/avatar_url", {"avatar_url": mxc})
    timeline = await room.client.open_room(room.name)
    await room.bot.say(room.id, "Here I am")
    message = await timeline.see("Here I am")
    image = message.tile.locator(".mx_EventTile_avatar img")
    await expect(image).to_be_visible()
    await expect(image).to_have_js_property("naturalWidth", 32)  # the thumbnail that Synapse makes for it


def png(side: int, color: tuple[int, int, int]) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(color) * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


async def test_the_client_offers_no_calls_and_asks_nobody_else(room: Room) -> None:
    await expect(room.client.page.locator(".mx_RoomTile")).to_have_count(1)
    await room.client.screenshot("web-home")
    timeline = await room.client.open_room(room.name)
    await expect(room.client.page.get_by_text("End-to-end encryption")).to_have_count(0)
    await timeline.send("!help")
    await timeline.see("!help")
    labels = await room.client.page.locator(".mx_RoomHeader [aria-label]").evaluate_all(
        "nodes => nodes.map(node => node.getAttribute('aria-label'))"
    )
    assert "Threads" in labels
    assert not [label for label in labels if "call" in label.lower()]
    assert room.client.complaints == []


async def test_the_login_page_says_whose_it_is_and_asks_for_no_server(chromium: Browser, client_url: str) -> None:
    async with Client(chromium, client_url) as client:
        await client.page.goto(client_url)
        await expect(client.page.locator(".mx_AuthHeaderLogo")).to_contain_text("Opsroom", timeout=30_000)
        await expect(client.page.locator(".mx_AuthFooter")).to_contain_text("AGPL-3.0")
        await expect(client.page.get_by_role("button", name="Edit")).to_have_count(0)
        await client.screenshot("web-login")


async def test_the_settings_open(room: Room) -> None:
    page = room.client.page
    await page.get_by_role("button", name="User menu").click()
    await page.get_by_role("menuitem", name="All settings").click()
    dialog = page.locator(".mx_UserSettingsDialog")
    for tab in ("Sessions", "Appearance", "Preferences"):
        await dialog.get_by_role("tab", name=tab).click()
        await expect(dialog.locator(".mx_SettingsTab")).to_be_visible()
    assert room.client.complaints == []


async def test_colours_follow_the_system(chromium: Browser, client_url: str, synapse: Synapse) -> None:
    person = await synapse.person(f"night-{token_hex(3)}")
    async with Client(chromium, client_url, colors="dark") as client:
        await client.login(person.user_id, person.password)
        await expect(client.page.locator("body.cpd-theme-dark")).to_be_visible()
        await client.screenshot("web-dark")
