"""Waiting for a homeserver of the operator's own: it must load our registration first."""

import asyncio
from collections.abc import Callable
from time import monotonic

from appservice.config import Settings
from appservice.embedded.probes import whoami
from appservice.embedded.world import registration_path
from appservice.errors import Invalid, Unavailable
from appservice.homeserver.registration import Registration

_EVERY_S = 1.0
_SAY_EVERY_S = 15.0
_PATIENCE_S = 1800.0

_HOW = """\
The homeserver at {url} does not know Opsroom yet. On Synapse:
  1. copy {path} to the homeserver's machine, readable by Synapse only
  2. add to homeserver.yaml:
         app_service_config_files:
           - /the/path/of/registration.yaml
  3. restart Synapse. It must reach Opsroom at {own} (change that with --public-url)"""


async def wait_until_registered(settings: Settings, registration: Registration, *, say: Callable[[str], None]) -> None:
    """Return when the homeserver knows us. Explains once how to get there.

    Raises `Invalid` when it is another server than the settings say, `Unavailable` when the patience is over.
    """
    url = settings.homeserver.url
    began = told = monotonic()
    explained = False
    while not (sender := await whoami(url, registration.as_token)):
        now = monotonic()
        if not explained:
            say(_HOW.format(url=url, path=registration_path(settings), own=registration.url))
            explained = True
        if now - began > _PATIENCE_S:
            raise Unavailable(f"{url} did not load the registration within {_PATIENCE_S / 60:g} minutes.")
        if now - told >= _SAY_EVERY_S:
            say(f"waiting for {url} to know the registration, {now - began:.0f} s")
            told = now
        await asyncio.sleep(_EVERY_S)
    if sender.partition(":")[2] != settings.server_name:
        raise Invalid(
            f"{url} is the homeserver of `{sender.partition(':')[2]}`, not of `{settings.server_name}`.",
            fix="Give its own name with --server-name.",
        )
    say(f"homeserver {url} knows Opsroom, {monotonic() - began:.1f} s")
