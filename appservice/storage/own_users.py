"""What is the same for users of one installation, whichever way they are kept: their names, their policies, and calls
in threads of their own that end within the client's timeouts."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from urllib3.exceptions import HTTPError

from appservice.storage.access import Policy, policy, user_name
from appservice.storage.protocol import Access, Users
from appservice.storage.wire import Server, Threads, http_client, unreachable

P = ParamSpec("P")
T = TypeVar("T")


class OwnUsers(Users):
    """`asked`: the server that keeps them. The methods to fill in run in a thread."""

    def __init__(self, asked: Server, *, bucket: str, installation: str, repeatable: bool) -> None:
        self._asked = asked
        self._bucket = bucket
        self._installation = installation
        self._threads = Threads("storage-users")
        self._client = http_client(repeatable=repeatable)

    async def ensure(self, name: str, access: Access) -> bool:
        return await self._run(self._ensure, self._user(name), policy(self._bucket, access))

    async def delete(self, name: str) -> None:
        await self._run(self._delete, self._user(name))

    async def names(self) -> Mapping[str, Sequence[str]]:
        return await self._run(self._names)

    async def close(self) -> None:
        await self._threads.close()
        self._client.clear()

    @abstractmethod
    def _ensure(self, user: str, wanted: Policy) -> bool:
        """True if anything was written."""

    @abstractmethod
    def _delete(self, user: str) -> None: ...

    @abstractmethod
    def _names(self) -> Mapping[str, Sequence[str]]:
        """Users of this installation, and the ids of their keys."""

    def _user(self, name: str) -> str:
        return user_name(self._installation, name)

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._threads.run(call, *args, **kwargs)
        except (HTTPError, OSError, ValueError) as error:
            raise unreachable(self._asked) from error
