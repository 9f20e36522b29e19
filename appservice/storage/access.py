"""What a user may do, as an IAM policy, and what a user is called. Pure.

Users of one installation are named `INSTALLATION.NAME`. Names have no dot, so installations `a` and `a.b` or `a-b` on
one server never take each other's users for their own.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final

from appservice.errors import Invalid
from appservice.resources.access import DEFAULT_PERMISSIONS, PERMISSIONS, Permission
from appservice.storage.protocol import Access

Policy = dict[str, Any]

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ACTIONS: Final[Mapping[Permission, tuple[str, ...]]] = {
    "read": ("s3:GetObject",),
    "write": ("s3:AbortMultipartUpload", "s3:PutObject"),
    "delete": ("s3:DeleteObject",),
    "list": (),  # a right on the bucket
}
_PLAIN_PREFIX = re.compile(r"[^/*?$\x00-\x1f][^*?$\x00-\x1f]*/")


def user_name(installation: str, name: str) -> str:
    """Give the user's name on the server."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} cannot be the name of a storage user",
            fix="Use 1 to 63 lower-case letters, digits and inner dashes.",
        )
    return f"{installation}.{name}"


def own_name(installation: str, user: str) -> str | None:
    """Give the name back, or None when the user is not one of this installation."""
    owner, _, name = user.rpartition(".")
    return name if owner == installation and _NAME.fullmatch(name) else None


def policy(bucket: str, access: Access) -> Policy:
    """Allow exactly this access. There is no `Deny`: SeaweedFS takes none, and what is not allowed is denied.

    Raises Invalid: a prefix that is not plain (ends with '/', no wildcard or variable) would open more than it says.
    """
    rights = _rights(access)
    listed = [prefix for prefix, permissions in rights.items() if "list" in permissions]
    statements: list[Policy] = [_listing(bucket, listed)] if listed else []
    same_actions: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for prefix, permissions in rights.items():
        same_actions[tuple(sorted(action for each in permissions for action in _ACTIONS[each]))].append(prefix)
    statements += [_objects(bucket, actions, same_actions[actions]) for actions in sorted(same_actions) if actions]
    return {"Version": "2012-10-17", "Statement": statements}


def _rights(access: Access) -> dict[str, set[Permission]]:
    """All that may be done, by prefix."""
    found: dict[str, set[Permission]] = {}
    everything = [(prefix, frozenset(PERMISSIONS)) for prefix in access.write]
    reading = [(prefix, frozenset(DEFAULT_PERMISSIONS)) for prefix in access.read]
    granted = [(grant.prefix, grant.permissions) for grant in access.grants]
    for prefix, permissions in sorted((*everything, *reading, *granted), key=itemgetter(0)):
        if not _PLAIN_PREFIX.fullmatch(prefix) or ".." in prefix.split("/"):
            raise Invalid(f"{prefix!r} cannot be a prefix of a storage user", fix="Write it like `agents/alice/`.")
        found.setdefault(prefix, set()).update(permissions)
    return found


def same(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    """Whether two policies say the same. Servers give lists of one back as the one, and order them as they like."""
    return bool(_canonical(left) == _canonical(right))


def _listing(bucket: str, prefixes: list[str]) -> Policy:
    return {
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{bucket}"],
        "Condition": {"StringLike": {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}},
    }


def _objects(bucket: str, actions: tuple[str, ...], prefixes: list[str]) -> Policy:
    return {
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": [f"arn:aws:s3:::{bucket}/{prefix}*" for prefix in prefixes],
    }


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _canonical(inner) for key, inner in value.items()}
    items = value if isinstance(value, list) else [value]
    return sorted((_canonical(item) if isinstance(item, Mapping) else item for item in items), key=repr)
