"""The operator's account on the embedded homeserver."""

from appservice.homeserver.accounts import Means, register


async def ensure_operator(url: str, shared_secret: str, localpart: str, password: str) -> bool:
    """Make the account, as a server admin. Returns False when there is one of that name already.

    Raises `Unavailable` when the homeserver refuses.
    """
    return await register(url, Means(kind="secret", value=shared_secret, admin=True), localpart, password)
