"""The one way out: the gateway behind the forwarder's port, and the token that opens it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from runtime.failures import Failure
from runtime.settings import read_token

EARLY_S = 60.0  # a key is renewed this long before it ends


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageKey:
    """Credentials for one prefix of the bucket, for an hour at most. `expires_at`: seconds since the epoch."""

    access_key: str
    secret_key: str
    bucket: str
    prefix: str
    region: str
    expires_at: float

    def __repr__(self) -> str:
        return f"StorageKey({self.access_key!r}, prefix={self.prefix!r})"


class Gateway:
    """HTTP to the gateway, with the storage key that the token is exchanged for."""

    def __init__(self, base_url: str, token_file: Path) -> None:
        self.base_url = base_url
        self._token_file = token_file
        self._key: StorageKey | None = None
        self._refused = ""
        limits = httpx.Limits(max_connections=16, max_keepalive_connections=2, keepalive_expiry=15)
        self.http = httpx.AsyncClient(
            base_url=base_url, timeout=httpx.Timeout(30, connect=5), limits=limits, trust_env=False
        )

    @property
    def token(self) -> str:
        return read_token(self._token_file)

    async def storage_key(self) -> StorageKey:
        """Credentials for the workspace, cached until shortly before they end."""
        if self._key is None or self._key.expires_at - EARLY_S < time.time():
            self._key = await self._exchange()
        return self._key

    def forget_storage_key(self) -> None:
        """Have the next call fetch a new key: storage refused this one."""
        if self._key is not None:
            self._refused = self._key.access_key
        self._key = None

    async def close(self) -> None:
        await self.http.aclose()

    async def _exchange(self) -> StorageKey:
        try:
            answer = await self.http.post(
                "/opsroom/v1/storage-key",
                headers={"authorization": f"Bearer {self.token}"},
                json={"refused": self._refused},
            )
        except httpx.HTTPError as error:
            raise Failure("The gateway does not answer, so files cannot be loaded or saved.", retry=True) from error
        if answer.status_code != 200:
            raise Failure(
                f"The gateway gave me no storage key (status {answer.status_code}).",
                code="denied" if answer.status_code in (401, 403) else "error",
                retry=answer.status_code >= 500,
            )
        return _parse(answer.json())


def _parse(body: Mapping[str, object]) -> StorageKey:
    try:
        return StorageKey(
            access_key=str(body["access_key"]),
            secret_key=str(body["secret_key"]),
            bucket=str(body["bucket"]),
            prefix=str(body["prefix"]),
            region=str(body["region"]),
            expires_at=float(str(body["expires_at"])),
        )
    except (KeyError, ValueError) as error:
        raise Failure("The gateway's storage key is not in the form that I know.") from error
