"""Users through MinIO's admin API.

One MinIO user cannot have two keys, so every key is a MinIO user of its own, `INSTALLATION.NAME.KEY`, and all keys of
an agent share one policy, `INSTALLATION.NAME`. Whatever an agent makes with its key (service accounts) belongs to that
user and ends with it.

Not run against a real MinIO server. Tested are the requests it sends, decrypted with the SDK's own functions, and how
it reads answers; that MinIO then does what its documentation says is not.
"""

import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from minio import MinioAdmin
from minio.credentials import StaticProvider
from minio.error import MinioAdminException

from appservice.errors import OpsroomError
from appservice.storage.access import Policy, own_name, same
from appservice.storage.own_users import OwnUsers
from appservice.storage.protocol import AccessKey
from appservice.storage.wire import Server, refused, unreachable

P = ParamSpec("P")
T = TypeVar("T")

_MISSING = "404"
_FORBIDDEN = "403"


class MinioUsers(OwnUsers):
    """Users of one installation. Calls run in threads of this instance and end within its timeouts."""

    def __init__(self, server: Server, *, bucket: str, installation: str) -> None:
        super().__init__(server, bucket=bucket, installation=installation, repeatable=True)
        self._server = server
        self._admin = MinioAdmin(
            endpoint=server.host,
            credentials=StaticProvider(server.key.key_id, server.key.secret),
            region=server.region,
            secure=server.secure,
            http_client=self._client,
        )

    async def issue_key(self, name: str) -> AccessKey:
        key = AccessKey(key_id=f"{self._user(name)}.{secrets.token_hex(6)}", secret=secrets.token_hex(20))
        await self._run(self._issue, self._user(name), key)
        return key

    async def retire_keys(self, name: str, *, keep: Sequence[str] = ()) -> None:
        await self._run(self._retire, self._user(name), frozenset(keep))

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await super()._run(call, *args, **kwargs)
        except MinioAdminException as error:
            raise self._translated(error) from error

    def _translated(self, error: MinioAdminException) -> OpsroomError:
        if _status(error) == _FORBIDDEN:
            return refused(self._server, "manage users", _FORBIDDEN)
        return unreachable(self._server, f"MinIO's admin API answered with HTTP status {_status(error)}")

    def _ensure(self, name: str, wanted: Policy) -> bool:
        there = _or_none(self._admin.policy_info, name)
        if there is not None and same(json.loads(there), wanted):
            return False
        self._admin.policy_add(name, policy=wanted)
        return True

    def _issue(self, name: str, key: AccessKey) -> None:
        """A user without a policy may do nothing: the order opens no gap."""
        self._admin.user_add(key.key_id, key.secret)
        self._admin.policy_set(name, user=key.key_id)

    def _retire(self, name: str, keep: frozenset[str]) -> None:
        for key_id in self._keys().get(name, ()):
            if key_id not in keep:
                _or_none(self._admin.user_remove, key_id)

    def _delete(self, name: str) -> None:
        """Keys first: MinIO keeps a policy that somebody has."""
        self._retire(name, frozenset())
        _or_none(self._admin.policy_remove, name)

    def _names(self) -> dict[str, Sequence[str]]:
        keys = self._keys()
        policies = json.loads(self._admin.policy_list())
        ours = {full: own_name(self._installation, full) for full in (*policies, *keys)}
        return {name: tuple(keys.get(full, ())) for full, name in ours.items() if name}

    def _keys(self) -> dict[str, list[str]]:
        """Ids of all keys of this installation, by policy."""
        users: dict[str, Any] = json.loads(self._admin.user_list())
        found: dict[str, list[str]] = {}
        for key_id in sorted(users):
            full = key_id.rpartition(".")[0]
            if own_name(self._installation, full):
                found.setdefault(full, []).append(key_id)
        return found


def _or_none(call: Callable[[str], str], name: str) -> str | None:
    """None when the server has nothing of that name."""
    try:
        return call(name)
    except MinioAdminException as error:
        if _status(error) == _MISSING:
            return None
        raise


def _status(error: MinioAdminException) -> str:
    return str(error._code)  # the SDK tells the status nowhere else
