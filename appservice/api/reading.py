"""Looking: lists, objects, what happened to them, and who may what."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from appservice import __version__
from appservice.api import shapes, world
from appservice.api.following import follow_log
from appservice.api.problems import Malformed
from appservice.api.routing import Call
from appservice.api.selecting import Test, by_fields, by_labels
from appservice.api.world import World, answered, key_of, shown
from appservice.errors import Conflict, Denied
from appservice.store import audit, objects, status, turns, versions
from appservice.store.database import Connection


class Reading:
    """Handlers that change nothing."""

    def __init__(self, world: World) -> None:
        self._w = world

    async def healthz(self, _call: Call) -> web.Response:
        return web.json_response({"alive": True})

    async def version(self, _call: Call) -> web.Response:
        return web.json_response({"version": __version__})

    async def status(self, _call: Call) -> web.Response:
        known = await status.every(self._w.store)
        counts: dict[str, dict[str, Any]] = {}
        for stored in await objects.every(self._w.store):
            count = counts.setdefault(stored.kind, {"total": 0, "phases": {}})
            phase = known[stored.key].phase if stored.key in known else "Pending"
            count["total"] += 1
            count["phases"][phase] = count["phases"].get(phase, 0) + 1
        why = self._w.not_ready()
        running = len(await turns.open_turns(self._w.store))
        told = {"version": __version__, "ready": not why, "reason": why, "turns": running, "objects": counts}
        return web.json_response(told | dict(self._w.facts()))

    async def listing(self, call: Call) -> web.StreamResponse:
        test = wanted(call)
        kind = call.kind

        async def everything(db: Connection) -> tuple[int, list[dict[str, Any]]]:
            return await versions.newest(db), await world.every(db, kind.name)

        newest, items = await self._w.store.look(everything)
        (version, start), limit = _decoded(call.query["continue"], newest), call.query["limit"]
        rest = [item for item in items if item["metadata"]["name"] > start and test(item)]
        page = rest[:limit]
        more = _encoded(version, page[-1]["metadata"]["name"]) if len(rest) > limit else ""
        return web.json_response(shapes.listed(kind.name, page, version, more=more, left=len(rest) - len(page)))

    async def get(self, call: Call) -> web.Response:
        return answered(await self._w.store.look(lambda db: shown(db, key_of(call))))

    async def get_status(self, call: Call) -> web.Response:
        found = await self._w.store.look(lambda db: shown(db, key_of(call)))
        return web.json_response(found["status"])

    async def events(self, call: Call) -> web.Response:
        stored = await world.stored(self._w.store, key_of(call))
        found = await status.happenings(self._w.store, stored.key, call.query["limit"])
        return web.json_response({"items": [shapes.happening(one) for one in found]})

    async def audit(self, call: Call) -> web.Response:
        found = await audit.newest(self._w.store, target=call.query["target"], limit=call.query["limit"])
        return web.json_response({"items": [shapes.entry(one) for one in found]})

    async def explain(self, call: Call) -> web.Response:
        """Everybody may ask about themselves, operators about everybody."""
        asked = call.query["user"] or call.user
        if asked != call.user and not call.operator:
            raise Denied("Only operators may ask about others.", fix="Leave out `user`.")
        user, agent, decision = await self._w.explain(asked, call.query["agent"], call.query["room"])
        return web.json_response(shapes.decision(decision, user=user, agent=agent, room=call.query["room"]))

    async def logs(self, call: Call) -> web.StreamResponse:
        name = await self._process(call)
        lines = call.query["lines"]
        if call.query["follow"]:
            return await follow_log(self._w, call, name, lines)
        return web.Response(text=await self._w.logs(name, lines), content_type="text/plain", charset="utf-8")

    async def _process(self, call: Call) -> str:
        """The agent whose log is meant."""
        stored = await world.stored(self._w.store, key_of(call))
        if stored.kind == "Worker":
            return stored.name
        parts = await objects.owned_by(self._w.store, str(stored.key))
        if len(parts) == 1:
            return parts[0].name
        names = ", ".join(part.name for part in parts) or "none"
        raise Conflict(f"`{stored.key}` is not one process.", fix=f"Its agents: {names}. Ask for one's log.")


def wanted(call: Call) -> Test:
    """Which objects are asked for."""
    steady, fields = labelled(call), by_fields(call.query["fieldSelector"])
    return lambda item: steady(item) and fields(item)


def labelled(call: Call) -> Test:
    """The part of it that is about labels and owners."""
    labels, team = by_labels(call.query["labelSelector"]), call.query.get("team", "")

    def test(item: Mapping[str, Any]) -> bool:
        owners = item["metadata"].get("ownerReferences", ())
        in_team = not team or any(one["kind"] == "Team" and one["name"] == team for one in owners)
        return in_team and labels(item)

    return test


def _encoded(version: int, name: str) -> str:
    """What goes on after a name, in a list that began at a version."""
    return urlsafe_b64encode(f"{version}/{name}".encode()).decode().rstrip("=")


def _decoded(token: str, newest: int) -> tuple[int, str]:
    """The version that all pages are of, for a watch from it misses nothing, and the name to go on after."""
    if not token:
        return newest, ""
    try:
        version, name = urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("utf-8").split("/")
        if not (version.isascii() and version.isdigit()):
            raise ValueError(version)
        return min(int(version), newest), name
    except ValueError as error:
        raise Malformed("`continue` is none that a list gave.", fix="Begin with the first page.") from error
