"""The agent's prefix of the bucket, over S3 through the gateway.

Four requests and a signature over the HTTP client that is loaded anyway: an S3 SDK would add 7 MB to every idle agent
and a pool of threads.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import httpx

from runtime.failures import Failure
from runtime.gateway import Gateway, StorageKey

PAUSES_S = (0.2, 0.8)  # between tries when storage does not answer
MAX_PAGES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """One object as the bucket lists it."""

    size: int
    etag: str


class Bucket:
    """Paths are relative to the agent's prefix. Errors: `Failure`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list(self) -> dict[str, Remote]:
        found: dict[str, Remote] = {}
        token = ""
        for _ in range(MAX_PAGES):
            prefix = (await self._gateway.storage_key()).prefix
            query = {"list-type": "2", "prefix": prefix} | ({"continuation-token": token} if token else {})
            page = _read_page((await self._send("GET", None, query=query)).content)
            found.update({key.removeprefix(prefix): remote for key, remote in page[0].items()})
            token = page[1]
            if not token:
                return found
        raise Failure("My workspace holds too many files to be loaded; an operator should remove some.")

    async def get(self, path: str) -> bytes:
        return (await self._send("GET", path)).content

    async def put(self, path: str, data: bytes) -> str:
        """Store and return the new etag."""
        return _etag((await self._send("PUT", path, body=data)).headers.get("etag", ""))

    async def delete(self, path: str) -> None:
        """Remove; what is not there counts as removed."""
        await self._send("DELETE", path)

    async def _send(
        self, method: str, path: str | None, *, query: Mapping[str, str] | None = None, body: bytes = b""
    ) -> httpx.Response:
        answer = await self._try(method, path, query or {}, body)
        if answer.status_code == 403:  # the key may have been withdrawn before its time
            self._gateway.forget_storage_key()
            answer = await self._try(method, path, query or {}, body)
        if answer.is_success or (method == "DELETE" and answer.status_code == 404):
            return answer
        denied = answer.status_code in (401, 403)
        what = f"Storage refused {method} of {path or 'the file list'} (status {answer.status_code})."
        raise Failure(what, code="denied" if denied else "error", retry=not denied)

    async def _try(self, method: str, path: str | None, query: Mapping[str, str], body: bytes) -> httpx.Response:
        for pause in (*PAUSES_S, None):
            key = await self._gateway.storage_key()
            request = self._request(key, method, path, query, body)
            try:
                answer = await self._gateway.http.send(request)
            except httpx.HTTPError as error:
                if pause is None:
                    raise Failure("Storage does not answer, so files cannot be loaded or saved.", retry=True) from error
            else:
                if answer.status_code < 500 or pause is None:
                    return answer
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _request(
        self, key: StorageKey, method: str, path: str | None, query: Mapping[str, str], body: bytes
    ) -> httpx.Request:
        target = f"/{key.bucket}" if path is None else f"/{key.bucket}/{quote(key.prefix + path, safe='/~')}"
        encoded = urlencode(sorted(query.items()), quote_via=quote, safe="~")
        url = httpx.URL(self._gateway.base_url).copy_with(raw_path=f"{target}?{encoded}".rstrip("?").encode())
        signed = sign(key, method, url.netloc.decode(), target, encoded, body, datetime.now(UTC))
        headers = signed | {"x-opsroom-token": self._gateway.token}
        return self._gateway.http.build_request(method, url, headers=headers, content=body)


def sign(
    key: StorageKey, method: str, host: str, target: str, query: str, body: bytes, now: datetime
) -> dict[str, str]:
    """The headers of AWS signature version 4. `target` and `query` as they go over the wire."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"{method}\n{target}\n{query}\n{lines}\n{names}\n{digest}"
    scope = f"{stamp[:8]}/{key.region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret = f"AWS4{key.secret_key}".encode()
    for part in scope.split("/"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.digest(secret, text.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


def _read_page(xml: bytes) -> tuple[dict[str, Remote], str]:
    try:
        # The gateway's storage wrote it, and expat bounds entity expansion.
        root = ElementTree.fromstring(xml)  # noqa: S314
    except ElementTree.ParseError as error:
        raise Failure("Storage sent a list of files that cannot be read.", retry=True) from error
    found = {}
    for entry in root.iterfind("{*}Contents"):
        key = entry.findtext("{*}Key", "")
        etag = _etag(entry.findtext("{*}ETag", ""))
        found[key] = Remote(size=int(entry.findtext("{*}Size", "0")), etag=etag)
    return found, root.findtext("{*}NextContinuationToken", "")


def _etag(text: str) -> str:
    return text.strip('"')
