"""Names that could not mean inside Envoy what they say are refused before anything is computed from them. Pure."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from appservice.errors import Invalid, Problem
from appservice.gateway import layout
from appservice.gateway.protocol import GatewayState, Provider

_UNSAFE = re.compile(r"[\x00-\x1f\x7f|]")
_LONGEST_NAME = 200


def check(state: GatewayState) -> None:
    """Raise Invalid with every name that could not mean what it says inside Envoy."""
    problems = [*_bad_providers(state.providers), *_bad_routes(state), *_bad_consumers(state)]
    if problems:
        raise Invalid("the gateway cannot run this state", problems=problems)


def _bad_providers(providers: Iterable[Provider]) -> Iterable[Problem]:
    seen: set[str] = set()
    for provider in providers:
        where = f"provider {provider.name!r}"
        if not layout.is_plain(provider.name):
            yield Problem(what="Its name is not plain.", where=where, fix="Use letters, digits, '-' and '_' only.")
        if provider.name in seen:
            yield Problem(what="There are two of this name.", where=where, fix="Rename one.")
        seen.add(provider.name)
        if not _is_url(provider.base_url):
            fix = "Write it like https://api.example.com/v1, without user, query or fragment."
            yield Problem(what="Its base_url is not an address of a model API.", where=where, fix=fix)
        if not provider.key.isprintable():
            yield Problem(what="Its key contains control characters.", where=where, fix="Copy it again.")


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return False
    return (
        url.scheme in {"http", "https"} and bool(url.hostname) and not (url.query or url.fragment or "@" in url.netloc)
    )


def _bad_routes(state: GatewayState) -> Iterable[Problem]:
    known = {provider.name for provider in state.providers}
    seen: set[str] = set()
    for model, provider in state.routes:
        if not _is_clean(model):
            yield _unclean("model", model)
        if model in seen:
            yield Problem(what="It has two providers.", where=f"model {model!r}", fix="Keep one route.")
        seen.add(model)
        if provider not in known:
            fix = f"Configured: {', '.join(sorted(known)) or 'none'}."
            yield Problem(what=f"Its provider {provider!r} is not configured.", where=f"model {model!r}", fix=fix)


def _bad_consumers(state: GatewayState) -> Iterable[Problem]:
    for consumer in state.consumers:
        names = [("consumer", consumer.name), *(("model", model) for model in consumer.models)]
        yield from (_unclean(kind, name) for kind, name in names if not _is_clean(name))
    yield from (_unclean("token id", jti) for jti in state.revoked if not _is_clean(jti))


def _is_clean(name: str) -> bool:
    return 0 < len(name.encode()) <= _LONGEST_NAME and not _UNSAFE.search(name)


def _unclean(kind: str, name: str) -> Problem:
    fix = f"Use at most {_LONGEST_NAME} characters, no '|' and no control characters."
    return Problem(what=f"A {kind}'s name cannot be used at the gateway.", where=f"{kind} {name!r:.80}", fix=fix)
