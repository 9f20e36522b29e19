"""Avatars as PNG: the product's own, and patterns made from a name. The same name gives the same picture.

Clients cut them to a circle: what matters lies within it.
"""

import struct
import zlib
from collections.abc import Iterable
from colorsys import hls_to_rgb
from hashlib import sha256

_CELL = 20
_CELLS = 5
_MARGIN = 22
_DOT = 9
_INK = {".": b"\x1d\x5b\x58", "#": b"\xff\xff\xff", ">": b"\x1d\x5b\x58", "_": b"\xf0\xa3\x3a"}
_EMBLEM = (
    "................",
    "................",
    "................",
    "...##########...",
    "..############..",
    "..##>>########..",
    "..###>>#######..",
    "..####>>######..",
    "..###>>#######..",
    "..##>>##____##..",
    "..############..",
    "...##########...",
    ".....###........",
    ".....#..........",
    "................",
    "................",
)


def emblem() -> bytes:
    """The picture of Opsroom itself: a prompt in a speech bubble."""
    lines = [b"".join(_INK[dot] * _DOT for dot in line) for line in _EMBLEM for _ in range(_DOT)]
    return _png(lines, _DOT * len(_EMBLEM))


def png(name: str) -> bytes:
    """A mirrored 5x5 pattern on a tint, 144 pixels square."""
    digest = sha256(name.encode()).digest()
    hue = digest[0] / 255
    ink = _rgb(hue, 0.42, 0.55)
    paper = _rgb(hue, 0.93, 0.6)
    side = _CELL * _CELLS + 2 * _MARGIN
    return _png((_row(digest, y, side, ink, paper) for y in range(side)), side)


def _row(digest: bytes, y: int, side: int, ink: bytes, paper: bytes) -> bytes:
    row = (y - _MARGIN) // _CELL
    pixels = []
    for x in range(side):
        column = (x - _MARGIN) // _CELL
        mirrored = min(column, _CELLS - 1 - column)
        inside = 0 <= row < _CELLS and 0 <= column < _CELLS
        pixels.append(ink if inside and digest[1 + row * 3 + mirrored] & 1 else paper)
    return b"".join(pixels)


def _png(rows: Iterable[bytes], side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _rgb(hue: float, lightness: float, saturation: float) -> bytes:
    return bytes(round(part * 255) for part in hls_to_rgb(hue, lightness, saturation))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
