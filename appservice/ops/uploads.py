"""The YAML an `apply` is about: an uploaded file, a fenced block, or the message that the command
replies to or whose thread it is in."""

import re
from collections.abc import Mapping
from typing import Any

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
            answered = events.parse(_as_it_is_now(raw)) if raw is not None else None
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


def _as_it_is_now(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message with the content of its last edit, which the homeserver serves beside the first one. Raises Invalid
    when it says of an edit no more than that there is one."""
    relations = events.map_of(events.map_of(raw.get("unsigned")).get("m.relations"))
    edit = events.map_of(relations.get("m.replace"))
    if not edit:
        return raw
    now = events.map_of(events.map_of(edit.get("content")).get("m.new_content"))
    if not now or edit.get("sender") != raw.get("sender"):
        what = "the message you answer was edited, and the homeserver does not say how it reads now. Nothing was done."
        raise Invalid(what, fix="Send the text anew, and reply to that.")
    return {**raw, "content": now}


def _plain(name: str) -> str:
    return re.sub(r"[^\w.\- ]", "_", name)[:80] or "the file"
