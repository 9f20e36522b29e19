"""The S3 half, over the `minio` SDK. The same for every server."""

import io
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import ParamSpec, TypeVar

from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import HTTPError

from appservice.errors import Invalid, NotFound, OpsroomError
from appservice.health import Health
from appservice.storage.protocol import Objects, StoredObject
from appservice.storage.wire import Server, Threads, http_client, refused, unreachable

P = ParamSpec("P")
T = TypeVar("T")

HEALTH_KEY = ".opsroom/health"
_SMALLEST_PART = 5 * 1024 * 1024
_OURS_ALREADY = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


class MinioObjects(Objects):
    """Objects of one bucket. Calls run in threads of this instance and end within its timeouts."""

    def __init__(self, server: Server, bucket: str) -> None:
        self.bucket = bucket
        self._server = server
        self._threads = Threads("storage-objects")
        self._http = http_client(repeatable=True)
        self._client = Minio(
            server.host,
            access_key=server.key.key_id,
            secret_key=server.key.secret,
            region=server.region,
            secure=server.secure,
            http_client=self._http,
        )

    async def ensure_bucket(self) -> None:
        await self._run(self._ensure_bucket, what=f"make the bucket {self.bucket!r}")

    async def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> None:
        await self._run(self._put, key, data, content_type, what=f"write {key!r}")

    async def get(self, key: str) -> bytes:
        return await self._run(self._get, key, what=f"read {key!r}")

    async def list(self, prefix: str) -> Sequence[StoredObject]:
        return await self._run(self._list, prefix, what=f"list {prefix!r}")

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete the keys; those that do not exist count as deleted."""
        if keys:
            await self._run(self._delete, keys, what=f"delete {len(keys)} objects")

    async def healthy(self) -> Health:
        """Write a small object: a full disk and a wrong key show as well."""
        try:
            await self.put(HEALTH_KEY, b"ok\n", content_type="text/plain")
        except OpsroomError as error:
            problem = error.problems[0]
            return Health(part="storage", level="fail", detail=problem.what, fix=problem.fix)
        return Health(part="storage", level="ok", detail=f"bucket {self.bucket} at {self._server.endpoint}")

    async def close(self) -> None:
        await self._threads.close()
        self._http.clear()

    async def _run(self, call: Callable[..., T], *args: object, what: str) -> T:
        try:
            return await self._threads.run(call, *args)
        except S3Error as error:
            raise self._translated(error, what) from error
        except InvalidResponseError as error:
            raise unreachable(self._server, "the answer is not one of an S3 server") from error
        except (HTTPError, ServerError, OSError) as error:
            raise unreachable(self._server) from error
        except ValueError as error:
            raise Invalid(f"Storage cannot {what}: {error}.", where=self._server.endpoint) from error

    def _translated(self, error: S3Error, what: str) -> OpsroomError:
        code = str(error.code)
        if code == "NoSuchKey":
            return NotFound(f"Storage has no object {error.object_name!r}.", where=self._server.endpoint)
        if code == "NoSuchBucket":
            return NotFound(
                f"Storage has no bucket {self.bucket!r}.",
                where=self._server.endpoint,
                fix="Start Opsroom again, which makes it, or set `storage.bucket`.",
            )
        if error.response.status == HTTPStatus.FORBIDDEN:
            return refused(self._server, what, code)
        if error.response.status == HTTPStatus.BAD_REQUEST:
            return Invalid(f"Storage cannot {what} ({code}).", where=self._server.endpoint)
        return unreachable(self._server, f"it could not {what} ({code})")

    def _ensure_bucket(self) -> None:
        if self._client.bucket_exists(self.bucket):
            return
        try:
            self._client.make_bucket(self.bucket)
        except S3Error as error:
            if error.code not in _OURS_ALREADY:
                raise

    def _put(self, key: str, data: bytes, content_type: str) -> None:
        """In one part, whatever its size: then the etag is the content's MD5."""
        part = max(len(data), _SMALLEST_PART)
        self._client.put_object(self.bucket, key, io.BytesIO(data), len(data), content_type, part_size=part)

    def _get(self, key: str) -> bytes:
        response = self._client.get_object(self.bucket, key)
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()

    def _list(self, prefix: str) -> Sequence[StoredObject]:
        found = self._client.list_objects(self.bucket, prefix=prefix, recursive=True)
        return tuple(
            StoredObject(key=entry.object_name, size=entry.size or 0, etag=(entry.etag or "").strip('"'))
            for entry in found
            if not entry.object_name.endswith("/")
        )

    def _delete(self, keys: Sequence[str]) -> None:
        """The answer is 200 even when keys were refused: their errors are inside."""
        failed = list(self._client.remove_objects(self.bucket, [DeleteObject(key) for key in keys]))
        failed = [error for error in failed if error.code != "NoSuchKey"]
        if not failed:
            return
        what = f"delete {failed[0].name!r}" + (f" and {len(failed) - 1} more" if len(failed) > 1 else "")
        if failed[0].code == "AccessDenied":
            raise refused(self._server, what, "AccessDenied")
        raise unreachable(self._server, f"it could not {what} ({failed[0].code})")
