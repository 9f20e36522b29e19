"""Object storage: one bucket, a prefix an agent, a user an agent whose policy ends at that prefix.

Objects go over the S3 API everywhere (`minio` SDK). Users differ: SeaweedFS and others speak AWS IAM, MinIO has an
admin API of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from appservice.health import Health
from appservice.resources.access import Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    key: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a user may do with the objects of one prefix, and nothing else."""

    prefix: str
    permissions: frozenset[Permission]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Prefixes (each ends with '/') with which a user may do everything, prefixes it may only read and list, and what
    it was granted on top of that."""

    write: tuple[str, ...]
    read: tuple[str, ...] = ()
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    key_id: str
    secret: str

    def __repr__(self) -> str:
        return f"AccessKey({self.key_id!r})"


class Objects(Protocol):
    """The S3 half. Errors: `Unavailable` when storage does not answer, `NotFound` for a missing key, `Denied`."""

    bucket: str

    async def ensure_bucket(self) -> None: ...

    async def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> None: ...

    async def get(self, key: str) -> bytes: ...

    async def list(self, prefix: str) -> Sequence[StoredObject]: ...

    async def delete(self, keys: Sequence[str]) -> None: ...

    async def healthy(self) -> Health: ...

    async def close(self) -> None: ...


class Users(Protocol):
    """The IAM half. All calls are idempotent. Errors: `Unavailable`, `Denied` (the control plane's key may not)."""

    async def ensure(self, name: str, access: Access) -> bool:
        """Make the user with exactly this access; True if anything was written."""

    async def issue_key(self, name: str) -> AccessKey:
        """A new key, valid at once. Older keys stay until `retire_keys`."""

    async def retire_keys(self, name: str, *, keep: Sequence[str] = ()) -> None:
        """Delete every key of the user but these."""

    async def delete(self, name: str) -> None:
        """Policy, keys and user: nothing is left that a later user of the same name would inherit."""

    async def names(self) -> Mapping[str, Sequence[str]]:
        """Users of this installation and the ids of their keys: orphans are found with it."""

    async def close(self) -> None: ...
