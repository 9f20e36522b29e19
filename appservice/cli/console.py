"""What people see: the answer on stdout, the talk on stderr, colour only on a terminal that wants it."""

import os
import sys
from contextlib import suppress
from typing import TextIO

GREEN, YELLOW, RED, BOLD, DIM = "32", "33", "31", "1", "2"


def answer(text: str) -> None:
    """Print what was asked for."""
    print(text, flush=True)


def say(text: str) -> None:
    """Print a line of progress. A terminal that was closed hears nothing, and the work goes on."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def complain(error: object) -> None:
    """Print what went wrong."""
    say(f"{paint('opsroom:', RED, sys.stderr)} {error}")


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Colour the text if the stream is a terminal that shows colours and nobody asked not to."""
    wanted = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[{colour}m{text}\033[0m" if wanted else text
