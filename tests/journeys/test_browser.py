"""The main job as an operator does it: everything started by `opsroom up`, seen and done in the shipped web client.

With DOC_PICTURES=1 the pictures of the documentation are taken anew (see CONTRIBUTING.md).
"""

import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import Client, Message, Timeline
from tests.support.provider import Say
from tests.support.stack import Stack, opened, worker_yaml

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "images"
ADVICE = """Two steps rotate the log:

1. Move the old file away.
2. Tell the **collector** to open a new one:

```bash
mv app.log app.log.1
systemctl reload collector
```

| file | size |
| --- | --- |
| app.log | 12 KB |
| app.log.1 | 4.1 MB |

Keep `7` old files; the rest can go."""


@pytest.fixture(scope="module")
async def product(client_dist: Path) -> AsyncIterator[Stack]:
    """`opsroom up` with its web client; agents are sandboxed processes. `client_dist`: it is built before."""
    async with opened("--backend", "process") as found:
        yield found


@pytest.fixture
async def client(chromium: Browser, product: Stack) -> AsyncIterator[Client]:
    """A fresh browser in which the operator has logged in."""
    password = Path(product.info["password_file"]).read_text().strip()
    async with Client(chromium, product.info["client"]) as client:
        await client.login("op", password)
        yield client


async def picture(client: Client, name: str) -> None:
    """Keep the screen as an artefact, and as a picture of the documentation when that is asked for."""
    path = await client.screenshot(f"browser-{name}")
    if os.environ.get("DOC_PICTURES"):
        PICTURES.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, PICTURES / f"{name}.png")


async def command(timeline: Timeline, text: str) -> Message:
    await timeline.send(text)
    return await timeline.see(text)


async def test_the_greeting_leads_to_help_and_help_answers_in_its_thread(client: Client) -> None:
    ops = await client.open_room("Ops room")
    await ops.see("Checked just now", seconds=40)  # at the latest, when the last part has come
    await client.screenshot("browser-greeting")

    asked = await command(ops, "!help")
    await asked.reacted("✅")
    thread = await asked.open_thread()

    await thread.see("What changes things")
    await client.screenshot("browser-help")
    assert client.complaints == []


async def test_an_uploaded_worker_becomes_ready_and_its_room_appears(client: Client) -> None:
    ops = await client.open_room("Ops room")

    await ops.upload(ROOT / "examples" / "alice.yaml")
    upload = await ops.see("alice.yaml")
    await upload.reacted("👀")
    await upload.reacted("✅", seconds=60)
    answer = await (await upload.open_thread()).see("worker/alice")

    await expect(answer.tile).to_contain_text("ready")
    await picture(client, "ops-room")
    await expect(client.page.locator(".mx_RoomTile").filter(has_text="Invit")).to_have_count(0)
    room = await client.open_room("alice")
    await expect(room.part).to_contain_text("Ask alice by mentioning @alice")


async def test_a_mention_by_pill_is_answered_in_a_thread_by_one_message_that_grows(
    client: Client, product: Stack
) -> None:
    await product.worker("nora")
    product.provider.when("rotate", Say(ADVICE, delay=0.05))
    room = await client.open_room("nora")

    await room.send("how do I rotate the log?", mention="nor")
    thread = await (await room.see("how do I rotate the log?")).open_thread()
    answer = await thread.see("the rest can go", seconds=40)

    await answer.edited()
    await expect(thread.part.locator(".mx_EventTile[data-event-id]")).to_have_count(2)
    await expect(answer.tile.locator("pre code")).to_contain_text("systemctl reload collector")
    await expect(answer.tile.locator("ol li")).to_have_count(2)
    await picture(client, "answer")


async def test_a_name_typed_without_completion_is_enough(client: Client, product: Stack) -> None:
    await product.worker("otto")
    room = await client.open_room("otto")

    await room.send("@otto are you there?")
    thread = await (await room.see("are you there?")).open_thread()

    await thread.see("You said:")


async def test_a_long_answer_is_stopped_by_a_reaction_on_it(client: Client, product: Stack) -> None:
    await product.worker("marta")
    product.provider.when("everything", Say(words=2000, delay=0.05))
    room = await client.open_room("marta")

    await room.send("tell me everything", mention="mar")
    thread = await (await room.see("tell me everything")).open_thread()
    answer = await thread.see("word20")
    await answer.react("🛑")

    await thread.see("Stopped by @op")
    await picture(client, "stopped")
    await product.provider.until(lambda: product.provider.calls[-1].ended == "cut")


async def test_a_reply_to_the_greeting_applies_its_example(client: Client) -> None:
    ops = await client.open_room("Ops room")
    greeting = await ops.see("This room runs your AI agents")

    await greeting.begin_reply()
    asked = await command(ops, "!apply")
    await asked.reacted("✅", seconds=60)

    await (await asked.open_thread()).see(re.compile("ready|No changes"))


async def test_apply_in_the_thread_of_a_message_applies_what_that_message_holds(client: Client, product: Stack) -> None:
    await product.op.say(product.ops_room, f"What about this?\n```yaml\n{worker_yaml('threaded')}```")
    ops = await client.open_room("Ops room")
    thread = await (await ops.see("What about this?")).begin_thread()

    asked = await command(thread, "!apply")
    await asked.reacted("✅", seconds=60)

    await thread.see(re.compile("created worker/threaded — ready"))


async def test_a_fenced_block_typed_in_the_client_is_applied(client: Client) -> None:
    ops = await client.open_room("Ops room")

    await ops.send_lines("!apply", "```yaml", *worker_yaml("typed").splitlines(), "```")
    asked = await ops.see("name: typed")
    await asked.reacted("✅", seconds=60)

    await (await asked.open_thread()).see("created worker/typed — ready")


async def test_a_file_with_mistakes_gets_a_list_of_them(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(worker_yaml("Wrong", modle="x", state="Asleep", skills="[notse]"))
    ops = await client.open_room("Ops room")

    await ops.upload(path)
    upload = await ops.see("wrong.yaml")
    await upload.reacted("❌")
    thread = await upload.open_thread()

    await thread.see("Nothing was changed")
    await client.screenshot("browser-mistakes")


async def test_on_a_phone_a_thread_takes_the_screen_and_closes_again(client: Client) -> None:
    ops = await client.open_room("Ops room")
    await client.page.set_viewport_size({"width": 390, "height": 844})
    asked = await command(ops, "!get workers")
    await asked.reacted("✅")

    thread = await asked.open_thread()
    shape = await thread.part.bounding_box()
    await client.screenshot("browser-phone")
    await client.page.locator(".mx_RightPanel").get_by_role("button", name="Close").click()

    assert shape
    assert shape["width"] > 300
    await expect(ops.composer).to_be_visible()


async def test_a_team_is_made_its_agents_call_each_other_and_its_end_is_agreed_to(
    client: Client, product: Stack
) -> None:
    carla = product.agent("carla")
    product.provider.when("check the page", Say(f"{carla} please check the start page and report here."))
    ops = await client.open_room("Ops room")
    await ops.upload(ROOT / "examples" / "team.yaml")
    await (await ops.see("team.yaml")).reacted("✅", seconds=90)

    room = await client.open_room("pages (team)")
    await expect(room.part).to_contain_text("Builds and checks the web pages.")
    await room.send("who will check the page?", mention="lena")
    thread = await (await room.see("check the page?")).open_thread()
    await thread.see("please check the start page")
    await thread.see("You said:", seconds=40)  # that is carla, whom lena has called
    await expect(thread.part.locator(".mx_UserPill").filter(has_text="carla").first).to_be_visible()
    await picture(client, "team")

    ops = await client.open_room("Ops room")
    asked = await command(ops, "!delete team/pages")
    question = await (await asked.open_thread()).see("This cannot be taken back")
    await question.reacted("❌")
    await picture(client, "agreement")
    await question.reaction("✅").click()
    await asked.reacted("✅", seconds=60)
    assert client.complaints == []
