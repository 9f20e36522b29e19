"""Storage as the settings name it."""

from appservice.config import Settings, StorageSettings
from appservice.errors import Invalid
from appservice.storage.filer import FilerUsers
from appservice.storage.iam import IamUsers
from appservice.storage.minio_admin import MinioUsers
from appservice.storage.objects import MinioObjects
from appservice.storage.protocol import AccessKey, Objects, Users
from appservice.storage.wire import Server


def connect(settings: Settings) -> tuple[Objects, Users]:
    """Make both halves. Nothing is sent yet; the caller closes them."""
    storage = settings.storage
    server = Server(
        endpoint=storage.endpoint,
        region=storage.region,
        key=AccessKey(key_id=storage.access_key, secret=_secret(storage)),
    )
    return MinioObjects(server, storage.bucket), _users(settings, server)


def _users(settings: Settings, server: Server) -> Users:
    given = {"bucket": settings.storage.bucket, "installation": settings.installation}
    match settings.storage_users:
        case "filer":
            return FilerUsers(server, filer=settings.storage_filer, **given)
        case "minio":
            return MinioUsers(server, **given)
        case _:
            return IamUsers(server, **given)


def _secret(storage: StorageSettings) -> str:
    given = storage.secret_key.get_secret_value()
    path = storage.secret_key_file
    if not given and path is not None:
        try:
            given = path.read_text().strip()
        except OSError as error:
            raise Invalid(
                f"the key of storage cannot be read from {path}: {error.strerror}", where="storage.secret_key_file"
            ) from error
    if not given:
        raise Invalid(
            "storage has no secret key",
            where="storage.secret_key",
            fix="Set OPSROOM_STORAGE__SECRET_KEY, or name a file in `storage.secret_key_file`.",
        )
    return given
