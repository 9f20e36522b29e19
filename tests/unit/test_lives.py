"""An agent that dies soon after it came up, over and over, rests longer each time."""

from appservice.reconcile.lives import FIRST_REST_S, LONGEST_REST_S, STEADY_S, Lives


def dead(times: int, *, after_s: float = 1.0) -> tuple[Lives, float]:
    """An agent that came up and died so often; and when it did last."""
    lives, now = Lives(), 1000.0
    for _ in range(times):
        lives.up("alice", now=now)
        now += after_s
        assert lives.died("alice", now=now)
    return lives, now


def test_the_first_death_costs_nothing_and_each_further_one_doubles_the_rest() -> None:
    rests = [lives.rest_s("alice", now=now) for lives, now in map(dead, range(1, 9))]
    assert rests == [0, FIRST_REST_S, 20, 40, 80, 160, LONGEST_REST_S, LONGEST_REST_S]


def test_a_rest_ends_by_itself_and_with_a_start() -> None:
    lives, now = dead(2)
    assert lives.rest_s("alice", now=now + FIRST_REST_S - 1) == 1
    assert lives.rest_s("alice", now=now + FIRST_REST_S) == 0
    lives.up("alice", now=now)
    assert lives.rest_s("alice", now=now) == 0


def test_one_that_was_up_for_long_has_its_deaths_behind_it() -> None:
    lives, now = dead(3)
    lives.up("alice", now=now)
    lives.died("alice", now=now + STEADY_S)
    assert (lives.deaths("alice"), lives.rest_s("alice", now=now + STEADY_S)) == (1, 0)


def test_one_that_was_made_anew_or_never_came_up_has_not_died() -> None:
    lives, now = dead(5)
    assert not lives.died("alice", now=now)
    lives.ended("alice")
    assert (lives.deaths("alice"), lives.rest_s("alice", now=now)) == (0, 0)
    assert not lives.died("bob", now=now)
