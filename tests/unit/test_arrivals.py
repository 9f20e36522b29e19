"""Of a room that the bot has just come into, only what was said since then counts."""

from typing import Any

from appservice.homeserver.arrivals import since_arrival

BOT = "@opsroom:hs"


def said(text: str) -> dict[str, Any]:
    return {"type": "m.room.message", "sender": "@ann:hs", "content": {"body": text}}


def member(membership: str, before: str = "", user: str = BOT) -> dict[str, Any]:
    unsigned = {"prev_content": {"membership": before}} if before else {}
    content = {"membership": membership}
    return {"type": "m.room.member", "sender": user, "state_key": user, "content": content, "unsigned": unsigned}


def test_what_was_said_before_the_bot_came_in_is_left_out() -> None:
    came = member("join", "invite")
    assert since_arrival([said("old"), member("invite"), came, said("new")], BOT) == [came, said("new")]


def test_it_is_the_last_time_that_counts() -> None:
    again = member("join")
    assert since_arrival([member("join"), said("old"), member("leave", "join"), said("older"), again], BOT) == [again]


def test_another_name_of_the_bot_and_others_who_come_in_change_nothing() -> None:
    batch = [said("one"), member("join", "join"), member("join", user="@ann:hs"), said("two")]
    assert since_arrival(batch, BOT) == batch
