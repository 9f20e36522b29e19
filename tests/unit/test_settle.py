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
