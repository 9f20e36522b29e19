"""An HTTP server that writes down what it is asked and answers what the test says. It knows nothing of storage."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it came over the wire."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


Respond = Callable[[Request], tuple[int, bytes]]


@dataclass(slots=True, kw_only=True)
class Recorder:
    """Where it listens, and what it was asked so far."""

    endpoint: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def recording(respond: Respond) -> Iterator[Recorder]:
    """Listen on a free port until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            request = Request(method=self.command, path=url.path, query=query, headers=headers, body=body)
            recorder.requests.append(request)
            status, answer = respond(request)
            self.send_response(HTTPStatus(status))
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - the names http.server wants

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in http.server
            """Keep the test's output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    recorder = Recorder(endpoint=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
