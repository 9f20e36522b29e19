"""Content of the events Opsroom sends: one Markdown text, shown as HTML and readable as it is.

Every message carries `m.mentions` (empty unless somebody is called) and the causal ids under `org.opsroom.cause`.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from html import unescape
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt

from appservice.homeserver.events import map_of

LIMIT = 48 * 1024  # bytes of content that fit an event with room to spare (65,536 with the envelope)
CAUSE = "org.opsroom.cause"

_USER_LINK = re.compile(r'<a href="https://matrix\.to/#/((?:@|%40)[^"]*)"[^>]*>(.*?)</a>', re.DOTALL)
_markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])


def html(markdown: str) -> str:
    """HTML of a Markdown text; HTML written in it is shown, not used."""
    rendered = str(_markdown.render(markdown)).strip()
    lone = rendered.startswith("<p>") and rendered.endswith("</p>") and rendered.count("<p>") == 1
    return rendered[3:-4] if lone else rendered


def message(
    markdown: str,
    *,
    msgtype: str = "m.notice",
    thread: str = "",
    reply_to: str = "",
    mention: Sequence[str] = (),
    cause: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An `m.room.message`. `thread`: root of the thread it belongs to; `reply_to`: newest event there."""
    content: dict[str, Any] = {
        "msgtype": msgtype,
        "body": markdown,
        "m.mentions": {"user_ids": list(mention)} if mention else {},
    }
    formatted = html(_with_pills(markdown, mention))
    if formatted != markdown:
        content |= {"format": "org.matrix.custom.html", "formatted_body": formatted}
    if thread:
        content["m.relates_to"] = {
            "rel_type": "m.thread",
            "event_id": thread,
            "is_falling_back": True,
            "m.in_reply_to": {"event_id": reply_to or thread},
        }
    if cause:
        content[CAUSE] = dict(cause)
    return content


def _with_pills(markdown: str, users: Sequence[str]) -> str:
    """Each mentioned user's id as a link, which clients show as a name."""
    for user in users:
        whole_word = rf"(?<![\w`\[/]){re.escape(user)}(?![\w-])"
        markdown = re.sub(whole_word, f"[{user}](https://matrix.to/#/{user})", markdown)
    return markdown


def with_pills_of(content: Mapping[str, Any], users: Collection[str]) -> dict[str, Any]:
    """A message in which links to other users than these are text: clients show such a link as a mention."""

    def shown(link: re.Match[str]) -> str:
        return link[0] if unquote(unescape(link[1])).partition("?")[0] in users else link[2]

    html = content.get("formatted_body")
    return dict(content) | ({"formatted_body": _USER_LINK.sub(shown, html)} if html else {})


def edit(content: Mapping[str, Any], target: str) -> dict[str, Any]:
    """An edit that makes `target` show this content. Whom it mentions was not mentioned before."""
    shown = {key: value for key, value in content.items() if key != "m.relates_to"}
    return {
        "msgtype": content["msgtype"],
        "body": "* " + content["body"],
        **{key: content[key] for key in (CAUSE,) if key in content},
        "m.mentions": content.get("m.mentions", {}),
        "m.new_content": shown,
        "m.relates_to": {"rel_type": "m.replace", "event_id": target},
    }


def reaction(target: str, key: str) -> dict[str, Any]:
    return {"m.relates_to": {"rel_type": "m.annotation", "event_id": target, "key": key}}


def attachment(name: str, url: str, size: int, *, mimetype: str = "text/plain", thread: str = "") -> dict[str, Any]:
    content: dict[str, Any] = {
        "msgtype": "m.file",
        "body": name,
        "filename": name,
        "url": url,
        "info": {"mimetype": mimetype, "size": size},
        "m.mentions": {},
    }
    if thread:
        content["m.relates_to"] = map_of(message("", thread=thread)["m.relates_to"])
    return content


def size(content: Mapping[str, Any]) -> int:
    """Bytes of the content as the homeserver counts them."""
    return len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())


def split(markdown: str, limit: int) -> tuple[str, str]:
    """(what fits into `limit` bytes, the rest): cut at a line end, else at a space; fences are closed and opened."""
    if len(markdown.encode()) <= limit:
        return markdown, ""
    head = markdown.encode()[: limit - 8].decode(errors="ignore")
    cut = max(head.rfind("\n"), -1)
    if cut < len(head) // 2:
        cut = head.rfind(" ") if head.rfind(" ") > len(head) // 2 else len(head)
    head, rest = markdown[:cut], markdown[cut:].lstrip("\n")
    fence = _open_fence(head)
    return (closed(head), f"{fence}\n{rest}") if fence else (head, rest)


def closed(markdown: str) -> str:
    """The text with an open fence closed, so that what follows is not code."""
    return markdown + "\n```" if _open_fence(markdown) else markdown


def _open_fence(markdown: str) -> str:
    """The line that opens a fence which is not closed, or ''."""
    fences = [line.strip() for line in markdown.splitlines() if line.lstrip().startswith("```")]
    return fences[-1] if len(fences) % 2 else ""
