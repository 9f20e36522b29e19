"""The YAML an `apply` is about: an uploaded file, a fenced block, or the message that the command
replies to or whose thread it is in."""

import re

from appservice.errors import Invalid
from appservice.homeserver import events
from appservice.homeserver.client import Homeserver
from appservice.homeserver.events import Event
from appservice.homeserver.patience import outlast
from appservice.ops import blocks

LIMIT = 2**20


class Uploads:
    def __init__(self, homeserver: Homeserver) -> None:
        self._homeserver = homeserver

    async def find(self, event: Event) -> tuple[bytes, str]:
        """(bytes, name people know it by). Raises Invalid when there is none."""
        here = await self._in(event)
        if here is not None:
            return here
        if meant := event.replies_to or event.thread:
            raw = await outlast(lambda: self._homeserver.event(event.room_id, meant), "read a message")
            answered = events.parse(dict(raw)) if raw is not None else None
            there = await self._in(answered) if answered is not None else None
            if there is not None:
                return there
            raise Invalid(
                "the message you answer has no YAML", fix="Reply `!apply` to a `.yaml` file or a fenced block."
            )
        raise Invalid(
            "there is nothing to apply",
            fix="Upload a `.yaml` file, put a fenced block under `!apply`, or reply `!apply` to one.",
        )

    async def _in(self, event: Event) -> tuple[bytes, str] | None:
        if event.is_file:
            url = events.text_of(event.content.get("url"))
            data = await outlast(lambda: self._homeserver.download(url, limit=LIMIT), "read an upload")
            return data, _plain(event.filename)
        block = blocks.yaml(event.body)
        return (block.encode(), "the block") if block is not None else None


def _plain(name: str) -> str:
    return re.sub(r"[^\w.\- ]", "_", name)[:80] or "the file"
