"""Accounts of people: found, or made with a password that is shown once in the ops room and kept nowhere.

The password follows from a secret of ours and a nonce; the nonce is deleted once the message is in the room. So a
crash at any moment repeats the same account with the same password, and afterwards nobody can tell it any more. The
message is removed when somebody in the room marks it with ✅, when the person first says or does something, and after a
day. Its plain body is without the password: homeservers keep that for searches, and clients put it on locked screens.
"""

import base64
import hmac
from collections.abc import Callable
from secrets import token_hex
from time import time

import structlog

from appservice.errors import Invalid
from appservice.homeserver import accounts, content
from appservice.homeserver.accounts import Means
from appservice.homeserver.client import Homeserver, localpart
from appservice.homeserver.events import Event
from appservice.homeserver.sender import Sender
from appservice.reconcile.steps import Done
from appservice.store import meta
from appservice.store.database import Connection, Database
from appservice.store.outbox import Outgoing

USED_KEY = "✅"
SHOWN_S = 86_400.0
_NONCE = "account-nonce:"  # + name: while its password was not shown yet
_SHOWN = "password-shown:"  # + event id: whose password stands there, and since when

log = structlog.get_logger()


class Accounts:
    """`means` makes accounts, None when nothing does; `ops_room` tells where passwords are shown."""

    def __init__(
        self,
        store: Database,
        homeserver: Homeserver,
        sender: Sender,
        *,
        means: Means | None,
        ops_room: Callable[[], str],
    ) -> None:
        self._store = store
        self._homeserver = homeserver
        self._sender = sender
        self._means = means
        self._ops_room = ops_room

    async def ensure(self, name: str, user: str, shown: str) -> Done:
        """Find or make somebody's account, called `shown` when it is made. Raises OpsroomError."""
        nonce = await meta.get(self._store, _NONCE + name)
        if not nonce:
            if await self._homeserver.exists(user):
                return Done("Found", user)
            if self._means is None:
                raise Invalid(
                    f"{user} has no account, and Opsroom was given nothing to make one with",
                    fix="Make the account, or set `homeserver.registration_secret_file` or `registration_token_file`.",
                )
            nonce = token_hex(16)
            await self._store.write(lambda db: meta.put(db, _NONCE + name, nonce))
        password = self._password(name, nonce)
        url, account = self._homeserver.url, localpart(user)
        made = self._means is not None and await accounts.register(url, self._means, account, password, shown=shown)
        ours = made or await accounts.opens(url, account, password)  # made by an earlier run, which did not come so far
        unnamed = ""
        if ours:
            if self._means is not None and self._means.kind == "token":
                unnamed = await accounts.name(url, account, password, shown)
            await self._show(name, user, password, nonce)
        await self._store.write(lambda db: meta.drop(db, _NONCE + name))
        if unnamed:
            return Done(
                "Made", f"{user}, but for its display name, which {name} can set. The homeserver says {unnamed}"
            )
        return Done("Made" if ours else "Found", user)

    async def look(self, event: Event) -> None:
        """Whether an event says that a password was used: then its message goes. To be in a room says nothing, for
        homeservers may join people themselves."""
        if event.type == "m.room.member" or not (shown := await meta.find(self._store, _SHOWN)):
            return
        target, key = event.reaction
        marked = _SHOWN + target if key == USED_KEY and event.room_id == self._ops_room() else ""
        await self._hide([kept for kept, value in shown if kept == marked or value.split(" ")[0] == event.sender])

    async def expire(self, now: float) -> None:
        """Remove what has stood in the room for too long."""
        shown = await meta.find(self._store, _SHOWN)
        await self._hide([kept for kept, value in shown if now - float(value.split(" ")[1]) > SHOWN_S])

    def _password(self, name: str, nonce: str) -> str:
        secret = self._homeserver.registration.as_token.encode()
        text = base64.b32encode(hmac.digest(secret, f"{name}\0{nonce}".encode(), "sha256")).decode().lower()[:20]
        return "-".join(text[start : start + 5] for start in range(0, 20, 5))

    async def _show(self, name: str, user: str, password: str, nonce: str) -> None:
        """Straight to the homeserver: the outbox would keep it."""
        text = (
            f"**Account made** for `human/{name}`: user `{user}`, password `{password}`\n\n"
            f"Pass it on, then react here with {USED_KEY}: this message is removed then, or when {name} first says"
            " something in a room, or after a day. The password is kept nowhere else."
        )
        plain = text.replace(f"password `{password}`", "the password is in the formatted text of this message")
        room, bot = self._ops_room(), self._homeserver.bot
        sent = await self._homeserver.send(
            room, "m.room.message", content.message(text) | {"body": plain}, f"password.{nonce[:16]}", user=bot
        )
        await self._store.write(lambda db: meta.put(db, _SHOWN + sent, f"{user} {time():.0f}"))
        log.info("account made", user=user)

    async def _hide(self, shown: list[str]) -> None:
        """`shown`: keys of messages. Each goes once, whatever ends us meanwhile."""
        items = [
            Outgoing(
                txn_id=f"password.{event}.gone",
                room_id=self._ops_room(),
                sender=self._homeserver.bot,
                type="m.room.redaction",
                content={"redacts": event, "reason": "used"},
                cause=event,
            )
            for event in (key.removeprefix(_SHOWN) for key in shown)
        ]

        async def unit(db: Connection) -> None:
            for item in items:
                await self._sender.keep(db, item)
                await meta.drop(db, _SHOWN + item.cause)

        if items:
            await self._store.write(unit)
        for item in items:
            self._sender.soon(item)
