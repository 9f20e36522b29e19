"""Which verb is whose."""

import argparse
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from time import time
from typing import Final

from appservice.errors import Invalid
from appservice.homeserver.events import Event
from appservice.ops import grammar
from appservice.ops.adopting import Adopting
from appservice.ops.answer import Answer
from appservice.ops.changing import Changing
from appservice.ops.grammar import Request
from appservice.ops.hands import Hands, Progress, reference
from appservice.ops.looking import Looking
from appservice.ops.uploads import Uploads
from appservice.store import audit
from appservice.store.audit import Entry
from appservice.store.changes import Key

BESIDE_THE_DESK: Final = ("adopt", "stop")  # what changes something that is not declared

Verb = Callable[[Event, argparse.Namespace, Progress], Awaitable[Answer]]


class Verbs:
    def __init__(self, hands: Hands, uploads: Uploads) -> None:
        look, change = Looking(hands, uploads), Changing(hands, uploads)
        self._store = hands.store

        def apply(event: Event, given: argparse.Namespace, progress: Progress) -> Awaitable[Answer]:
            return (look.plan if given.dry_run else change.apply)(event, given, progress)

        self._verbs: Mapping[str, Verb] = {
            "help": look.help,
            "status": look.status,
            "get": look.get,
            "describe": look.describe,
            "explain": look.explain,
            "audit": look.audit,
            "logs": look.logs,
            "history": look.history,
            "edit": look.edit,
            "export": look.export,
            "plan": look.plan,
            "doctor": look.doctor,
            "version": look.version,
            "apply": apply,
            "set": change.set,
            "rollback": change.rollback,
            "restart": change.restart,
            "sleep": change.sleep,
            "wake": change.wake,
            "pause": change.pause,
            "resume": change.resume,
            "stop": change.stop,
            "delete": change.delete,
            "adopt": Adopting(hands).adopt,
        }

    async def run(self, text: str, event: Event, progress: Progress) -> Answer:
        """Run what was typed. Raises OpsroomError for the person who typed it."""
        return await self.obey(grammar.parse(text), event, progress)

    async def obey(self, request: Request, event: Event, progress: Progress) -> Answer:
        """Run what was asked. Raises OpsroomError for the person who asked it."""
        answer = await self._verbs[request.command.name](event, request.arguments, progress)
        if answer.ok and request.command.name in BESIDE_THE_DESK:
            await self._store.write(lambda db: audit.record(db, line(request, event, "allow", audit.OPERATOR)))
        return answer


def line(request: Request, event: Event, verdict: str, rule: str) -> Entry:
    """What the audit says of a command."""
    target = request.command.name
    if "object" in request.arguments:
        with suppress(Invalid):
            kind, name = reference(request.arguments.object)
            target = str(Key(kind or "Worker", name))
    return Entry(
        at=time(),
        actor=event.sender,
        action=request.command.name,
        target=target,
        room_id=event.room_id,
        verdict=verdict,
        rule=rule,
        cause=event.id,
    )
