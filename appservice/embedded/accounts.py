"""The operator's account on the embedded homeserver."""

import hmac

import aiohttp

from appservice.errors import Unavailable

_REGISTER = "/_synapse/admin/v1/register"


async def ensure_operator(url: str, shared_secret: str, localpart: str, password: str) -> bool:
    """Make the account, as a server admin. Returns False when there is one of that name already.

    Raises `Unavailable` when the homeserver refuses.
    """
    try:
        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=15)) as http:
            async with http.get(_REGISTER) as answer:
                nonce = str((await answer.json())["nonce"])
            body = _signed(nonce, localpart, password, shared_secret)
            async with http.post(_REGISTER, json=body) as answer:
                said = await answer.json()
                status = answer.status
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        raise Unavailable(f"the homeserver did not make the account of {localpart}: {error}.") from error
    if status == 200:
        return True
    if said.get("errcode") == "M_USER_IN_USE":
        return False
    raise Unavailable(f"the homeserver did not make the account of {localpart}: {said.get('error')}.")


def _signed(nonce: str, localpart: str, password: str, shared_secret: str) -> dict[str, object]:
    text = "\0".join([nonce, localpart, password, "admin"]).encode()
    mac = hmac.new(shared_secret.encode(), text, "sha1").hexdigest()
    return {"nonce": nonce, "username": localpart, "password": password, "admin": True, "mac": mac}
