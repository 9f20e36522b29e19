"""Which backend a machine gets."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from appservice.backends.choose import choose, choose_again, default_image
from appservice.config import AgentSettings, Settings
from appservice.errors import Unavailable
from appservice.store import meta
from appservice.store.database import Database

NOWHERE = "unix:///nonexistent/docker.sock"


def settings(tmp_path: Path, backend: str, docker_host: str = "") -> Settings:
    agents = AgentSettings.model_validate({"backend": backend, "docker_host": docker_host})
    return Settings(data_dir=tmp_path, installation="choose", agents=agents)


@pytest.mark.docker
async def test_docker_is_taken_when_it_answers(tmp_path: Path, backends_there: Callable[[str], None]) -> None:
    backends_there("docker")
    chosen = await choose(settings(tmp_path, "auto"))
    assert chosen.name == "docker"
    assert (await chosen.healthy()).level == "ok"
    await chosen.close()


async def test_processes_are_taken_when_docker_does_not_answer(
    tmp_path: Path, backends_there: Callable[[str], None]
) -> None:
    backends_there("process")
    chosen = await choose(settings(tmp_path, "auto", NOWHERE))
    assert chosen.name == "process"
    assert "Weaker than Docker" in chosen.isolation
    await chosen.ensure_image(default_image(settings(tmp_path, "auto")))
    await chosen.close()


async def test_agents_that_docker_runs_stay_with_it_while_it_does_not_answer(
    tmp_path: Path, store: Database, backends_there: Callable[[str], None]
) -> None:
    backends_there("process")

    async def chosen(backend: str) -> tuple[str, str]:
        found = await choose_again(settings(tmp_path, backend, NOWHERE), store)
        health = await found.healthy()
        await found.close()
        return found.name, health.detail

    await store.write(lambda db: meta.put(db, meta.BACKEND, "docker"))  # as of an earlier start
    assert await chosen("auto") == ("docker", "Docker Engine does not answer.")
    assert await chosen("auto") == ("docker", "Docker Engine does not answer.")
    assert [(await chosen(backend))[0] for backend in ("process", "auto")] == ["process", "process"]


async def test_docker_by_name_that_does_not_answer_is_an_error_with_the_way_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        await choose(settings(tmp_path, "docker", NOWHERE))
    assert [problem.where for problem in caught.value.problems] == ["docker"]
    assert "does not answer" in str(caught.value)
    assert caught.value.problems[0].fix


async def test_a_socket_nobody_listens_on_is_an_engine_that_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with pytest.raises(Unavailable, match="does not answer"):
        await choose(settings(tmp_path, "docker", f"unix://{path}"))


async def test_without_bubblewrap_the_sentence_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appservice.backends.bubblewrap.LAUNCHER_ENVIRONMENT", {"PATH": str(tmp_path)})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable) as caught:
        await choose(settings(tmp_path, "process"))
    assert [problem.where for problem in caught.value.problems] == ["process"]
    assert "bubblewrap" in caught.value.problems[0].fix
