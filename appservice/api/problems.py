"""Errors as answers: RFC 9457 problem documents. Which error is which status is said here and nowhere else."""

import json
from collections.abc import Mapping
from typing import Any, Final

import structlog
from aiohttp import web

from appservice.errors import Conflict, Denied, Invalid, Limit, NotFound, OpsroomError, Unavailable
from appservice.homeserver.client import ERRORS, readable

log = structlog.get_logger()

JSON: Final = "application/problem+json"


class Malformed(Invalid):
    """The request itself cannot be read; nobody looked at what it is about."""

    code = "malformed"


class Unauthorized(OpsroomError):
    """Nobody knows who asks."""

    code = "unauthorized"


class NoSuchMethod(OpsroomError):
    """There is something here, and this cannot be done with it."""

    code = "method-not-allowed"


class Expired(OpsroomError):
    """What the client goes on from is forgotten. It has to list again."""

    code = "expired"


class TooLarge(Limit):
    """The body is larger than anything that is read."""

    code = "too-large"


class WrongType(OpsroomError):
    """The body is of a type that is not read here."""

    code = "wrong-type"


class Broken(OpsroomError):
    """A fault of Opsroom's own."""

    code = "broken"


# The nearest class above an error decides.
STATUS: Final[Mapping[type[OpsroomError], int]] = {
    Malformed: 400,
    Unauthorized: 401,
    Denied: 403,
    NotFound: 404,
    NoSuchMethod: 405,
    Conflict: 409,
    Expired: 410,
    TooLarge: 413,
    WrongType: 415,
    Invalid: 422,
    Limit: 429,
    Broken: 500,
    OpsroomError: 500,
    Unavailable: 503,
}
LATER: Final = (429, 503)  # the same request may succeed then
TITLES: Final[Mapping[str, str]] = {
    "malformed": "The request cannot be read",
    "unauthorized": "Who are you?",
    "denied": "This is not allowed",
    "not-found": "There is no such thing",
    "method-not-allowed": "This cannot be done with it",
    "conflict": "The world has moved",
    "expired": "List again",
    "too-large": "The body is too large",
    "wrong-type": "This type of body is not read here",
    "invalid": "The input is wrong",
    "limit": "A limit is reached",
    "unavailable": "Something that is needed does not answer",
    "broken": "Something broke on Opsroom's side",
    "error": "This did not work",
}


def status_of(error: OpsroomError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def foreseen(error: Exception, *, reference: str) -> OpsroomError:
    """Any error as one that may be read: a homeserver's in words, a bug as its reference in the log."""
    if isinstance(error, OpsroomError):
        return error
    if isinstance(error, web.HTTPException):
        return _of_the_server(error)
    if isinstance(error, ERRORS):
        return readable(error, "do this")
    log.error("request broke", reference=reference, exc_info=error)
    return Broken("Something broke on Opsroom's side.", fix=f"Its log has the details under reference {reference}.")


def named(reference: str) -> str:
    """How an answer names its request."""
    return f"urn:opsroom:request:{reference}"


def document(error: OpsroomError, *, instance: str) -> dict[str, Any]:
    return {
        "type": f"urn:opsroom:problem:{error.code}",
        "title": TITLES.get(error.code, TITLES["error"]),
        "status": status_of(error),
        "detail": str(error),
        "instance": instance,
        "problems": [
            {name: text for name, text in _parts(problem).items() if text or name == "what"}
            for problem in error.problems
        ],
    }


def answer(error: OpsroomError, *, instance: str) -> web.Response:
    status = status_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if status in LATER:
        headers["Retry-After"] = "5"
    if isinstance(error, NoSuchMethod):
        headers["Allow"] = error.problems[0].where
    text = json.dumps(document(error, instance=instance), ensure_ascii=False)
    # A lone surrogate of the request may be quoted in it.
    body = text.encode("utf-8", "replace")
    return web.Response(body=body, status=status, content_type=JSON, headers=headers)


def _parts(problem: Any) -> dict[str, str]:
    return {"what": problem.what, "where": problem.where, "fix": problem.fix, "excerpt": problem.excerpt}


def _of_the_server(error: web.HTTPException) -> OpsroomError:
    match error:
        case web.HTTPNotFound():
            return NotFound("There is nothing at this address.", fix="/openapi.json lists what there is.")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return NoSuchMethod(f"{error.method} is not done here.", where=allowed, fix=f"Use one of {allowed}.")
        case web.HTTPRequestEntityTooLarge():
            return TooLarge("The body has more than 1 MiB.", fix="Send it in several requests.")
        case _ if error.status < 500:
            return Malformed(f"The request cannot be read: {error.reason}.")
    return Broken(f"The request failed: {error.reason}.")
