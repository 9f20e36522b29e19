"""Pictures: what matters in them survives a client that cuts them to a circle."""

import struct
import zlib

import pytest

from appservice.homeserver import avatar


def pixels(picture: bytes) -> list[list[bytes]]:
    width, height = struct.unpack(">II", picture[16:24])
    at = picture.index(b"IDAT")
    (length,) = struct.unpack(">I", picture[at - 4 : at])
    data = zlib.decompress(picture[at + 4 : at + 4 + length])
    rows = [data[y * (3 * width + 1) + 1 : (y + 1) * (3 * width + 1)] for y in range(height)]
    return [[row[3 * x : 3 * x + 3] for x in range(width)] for row in rows]


@pytest.mark.parametrize("picture", [avatar.emblem(), *map(avatar.png, ("alice", "Opsroom", "a-long-name-7"))])
def test_only_the_ground_lies_outside_of_the_circle(picture: bytes) -> None:
    rows = pixels(picture)
    middle = (len(rows) - 1) / 2
    outside = {
        dot
        for y, row in enumerate(rows)
        for x, dot in enumerate(row)
        if (x - middle) ** 2 + (y - middle) ** 2 > (len(rows) / 2) ** 2
    }
    assert len(outside) == 1
    assert len({dot for row in rows for dot in row}) > 1


def test_a_name_has_one_picture_of_its_own() -> None:
    assert avatar.png("alice") == avatar.png("alice") != avatar.png("bob")
