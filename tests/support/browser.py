"""The shipped web client in a real Chromium, as a person uses it: page objects for rooms, threads and messages."""

import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Download, Locator, Page, async_playwright, expect
from playwright.async_api import TimeoutError as PlaywrightTimeout

from appservice.embedded import webclient

ARTEFACTS = Path(__file__).resolve().parents[2] / "artefacts"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",  # CI runs as root in a container; the pages are ours
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # a stray request to the world fails visibly
)
_FIRST_MS = 60_000  # the first page compiles 13 MB of script
_MS = 30_000
_SEARCH_MS = 1_000

expect.set_options(timeout=_MS)


def chromium_path() -> str:
    """Find the browser; without one, skip the test, or fail it in CI."""
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        _leave_out("No Chromium on this machine: install Debian's `chromium` and `fonts-noto-color-emoji`.")
    return path


def _leave_out(why: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for the whole run; each `Client` is a profile of its own in it."""
    path = chromium_path()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, headless=True, args=list(_ARGUMENTS))
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client_dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built web client; built now when it is not current."""
    for tool in ("node", "npm"):
        if not shutil.which(tool):
            _leave_out(f"No `{tool}` on this machine: the web client cannot be built.")
    return await webclient.build(webclient.dist_folder(tmp_path_factory.mktemp("web")), progress=print)


@contextlib.asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """Serve an application on a free port of loopback; answer its URL."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


class Client:
    """One person's web client: `async with Client(browser, url) as client: await client.login(...)`."""

    def __init__(self, browser: Browser, url: str, *, colors: Literal["light", "dark"] = "light") -> None:
        self._browser = browser
        self._colors = colors
        self.url = url
        self.complaints: list[str] = []
        """What the browser refused or missed: policy violations, files that are not there, errors of scripts."""
        self.context: BrowserContext
        self.page: Page

    async def __aenter__(self) -> "Client":
        self.context = await self._browser.new_context(
            viewport={"width": 1280, "height": 800}, color_scheme=self._colors, locale="en-GB"
        )
        # Else the client asks for it once, and the question lies over what the tests look at.
        await self.context.grant_permissions(["notifications"])
        self.page = await self.context.new_page()
        self.page.set_default_timeout(_MS)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("response", lambda answer: self._note(answer.status, answer.url))
        self.page.on("console", lambda said: self._hear(said.text))
        return self

    async def __aexit__(self, *_: object) -> None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].partition(" ")[0]
        await self.screenshot("end-" + re.sub(r"\W+", "-", test).strip("-"))
        await self.context.close()

    def _note(self, status: int, url: str) -> None:
        if status >= 400 and url.startswith(self.url):
            self.complaints.append(f"{status}: {url}")

    def _hear(self, text: str) -> None:
        if "Content Security Policy" in text or "ERR_NAME_NOT_RESOLVED" in text:
            self.complaints.append(text)

    async def login(self, name: str, password: str) -> None:
        page = self.page
        await page.goto(self.url)
        await page.locator("input[name=username]").fill(name, timeout=_FIRST_MS)
        await page.locator("input[name=password]").fill(password)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator(".mx_LeftPanel")).to_be_visible(timeout=_FIRST_MS)

    async def open_room(self, name: str) -> "Timeline":
        """Open a room by its name in the list on the left, or by its `#alias:server` or `!id`."""
        if name[0] in "#!":
            await self.page.evaluate("room => { window.location.hash = `#/room/${room}` }", name)
        else:
            await self.page.locator(".mx_RoomTile").filter(has_text=name).first.click()
            await expect(self.page.locator(".mx_RoomHeader_heading")).to_have_text(name)
        room = Timeline(self.page, self.page.locator(".mx_RoomView_body"))
        await expect(room.composer).to_be_visible()
        return room

    async def screenshot(self, name: str) -> Path:
        """Keep what is on the screen as artefacts/NAME.png."""
        ARTEFACTS.mkdir(exist_ok=True)
        path = ARTEFACTS / f"{name}.png"
        await self.page.mouse.move(2, 2)  # away from messages: their buttons appear under the pointer
        await self.page.screenshot(path=path, animations="disabled")
        return path


class Timeline:
    """The messages of a room or of a thread, and the field to write into."""

    def __init__(self, page: Page, part: Locator) -> None:
        self.page = page
        self.part = part

    @property
    def composer(self) -> Locator:
        return self.part.locator("[role=textbox]").last

    async def send(self, text: str, *, mention: str = "") -> None:
        """Type a message and press Enter. `mention`: type `@` and this, choose the first completion, then the text."""
        await self.composer.click()
        if mention:
            await self._mention(mention)
        await self.page.keyboard.type(text)
        await self.page.keyboard.press("Enter")

    async def send_lines(self, *lines: str) -> None:
        """Type a message of several lines."""
        await self.composer.click()
        for line in lines:
            await self.page.keyboard.insert_text(line)
            await self.page.keyboard.press("Shift+Enter")
        await self.page.keyboard.press("Enter")

    async def _mention(self, name: str) -> None:
        await self.page.keyboard.type(f"@{name}", delay=30)
        await expect(self.page.locator(".mx_Autocomplete_Completion_pill").first).to_be_visible()
        await self.page.keyboard.press("Tab")
        await expect(self.composer.locator(".mx_UserPill")).to_be_visible()
        await self.page.keyboard.press("Escape")  # the list of completions takes the Enter that sends

    async def upload(self, path: Path) -> None:
        """Send a file as the button with the paper clip does."""
        async with self.page.expect_file_chooser() as chooser:
            await self.part.get_by_role("button", name="Attachment").click()
        await (await chooser.value).set_files(path)
        await self.page.locator(".mx_Dialog").get_by_role("button", name="Upload").click()

    def message(self, text: str | re.Pattern[str]) -> "Message":
        """The newest message that contains this text; it need not be there yet."""
        return Message(self.page, self.part.locator(".mx_EventTile").filter(has_text=text).last)

    async def see(self, text: str | re.Pattern[str], *, seconds: float = 40) -> "Message":
        """Wait until a message with this text is there."""
        message = self.message(text)
        await expect(message.tile).to_be_visible(timeout=seconds * 1000)
        return message


class Message:
    """One message on the screen."""

    def __init__(self, page: Page, tile: Locator) -> None:
        self.page = page
        self.tile = tile

    async def event_id(self) -> str:
        """Its id, once the homeserver has given it one."""
        await expect(self.tile).to_have_attribute("data-event-id", re.compile(r"^\$"))
        return str(await self.tile.get_attribute("data-event-id"))

    async def edited(self, *, seconds: float = 40) -> None:
        """Wait until it is marked as edited."""
        await expect(self.tile.locator(".mx_EventTile_edited")).to_be_visible(timeout=seconds * 1000)

    async def react(self, emoji: str) -> None:
        """Choose an emoji from the picker, which knows some with a variation selector and some without."""
        await self._action("React")
        picker = self.page.locator(".mx_EmojiPicker")
        found = picker.get_by_role("gridcell", name=re.compile(f"^{emoji}\ufe0f?$")).first
        for spelling in (f"{emoji}\ufe0f", emoji):  # the other way round it would search in what it found first
            await picker.locator("input").fill(spelling)
            with contextlib.suppress(PlaywrightTimeout):
                return await found.click(timeout=_SEARCH_MS)
        raise AssertionError(f"the picker does not know {emoji}")

    def reaction(self, emoji: str) -> Locator:
        """The button below it with this emoji; click it to join in or to take back."""
        return self.tile.locator(".mx_ReactionsRowButton").filter(has_text=emoji)

    async def reacted(self, emoji: str, *, seconds: float = 40) -> None:
        await expect(self.reaction(emoji)).to_be_visible(timeout=seconds * 1000)

    async def open_thread(self, *, seconds: float = 40) -> Timeline:
        """Open the thread that hangs on it."""
        await self.tile.locator(".mx_ThreadSummary").click(timeout=seconds * 1000)
        return await self._thread()

    async def begin_thread(self) -> Timeline:
        """Open an empty thread on it."""
        await self._action("Reply in thread")
        return await self._thread()

    async def begin_reply(self) -> None:
        """Make the next message of its room a reply to it."""
        await self._action("Reply")
        await expect(self.page.locator(".mx_ReplyPreview")).to_be_visible()

    async def download(self) -> Download:
        """Click its file."""
        async with self.page.expect_download() as download:
            await self.tile.locator(".mx_MFileBody_info").click()
        return await download.value

    async def _thread(self) -> Timeline:
        thread = Timeline(self.page, self.page.locator(".mx_ThreadView"))
        await expect(thread.composer).to_be_visible()
        return thread

    async def _action(self, label: str) -> None:
        await self.tile.scroll_into_view_if_needed()
        await self.tile.hover()
        await self.tile.get_by_label(label, exact=True).click()


def bare(key: Any) -> str:
    """A reaction's key without the variation selector that clients add as they like."""
    return str(key).replace("\ufe0f", "")
