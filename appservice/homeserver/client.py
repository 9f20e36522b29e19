"""Calls to the homeserver: `mautrix` for HTTP and error codes, our own retry, one method a call that Opsroom makes.

Every call names the user it acts as; without one the homeserver would act as the registration's sender, which never
speaks. Sends carry a device id, so that a repeated transaction id is recognised across a homeserver restart.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote as percent_encode

import aiohttp
from mautrix.api import HTTPAPI, Method
from mautrix.errors import (
    MatrixConnectionError,
    MatrixRequestError,
    MForbidden,
    MNotFound,
    MRoomInUse,
    MUserInUse,
    make_request_error,
)
from yarl import URL

from appservice.errors import Denied, Invalid, NotFound, OpsroomError, Unavailable
from appservice.homeserver import events
from appservice.homeserver.registration import Registration

DEVICE = "OPSROOM"
TRIES = 5
ERRORS = (MatrixRequestError, MatrixConnectionError, TimeoutError, aiohttp.ClientError)  # what `call` raises
_CLIENT = "_matrix/client/v3/"
_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=5)


class _Api(HTTPAPI):  # type: ignore[misc]
    """mautrix's HTTP, but the time a 429 asks to wait is kept, and bodies are never logged."""

    async def _send(
        self, method: Method, url: URL, content: Any, query_params: dict[str, str], headers: dict[str, str]
    ) -> tuple[Any, aiohttp.ClientResponse]:
        async with self.session.request(
            str(method), url, data=content, params=query_params, headers=headers
        ) as response:
            text = await response.text()
            try:
                body = json.loads(text)
            except ValueError:
                body = None
            if 200 <= response.status < 300 and body is not None:
                return body, response
            facts = body if isinstance(body, dict) else {}
            error = make_request_error(response.status, text[:500], facts.get("errcode"), facts.get("error"))
            error.retry_after_s = facts.get("retry_after_ms", 0) / 1000
            raise error

    def _log_request(self, *_args: Any, **_kwargs: Any) -> None: ...

    def _log_request_done(self, *_args: Any, **_kwargs: Any) -> None: ...


class Homeserver:
    """The client-server API as an application service uses it."""

    def __init__(self, url: str, registration: Registration, *, server_name: str, bot: str) -> None:
        self.url = url.rstrip("/")
        self.server_name = server_name
        self.bot = bot
        self.registration = registration
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT, connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=50)
        )
        self.reads = self.writes = 0  # calls of this run
        self._api = _Api(self.url, registration.as_token, client_session=self._session)

    async def close(self) -> None:
        await self._session.close()

    # -- one call -----------------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        user: str = "",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        device: bool = False,
        tries: int = TRIES,
    ) -> Any:
        """One API call below `/_matrix/client/v3/`, or below `/` when the path begins with `_matrix`.

        Repeated on 429, 5xx and lost connections, `tries` times at most. Raises mautrix's errors.
        """
        params = {**(query or {}), "user_id": user or self.bot}
        if device:
            params["device_id"] = DEVICE
        full = path if path.startswith("_matrix") else _CLIENT + path
        if method == "GET":
            self.reads += 1
        else:
            self.writes += 1
        for attempt in range(1, tries + 1):
            try:
                return await self._api.request(
                    Method[method], full, content, headers=dict(headers or {}), query_params=dict(params)
                )
            except (MatrixRequestError, MatrixConnectionError, TimeoutError) as error:
                if attempt == tries or not _passing(error):
                    raise
                await asyncio.sleep(_pause(attempt, error))
        raise AssertionError("unreachable")

    async def find(self, path: str, *, user: str = "") -> Mapping[str, Any] | None:
        """GET something that may not be there. Synapse has several error codes for that, and one status."""
        try:
            found = await self.call("GET", path, user=user)
        except MatrixRequestError as error:
            if error.http_status != 404:
                raise
            return None
        return events.map_of(found)

    # -- users --------------------------------------------------------------------------------------------------

    async def ensure_user(self, user: str) -> bool:
        """Register a user of ours with its device; True when it is new."""
        try:
            await self.call(
                "POST",
                "register",
                {"type": "m.login.application_service", "username": localpart(user), "inhibit_login": True},
            )
            new = True
        except MUserInUse:
            new = False
        await self.call("PUT", f"devices/{DEVICE}", {"display_name": "Opsroom"}, user=user)
        return new

    async def profile(self, user: str) -> Mapping[str, str]:
        found = await self.find(f"profile/{quote(user)}") or {}
        return {key: value for key, value in found.items() if isinstance(value, str)}

    async def exists(self, user: str) -> bool:
        """Whether there is an account of that name."""
        return await self.find(f"profile/{quote(user)}") is not None

    async def set_profile(self, user: str, field: str, value: str) -> None:
        await self.call("PUT", f"profile/{quote(user)}/{field}", {field: value}, user=user)

    async def holder(self, token: str) -> str:
        """Whose access token this is; '' when it is nobody's. The token goes nowhere else."""
        url = f"{self.url}/{_CLIENT}account/whoami"
        async with self._session.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
            if answer.status in (401, 403):
                return ""
            answer.raise_for_status()
            return events.text_of(events.map_of(await answer.json()).get("user_id"))

    # -- rooms --------------------------------------------------------------------------------------------------

    async def create_room(self, body: Mapping[str, Any], *, user: str = "") -> str:
        """Create a room under an alias; the alias makes it idempotent: an existing one is found."""
        try:
            made = await self.call("POST", "createRoom", dict(body), user=user, tries=1)
        except (MRoomInUse, MForbidden):  # it may be made, and one of those invited be refused
            alias = f"#{body['room_alias_name']}:{self.server_name}"
            found = await self.resolve(alias)
            if found is None:
                raise
            return found
        return str(made["room_id"])

    async def resolve(self, alias: str) -> str | None:
        found = await self.find(f"directory/room/{quote(alias)}")
        return str(found["room_id"]) if found else None

    async def put_alias(self, alias: str, room_id: str) -> None:
        await self.call("PUT", f"directory/room/{quote(alias)}", {"room_id": room_id})

    async def drop_alias(self, alias: str) -> None:
        try:
            await self.call("DELETE", f"directory/room/{quote(alias)}")
        except MNotFound:
            return

    async def state(self, room_id: str, *, user: str = "") -> list[Mapping[str, Any]]:
        """The whole state of a room; nothing when the user is not in it."""
        try:
            return list(await self.call("GET", f"rooms/{quote(room_id)}/state", user=user))
        except MForbidden:
            return []

    async def state_event(
        self, room_id: str, type_: str, state_key: str = "", *, user: str = ""
    ) -> Mapping[str, Any] | None:
        return await self.find(f"rooms/{quote(room_id)}/state/{type_}/{quote(state_key)}", user=user)

    async def put_state(
        self, room_id: str, type_: str, content: Mapping[str, Any], state_key: str = "", *, user: str = ""
    ) -> str:
        path = f"rooms/{quote(room_id)}/state/{type_}/{quote(state_key)}"
        return str((await self.call("PUT", path, dict(content), user=user))["event_id"])

    async def members(self, room_id: str, *, user: str = "") -> dict[str, str]:
        """Joined members: Matrix id -> display name ('' when none)."""
        found = await self.call("GET", f"rooms/{quote(room_id)}/joined_members", user=user)
        return {member: (facts.get("display_name") or "") for member, facts in found["joined"].items()}

    async def join(self, room: str, *, user: str) -> None:
        await self.call("POST", f"join/{quote(room)}", {}, user=user)

    async def try_join(self, room: str, *, user: str) -> str:
        """Join; why the homeserver refuses it, '' when it does not."""
        return await _refusal(self.join(room, user=user))

    async def invite(self, room_id: str, member: str, *, user: str = "") -> str:
        """Invite; why the homeserver refuses it, '' when it does not. A member that is in already is a success."""
        asked = self.call("POST", f"rooms/{quote(room_id)}/invite", {"user_id": member}, user=user)
        return await _refusal(asked, unless="already in the room")

    async def unban(self, room_id: str, member: str) -> str:
        """Lift a ban; why the homeserver refuses it, '' when it does not."""
        return await _refusal(self.call("POST", f"rooms/{quote(room_id)}/unban", {"user_id": member}))

    async def kick(self, room_id: str, member: str, reason: str) -> str:
        """Remove somebody; why the homeserver refuses it, '' when it does not. One that is gone is a success."""
        asked = self.call("POST", f"rooms/{quote(room_id)}/kick", {"user_id": member, "reason": reason})
        return await _refusal(asked, unless="not in the room")

    async def leave(self, room_id: str, *, user: str, reason: str = "") -> None:
        """Leave, or decline an invitation; having left before is a success."""
        try:
            await self.call("POST", f"rooms/{quote(room_id)}/leave", {"reason": reason} if reason else {}, user=user)
        except (MForbidden, MNotFound):
            return

    async def joined_rooms(self, *, user: str) -> list[str]:
        return list((await self.call("GET", "joined_rooms", user=user))["joined_rooms"])

    # -- events -------------------------------------------------------------------------------------------------

    async def send(
        self, room_id: str, type_: str, content: Mapping[str, Any], txn_id: str, *, user: str, tries: int = TRIES
    ) -> str:
        """Send one event; the same user and transaction id give the same event for a day."""
        if type_ == "m.room.redaction":
            target = quote(content["redacts"])
            path = f"rooms/{quote(room_id)}/redact/{target}/{quote(txn_id)}"
            body: Mapping[str, Any] = {"reason": content.get("reason", "")}
        else:
            path, body = f"rooms/{quote(room_id)}/send/{type_}/{quote(txn_id)}", content
        try:
            sent = await self.call("PUT", path, dict(body), user=user, device=True, tries=tries)
        except MatrixRequestError as error:
            if error.errcode == "M_DUPLICATE_ANNOTATION":  # the reaction is there: what was wanted
                return ""
            raise
        return str(sent["event_id"])

    async def event(self, room_id: str, event_id: str, *, user: str = "") -> Mapping[str, Any] | None:
        return await self.find(f"rooms/{quote(room_id)}/event/{quote(event_id)}", user=user)

    async def typing(self, room_id: str, *, user: str, typing: bool, timeout_ms: int = 30_000) -> None:
        body = {"typing": True, "timeout": timeout_ms} if typing else {"typing": False}
        await self.call("PUT", f"rooms/{quote(room_id)}/typing/{quote(user)}", body, user=user, tries=1)

    async def messages(
        self, room_id: str, *, user: str = "", start: str = "", end: str = "", limit: int = 100
    ) -> tuple[list[Mapping[str, Any]], str]:
        """One page backwards, not beyond `end`: events, newest first, and where the next page begins ('': nowhere)."""
        query = {"dir": "b", "limit": str(limit)} | {key: at for key, at in (("from", start), ("to", end)) if at}
        page = await self.call("GET", f"rooms/{quote(room_id)}/messages", user=user, query=query)
        return list(page["chunk"]), str(page.get("end", ""))

    async def sync(self, *, since: str, filter_: str) -> Mapping[str, Any]:
        """From `since` on; without one, where things stand now."""
        # Neither waits. Synapse has its last answer to the same first question for two minutes: each is another one.
        timeout = "0" if since else str(random.randrange(1, 10**9))  # noqa: S311 - no secret
        query = {"timeout": timeout, "filter": filter_, "set_presence": "offline"} | ({"since": since} if since else {})
        return events.map_of(await self.call("GET", "sync", query=query))

    # -- media --------------------------------------------------------------------------------------------------

    async def upload(self, data: bytes, *, name: str, mimetype: str, user: str = "") -> str:
        """Store a file; its mxc:// address."""
        sent = await self.call(
            "POST",
            "_matrix/media/v3/upload",
            data,
            user=user,
            query={"filename": name},
            headers={"Content-Type": mimetype},
        )
        return str(sent["content_uri"])

    async def download(self, mxc: str, *, limit: int) -> bytes:
        """A file's bytes. Raises Invalid when it has more than `limit`, NotFound when it is gone, and what `call`
        raises when the homeserver is away."""
        server, _, media = mxc.removeprefix("mxc://").partition("/")
        url = URL(f"{self.url}/_matrix/client/v1/media/download/{quote(server)}/{quote(media)}", encoded=True)
        headers = {"Authorization": f"Bearer {self.registration.as_token}"}
        try:
            async with self._session.get(url, headers=headers, params={"user_id": self.bot}) as answer:
                if answer.status == 429 or answer.status >= 500:
                    raise make_request_error(answer.status, "", None, None)
                if answer.status != 200:
                    raise NotFound("the file cannot be read from the homeserver any more", fix="Upload it again.")
                data = await answer.content.read(limit + 1)
                while len(data) <= limit and not answer.content.at_eof():
                    data += await answer.content.read(limit + 1 - len(data))
        except aiohttp.ClientError as error:
            raise MatrixConnectionError(str(error)) from error
        if len(data) > limit:
            raise Invalid(f"the file is larger than {limit // 2**20} MiB", fix="Split it into several files.")
        return data

    # -- the application service itself -------------------------------------------------------------------------

    async def ping(self, txn_id: str) -> int:
        """Ask the homeserver to ping us; milliseconds. It also delivers what it held back."""
        path = f"_matrix/client/v1/appservice/{quote(self.registration.id)}/ping"
        return int((await self.call("POST", path, {"transaction_id": txn_id}))["duration_ms"])

    async def whoami(self, *, tries: int = 1) -> str:
        return str((await self.call("GET", "account/whoami", tries=tries))["user_id"])

    async def clock_skew_s(self, now: float) -> float:
        """Seconds the homeserver's clock is ahead of ours, by its Date header (whole seconds)."""
        async with self._session.get(f"{self.url}/_matrix/client/versions") as answer:
            date = answer.headers.get("Date", "")
        return parsedate_to_datetime(date).timestamp() - now if date else 0.0


async def _refusal(work: Awaitable[object], *, unless: str = "") -> str:
    """Why the homeserver forbids it, '' when it does not, or says only this of it."""
    try:
        await work
    except MatrixRequestError as error:
        if error.http_status != 403:  # with several error codes: M_FORBIDDEN, M_USER_SUSPENDED
            raise
        if not unless or unless not in str(error).lower():
            return str(error.message or error.errcode)
    return ""


def localpart(user: str) -> str:
    return user[1:].split(":", 1)[0]


def quote(text: str) -> str:
    return percent_encode(text, safe="")


def readable(error: Exception, doing: str) -> OpsroomError:
    """A homeserver error as a sentence: what could not be done, and why."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OpsroomError):
        return error
    if isinstance(error, ERRORS[1:]):
        return Unavailable(f"cannot {doing}: the homeserver does not answer", fix="It is tried again by itself.")
    if isinstance(error, MatrixRequestError):
        text = f"cannot {doing}: the homeserver says {error.message or error.errcode or error.http_status}"
        if _passing(error):
            return Unavailable(text, fix="It is tried again by itself.")
        kind = {403: Denied, 404: NotFound}.get(error.http_status, Invalid)
        return kind(text)
    raise error


def is_gone(error: Exception) -> bool:
    """The homeserver answered, and will answer the same again."""
    return isinstance(error, MatrixRequestError) and not _passing(error)


def _passing(error: Exception) -> bool:
    if isinstance(error, MatrixRequestError):
        return bool(error.http_status == 429 or error.http_status >= 500)
    return True


def _pause(attempt: int, error: Exception) -> float:
    asked = float(getattr(error, "retry_after_s", 0.0))
    return max(asked, min(0.1 * 3.0 ** (attempt - 1), 5.0)) * (1 + random.random() / 4)  # noqa: S311 - jitter
