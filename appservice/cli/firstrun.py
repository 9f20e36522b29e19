"""The one question of a first start on a terminal: which model provider? It can be skipped."""

import asyncio
import os
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path

from appservice import config
from appservice.cli import console
from appservice.embedded.files import write_private
from appservice.gateway.protocol import Provider
from appservice.gateway.providers import DEMO, check_key, providers

_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A provider that can be picked. What is '' is asked for."""

    title: str
    name: str
    base_url: str = ""
    header: str = "authorization"
    prefix: str = "Bearer "
    needs_key: bool = True


CHOICES = (
    Choice(title="OpenAI", name="openai", base_url="https://api.openai.com/v1"),
    Choice(title="Anthropic", name="anthropic", base_url="https://api.anthropic.com/v1"),
    Choice(title="Azure OpenAI", name="azure", header="api-key", prefix=""),
    Choice(title="Ollama on this machine", name="ollama", base_url="http://127.0.0.1:11434/v1", needs_key=False),
    Choice(title="another OpenAI-shaped URL", name="own"),
)


def ask_for_provider(data_dir: Path) -> None:
    """Ask, check the key with a real call, keep it in a file of mode 0600. Nothing is asked when the environment or
    the settings name a provider already."""
    known = providers(config.load(data_dir), os.environ)
    if any(provider.name != DEMO for provider in known):
        return
    choice = _pick()
    if choice is None:
        console.say("No provider for now: a demo model answers and says that it is one. See docs/quickstart.md.")
        return
    for _ in range(_TRIES):
        provider = _ask(choice)
        health = asyncio.run(check_key(provider))
        console.say(f"{health.detail}. {health.fix}".rstrip())
        if health.level != "fail":
            _keep(data_dir, provider)
            return
    console.say("Going on without a provider; name one in opsroom.yaml or by OPENAI_API_KEY later.")


def _pick() -> Choice | None:
    console.say("Which model provider should the agents use?")
    for number, choice in enumerate(CHOICES, start=1):
        console.say(f"  {number}  {choice.title}")
    console.say("  Enter: none for now")
    for _ in range(_TRIES):
        answer = _line("> ")
        if not answer:
            return None
        if answer.isdigit() and 1 <= int(answer) <= len(CHOICES):
            return CHOICES[int(answer) - 1]
        console.say(f"Type a number from 1 to {len(CHOICES)}, or just Enter.")
    return None


def _ask(choice: Choice) -> Provider:
    base_url = choice.base_url or _line("URL, up to /v1: ").rstrip("/")
    key = getpass("Key (not shown; Enter for none): ").strip() if choice.needs_key else ""
    return Provider(name=choice.name, base_url=base_url, key=key, header=choice.header, prefix=choice.prefix)


def _keep(data_dir: Path, provider: Provider) -> None:
    entry = {
        "name": provider.name,
        "base_url": provider.base_url,
        "header": provider.header,
        "prefix": provider.prefix,
    }
    if provider.key:
        path = data_dir / "secrets" / f"provider-{provider.name}.key"
        write_private(path, provider.key + "\n")
        entry["key_file"] = str(path)
    config.remember(data_dir, {"providers": [entry]})


def _line(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        return ""
