"""Agents' Matrix users: registered, named, with a picture. One place, because rooms need them before they join."""

import asyncio
from collections import defaultdict

from appservice.homeserver import avatar
from appservice.homeserver.client import Homeserver
from appservice.policy.roster import Names


class Identities:
    def __init__(self, homeserver: Homeserver, names: Names) -> None:
        self._homeserver = homeserver
        self._names = names
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._pictures: dict[str, str] = {}

    async def ensure(self, name: str) -> str:
        """Make the agent's user complete; the address of its picture."""
        user, display = self._names.user(name), f"{name} (agent)"
        async with self._locks[name]:
            profile = await self._homeserver.profile(user)
            picture = profile.get("avatar_url") or ""
            if profile.get("displayname") != display or not picture:
                await self._homeserver.ensure_user(user)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._homeserver.set_profile(user, "displayname", display))
                    painted = tasks.create_task(self._paint(user, name))
                picture = painted.result()
            self._pictures[name] = picture
        return picture

    async def once(self, name: str) -> str:
        """As `ensure`, but one that was complete in this run is not looked at again."""
        return self._pictures.get(name) or await self.ensure(name)

    def forget(self, name: str) -> None:
        self._pictures.pop(name, None)
        self._locks.pop(name, None)

    async def _paint(self, user: str, name: str) -> str:
        picture = avatar.png(name)
        address = await self._homeserver.upload(picture, name=f"{name}.png", mimetype="image/png", user=user)
        await self._homeserver.set_profile(user, "avatar_url", address)
        return address
