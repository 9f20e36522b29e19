"""One file that holds what Opsroom keeps: made while it is in use, read back whole or not at all."""

import asyncio
import io
import json
import os
import sqlite3
import stat
import tarfile
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from appservice.embedded import backup, restoring
from appservice.embedded.files import only_one
from appservice.errors import Conflict, Denied, Invalid, Limit, NotFound
from appservice.resources import registry
from appservice.store import commands, declaring, inbox, lease, meta, objects, outbox, rooms, turns
from appservice.store.database import Connection, Database
from appservice.store.declaring import Author
from appservice.store.outbox import Outgoing
from appservice.store.rooms import Room
from appservice.store.turns import Turn
from tests.support import up
from tests.support.schema import first_schema, version
from tests.support.stack import worker_yaml

PASSPHRASE = "correct horse battery staple"
SETTINGS = """\
# a remark
operator: boss
providers:
  - name: house
    base_url: https://models.example.org/v1
    key: sk-test-in-a-file
storage:
  secret_key: very-secret
"""


def nobody(_word: str) -> bool:
    return False


async def declare(store: Database, name: str) -> None:
    documents = registry.parse(worker_yaml(name).encode(), source="test")
    author = Author(user="@op:hs", cause="$1", now=1.0)
    await store.write(lambda db: declaring.declare(db, documents, author, is_ours=nobody))


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory with a store that is in use, settings and secrets."""
    data_dir = tmp_path / "home"
    store = await Database.open(data_dir / "opsroom.db")
    await declare(store, "alice")
    (data_dir / "opsroom.yaml").write_text("# a remark\noperator: boss\n")
    for name in ("secrets/storage.key", "secrets/deep/one.key", "homeserver/registration.yaml", "homeserver/rooms"):
        (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / name).write_text(f"content of {name}")
    yield data_dir
    await store.close()


async def names(data_dir: Path) -> list[str]:
    store = await Database.open(data_dir / "opsroom.db")
    try:
        return [stored.name for stored in await objects.every(store)]
    finally:
        await store.close()


def members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as tar:
        found = {}
        for entry in tar.getmembers():
            content = tar.extractfile(entry)
            assert content is not None
            found[entry.name] = content.read()
        return found


def rewritten(file: Path, target: Path, **changed: bytes) -> Path:
    """The same backup with other content of some files; `manifest` for manifest.json."""
    with tarfile.open(target, "w:gz") as tar:
        for name, data in members(file).items():
            new = changed.get(name.partition(".")[0], data)
            entry = tarfile.TarInfo(name)
            entry.size = len(new)
            tar.addfile(entry, io.BytesIO(new))
    return target


# -- making ----------------------------------------------------------------------------------------------------------


async def test_a_backup_is_made_while_the_store_is_written_and_is_whole(home: Path, tmp_path: Path) -> None:
    store = await Database.open(home / "opsroom.db")
    made: list[str] = []

    async def write() -> None:
        while True:
            made.append(f"w{len(made)}")
            await declare(store, made[-1])

    writer = asyncio.create_task(write())
    file, counts = tmp_path / "b.tar", []
    try:
        for _ in range(5):
            seen = len(made)
            counts.append((seen, await asyncio.to_thread(backup.make, home, file)))
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await store.close()

    assert all(count >= seen for seen, count in counts)
    found = backup.restore(file, tmp_path / "elsewhere")
    assert (found.keys, found.before) == (False, None)
    assert len(await names(tmp_path / "elsewhere")) == counts[-1][1]
    assert not list(tmp_path.glob("b.tar.*"))


async def test_what_it_holds_is_only_its_owners_to_read(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    assert backup.make(home, file) == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(members(file)) == {"manifest.json", "opsroom.db", "opsroom.yaml"}

    backup.restore(file, tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()} == {0o600}
    assert (tmp_path / "new" / "opsroom.yaml").read_text() == "# a remark\noperator: boss\n"


async def test_no_secret_is_in_it_in_plain_text(home: Path, tmp_path: Path) -> None:
    (home / "opsroom.yaml").write_text(SETTINGS)
    without, having = tmp_path / "without", tmp_path / "with"
    backup.make(home, without)
    backup.make(home, having, passphrase=PASSPHRASE)

    for file in (without, having):
        everything = b"\n".join(members(file).values())
        for word in (b"sk-test-in-a-file", b"very-secret", b"content of", PASSPHRASE.encode()):
            assert word not in everything
    assert b"operator: boss" in members(without)["opsroom.yaml"]

    assert backup.restore(having, tmp_path / "new", passphrase=PASSPHRASE).keys
    new = tmp_path / "new"
    assert (new / "opsroom.yaml").read_text() == SETTINGS
    for name in ("secrets/storage.key", "secrets/deep/one.key", "homeserver/registration.yaml"):
        assert (new / name).read_text() == f"content of {name}"
        assert stat.S_IMODE((new / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("other", ["store", "words", "tar", "folder"])
async def test_only_an_older_backup_is_replaced(home: Path, tmp_path: Path, other: str) -> None:
    target = tmp_path / "target"
    match other:
        case "store":
            target = home / "opsroom.db"
        case "words":
            target.write_text("a letter")
        case "tar":
            with tarfile.open(target, "w:gz") as tar:
                backup._add(tar, "manifest.json", b'[{"Config": "an image"}]')
        case "folder":
            target.mkdir()
    before = sorted(home.iterdir())

    with pytest.raises(Conflict, match="is no backup of Opsroom"):
        backup.make(home, target)

    assert await names(home) == ["alice"]
    assert sorted(home.iterdir()) == before


async def test_an_older_backup_is_replaced_even_a_damaged_one(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    backup.make(home, file)
    backup.make(home, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    backup.make(home, file)
    assert set(members(file)) == {"manifest.json", "opsroom.db", "opsroom.yaml"}


def test_nothing_to_keep_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no Opsroom in"):
        backup.make(tmp_path, tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()


# -- reading ---------------------------------------------------------------------------------------------------------


async def test_a_wrong_or_missing_passphrase_is_refused_and_nothing_is_there(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    backup.make(home, file, passphrase=PASSPHRASE)

    with pytest.raises(Denied, match="passphrase is not the one"):
        backup.restore(file, tmp_path / "new", passphrase="something else")
    with pytest.raises(Invalid, match="has keys in it"):
        backup.restore(file, tmp_path / "new")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "home"]


async def test_a_folder_that_is_not_empty_is_refused_unless_forced(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    backup.make(home, file, passphrase=PASSPHRASE)
    with pytest.raises(Conflict, match="is not empty"):
        backup.restore(file, home, passphrase=PASSPHRASE)

    store = await Database.open(home / "opsroom.db")
    await declare(store, "too-new")
    await store.close()
    (home / "secrets" / "storage.key").write_text("another")
    found = backup.restore(file, home, passphrase=PASSPHRASE, force=True)

    assert await names(home) == ["alice"]
    assert (home / "secrets" / "storage.key").read_text() == "content of secrets/storage.key"
    assert (home / "homeserver" / "rooms").read_text() == "content of homeserver/rooms"
    assert found.before is not None
    assert await names(found.before) == ["alice", "too-new"]
    assert (found.before / "secrets" / "storage.key").read_text() == "another"


async def test_a_broken_database_can_be_replaced(home: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "b.tar", tmp_path / "other"
    backup.make(home, file)
    other.mkdir()
    for name in ("opsroom.db", "opsroom.db-wal"):
        (other / name).write_bytes(b"not a database" * 100)

    found = backup.restore(file, other, force=True)

    assert await names(other) == ["alice"]
    assert found.before is not None
    assert (found.before / "opsroom.db").read_bytes().startswith(b"not a database")


async def test_nothing_that_was_open_in_a_backup_is_done_again_and_reading_begins_with_now(
    home: Path, tmp_path: Path
) -> None:
    event = {"event_id": "$1", "room_id": "!r"}
    out = Outgoing(txn_id="t.0", room_id="!r", sender="@b:hs", type="m.room.message", content={"body": "x"}, cause="$1")
    turn = Turn(id="t", event_id="$1", agent="alice", room_id="!r", thread="$1", sender="@op:hs", question="?")

    async def open_rows(db: Connection) -> None:
        await inbox.add(db, [event], now=1)
        await commands.accept(db, "$1", "!r", "@op:hs", {"event": event}, 1)
        await turns.add(db, turn)
        await outbox.add(db, out, now=1)
        await meta.put(db, meta.SYNC_SINCE, "s1")
        await rooms.put(db, Room(room_id="!d", purpose="direct", owner="@agent-alice:hs", seen="$0"))
        await rooms.put(db, Room(room_id="!r", purpose="worker", owner="alice", seen="$0", alias="alice"))

    store = await Database.open(home / "opsroom.db")
    await store.write(open_rows)
    await store.close()
    file = tmp_path / "b.tar"
    backup.make(home, file)

    backup.restore(file, tmp_path / "new")

    store = await Database.open(tmp_path / "new" / "opsroom.db")
    try:
        assert await inbox.unfinished(store) == []
        assert await commands.unfinished(store) == []
        assert await turns.open_turns(store) == []
        assert await outbox.pending(store) == []
        assert ["Perhaps it was done since then" in letter.error for letter in await outbox.dead(store)] == [True]
        assert await meta.get(store, meta.SYNC_SINCE) == ""
        assert {room.room_id: room.seen for room in await rooms.every(store)} == {"!d": "", "!r": "$0"}
    finally:
        await store.close()


async def test_a_folder_in_use_is_refused_even_by_force(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    backup.make(home, file)
    with only_one(home), pytest.raises(Conflict, match="already runs on"):
        backup.restore(file, home, force=True)

    (home / "homeserver" / "homeserver.db").touch()
    async with lease.alone(home / "opsroom.db"):  # as a service does, and one that waits to be the next
        with pytest.raises(Conflict, match=f"process {os.getpid()} on .* works on"):
            backup.restore(file, home, force=True)
        with pytest.raises(Conflict, match=f"process {os.getpid()} on .* works on"):
            await restoring.from_room(home, say=print)
    assert await names(home) == ["alice"]


async def test_nobody_begins_to_work_on_a_folder_while_it_is_restored(home: Path, tmp_path: Path) -> None:
    file, empty = tmp_path / "b.tar", tmp_path / "empty"
    backup.make(home, file)
    empty.mkdir()
    with backup.unused(empty), pytest.raises(Conflict, match="works on"), lease.at_once(empty / "opsroom.db"):
        pytest.fail("two work on it")

    assert backup.restore(file, empty).before is None

    assert await names(empty) == ["alice"]
    assert not list(empty.glob("before-restore-*"))


async def test_a_newer_schema_or_format_is_refused_with_a_sentence(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    backup.make(home, file)
    manifest = json.loads(members(file)["manifest.json"])
    newer = rewritten(file, tmp_path / "f.tar", manifest=json.dumps(manifest | {"format": 2}).encode())
    with pytest.raises(Conflict, match="format 2, and this program knows 1"):
        backup.restore(newer, tmp_path / "new")

    (tmp_path / "x.db").write_bytes(members(file)["opsroom.db"])
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        db.execute("PRAGMA user_version = 999")
    newer = rewritten(file, tmp_path / "s.tar", opsroom=(tmp_path / "x.db").read_bytes())
    with pytest.raises(Conflict, match="schema 999"):
        backup.restore(newer, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", ["cut", "words", "database", "member"])
async def test_what_is_damaged_or_something_else_is_refused_and_nothing_is_there(
    home: Path, tmp_path: Path, damage: str
) -> None:
    file, broken = tmp_path / "b.tar", tmp_path / "broken.tar"
    backup.make(home, file)
    match damage:
        case "cut":
            broken.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        case "words":
            broken.write_text("this is no tar")
        case "database":
            rewritten(file, broken, opsroom=b"SQLite format 3\0" + b"x" * 5000)
        case "member":
            rewritten(file, broken, manifest=b"[]")

    with pytest.raises(Invalid, match="damaged"):
        backup.restore(broken, tmp_path / "new")

    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".new.*"))


async def test_a_secret_comes_back_whatever_its_name_is(home: Path, tmp_path: Path) -> None:
    odd = ("secrets/.provider.key", "secrets/the key of models~", "secrets/_old/@house", "secrets/clé")
    for name in odd:
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(f"content of {name}")
    file = tmp_path / "b.tar"
    backup.make(home, file, passphrase=PASSPHRASE)

    backup.restore(file, tmp_path / "new", passphrase=PASSPHRASE)

    assert {name: (tmp_path / "new" / name).read_text() for name in odd} == {name: f"content of {name}" for name in odd}


async def test_keys_that_no_restore_would_take_are_refused_when_the_backup_is_made(home: Path, tmp_path: Path) -> None:
    (home / "secrets" / "film").write_bytes(os.urandom(2**20) * 13)
    with pytest.raises(Limit, match="too much for a backup with keys: 17 MiB"):
        backup.make(home, tmp_path / "b.tar", passphrase=PASSPHRASE)
    assert not list(tmp_path.glob("b.tar*"))


async def test_a_backup_with_keys_is_restored_without_them_when_that_is_said(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    backup.make(home, file, passphrase=PASSPHRASE)
    with pytest.raises(Invalid, match="--without-keys"):
        backup.restore(file, tmp_path / "new")

    assert not backup.restore(file, tmp_path / "new", without_keys=True).keys

    assert await names(tmp_path / "new") == ["alice"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["opsroom.db", "opsroom.yaml"]


async def test_keys_cannot_be_written_outside_of_the_folder(tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        backup._add(tar, "secrets/../../outside", b"x")
    with pytest.raises(ValueError, match="outside"):
        backup._unpack_keys(made.getvalue(), tmp_path / "fresh")
    assert not (tmp_path / "outside").exists()


async def test_a_backup_of_an_older_schema_is_migrated_at_the_next_start(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    backup.make(home, file)
    first_schema(tmp_path / "old.db")
    older = rewritten(file, tmp_path / "o.tar", opsroom=(tmp_path / "old.db").read_bytes())

    backup.restore(older, tmp_path / "new")

    assert await names(tmp_path / "new") == []
    assert version(tmp_path / "new" / "opsroom.db.v1.bak") == 1


# -- the commands ----------------------------------------------------------------------------------------------------


async def test_the_commands_say_what_they_did_and_what_is_not_in_it(home: Path, tmp_path: Path) -> None:
    secret, short = tmp_path / "secret", tmp_path / "short"
    secret.write_text(PASSPHRASE + "\n")
    short.write_text("1234567\n")
    file, new = tmp_path / "b.tar", tmp_path / "new"

    made = await up.opsroom("backup", file, "--data-dir", home, "--with-keys", "--passphrase-file", secret)
    assert (made.code, made.err) == (0, "")
    assert "1 object" in made.out
    assert "encrypted" in made.out
    assert "Agents' files" in made.out

    back = await up.opsroom("restore", file, "--data-dir", new, "--passphrase-file", secret)
    assert (back.code, back.err) == (0, "")
    assert await names(new) == ["alice"]

    for arguments, code, words in (
        (("backup", file, "--data-dir", home, "--with-keys"), 2, "only ever kept encrypted"),
        (("backup", file, "--data-dir", home, "--passphrase-file", secret), 2, "only ever kept encrypted"),
        (("backup", file, "--data-dir", home, "--with-keys", "--passphrase-file", short), 2, "too short"),
        (("backup", file, "--data-dir", tmp_path / "nowhere"), 1, "no Opsroom in"),
        (("restore", file, "--data-dir", tmp_path / "x", "--passphrase-file", short), 2, "too short"),
        (("restore", tmp_path / "nothing", "--data-dir", tmp_path / "x"), 1, "there is no file"),
        (("restore", "--data-dir", tmp_path / "x"), 2, "say from where"),
        (("restore", file, "--from-room", "--data-dir", tmp_path / "x"), 2, "say from where"),
    ):
        told = await up.opsroom(*arguments)
        assert told.code == code, told
        assert words in told.err
    assert not (tmp_path / "x").exists()
    assert os.listdir(tmp_path / "home")
