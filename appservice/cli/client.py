"""The REST API from a shell: on the operator's socket of a data directory, or at a URL with a Matrix access token.

The standard library is enough for it, and starts faster than anything else.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from time import monotonic
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from appservice.errors import Conflict, Denied, Invalid, NotFound, OpsroomError, Problem, Unavailable

BASE: Final = "/api/v1"
PATIENCE_S: Final = 30.0
_HOME: Final = ("localhost", "127.0.0.1", "::1")
_ERRORS: Final[Mapping[int, type[OpsroomError]]] = {
    400: Invalid,
    401: Denied,
    403: Denied,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    422: Invalid,
    503: Unavailable,
}


class _Socket(HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("opsroom", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """`where` names it in sentences."""

    def __init__(self, *, path: Path | None = None, url: str = "", token: str = "") -> None:
        self._path = path
        self._url = urlsplit(url)
        self._token = token
        self.where = url or "its socket"

    @classmethod
    def at(cls, server: str, token_file: Path | None) -> "Client":
        """A server somewhere. Raises Invalid."""
        found = urlsplit(server)
        if found.scheme not in ("http", "https") or not found.hostname:
            raise Invalid(f"{server} is not the address of a server.", fix="For example https://ops.example.org.")
        if token_file is None:
            raise Invalid(
                "a server needs to know who you are.",
                fix="Put an access token of your Matrix account into a file, and name it with --token-file.",
            )
        if found.scheme == "http" and found.hostname not in _HOME:
            raise Invalid(
                f"{server} would send your access token in the clear.", fix="Use https:// for another machine."
            )
        return cls(url=server, token=token_file.expanduser().read_text().strip())

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The answer's JSON, or its text. Raises OpsroomError with what the server says."""
        with self._answer(method, path, body, query, PATIENCE_S, "application/json") as (answer, _):
            return self._read(answer)

    def follow(
        self, method: str, path: str, body: Any = None, *, timeout_s: float | None = None, **query: Any
    ) -> Iterator[tuple[str, Any]]:
        """Server-sent events as they come. Raises TimeoutError after that time; without one it goes on for ever."""
        if timeout_s is not None and timeout_s <= 0:
            raise TimeoutError  # to a socket, no time would mean not to wait for its answer at all
        deadline = monotonic() + timeout_s if timeout_s is not None else None
        with self._answer(method, path, body, query, timeout_s, "text/event-stream") as (answer, connection):
            if "event-stream" not in answer.headers.get("Content-Type", ""):
                self._read(answer)
            event = ""
            while raw := _line(answer, connection, deadline):
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    data = json.loads(line.removeprefix("data: "))
                    if event == "error":
                        raise _error(data)
                    yield event, data

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Any, query: Mapping[str, Any], timeout_s: float | None, accept: str
    ) -> Iterator[tuple[HTTPResponse, HTTPConnection]]:
        headers = {"Accept": accept}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if isinstance(body, str):
            headers["Content-Type"] = "application/yaml"
        elif body is not None:
            headers["Content-Type"] = "application/json"
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        given = {name: value for name, value in query.items() if value not in ("", None)}
        target = f"{self._url.path.rstrip('/')}{BASE}/{quote(path)}" + (f"?{urlencode(given)}" if given else "")
        connection = self._connection(timeout_s)
        try:
            connection.request(method, target, data.encode() if data is not None else None, headers)
            yield connection.getresponse(), connection
        except TimeoutError:
            if accept != "application/json":
                raise
            raise self._away("it does not answer in time") from None
        except (OSError, HTTPException) as error:
            raise self._away(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def _connection(self, timeout_s: float | None) -> HTTPConnection:
        if self._path is not None:
            return _Socket(self._path, timeout_s)
        kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
        return kind(str(self._url.hostname), self._url.port, timeout=timeout_s)

    def _away(self, why: str) -> Unavailable:
        return Unavailable(
            f"Opsroom does not answer at {self.where}: {why}.", fix="Does it run? `opsroom info` says so."
        )

    def _read(self, answer: HTTPResponse) -> Any:
        text = answer.read().decode("utf-8", "replace")
        kind = answer.headers.get("Content-Type", "")
        found = json.loads(text) if "json" in kind else text
        if answer.status < 300:
            return found
        if isinstance(found, dict) and "problems" in found:
            raise _error(found)
        raise self._away(f"HTTP status {answer.status}")


def _line(answer: HTTPResponse, connection: HTTPConnection, deadline: float | None) -> bytes:
    """The next line, b'' at the end. Raises TimeoutError at the deadline."""
    if deadline is not None and connection.sock is not None:
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        connection.sock.settimeout(left)
    return answer.readline()


def _error(told: Mapping[str, Any]) -> OpsroomError:
    kind = _ERRORS.get(int(told["status"]), OpsroomError)
    problems = [
        Problem(what=one["what"], where=one.get("where", ""), fix=one.get("fix", ""), excerpt=one.get("excerpt", ""))
        for one in told["problems"]
    ]
    return kind(str(told["detail"]), problems=problems)
