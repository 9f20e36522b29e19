"""Commands that change something have their effect in the order in which they came."""

import asyncio


class Order:
    """Each takes its place when it comes and leaves it once it has had its effect, or has to wait for a person."""

    def __init__(self) -> None:
        self._places: dict[str, asyncio.Event] = {}  # of those that came and have not left, first come first

    def take(self, command: str) -> None:
        self._places[command] = asyncio.Event()

    async def turn(self, command: str) -> None:
        """Return once all that came before have left; at once for a command without a place."""
        for earlier, left in list(self._places.items()):
            if earlier == command or command not in self._places:
                return
            await left.wait()

    def leave(self, command: str) -> None:
        """To have left already is no mistake."""
        if (left := self._places.pop(command, None)) is not None:
            left.set()
