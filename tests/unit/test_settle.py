"""What `opsroom up` settles before anything is started."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from appservice import config
from appservice.embedded.world import settle


def test_a_data_directory_that_was_copied_names_nothing_of_the_old_one(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    with ExitStack() as reserved:
        config.remember(first, settle(first, {}, reserved, web=False).changes)
    shutil.copytree(first, second)

    with ExitStack() as reserved:
        settled = settle(second, {}, reserved, web=False).settings

    assert settled.homeserver.registration == second / "homeserver" / "registration.yaml"
    assert settled.storage.secret_key_file == second / "secrets" / "storage.key"


def test_two_new_opsrooms_have_different_names_and_keep_them(tmp_path: Path) -> None:
    names = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        with ExitStack() as reserved:
            config.remember(folder, settle(folder, {}, reserved, web=False).changes)
        with ExitStack() as reserved:
            names += [config.load(folder).installation, settle(folder, {}, reserved, web=False).settings.installation]

    assert names[0] == names[1] != names[2] == names[3]


def test_a_name_that_was_given_is_kept(tmp_path: Path) -> None:
    with ExitStack() as reserved:
        settled = settle(tmp_path, {"installation": "mine"}, reserved, web=False).settings

    assert settled.installation == "mine"
