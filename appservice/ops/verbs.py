"""Which verb is whose."""

import argparse
from collections.abc import Awaitable, Callable, Mapping

from appservice.homeserver.events import Event
from appservice.ops import grammar
from appservice.ops.adopting import Adopting
from appservice.ops.answer import Answer
from appservice.ops.changing import Changing
from appservice.ops.grammar import Request
from appservice.ops.hands import Hands, Progress
from appservice.ops.looking import Looking
from appservice.ops.uploads import Uploads

Verb = Callable[[Event, argparse.Namespace, Progress], Awaitable[Answer]]


class Verbs:
    def __init__(self, hands: Hands, uploads: Uploads) -> None:
        look, change = Looking(hands, uploads), Changing(hands, uploads)

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
        return await self._verbs[request.command.name](event, request.arguments, progress)
