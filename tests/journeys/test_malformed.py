"""Two hundred wrong uploads, and files that are no YAML at all: each is refused in a sentence, and nothing changes."""

import asyncio
import re
import sqlite3

import pytest

from tests.support import faults
from tests.support.malformed import malformed
from tests.support.person import Message
from tests.support.stack import Stack, worker_yaml

SIDE_BY_SIDE = 12
JARGON = re.compile(
    r"Traceback|pydantic|ValidationError|validation error|input_value|input_type|type=|\bNone\b|NoneType|<class"
    r"|\b(?:Value|Type|Key|Unicode\w*|Attribute|Scanner|Parser|Composer)Error\b|object at 0x|\bstr\b|\bdict\b"
    r"|\\x[0-9a-f]{2}"
)
WHAT_TO_DO = re.compile(r"[.!?`:]")


def objects(stack: Stack) -> list[tuple[object, ...]]:
    """Every object that is declared, with its generation, and every revision there ever was."""
    db = sqlite3.connect(f"file:{stack.data_dir / 'opsroom.db'}?mode=ro", uri=True)
    try:
        found = db.execute(
            "SELECT kind, name, generation, document, changed_at FROM resources ORDER BY name"
        ).fetchall()
        return [*found, *db.execute("SELECT count(*) FROM revisions").fetchall()]
    finally:
        db.close()


async def refusal(stack: Stack, name: str, data: bytes) -> str:
    """Upload it; the one answer it gets."""
    event = await stack.op.upload(stack.ops_room, name, data)
    await stack.op.ended(event, 120)
    answers = stack.op.answers(event)
    assert stack.op.reaction_keys(event) == {"👀", "❌"}, (name, _texts(answers))
    assert len(answers) == 1, _texts(answers)
    return answers[0].text


def _texts(messages: list[Message]) -> list[str]:
    return [message.text for message in messages]


def is_clear(text: str) -> bool:
    """A sentence for a person: it says something, and nothing of how this program is made."""
    return len(text) > 20 and bool(WHAT_TO_DO.search(text)) and not JARGON.search(text)


async def test_two_hundred_malformed_uploads_get_two_hundred_clear_refusals_and_change_nothing(stack: Stack) -> None:
    await stack.worker("bystander", soul="Untouched.")
    before, lines = objects(stack), len(stack.log().splitlines())
    inputs = malformed(200)
    assert len(inputs) == 200
    gate = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(number: int, data: bytes) -> str:
        async with gate:
            return await refusal(stack, f"wrong-{number}.yaml", data)

    texts = await asyncio.gather(*(one(number, data) for number, (_, data) in enumerate(inputs)))

    unclear = [(kind, text) for (kind, _), text in zip(inputs, texts, strict=True) if not is_clear(text)]
    assert unclear == []
    listed = [text for text in texts if "problem" in text]
    assert all("Nothing was changed." in text for text in listed)
    assert len(listed) > 150
    assert objects(stack) == before
    await faults.all_done(stack)
    broke = [line for line in stack.log().splitlines()[lines:] if '"error"' in line or "Traceback" in line]
    assert broke == []
    assert "no changes" in (await stack.apply(worker_yaml("bystander", soul="Untouched."))).text.lower()


@pytest.mark.parametrize(
    ("what", "data", "said"),
    [
        ("too large", b"#" * (2**20 + 1), "1 MiB"),
        ("much too large", b"x" * (3 * 2**20), "1 MiB"),
        ("binary", bytes(range(256)) * 40, "UTF-8"),
        ("an image", b"\x89PNG\r\n\x1a\n" + bytes(2000), "UTF-8"),
        ("UTF-16", worker_yaml("sixteen").encode("utf-16"), "UTF-8"),
        ("empty", b"", ""),
        ("blank", b"\n\n   \n", ""),
        ("one endless line", b"a: " + b"[" * 200_000, ""),
    ],
)
async def test_a_file_that_is_no_yaml_is_refused_in_a_sentence(stack: Stack, what: str, data: bytes, said: str) -> None:
    before = objects(stack)

    text = await refusal(stack, f"{what.replace(' ', '-')}.yaml", data)

    assert is_clear(text), text
    assert said in text
    assert objects(stack) == before


async def test_a_file_that_the_homeserver_does_not_have_is_refused_in_a_sentence(stack: Stack) -> None:
    body = {"msgtype": "m.file", "body": "gone.yaml", "filename": "gone.yaml", "url": "mxc://ops.local/nothinghere"}

    event = await stack.op.send(stack.ops_room, "m.room.message", body)

    answer = await stack.op.ended(event)
    assert "❌" in stack.op.reaction_keys(event)
    assert "Upload it again." in answer.text
