"""What a reply to a message is about, on a real homeserver: the message as it reads now."""

from appservice.homeserver import content
from appservice.homeserver.events import Event
from appservice.ops.uploads import Uploads
from tests.support.bed import BOT, Bed


def reply_to(bed: Bed, event_id: str) -> Event:
    relation = {"m.relates_to": {"m.in_reply_to": {"event_id": event_id}}}
    return Event(id="$reply", room_id=bed.room, type="m.room.message", sender=BOT, content=relation)


async def test_of_an_edited_message_its_newest_text_is_applied(bed: Bed) -> None:
    async def said(txn: str, text: str, edited: str = "") -> str:
        body = content.message(f"```yaml\n{text}\n```")
        body = content.edit(body, edited) if edited else body
        return await bed.homeserver.send(bed.room, "m.room.message", body, txn, user=BOT)

    first = await said("upload.1", "a: first")
    for number, text in enumerate(("a: second", "a: third"), start=2):
        await said(f"upload.{number}", text, edited=first)
        assert await Uploads(bed.homeserver).find(reply_to(bed, first)) == (f"{text}\n".encode(), "the block")
