"""What is told of requests that wait, and how often."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from homeport.server.metrics import Metrics, Outcome
from homeport.server.waiting import AGAIN_S, LONG_S, Waiting
from homeport.wire.events import Progress


class Bench:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.waiting = Waiting(self.metrics.under_way)

    def begin(self, *, stream: bool = True) -> Outcome:
        outcome = self.metrics.begin("openai", "it", stream=stream)
        outcome.began = 0.0
        return outcome

    def told_at(self, now: float) -> list[dict[str, object]]:
        with capture_logs() as lines:
            self.waiting.look(now)
        return [{**line} for line in lines]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_quick_request_is_not_told(bench: Bench) -> None:
    outcome = bench.begin()
    assert bench.told_at(LONG_S - 0.1) == []
    bench.metrics.end(outcome, status=200, has_left=False)
    assert bench.told_at(LONG_S) == []


def test_a_long_wait_is_told_once_and_rarely_again(bench: Bench) -> None:
    bench.begin().progress = Progress(total=24_600, processed=7_600)
    assert bench.told_at(LONG_S) == [
        {
            "event": "request.waits",
            "log_level": "info",
            "model": "it",
            "waited_s": 5,
            "until": "first token",
            "prompt_read": "30 % of 24600 tokens",
        }
    ]
    assert bench.told_at(2 * LONG_S) == []
    assert bench.told_at(LONG_S + AGAIN_S - 0.1) == []
    assert [line["waited_s"] for line in bench.told_at(LONG_S + AGAIN_S)] == [35]


def test_nobody_guesses_how_much_is_read(bench: Bench) -> None:
    bench.begin()
    bench.begin().progress = Progress()
    assert ["prompt_read" in line for line in bench.told_at(LONG_S)] == [False, False]


def test_a_stream_that_speaks_waits_no_more(bench: Bench) -> None:
    outcome = bench.begin()
    assert len(bench.told_at(LONG_S)) == 1
    outcome.sent(LONG_S, b"data: {}\n\n")
    assert bench.told_at(LONG_S + AGAIN_S) == []


def test_a_whole_answer_waits_until_its_end(bench: Bench) -> None:
    outcome = bench.begin(stream=False)
    assert [line["until"] for line in bench.told_at(LONG_S)] == ["whole answer"]
    bench.metrics.end(outcome, status=200, has_left=False)
    assert bench.told_at(LONG_S + AGAIN_S) == []
