"""Which model providers there are, and which of them serves a model."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from appservice.config import ModelProvider, Settings
from appservice.errors import Invalid, NotFound
from appservice.gateway.layout import control_socket
from appservice.gateway.protocol import Provider
from appservice.health import Health

DEMO = "demo"
_ANTHROPIC = "anthropic"
# Families of models whose makers are well known, and who serves them, best first.
_FAMILIES = (
    ("claude*", (_ANTHROPIC,)),
    *((glob, ("openai", "azure")) for glob in ("gpt-*", "chatgpt-*", "o[0-9]*", "text-embedding-*")),
)
_CHECK_S = 15


def providers(settings: Settings, environ: Mapping[str, str]) -> tuple[Provider, ...]:
    """The declared ones, then those of the variables their own tools use; the offline demo model when there are none.

    Raises Invalid when a key's file cannot be read."""
    declared = [_declared(item) for item in settings.providers]
    taken = {item.name for item in declared}
    found = [*declared, *(item for item in _well_known(environ) if item.name not in taken)]
    return tuple(found) or (demo(settings),)


def demo(settings: Settings) -> Provider:
    """The model that needs no provider; the control plane itself answers."""
    return Provider(name=DEMO, base_url="http://demo.invalid/demo/v1", socket=str(control_socket(settings.run_dir)))


def route(model: str, settings: Settings, present: Iterable[Provider]) -> str:
    """Name of the provider that serves the model. Raises NotFound when every provider is limited to other models."""
    names = [provider.name for provider in present]
    limits = {item.name: item.models for item in settings.providers if item.models}
    listed = (name for name in names if any(fnmatchcase(model, glob) for glob in limits.get(name, ())))
    free = [name for name in names if name not in limits]
    makers = (maker for glob, owners in _FAMILIES if fnmatchcase(model, glob) for maker in owners if maker in free)
    for name in (*listed, *makers, *free):
        return name
    served = ", ".join(glob for globs in limits.values() for glob in globs)
    raise NotFound(f"No provider serves the model {model!r}.", where="providers", fix=f"Served are: {served}.")


def default_model(settings: Settings, present: Iterable[Provider]) -> str:
    """What agents use that name no model: as set, else the first that a provider names, the demo model where nothing
    else is; '' when it cannot be told."""
    named = (model for item in settings.providers for model in item.models if not set("*?[") & set(model))
    demo_only = [provider.name for provider in present] == [DEMO]
    return settings.agents.model or next(named, "") or (DEMO if demo_only else "")


def _declared(item: ModelProvider) -> Provider:
    return Provider(
        name=item.name,
        base_url=item.base_url.rstrip("/"),
        key=item.key.get_secret_value() or _read_key(item.name, item.key_file),
        header=item.header,
        prefix=item.prefix,
    )


def _read_key(name: str, path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        where = f"provider {name!r}"
        raise Invalid(f"Its key file {path} cannot be read.", where=where, fix="Correct key_file.") from error


def _well_known(environ: Mapping[str, str]) -> Iterable[Provider]:
    def get(name: str) -> str:
        return environ.get(name, "").strip().rstrip("/")

    if get("OPENAI_API_KEY") or get("OPENAI_BASE_URL"):
        base = get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        yield Provider(name="openai", base_url=base, key=get("OPENAI_API_KEY"))
    if get("ANTHROPIC_API_KEY"):
        yield Provider(name=_ANTHROPIC, base_url="https://api.anthropic.com/v1", key=get("ANTHROPIC_API_KEY"))
    if get("AZURE_OPENAI_API_KEY") and get("AZURE_OPENAI_ENDPOINT"):
        base = get("AZURE_OPENAI_ENDPOINT").removesuffix("/openai/v1") + "/openai/v1"
        yield Provider(name="azure", base_url=base, key=get("AZURE_OPENAI_API_KEY"), header="api-key", prefix="")
    ollama = get("OLLAMA_BASE_URL") or get("OLLAMA_HOST")
    if ollama:
        yield Provider(name="ollama", base_url=_ollama_url(ollama))


def _ollama_url(text: str) -> str:
    """OLLAMA_HOST is what Ollama listens on: often without scheme or port, or the address of all interfaces."""
    url = urlsplit(text if "://" in text else f"http://{text}")
    host = url.hostname or "127.0.0.1"
    host = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host  # noqa: S104 - not bound
    port = url.port or (443 if url.scheme == "https" else 11434)
    return f"{url.scheme}://{host}:{port}{url.path.removesuffix('/v1').rstrip('/')}/v1"


async def check_key(provider: Provider) -> Health:
    """One real, cheap call: the list of models."""
    connector = aiohttp.UnixConnector(provider.socket) if provider.socket else None
    timeout = aiohttp.ClientTimeout(total=_CHECK_S)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=not provider.socket) as http,
            http.get(f"{provider.base_url}/models", headers=_headers(provider), allow_redirects=False) as answer,
        ):
            return _judge(provider, answer.status)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        detail = f"{provider.name} does not answer ({type(error).__name__})"
        fix = f"Check that {provider.base_url} is right and can be reached from this machine."
        return Health(part="provider", level="fail", detail=detail, fix=fix)


def _headers(provider: Provider) -> dict[str, str]:
    if not provider.key:
        return {}
    headers = {provider.header: provider.prefix + provider.key}
    if (urlsplit(provider.base_url).hostname or "").endswith("anthropic.com"):
        # Its list of models is not part of its OpenAI-shaped calls.
        headers = {"x-api-key": provider.key, "anthropic-version": "2023-06-01"}
    return headers


def _judge(provider: Provider, status: int) -> Health:
    if status == 200:
        return Health(part="provider", level="ok", detail=f"{provider.name} accepts the key")
    if status in {401, 403}:
        fix = "Copy the key again, or make a new one at the provider."
        return Health(part="provider", level="fail", detail=f"{provider.name} refuses the key ({status})", fix=fix)
    detail = f"{provider.name} answers {status} when asked for its models"
    return Health(part="provider", level="warn", detail=detail, fix="Check its base_url; it should end in /v1.")
