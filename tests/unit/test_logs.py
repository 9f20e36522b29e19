"""Secrets never reach a log, whichever key they hide under."""

import pytest

from appservice.logs import mask


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("as_token", "anything"),
        ("password", "hunter2"),
        ("api_key", "x"),
        ("error", "refused sk-live-abcdefghijk for you"),
        ("error", "Bearer abcdefghijklmnop was refused"),
        ("event", "got eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl back"),
    ],
)
def test_what_looks_like_a_secret_is_masked(key: str, value: str) -> None:
    line = mask(None, "info", {key: value})

    assert "***" in line[key]
    assert not any(word in line[key] for word in ("hunter2", "sk-live", "abcdefghijklmnop", "c2lnbmF0dXJl"))


def test_ordinary_lines_stay_as_they_are() -> None:
    line = {"event": "turn ended", "agent": "alice", "took_ms": 12}

    assert mask(None, "info", dict(line)) == line
