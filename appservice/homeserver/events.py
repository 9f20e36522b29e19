"""Read raw Matrix events with guards: nothing in them is trusted to have the right type.

Sources: Matrix client-server API, modules instant messaging, mentions, threading, event replacements, annotations.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import unquote

_LINK = re.compile(r"https://matrix\.to/#/([^\"'?<>\s]+)")
_FALLBACK = re.compile(r"> (?:\* )?<@[^>\n]+>")  # how a quote that a client made begins, before spec 1.13
_VARIATION = "\ufe0f"
_SKIN = re.compile("[\U0001f3fb-\U0001f3ff]")

JOURNAL = "org.opsroom.resource"  # a state event: what is declared, see docs/journal.md
TYPES = (
    "m.room.message",
    "m.reaction",
    "m.room.redaction",
    "m.room.member",
    "m.room.power_levels",
    "m.room.name",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.canonical_alias",
    "m.room.avatar",
    "m.space.parent",
    "m.space.child",
    "m.room.encryption",
    "m.room.encrypted",
    JOURNAL,
)
ROOM_STATE = (
    "m.room.power_levels",
    "m.room.name",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.canonical_alias",
    "m.room.avatar",
    "m.space.parent",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event as the homeserver pushed it. `state_key` is None for message events."""

    id: str
    room_id: str
    type: str
    sender: str
    content: Mapping[str, Any]
    state_key: str | None = None
    ts: int = 0
    redacts: str = ""

    @property
    def body(self) -> str:
        """Plain text without NUL and without the reply fallback; '' when there is none."""
        text = text_of(self.content.get("body")).replace("\0", "")
        if self.replies_to and _FALLBACK.match(text):
            _, _, text = text.partition("\n\n")
        return text

    @property
    def msgtype(self) -> str:
        return text_of(self.content.get("msgtype"))

    @property
    def relation(self) -> Mapping[str, Any]:
        return map_of(self.content.get("m.relates_to"))

    @property
    def thread(self) -> str:
        """Root of the thread this event is in, or ''."""
        return text_of(self.relation.get("event_id")) if self.relation.get("rel_type") == "m.thread" else ""

    @property
    def replies_to(self) -> str:
        """The event this one answers by hand (a thread's fallback is none)."""
        if self.relation.get("is_falling_back") is True:
            return ""
        return text_of(map_of(self.relation.get("m.in_reply_to")).get("event_id"))

    @property
    def replaces(self) -> str:
        return text_of(self.relation.get("event_id")) if self.relation.get("rel_type") == "m.replace" else ""

    @property
    def new_content(self) -> Mapping[str, Any]:
        return map_of(self.content.get("m.new_content"))

    @property
    def reaction(self) -> tuple[str, str]:
        """(event reacted to, key without variation selector and skin tone) or ('', '')."""
        if self.type != "m.reaction" or self.relation.get("rel_type") != "m.annotation":
            return "", ""
        key = _SKIN.sub("", text_of(self.relation.get("key")).replace(_VARIATION, ""))
        return text_of(self.relation.get("event_id")), key

    @property
    def membership(self) -> str:
        return text_of(self.content.get("membership")) if self.type == "m.room.member" else ""

    @property
    def is_file(self) -> bool:
        return self.msgtype == "m.file" and text_of(self.content.get("url")).startswith("mxc://")

    @property
    def filename(self) -> str:
        return text_of(self.content.get("filename")) or self.body


def parse(raw: Mapping[str, Any]) -> Event | None:
    """Read one raw event; None when it is not one."""
    values = [raw.get(name) for name in ("event_id", "room_id", "type", "sender")]
    if not all(isinstance(value, str) and value for value in values):
        return None
    content = map_of(raw.get("content"))
    state_key = raw.get("state_key")
    ts = raw.get("origin_server_ts")
    return Event(
        id=values[0],  # type: ignore[arg-type]
        room_id=values[1],  # type: ignore[arg-type]
        type=values[2],  # type: ignore[arg-type]
        sender=values[3],  # type: ignore[arg-type]
        content=content,
        state_key=state_key if isinstance(state_key, str) else None,
        ts=ts if isinstance(ts, int) else 0,
        redacts=text_of(content.get("redacts")) or text_of(raw.get("redacts")),
    )


def mentions(content: Mapping[str, Any], members: Mapping[str, str]) -> frozenset[str]:
    """Who of `members` (Matrix id -> display name) a message mentions.

    `m.mentions` decides when it is there (spec 1.7). Without it: matrix.to links in the HTML, then `@name` as a whole
    word, where name is a localpart or display name of exactly one member.
    """
    declared = content.get("m.mentions")
    if isinstance(declared, Mapping) and declared:
        ids = declared.get("user_ids")
        named = (text_of(member) for member in ids) if isinstance(ids, list) else ()
        return frozenset(member for member in named if member in members)
    linked = {unquote(unescape(found)) for found in _LINK.findall(text_of(content.get("formatted_body")))}
    if hit := linked & members.keys():
        return frozenset(hit)
    if isinstance(declared, Mapping) and content.get("formatted_body"):
        return frozenset()  # a client that knows mentions and says there is none
    return _named(text_of(content.get("body")), members)


def is_for_all(content: Mapping[str, Any]) -> bool:
    """Whether a message mentions everybody in its room: `@room`."""
    return map_of(content.get("m.mentions")).get("room") is True


def is_call(content: Mapping[str, Any]) -> bool:
    """Whether this is an answer of ours, in its last state, that mentions somebody."""
    cause, mentioned = map_of(content.get("org.opsroom.cause")), map_of(content.get("m.mentions")).get("user_ids")
    return cause.get("final") is True and bool(mentioned)


def _named(body: str, members: Mapping[str, str]) -> frozenset[str]:
    found = set()
    for line in body.splitlines():
        if line.startswith(">"):  # a quote wakes nobody
            continue
        for member, name in members.items():
            names = {member, "@" + member[1:].split(":")[0], "@" + name, "@" + name.removesuffix(" (agent)")}
            if any(_whole_word(candidate, line) for candidate in names if len(candidate) > 1):
                found.add(member)
    return frozenset(found)


def _whole_word(word: str, line: str) -> bool:
    return re.search(rf"(?<![\w@.-]){re.escape(word)}(?![\w-])(?!:\w)", line, re.IGNORECASE) is not None


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def map_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
