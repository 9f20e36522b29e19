"""What a reply is about when the homeserver is of another kind than ours."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from appservice.errors import Invalid
from appservice.homeserver.client import Homeserver
from appservice.homeserver.events import Event
from appservice.ops.uploads import Uploads

REPLY = Event(
    id="$reply",
    room_id="!r",
    type="m.room.message",
    sender="@op:hs",
    content={"m.relates_to": {"m.in_reply_to": {"event_id": "$said"}}},
)


class Serving:
    """A homeserver that says this of the edit of a message."""

    def __init__(self, edit: Mapping[str, Any]) -> None:
        self._edit = edit

    async def event(self, room_id: str, event_id: str) -> Mapping[str, Any]:
        said = {"event_id": event_id, "room_id": room_id, "type": "m.room.message", "sender": "@op:hs"}
        body = {"body": "```yaml\na: old\n```"}
        return {**said, "content": body, "unsigned": {"m.relations": {"m.replace": self._edit}}}


NEW = {"m.new_content": {"body": "```yaml\na: new\n```"}}


@pytest.mark.parametrize(
    "edit",
    [{"event_id": "$edit", "sender": "@op:hs", "origin_server_ts": 1}, {"sender": "@other:hs", "content": NEW}],
    ids=["says only that there is one", "is of somebody else"],
)
async def test_a_message_whose_edit_is_not_told_is_refused(edit: Mapping[str, Any]) -> None:
    with pytest.raises(Invalid, match="was edited"):
        await Uploads(cast("Homeserver", Serving(edit))).find(REPLY)


async def test_a_message_reads_as_its_edit_does() -> None:
    serving = Serving({"event_id": "$edit", "sender": "@op:hs", "content": NEW})
    assert await Uploads(cast("Homeserver", serving)).find(REPLY) == (b"a: new\n", "the block")
