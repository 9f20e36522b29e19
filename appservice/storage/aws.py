"""One signed call of the AWS query protocol: a form POST with signature version 4. It blocks: call it in a thread."""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import urlencode
from xml.etree import ElementTree

import urllib3

from appservice.storage.protocol import AccessKey
from appservice.storage.wire import Server

_IAM_VERSION = "2010-05-08"
_KEY_TRIES = 40
_KEY_PAUSE_S = 0.02
_KEY_LONGEST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back. The status decides; `code` may be empty, because refusals do not always carry one."""

    status: int
    code: str
    root: ElementTree.Element | None

    @property
    def ok(self) -> bool:
        return self.status == HTTPStatus.OK and self.root is not None

    def text(self, tag: str) -> str:
        """Text of the first element of this name, or ''."""
        return next(iter(self.texts(tag)), "")

    def texts(self, tag: str) -> list[str]:
        """Texts of all elements of this name, in order, whatever their namespace."""
        return [element.text or "" for element in self.root.findall(f".//{{*}}{tag}")] if self.root is not None else []


def call(client: urllib3.PoolManager, server: Server, key: AccessKey, action: str, **params: str) -> Answer:
    """Send one IAM action, signed with the key. Raises what urllib3 raises when nobody answers."""
    body = urlencode({"Action": action, **params, "Version": _IAM_VERSION}).encode()
    headers = signed_headers(server, key, body, datetime.now(UTC))
    response = client.request("POST", server.url, body=body, headers=headers)
    return _answer(response.status, response.data)


def known(client: urllib3.PoolManager, server: Server, key: AccessKey) -> bool:
    """Whether the server knows the key: then it obeys or forbids, but finds no fault in the key."""
    answer = call(client, server, key, "GetUser")
    return answer.ok or answer.code == "AccessDenied"


async def counts(is_known: Callable[[], Awaitable[bool]]) -> bool:
    """Wait until a new key counts; False when it does not within some 15 seconds."""
    for tries in range(_KEY_TRIES):
        if await is_known():
            return True
        await asyncio.sleep(min(_KEY_PAUSE_S * 1.3**tries, _KEY_LONGEST_PAUSE_S))
    return False


def signed_headers(server: Server, key: AccessKey, body: bytes, now: datetime) -> dict[str, str]:
    """Give the headers of a POST to `/` that proves the key."""
    digest = hashlib.sha256(body).hexdigest()
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": server.host,
        "x-amz-content-sha256": digest,
        "x-amz-date": stamp,
    }
    names = ";".join(headers)
    lines = (f"{name}:{value}" for name, value in headers.items())
    canonical = "\n".join(("POST", "/", "", *lines, "", names, digest))
    scope = f"{stamp[:8]}/{server.region}/iam/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    signature = _signature(key.secret, scope, "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashed)))
    credential = f"Credential={key.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return headers | {"authorization": f"AWS4-HMAC-SHA256 {credential}"}


def _signature(secret: str, scope: str, text: str) -> str:
    signing = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    return hmac.digest(signing, text.encode(), "sha256").hex()


def _answer(status: int, data: bytes) -> Answer:
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - written by the storage server that holds all our data
    except ElementTree.ParseError:
        return Answer(status=status, code="", root=None)
    bare = Answer(status=status, code="", root=root)
    return replace(bare, code=bare.text("Code"))
