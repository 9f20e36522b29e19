"""What the user drivers send, and how they read answers that SeaweedFS does not give.

There is no MinIO server here: nothing below says how MinIO behaves, only which requests of its documented admin API are
made, with the payloads decrypted by the SDK's own functions.
"""

import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import parse_qs

import pytest
from minio.crypto import decrypt, encrypt
from urllib3.response import HTTPResponse

from appservice.errors import Denied, NotFound, OpsroomError, Unavailable
from appservice.storage.access import policy
from appservice.storage.iam import IamUsers
from appservice.storage.minio_admin import MinioUsers
from appservice.storage.objects import MinioObjects
from appservice.storage.protocol import Access, AccessKey
from appservice.storage.wire import Server
from tests.support.recorder import Recorder, Request, Respond, recording

SECRET = "a-secret-of-the-root-user"
ACCESS = Access(write=("agents/alice/",))
POLICY = policy("b", ACCESS)
API = "/minio/admin/v3/"
Answers = dict[str, tuple[int, bytes]]


def server_at(recorder: Recorder) -> Server:
    return Server(endpoint=recorder.endpoint, region="us-east-1", key=AccessKey(key_id="root", secret=SECRET))


def opened(body: bytes) -> object:
    """The payload that MinIO would see."""
    return json.loads(decrypt(HTTPResponse(io.BytesIO(body), preload_content=False), SECRET))


def sealed(value: object) -> bytes:
    return bytes(encrypt(json.dumps(value).encode(), SECRET))


def by_command(answers: Answers) -> Respond:
    """Answer by the last part of the path; 200 and nothing for all else."""
    return lambda request: answers.get(request.path.removeprefix(API), (200, b""))


@asynccontextmanager
async def minio(answers: Answers) -> AsyncIterator[tuple[MinioUsers, Recorder]]:
    with recording(by_command(answers)) as recorder:
        users = MinioUsers(server_at(recorder), bucket="b", installation="ops")
        yield users, recorder
        await users.close()


def told(requests: list[Request]) -> list[tuple[str, str, dict[str, str]]]:
    return [(request.method, request.path.removeprefix(API), request.query) for request in requests]


USERS = {name: {"status": "enabled"} for name in ("ops.alice.k1", "ops.alice.k2", "ops.bob.k1", "ops.b.bob.k1", "jo")}


async def test_minio_gets_a_policy_when_it_has_none() -> None:
    async with minio({"info-canned-policy": (404, b"{}")}) as (users, recorder):
        assert await users.ensure("alice", ACCESS)
    assert told(recorder.requests) == [
        ("GET", "info-canned-policy", {"name": "ops.alice"}),
        ("PUT", "add-canned-policy", {"name": "ops.alice"}),
    ]
    assert json.loads(recorder.requests[1].body) == POLICY


async def test_minio_gets_no_policy_when_it_has_the_same() -> None:
    async with minio({"info-canned-policy": (200, json.dumps(POLICY).encode())}) as (users, recorder):
        assert not await users.ensure("alice", ACCESS)
    assert told(recorder.requests) == [("GET", "info-canned-policy", {"name": "ops.alice"})]


async def test_minio_gets_the_policy_again_when_it_has_another() -> None:
    other = policy("b", Access(write=("agents/bob/",)))
    async with minio({"info-canned-policy": (200, json.dumps(other).encode())}) as (users, recorder):
        assert await users.ensure("alice", ACCESS)
    assert json.loads(recorder.requests[-1].body) == POLICY


async def test_minio_gets_a_user_for_each_key_and_its_secret_only_encrypted() -> None:
    async with minio({}) as (users, recorder):
        key = await users.issue_key("alice")
    assert key.key_id.startswith("ops.alice.")
    assert told(recorder.requests) == [
        ("PUT", "add-user", {"accessKey": key.key_id}),
        ("PUT", "set-user-or-group-policy", {"isGroup": "false", "policyName": "ops.alice", "userOrGroup": key.key_id}),
    ]
    assert opened(recorder.requests[0].body) == {"status": "enabled", "secretKey": key.secret}
    assert key.secret.encode() not in recorder.requests[0].body


async def test_minio_is_asked_which_keys_there_are_before_all_but_one_are_retired() -> None:
    async with minio({"list-users": (200, sealed(USERS))}) as (users, recorder):
        await users.retire_keys("alice", keep=["ops.alice.k2"])
    assert told(recorder.requests) == [
        ("GET", "list-users", {}),
        ("DELETE", "remove-user", {"accessKey": "ops.alice.k1"}),
    ]


async def test_minio_loses_the_keys_before_the_policy_even_if_one_is_gone_already() -> None:
    async with minio({"list-users": (200, sealed(USERS)), "remove-user": (404, b"")}) as (users, recorder):
        await users.delete("alice")
    assert told(recorder.requests)[1:] == [
        ("DELETE", "remove-user", {"accessKey": "ops.alice.k1"}),
        ("DELETE", "remove-user", {"accessKey": "ops.alice.k2"}),
        ("DELETE", "remove-canned-policy", {"name": "ops.alice"}),
    ]


async def test_minio_names_agents_with_and_without_keys_of_this_installation_only() -> None:
    policies: dict[str, dict[str, str]] = {"ops.alice": {}, "ops.carol": {}, "readwrite": {}, "ops.b.dora": {}}
    answers = {"list-users": (200, sealed(USERS)), "list-canned-policies": (200, json.dumps(policies).encode())}
    async with minio(answers) as (users, _):
        found = await users.names()
    assert found == {"alice": ("ops.alice.k1", "ops.alice.k2"), "bob": ("ops.bob.k1",), "carol": ()}


@pytest.mark.parametrize(("status", "kind"), [(403, Denied), (500, Unavailable), (400, Unavailable)])
async def test_a_fault_of_minio_is_said_without_the_secret(status: int, kind: type[OpsroomError]) -> None:
    faulty = {"list-users": (status, b"{}"), "info-canned-policy": (status, b"{}")}
    async with minio(faulty) as (users, _):
        for call in (users.names(), users.ensure("alice", ACCESS)):
            with pytest.raises(kind) as caught:
                await call
            assert SECRET not in f"{caught.value}{caught.value.__cause__}"


async def test_a_list_of_users_that_cannot_be_decrypted_is_said() -> None:
    async with minio({"list-users": (200, b"x" * 100)}) as (users, _):
        with pytest.raises(Unavailable):
            await users.names()


# AWS IAM: answers that differ from those of SeaweedFS


@contextmanager
def iam(respond: Respond) -> Iterator[tuple[IamUsers, Recorder]]:
    with recording(respond) as recorder:
        yield IamUsers(server_at(recorder), bucket="b", installation="ops"), recorder


def action_of(request: Request) -> str:
    return parse_qs(request.body.decode())["Action"][0]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, b"<html>no</html", Denied),
        (403, b"", Denied),
        (404, b"", NotFound),
        (500, b"<E><Code>ServiceFailure</Code></E>", Unavailable),
        (200, b"not xml", Unavailable),
    ],
)
async def test_the_status_decides_when_a_refusal_carries_no_code(
    status: int, body: bytes, kind: type[OpsroomError]
) -> None:
    with iam(lambda _: (status, body)) as (users, _):
        with pytest.raises(kind):
            await users.issue_key("alice")
        await users.close()


async def test_a_call_that_was_received_is_not_sent_again() -> None:
    with iam(lambda _: (503, b"")) as (users, recorder):
        with pytest.raises(Unavailable):
            await users.issue_key("alice")
        await users.close()
    assert [action_of(request) for request in recorder.requests] == ["CreateAccessKey"]


async def test_a_list_of_several_pages_is_read_to_its_end() -> None:
    def pages(request: Request) -> tuple[int, bytes]:
        if action_of(request) != "ListUsers":
            return 200, b"<R/>"
        last = b"Marker" in request.body
        rest = b"<IsTruncated>false</IsTruncated>" if last else b"<IsTruncated>true</IsTruncated><Marker>m</Marker>"
        return 200, b"<R><UserName>ops.%s</UserName>%s</R>" % (b"bob" if last else b"alice", rest)

    with iam(pages) as (users, _):
        assert await users.names() == {"alice": (), "bob": ()}
        await users.close()


async def test_a_policy_that_comes_back_quoted_counts_as_the_same() -> None:
    quoted = json.dumps(POLICY).replace('"', "%22").replace(" ", "%20").encode()
    answers = {
        "ListUserPolicies": b"<R><member>access</member></R>",
        "GetUserPolicy": b"<R><PolicyDocument>%s</PolicyDocument></R>" % quoted,
    }
    with iam(lambda request: (200, answers[action_of(request)])) as (users, _):
        assert not await users.ensure("alice", ACCESS)
        await users.close()


async def test_a_key_that_never_counts_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appservice.storage.aws._KEY_TRIES", 2)
    made = b"<R><AccessKeyId>AK</AccessKeyId><SecretAccessKey>sk</SecretAccessKey></R>"
    unknown = b"<E><Code>InvalidAccessKeyId</Code></E>"

    def respond(request: Request) -> tuple[int, bytes]:
        return (403, unknown) if action_of(request) == "GetUser" else (200, made)

    with iam(respond) as (users, recorder):
        with pytest.raises(Unavailable, match="not taken"):
            await users.issue_key("alice")
        await users.close()
    assert [action_of(request) for request in recorder.requests] == [
        "CreateAccessKey",
        "GetUser",
        "GetUser",
        "DeleteAccessKey",
    ]


# Objects


@pytest.mark.parametrize("call", [lambda objects: objects.get("a"), lambda objects: objects.list("a/")])
async def test_something_else_behind_the_address_is_said(call: Callable[[MinioObjects], object]) -> None:
    with recording(lambda _: (404, b"<html>")) as recorder:
        objects = MinioObjects(server_at(recorder), "bucket")
        with pytest.raises(Unavailable, match="not one of an S3 server"):
            await call(objects)  # type: ignore[misc]
        await objects.close()


async def test_a_server_that_is_overloaded_is_asked_three_times_and_no_more() -> None:
    with recording(lambda _: (503, b"")) as recorder:
        objects = MinioObjects(server_at(recorder), "bucket")
        with pytest.raises(Unavailable):
            await objects.get("a")
        await objects.close()
    assert len(recorder.requests) == 3
