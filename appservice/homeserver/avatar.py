"""Avatars made from a name: a mirrored 5x5 pattern on a tint, as PNG. The same name gives the same picture."""

import struct
import zlib
from colorsys import hls_to_rgb
from hashlib import sha256

_CELL = 24
_CELLS = 5
_MARGIN = 12


def png(name: str) -> bytes:
    """A square PNG of 144 pixels."""
    digest = sha256(name.encode()).digest()
    hue = digest[0] / 255
    ink = _rgb(hue, 0.42, 0.55)
    paper = _rgb(hue, 0.93, 0.6)
    side = _CELL * _CELLS + 2 * _MARGIN
    rows = b"".join(b"\0" + _row(digest, y, side, ink, paper) for y in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _row(digest: bytes, y: int, side: int, ink: bytes, paper: bytes) -> bytes:
    row = (y - _MARGIN) // _CELL
    pixels = []
    for x in range(side):
        column = (x - _MARGIN) // _CELL
        mirrored = min(column, _CELLS - 1 - column)
        inside = 0 <= row < _CELLS and 0 <= column < _CELLS
        pixels.append(ink if inside and digest[1 + row * 3 + mirrored] & 1 else paper)
    return b"".join(pixels)


def _rgb(hue: float, lightness: float, saturation: float) -> bytes:
    return bytes(round(part * 255) for part in hls_to_rgb(hue, lightness, saturation))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
