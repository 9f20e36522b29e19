"""The calls of the gateway's log, in their order, from an offset on.

Offsets count from the first byte that was ever logged. The log is cut into segments: `usage.jsonl.END` is a finished
one that ends at offset END, `usage.jsonl.rotating` one that Envoy may still write to, `usage.jsonl` the present one.
Segments that were read are deleted, but for the newest, whose name says where the present one begins.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appservice.errors import Unavailable
from appservice.gateway.protocol import Usage

ROTATE_AT = 64 << 20
MOST = 2**31  # what is counted beyond it, a provider has made up
_LOOK_S = 0.2
_CHUNK = 256 << 10
_ROTATING = "rotating"

Reopen = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Segment:
    path: Path
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


async def follow(
    log: Path, offset: int, *, reopen: Reopen, rotate_at: int = ROTATE_AT
) -> AsyncGenerator[tuple[int, list[Usage]], None]:
    """Endless. The calls of each reading, with the offset to go on from; asking for the next one says that they are
    stored."""
    while True:
        start, data = await asyncio.to_thread(_read, log, offset)
        if data:
            offset = start + len(data)
            if found := [call for line in data.splitlines() if (call := parse(line)) is not None]:
                yield offset, found
            continue
        await _rotate(log, offset, reopen, rotate_at)
        await asyncio.sleep(_LOOK_S)


def parse(line: bytes) -> Usage | None:
    """The call in a line of the log; None for a line that is no finished model call of a known consumer, or that is cut
    by a crash of Envoy, or in which something stands that no call can have."""
    try:
        return _call(json.loads(line))
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError):
        return None


def _call(entry: Any) -> Usage | None:
    if not isinstance(entry, dict) or entry.get("type") != "DownstreamEnd":
        return None
    if not str(entry.get("route", "")).startswith("llm") or "consumer" not in entry:
        return None
    tokens_in, tokens_out = _tokens(entry.get("usage") or {}, aborted="DC" in str(entry.get("flags", "")))
    return Usage(
        call_id=_text(entry["id"]),
        at=float(entry["ts"]),
        consumer=_text(entry["consumer"]),
        model=_text(entry.get("model", "")),
        route=entry["route"].removeprefix("llm").removeprefix("/"),
        status=_count(entry.get("status", 0)),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        took_ms=_count(entry.get("ms", 0)),
        detail=_detail(entry),
    )


def _tokens(usage: dict[str, Any], *, aborted: bool) -> tuple[int, int]:
    """A stream that was cut before its counts came is charged by its events, about one a token."""
    asked = _count(usage.get("prompt_tokens", usage.get("input_tokens", 0)))
    told = usage.get("completion_tokens", usage.get("output_tokens"))
    said = _count(told)
    if told is None or (aborted and "completion_tokens" not in usage):
        said = max(said, _count(usage.get("events", 0)))
    return asked, said


def _count(value: Any) -> int:
    """A number that somebody else has written, as one that can be stored and added up."""
    number = value if isinstance(value, int | float) else float(value or 0)
    return int(min(max(number, 0), MOST))


def _text(value: Any) -> str:
    """No half characters: no UTF-8 can hold them."""
    return str(value).encode(errors="replace").decode()


def _detail(entry: dict[str, Any]) -> str:
    """Why it was refused or cut, and how often it was tried; nothing for a plain call."""
    details = _text(entry.get("details", ""))
    parts = [] if details == "via_upstream" else [details[:120]]
    if _count(entry.get("attempts", 1)) > 1:
        parts.append(f"{entry['attempts']} attempts")
    return ", ".join(part for part in parts if part)


def _segments(log: Path) -> list[_Segment]:
    finished = []
    for path in log.parent.glob(f"{log.name}.*"):
        ending = path.suffix[1:]
        if ending.isdecimal():
            size = path.stat().st_size
            finished.append(_Segment(path, int(ending) - size, size))
    found = sorted(finished, key=lambda segment: segment.end)
    for path in (_rotating(log), log):
        if path.exists():
            found.append(_Segment(path, found[-1].end if found else 0, path.stat().st_size))
    return found


def _rotating(log: Path) -> Path:
    return log.with_name(f"{log.name}.{_ROTATING}")


def _read(log: Path, offset: int) -> tuple[int, bytes]:
    """Whole lines from the offset on, and the offset they really begin at."""
    segments = _segments(log)
    if segments and offset > segments[-1].end:
        offset = segments[-1].start  # somebody else cleared the log: begin with what is there
    for segment in segments:
        if segment.end > offset:
            begin = max(offset, segment.start)
            with segment.path.open("rb") as file:
                file.seek(begin - segment.start)
                data = file.read(_CHUNK)
            whole = data[: data.rfind(b"\n") + 1]
            if whole:
                return begin, whole
            if segment is not segments[-1] and segment.path.suffix[1:].isdecimal():
                return begin, data  # a finished segment without a last line's end: nothing more will come
            return begin, b""
    return offset, b""


async def _rotate(log: Path, offset: int, reopen: Reopen, rotate_at: int) -> None:
    """One step of a rotation, if one is due: everything in the present segment was read."""
    step = await asyncio.to_thread(_rotation_step, log, offset, rotate_at)
    if step == "reopen":
        try:
            await reopen()
        except Unavailable:
            return  # Envoy makes a new log when it starts


def _rotation_step(log: Path, offset: int, rotate_at: int) -> str:
    finished = [segment for segment in _segments(log) if segment.path.suffix[1:].isdecimal()]
    for segment in finished[:-1]:
        if segment.end <= offset:
            segment.path.unlink()
    rotating = _rotating(log)
    if rotating.exists():
        if not log.exists():
            return "reopen"
        end = next(segment.end for segment in _segments(log) if segment.path == rotating)
        rotating.rename(log.with_name(f"{log.name}.{end}"))
        return ""
    if log.exists() and log.stat().st_size >= rotate_at:
        log.rename(rotating)
        return "reopen"
    return ""
