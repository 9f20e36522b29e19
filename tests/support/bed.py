"""A homeserver that knows us as an application service, for tests of our calls to it."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from appservice.config import HomeserverSettings, Settings
from appservice.homeserver import content, registration
from appservice.homeserver.client import Homeserver
from appservice.homeserver.live import Live, Pace
from appservice.policy.roster import Names
from appservice.store.changes import Key
from tests.support.children import free_port
from tests.support.synapse import SERVER_NAME, Synapse, running_synapse

BOT = f"@opsroom:{SERVER_NAME}"
NAMES = Names(bot=BOT, prefix="agent-", server_name=SERVER_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """A homeserver that knows us, our calls to it, and a room of our bot."""

    synapse: Synapse
    homeserver: Homeserver
    room: str
    looked: list[Key] = field(default_factory=list)  # what the keeper of rooms had looked at

    async def shown(self, event: str) -> str:
        """What people see in place of a message: its newest edit."""
        page, _ = await self.homeserver.messages(self.room, limit=100)
        for found in page:
            relation = found["content"].get("m.relates_to", {})
            if relation.get("rel_type") == "m.replace" and relation["event_id"] == event:
                return str(found["content"]["m.new_content"]["body"])
        return next(str(found["content"]["body"]) for found in page if found["event_id"] == event)

    def live(self, lane: str, **more: Any) -> Live:
        return Live(self.homeserver, Pace(), room_id=self.room, sender=BOT, lane=lane, compose=content.message, **more)


@pytest.fixture(scope="module")
async def bed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bed]:
    root: Path = tmp_path_factory.mktemp("appservice")
    settings = Settings(homeserver=HomeserverSettings(server_name=SERVER_NAME))
    document = registration.registration_document(
        settings,
        url=f"http://127.0.0.1:{free_port()}",
        as_token=secrets.token_hex(),
        hs_token=secrets.token_hex(),
        sender_localpart="x1",
    )
    path = root / "registration.yaml"
    path.write_text(yaml.safe_dump(document))
    async with running_synapse(root / "synapse", path) as synapse:
        homeserver = Homeserver(synapse.url, registration.load(path), server_name=SERVER_NAME, bot=BOT)
        await homeserver.ensure_user(BOT)
        room = await homeserver.create_room({"preset": "private_chat", "room_alias_name": "opsroom-bed"})
        yield Bed(synapse=synapse, homeserver=homeserver, room=room)
        await homeserver.close()
