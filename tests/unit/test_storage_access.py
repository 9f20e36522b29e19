"""What a policy says, how users are called, and what the settings must name. Nothing here needs a server."""

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from appservice.config import EmbeddedSettings, Settings, StorageSettings
from appservice.errors import Invalid
from appservice.resources.access import Permission
from appservice.storage import seaweed
from appservice.storage.access import own_name, policy, same, user_name
from appservice.storage.connect import connect
from appservice.storage.filer import FilerUsers
from appservice.storage.iam import IamUsers
from appservice.storage.minio_admin import MinioUsers
from appservice.storage.protocol import Access, AccessKey, Grant

ACCESS = Access(write=("teams/alpha/", "agents/alice/"), read=("shared/knowledge/",))
PORTS = seaweed.Ports(s3=8333, master=9333, volume=8080, filer=8888)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)


def test_a_policy_allows_exactly_the_prefixes() -> None:
    assert policy("b", ACCESS)["Statement"] == [
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": ["arn:aws:s3:::b"],
            "Condition": {"StringLike": {"s3:prefix": ["agents/alice/*", "shared/knowledge/*", "teams/alpha/*"]}},
        },
        {
            "Effect": "Allow",
            "Action": ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            "Resource": ["arn:aws:s3:::b/agents/alice/*", "arn:aws:s3:::b/teams/alpha/*"],
        },
        {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::b/shared/knowledge/*"]},
    ]


def test_a_policy_has_nothing_that_the_server_refuses() -> None:
    text = json.dumps(policy("b", ACCESS))
    assert "Deny" not in text
    assert "ListMultipartUploadParts" not in text


def test_what_may_be_written_is_not_named_twice_when_it_may_be_read() -> None:
    assert policy("b", Access(write=("a/",), read=("a/",))) == policy("b", Access(write=("a/",)))


def granted(prefix: str, *permissions: Permission) -> Grant:
    return Grant(prefix=prefix, permissions=frozenset(permissions))


def test_what_is_granted_is_allowed_by_permission() -> None:
    grants = (granted("a/", "list"), granted("b/", "write"), granted("c/", "delete", "read"), granted("d/", "write"))
    listing, *rest = policy("b", Access(write=(), grants=grants))["Statement"]

    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["a/*"]}}
    assert [(each["Action"], each["Resource"]) for each in rest] == [
        (["s3:AbortMultipartUpload", "s3:PutObject"], ["arn:aws:s3:::b/b/*", "arn:aws:s3:::b/d/*"]),
        (["s3:DeleteObject", "s3:GetObject"], ["arn:aws:s3:::b/c/*"]),
    ]


def test_a_grant_of_what_is_allowed_anyway_changes_nothing() -> None:
    grants = (granted("agents/alice/", "read", "delete"), granted("shared/knowledge/", "list"))

    assert policy("b", Access(write=ACCESS.write, read=ACCESS.read, grants=grants)) == policy("b", ACCESS)


def test_grants_of_one_prefix_add_up() -> None:
    two = (granted("a/", "read"), granted("a/", "write"))

    assert policy("b", Access(write=(), grants=two)) == policy(
        "b", Access(write=(), grants=(granted("a/", "read", "write"),))
    )


@pytest.mark.parametrize(
    "prefix",
    ["", "/", "agents/alice", "/agents/alice/", "agents/*/", "agents/?/", "${aws:username}/", "a/../b/", "../", "a\n/"],
)
def test_a_prefix_that_would_open_more_than_it_says_is_refused(prefix: str) -> None:
    for access in (
        Access(write=(prefix,)),
        Access(write=(), read=(prefix,)),
        Access(write=(), grants=(granted(prefix, "list"),)),
    ):
        with pytest.raises(Invalid, match="prefix"):
            policy("b", access)


def test_a_policy_is_the_same_when_the_server_wrote_single_values_without_a_list() -> None:
    wanted = policy("b", Access(write=("agents/alice/",)))
    returned = json.loads(json.dumps(wanted).replace('["s3:ListBucket"]', '"s3:ListBucket"'))
    returned["Statement"].reverse()
    assert same(returned, wanted)


def test_a_policy_with_another_prefix_or_action_is_not_the_same() -> None:
    wanted = policy("b", ACCESS)
    assert not same(policy("b", Access(write=ACCESS.write)), wanted)
    assert not same(policy("c", ACCESS), wanted)
    assert not same(json.loads(json.dumps(wanted).replace("s3:DeleteObject", "s3:*")), wanted)
    assert not same({}, wanted)


@given(installation=names, other=names, name=names)
def test_a_user_is_found_by_its_own_installation_only(installation: str, other: str, name: str) -> None:
    assert own_name(installation, user_name(installation, name)) == name
    if other != installation:
        assert own_name(other, user_name(installation, name)) is None


@pytest.mark.parametrize("user", ["opsroom", "ops.b.alice", "ops-b.alice", "ops.", "ops.Alice", ".alice"])
def test_other_users_of_the_server_are_left_alone(user: str) -> None:
    assert own_name("ops", user) is None


def test_a_secret_does_not_show_when_a_key_is_printed() -> None:
    assert "hush" not in repr(AccessKey(key_id="a", secret="hush"))


def settings(**storage: object) -> Settings:
    given = {"endpoint": "http://127.0.0.1:8333", "secret_key": SecretStr("s")} | storage
    return Settings(storage=StorageSettings.model_validate(given))


@pytest.mark.parametrize(
    ("storage", "driver"),
    [
        ({"endpoint": "http://s3.example.com"}, IamUsers),
        ({"users": "iam"}, IamUsers),
        ({"users": "minio"}, MinioUsers),
        ({"endpoint": "http://s3.example.com", "users": "filer", "filer": "http://s3.example.com:8888"}, FilerUsers),
    ],
)
async def test_the_settings_choose_how_users_are_made(storage: dict[str, str], driver: type) -> None:
    objects, made = connect(settings(**storage))
    assert isinstance(made, driver)
    assert objects.bucket == "opsroom"
    await objects.close()
    await made.close()


async def test_users_of_our_own_storage_are_made_through_its_filer() -> None:
    ours = settings().model_copy(update={"embedded": EmbeddedSettings(storage_port=8333, storage_filer_port=8336)})
    assert ours.storage_filer == "http://127.0.0.1:8336"
    objects, made = connect(ours)
    assert isinstance(made, FilerUsers)
    await objects.close()
    await made.close()


async def test_the_secret_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s\n")
    for half in connect(settings(secret_key=SecretStr(""), secret_key_file=tmp_path / "key")):
        await half.close()


@pytest.mark.parametrize(
    ("storage", "sentence"),
    [
        ({"secret_key": SecretStr("")}, "storage has no secret key"),
        ({"secret_key": SecretStr(""), "secret_key_file": Path("missing")}, "cannot be read from missing"),
        ({"endpoint": ""}, "not the address of a storage server"),
        ({"endpoint": "127.0.0.1:8333"}, "not the address of a storage server"),
        ({"endpoint": "http://host/bucket"}, "not the address of a storage server"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(storage: dict[str, object], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence) as caught:
        connect(settings(**storage))
    assert str(caught.value).startswith("storage.")


def test_the_root_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = seaweed.prepare(tmp_path, tmp_path / "secrets", PORTS)
    second = seaweed.prepare(tmp_path, tmp_path / "secrets", PORTS)
    assert first.root_key == second.root_key
    assert first.root_key.secret in first.root_file.read_text()
    assert first.key_file.read_text() == first.root_key.secret
    for path in (first.root_file, first.key_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_the_command_line_is_loopback_only_tells_nobody_and_holds_no_secret(tmp_path: Path) -> None:
    prepared = seaweed.prepare(tmp_path, tmp_path / "secrets", PORTS)
    argv = seaweed.command(prepared, program=Path("/bin/weed"))
    assert argv[:3] == ["/bin/weed", "-logtostderr", "server"]
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-s3.port=8333"} <= set(argv)
    assert prepared.root_key.secret not in " ".join(argv)


def test_every_port_is_counted_with_the_one_it_opens_above() -> None:
    assert PORTS.every == (8333, 9333, 8080, 8888, 18333, 19333, 18080, 18888)


@pytest.mark.parametrize("ports", [(1, 2, 3, 3), (1, 2, 3, 10001), (1, 2, 3, 60000), (0, 1, 2, 3)])
def test_ports_that_collide_or_are_too_high_are_refused(ports: tuple[int, int, int, int]) -> None:
    s3, master, volume, filer = ports
    with pytest.raises(Invalid, match="port"):
        seaweed.Ports(s3=s3, master=master, volume=volume, filer=filer)
