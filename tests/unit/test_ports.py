"""Ports are chosen by binding them."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from appservice.embedded import ports
from appservice.embedded.ports import Chosen, Want
from appservice.errors import Limit


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        yield busy.getsockname()[1]


def free() -> int:
    """A port with room after it and a free one 10000 above."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
        if 20000 < port < 50000:
            return port


def choose(wants: list[Want]) -> dict[str, Chosen]:
    with ExitStack() as reserved:
        return ports.choose(wants, reserved)


def test_a_free_port_is_given_and_nothing_is_said() -> None:
    port = free()
    chosen = choose([Want(name="web", port=port)])["web"]
    assert (chosen.port, chosen.said) == (port, "")


def test_a_busy_port_gives_the_next_one_and_says_who_holds_it(taken: int) -> None:
    chosen = choose([Want(name="the client", port=taken)])["the client"]
    assert chosen.port > taken
    assert f"Port {taken} is taken" in chosen.said
    assert f"the client uses {chosen.port}" in chosen.said
    if os.path.isdir("/proc/self/fd"):
        assert f"process {os.getpid()}" in chosen.said


def test_two_that_want_the_same_port_get_different_ones() -> None:
    port = free()
    chosen = choose([Want(name="a", port=port), Want(name="b", port=port)])
    assert chosen["a"].port == port
    assert chosen["b"].port > port


def test_a_port_whose_companion_is_busy_is_not_given(taken: int) -> None:
    below = taken - 10000
    chosen = choose([Want(name="storage", port=below, also=(10000,))])["storage"]
    assert chosen.port > below


@pytest.mark.skipif(sys.platform != "linux", reason="reserved by names that only Linux has")
def test_a_chosen_port_is_not_given_to_another_that_starts_at_the_same_time() -> None:
    want = [Want(name="web", port=free())]
    with ExitStack() as first, ExitStack() as second:
        chosen = [ports.choose(want, reserved)["web"].port for reserved in (first, second)]
        assert chosen[0] < chosen[1]
    assert choose(want)["web"].port == chosen[0]


def test_a_port_next_to_the_end_of_the_range_is_refused_in_a_sentence() -> None:
    with pytest.raises(Limit, match="no port from 65535 on"):
        choose([Want(name="storage", port=65535, also=(10000,))])


def test_everybody_on_the_machine_counts_not_only_those_on_loopback() -> None:
    with socket.socket() as busy:
        busy.bind(("0.0.0.0", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert choose([Want(name="web", port=port)])["web"].port != port


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_listener_is_told_from_a_stranger(taken: int) -> None:
    assert ports.listens(os.getpid(), taken)
    assert not ports.listens(os.getppid(), taken)
    assert not ports.listens(os.getpid(), free())
