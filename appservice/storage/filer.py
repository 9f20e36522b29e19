"""Users as the files in which SeaweedFS keeps them, written through its filer.

SeaweedFS's IAM calls store all users again with every write, and read all of them back for each one stored: with 100
users a key costs a second of processor time. A user written here costs one look at all of them. Its files:

    /etc/iam/identities/USER.json   the user with its keys
    /etc/iam/policies/USER.json     what it may do
    /etc/iam/policies.json          what IAM calls granted; left behind when a user is deleted by them

The filer knows no passwords: whoever reaches it may do everything. It must listen where only Opsroom is.
"""

import json
import secrets
from base64 import b64decode
from collections.abc import Callable, Sequence
from http import HTTPStatus
from threading import Lock
from typing import Any
from urllib.parse import quote

from appservice.errors import NotFound
from appservice.storage import aws
from appservice.storage.access import Policy, own_name, same
from appservice.storage.own_users import OwnUsers
from appservice.storage.protocol import AccessKey
from appservice.storage.wire import Server, unreachable

Document = dict[str, Any]

_IDENTITIES = "/etc/iam/identities/"
_POLICIES = "/etc/iam/policies/"
_GRANTED_BY_CALLS = "/etc/iam/policies.json"
_PAGE = 1000


class FilerUsers(OwnUsers):
    """Users of one installation. Calls run in threads of this instance and end within its timeouts."""

    def __init__(self, server: Server, *, filer: str, bucket: str, installation: str) -> None:
        """`server` is the S3 half, which is asked whether it knows a key; `filer` the address of the filer."""
        self._filer = Server(endpoint=filer, region=server.region, key=server.key)
        super().__init__(self._filer, bucket=bucket, installation=installation, repeatable=True)
        self._server = server
        self._writing = Lock()

    async def issue_key(self, name: str) -> AccessKey:
        key = AccessKey(key_id=f"AK{secrets.token_hex(9).upper()}", secret=secrets.token_hex(20))
        await self._run(self._issue, self._user(name), key)
        if await aws.counts(lambda: self._run(aws.known, self._client, self._server, key)):
            return key
        await self._run(self._keep_keys, self._user(name), lambda key_id: key_id != key.key_id)
        raise unreachable(self._server, f"a new key of {self._user(name)!r} is not taken")

    async def retire_keys(self, name: str, *, keep: Sequence[str] = ()) -> None:
        await self._run(self._keep_keys, self._user(name), lambda key_id: key_id in keep)

    # -- users --------------------------------------------------------------------------------------------------

    def _ensure(self, user: str, wanted: Policy) -> bool:
        with self._writing:
            wrote = self._disinherit(user)
            if not same(self._read(_policy(user)) or {}, wanted):
                self._write(_policy(user), wanted)
                wrote = True
            there = self._read(_identity(user))
            identity = {"name": user, "credentials": (there or {}).get("credentials", []), "policy_names": [user]}
            if there != identity:
                self._write(_identity(user), identity)
                wrote = True
        return wrote

    def _disinherit(self, user: str) -> bool:
        """Take away what IAM calls granted to a user of this name."""
        granted = self._read(_GRANTED_BY_CALLS) or {}
        if user not in granted.get("inlinePolicies", {}):
            return False
        del granted["inlinePolicies"][user]
        self._write(_GRANTED_BY_CALLS, granted)
        return True

    def _issue(self, user: str, key: AccessKey) -> None:
        with self._writing:
            identity = self._read(_identity(user))
            if identity is None:
                raise NotFound(f"Storage has no user {user!r}.", where=self._server.endpoint)
            fresh = {"access_key": key.key_id, "secret_key": key.secret, "status": "Active"}
            self._write(_identity(user), identity | {"credentials": [*identity.get("credentials", []), fresh]})

    def _keep_keys(self, user: str, kept: Callable[[str], bool]) -> None:
        with self._writing:
            identity = self._read(_identity(user)) or {}
            credentials = [each for each in identity.get("credentials", []) if kept(each["access_key"])]
            if credentials != identity.get("credentials", []):
                self._write(_identity(user), identity | {"credentials": credentials})

    def _delete(self, user: str) -> None:
        """The user first, and its keys with it; what is left of a broken try is nobody's."""
        with self._writing:
            self._remove(_identity(user))
            self._remove(_policy(user))
            self._disinherit(user)

    def _names(self) -> dict[str, Sequence[str]]:
        found: dict[str, Sequence[str]] = {}
        for identity in map(_content, self._entries(_IDENTITIES)):
            if name := own_name(self._installation, str(identity.get("name", ""))):
                found[name] = tuple(each["access_key"] for each in identity.get("credentials", []))
        return found

    # -- files --------------------------------------------------------------------------------------------------

    def _read(self, path: str) -> Document | None:
        answer = self._call("GET", f"{path}?metadata=true")
        return None if answer is None else _content(json.loads(answer))

    def _write(self, path: str, document: Document) -> None:
        """As a form: only so the filer keeps a small file within its entry, where the S3 half looks for it."""
        data = json.dumps(document).encode()
        self._call("POST", path, fields={"file": (path.rpartition("/")[2], data, "application/json")})

    def _remove(self, path: str) -> None:
        self._call("DELETE", path)

    def _entries(self, folder: str) -> Sequence[Document]:
        found: list[Document] = []
        last, more = "", True
        while more:
            page = json.loads(self._call("GET", f"{folder}?limit={_PAGE}&lastFileName={quote(last)}") or "{}")
            found += page.get("Entries") or []
            last, more = page.get("LastFileName", ""), bool(page.get("ShouldDisplayLoadMore"))
        return found

    def _call(self, method: str, path: str, **form: Any) -> bytes | None:
        """One call; None when there is no such file. Raises Unavailable."""
        headers = {"accept": "application/json"}  # else folders come as a page
        answer = self._client.request(method, self._filer.url.rstrip("/") + path, headers=headers, **form)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT):
            raise unreachable(self._filer, f"its filer answered with HTTP status {answer.status}")
        return bytes(answer.data)


def _content(entry: Document) -> Document:
    """The document in a small file, as the entry has it: the plain GET does not give what is kept within an entry."""
    document = json.loads(b64decode(entry.get("Content") or "") or "{}")
    return document if isinstance(document, dict) else {}


def _identity(user: str) -> str:
    return f"{_IDENTITIES}{quote(user)}.json"


def _policy(user: str) -> str:
    return f"{_POLICIES}{quote(user)}.json"
