"""What leaves when, of several connections; the transport is the test's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homeport.outgoing import FLUSH_BYTES, MOST, Outgoing, Unsent


class Wires:
    """Transports that write down what they are told, in one list."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.unsent = Unsent()

    def out(self, name: str) -> tuple[Outgoing, Wire]:
        wire = Wire(self.told, name)
        return Outgoing(wire, self.unsent, asyncio.get_running_loop()), wire


class Wire(asyncio.Transport):
    def __init__(self, told: list[tuple[str, str]], name: str) -> None:
        super().__init__()
        self._told, self._name, self.is_closed = told, name, False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self._told.append((self._name, data.decode()))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"+".join(list_of_data))

    def write_eof(self) -> None:
        self._told.append((self._name, "EOF"))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True
        self._told.append((self._name, "closed"))


@pytest.fixture
async def wires() -> Wires:
    return Wires()


async def test_a_turn_is_one_write_for_each(wires: Wires) -> None:
    (a, _), (b, _) = wires.out("a"), wires.out("b")
    a.write(b"1")
    b.write(b"2")
    a.write(b"3")
    assert wires.told == []
    await asyncio.sleep(0)
    assert wires.told == [("a", "13"), ("b", "2")]
    a.write(b"4")
    await asyncio.sleep(0)
    assert wires.told[2:] == [("a", "4")], "and the next turn is another"


async def test_after_all_callbacks_of_the_turn(wires: Wires) -> None:
    a, _ = wires.out("a")
    loop = asyncio.get_running_loop()
    for text in (b"1", b"2", b"3"):
        loop.call_soon(a.write, text)
    await asyncio.sleep(0)
    assert wires.told == []
    await asyncio.sleep(0)
    assert wires.told == [("a", "123")]


async def test_what_is_much_does_not_wait(wires: Wires) -> None:
    """Back-pressure is the transport's: it must hear of the bytes."""
    a, _ = wires.out("a")
    a.write(b"head ")
    a.write(b"x" * FLUSH_BYTES)
    assert wires.told == [("a", "head +" + "x" * FLUSH_BYTES)]
    a.write(b"end")
    await asyncio.sleep(0)
    assert wires.told[1:] == [("a", "end")]


async def test_so_many_wait_for_each_other(wires: Wires) -> None:
    for number in range(2 * MOST + 1):
        wires.out(str(number))[0].write(b"x")
        assert len(wires.told) == number // MOST * MOST
    await asyncio.sleep(0)
    assert wires.told == [(str(number), "x") for number in range(2 * MOST + 1)]


async def test_the_end_comes_after_what_was_written(wires: Wires) -> None:
    (a, _), (b, _) = wires.out("a"), wires.out("b")
    a.write(b"1")
    b.write(b"2")
    a.close()
    b.write_eof()
    assert wires.told == [("a", "1"), ("a", "closed"), ("b", "2"), ("b", "EOF")]
    await asyncio.sleep(0)
    assert len(wires.told) == 4


async def test_nothing_goes_to_a_transport_that_closes(wires: Wires) -> None:
    a, wire = wires.out("a")
    a.write(b"1")
    wire.close()
    a.flush()
    await asyncio.sleep(0)
    assert wires.told == [("a", "closed")]


async def test_a_close_within_the_turn_of_others(wires: Wires) -> None:
    """A transport may call back from within a write, and the callback may write."""
    (a, first), (b, _) = wires.out("a"), wires.out("b")
    written = first.write

    def write(data: Any) -> None:
        written(data)
        if data == b"1":
            a.write(b"2")
            b.write(b"3")

    first.write = write  # type: ignore[method-assign]
    a.write(b"1")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert wires.told == [("a", "1"), ("a", "2"), ("b", "3")]


async def test_one_that_fails_is_no_other_s_trouble(wires: Wires) -> None:
    (a, failing), (b, _) = wires.out("a"), wires.out("b")

    def fails(data: Any) -> None:
        raise RuntimeError

    failing.write = fails  # type: ignore[method-assign]
    a.write(b"1")
    b.write(b"2")
    await asyncio.sleep(0)
    assert wires.told == [("b", "2")]
