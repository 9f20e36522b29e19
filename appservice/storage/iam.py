"""Users through AWS IAM calls, as SeaweedFS answers them on its S3 port.

What its IAM does that one would not expect, and what is done about it:

- a deleted user leaves its inline policies behind, and the next user of that name has them: policies are deleted
  before the user, and `ensure` removes every policy but ours from a user it has just made;
- an agent may make further keys for itself: `retire_keys` and `delete` ask which keys there are;
- a key takes a moment until it counts: `issue_key` waits for it;
- refusals may come without a code: the HTTP status decides;
- every write stores all users again and reads all of them back for each (seen: 10 ms with 10 users, 0.1 s with 40,
  1 s with 100): what is as it should be is not written, and writes go one after the other, so that none waits for its
  answer longer than it takes. Where its filer can be reached, `FilerUsers` is the better way.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from http import HTTPStatus
from threading import Lock
from typing import Any
from urllib.parse import unquote

from appservice.errors import NotFound, OpsroomError
from appservice.storage import aws
from appservice.storage.access import Policy, own_name, same
from appservice.storage.own_users import OwnUsers
from appservice.storage.protocol import AccessKey
from appservice.storage.wire import Server, refused, unreachable

POLICY_NAME = "access"
_READS = ("Get", "List")
_MOST_PAGES = 1000


class IamUsers(OwnUsers):
    """Users of one installation. Calls run in threads of this instance and end within its timeouts."""

    def __init__(self, server: Server, *, bucket: str, installation: str) -> None:
        super().__init__(server, bucket=bucket, installation=installation, repeatable=False)
        self._server = server
        self._writing = Lock()

    async def issue_key(self, name: str) -> AccessKey:
        """Make a key and wait until the server takes it."""
        user = self._user(name)
        made = await self._run(self._call, "CreateAccessKey", UserName=user)
        key = AccessKey(key_id=made.text("AccessKeyId"), secret=made.text("SecretAccessKey"))
        if await aws.counts(lambda: self._run(aws.known, self._client, self._server, key)):
            return key
        await self._run(self._call, "DeleteAccessKey", UserName=user, AccessKeyId=key.key_id)
        raise unreachable(self._server, f"a new key of {user!r} is not taken")

    async def retire_keys(self, name: str, *, keep: Sequence[str] = ()) -> None:
        await self._run(self._retire_keys, self._user(name), frozenset(keep))

    def _ensure(self, user: str, wanted: Policy) -> bool:
        policies = self._policies(user)
        wrote = policies is None
        if policies is None:
            self._call("CreateUser", UserName=user, accept=HTTPStatus.CONFLICT)
            policies = self._policies(user) or ()
        for stray in policies:
            if stray != POLICY_NAME:
                self._call("DeleteUserPolicy", UserName=user, PolicyName=stray)
                wrote = True
        if POLICY_NAME not in policies or not same(self._policy(user), wanted):
            document = json.dumps(wanted)
            self._call("PutUserPolicy", UserName=user, PolicyName=POLICY_NAME, PolicyDocument=document)
            wrote = True
        return wrote

    def _delete(self, user: str) -> None:
        """First the rights, then the keys, last the user: whatever fails in between, the next try goes on there."""
        for name in self._policies(user) or ():
            self._call("DeleteUserPolicy", UserName=user, PolicyName=name, accept=HTTPStatus.NOT_FOUND)
        self._retire_keys(user, frozenset())
        self._call("DeleteUser", UserName=user, accept=HTTPStatus.NOT_FOUND)

    def _retire_keys(self, user: str, keep: frozenset[str]) -> None:
        for key_id in self._keys(user):
            if key_id not in keep:
                self._call("DeleteAccessKey", UserName=user, AccessKeyId=key_id, accept=HTTPStatus.NOT_FOUND)

    def _names(self) -> dict[str, Sequence[str]]:
        users = self._listed("UserName", "ListUsers") or ()
        ours = ((own_name(self._installation, user), user) for user in users)
        return {name: self._keys(user) for name, user in ours if name}

    def _keys(self, user: str) -> Sequence[str]:
        return self._listed("AccessKeyId", "ListAccessKeys", UserName=user) or ()

    def _policies(self, user: str) -> Sequence[str] | None:
        """Names of the user's inline policies; None if there is no such user."""
        return self._listed("member", "ListUserPolicies", UserName=user)

    def _policy(self, user: str) -> Mapping[str, Any]:
        """The policy in force. AWS quotes it like a part of an address, SeaweedFS does not."""
        answer = self._call("GetUserPolicy", UserName=user, PolicyName=POLICY_NAME, accept=HTTPStatus.NOT_FOUND)
        try:
            document = json.loads(unquote(answer.text("PolicyDocument")))
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def _listed(self, tag: str, action: str, **params: str) -> Sequence[str] | None:
        """All pages of a list; None if what it asks about does not exist."""
        found: list[str] = []
        for _ in range(_MOST_PAGES):
            answer = self._call(action, accept=HTTPStatus.NOT_FOUND, **params)
            if not answer.ok:
                return None
            found += answer.texts(tag)
            if answer.text("IsTruncated") != "true":
                return tuple(found)
            params["Marker"] = answer.text("Marker")
        raise unreachable(self._server, f"the list of {action} does not end")

    def _call(self, action: str, *, accept: HTTPStatus = HTTPStatus.OK, **params: str) -> aws.Answer:
        with nullcontext() if action.startswith(_READS) else self._writing:
            answer = aws.call(self._client, self._server, self._server.key, action, **params)
        if answer.ok or answer.status == accept != HTTPStatus.OK:
            return answer
        raise self._translated(answer, action, params.get("UserName", ""))

    def _translated(self, answer: aws.Answer, action: str, user: str) -> OpsroomError:
        reason = answer.code or f"HTTP status {answer.status}"
        if answer.status == HTTPStatus.FORBIDDEN:
            return refused(self._server, f"do {action}", reason)
        if answer.status == HTTPStatus.NOT_FOUND:
            return NotFound(f"Storage has no user {user!r}.", where=self._server.endpoint)
        return unreachable(self._server, f"it answered {action} with {reason}")
