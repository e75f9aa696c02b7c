"""The lines of an engine: numbered, bounded, and nothing missing without a word."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.runtime.output import LINE_COST_BYTES, MAX_LINE_BYTES, Lines, Output


def said(*pieces: bytes, kept_bytes: int = 1 << 20) -> Output:
    output = Output(kept_bytes)
    for piece in pieces:
        output.write(piece)
    return output


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        ((b"a\nb\n",), ("a", "b")),
        ((b"a", b"b\n"), ("ab",)),
        ((b"a\n\nb\n",), ("a", "", "b")),
        ((b"1 %\r2 %\rdone\n",), ("1 %", "2 %", "done")),
        ((b"a\r\nb\r\n",), ("a", "b")),
        ((b"a\r", b"\nb\n"), ("a", "b")),
        ((b"a\r", b"b\n"), ("a", "b")),
        ((b"\xff\n",), ("\ufffd",)),
        ((b"not yet",), ()),
    ],
)
def test_lines(pieces: tuple[bytes, ...], texts: tuple[str, ...]) -> None:
    assert said(*pieces).since(1) == Lines(0, 1, texts)


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\r\n", "ä".encode()])), st.data())
def test_however_it_is_cut(words: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(words)
    at = data.draw(st.integers(0, len(whole)))
    one, two = said(whole), said(whole[:at], whole[at:])
    one.end_run()
    two.end_run()
    assert one.since(1) == two.since(1)


def test_the_end_of_a_run_ends_the_line() -> None:
    output = said(b"out of memory")
    assert output.last_line == "out of memory"
    output.end_run()
    output.write(b"again\n")
    assert output.since(1).texts == ("out of memory", "again")


def test_what_is_gone_is_counted() -> None:
    output = said(*(b"%d\n" % n for n in range(1, 101)), kept_bytes=10 * (2 + LINE_COST_BYTES))
    found = output.since(1)
    assert found.dropped + len(found.texts) == 100
    assert found.texts[-1] == "100"
    assert found.first == found.dropped + 1
    assert output.since(99) == Lines(0, 99, ("99", "100"))
    assert output.since(101) == Lines(0, 101, ())
    assert output.last(2).texts == ("99", "100")
    assert output.last(1000).texts == found.texts


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_of_any_length_is_bounded(end: bytes) -> None:
    output = said(b"x" * (3 * MAX_LINE_BYTES + 1) + end)
    output.end_run()
    assert [len(text) for text in output.since(1).texts] == [*([MAX_LINE_BYTES] * 3), 1]


def test_empty_lines_are_bounded() -> None:
    output = said(b"\n" * 10_000, kept_bytes=100 * LINE_COST_BYTES)
    assert len(output.since(1).texts) == 100


async def test_a_follower_is_told_of_new_lines_and_of_the_end() -> None:
    output = said(b"one\n")
    await output.changed(1)  # is there already
    waiting = [asyncio.create_task(output.changed(2)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one who leaves takes nothing from the others
    output.write(b"half")
    await asyncio.sleep(0)
    assert not waiting[1].done()
    output.write(b" a line\n")
    await asyncio.gather(*waiting[1:])
    last = asyncio.create_task(output.changed(3))
    await asyncio.sleep(0)
    output.close()
    await last
    assert output.since(2) == Lines(0, 2, ("half a line",))
