"""Which engines cannot start, as it is told to a person: once, with the next step."""

from __future__ import annotations

from homeport.errors import ConfigError
from homeport.facts import Endpoint, EngineFacts, ModelFacts
from homeport.runtime.instance import LAST_OUTPUT
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.start_news import Failure, StartNews
from homeport.settings import ModelSettings
from tests.runtime.conftest import fetch

ENDPOINT = Endpoint(base_url="http://h/v1", engine=EngineFacts(), model=ModelFacts(name="m"))


class Heard:
    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.ready: list[str] = []
        self.news = StartNews(
            lambda _, failure: self.failures.append(failure),
            lambda name, _: self.ready.append(name),
        )
        self.instance = ManagedInstance(ModelSettings(id="m"), fetch)

    def down(self, why: str | ConfigError, retry_s: float | None = None) -> None:
        self.instance.last_error = str(why)
        self.instance.misconfigured = why if isinstance(why, ConfigError) else None
        self.news.down(self.instance, retry_s=retry_s)


async def test_what_cannot_heal_by_itself_says_what_to_change_and_who_looks_again() -> None:
    heard = Heard()
    wrong = ConfigError("not a GGUF", where="/m.gguf", key="models.m.path", hint="look for another")
    heard.down(wrong)
    heard.down(wrong)
    assert heard.failures == [
        Failure(
            "m: /m.gguf: not a GGUF",
            "look for another",
            "requests for m get a 503; the next one looks again, and so does `homeport load m`",
        )
    ]
    assert heard.news.has_told(heard.instance)


async def test_an_engine_that_ended_is_told_once_until_it_is_given_up() -> None:
    heard = Heard()
    why = "did not start: exited with status 1: out of memory\n  hint: a smaller context"
    for retry_s in (0.5, 1.0, 2.0):
        heard.down(why, retry_s)
    (failure,) = heard.failures
    assert failure.reason == "m: did not start: exited with status 1: out of memory"
    assert failure.hint == "a smaller context"
    assert failure.after == "requests for m get a 503 until it starts; it is tried again"
    heard.down(why)
    assert heard.failures[1].after.endswith("one tries again, `homeport load m` at once")


async def test_of_lines_that_nobody_knows_the_last_one_is_told() -> None:
    heard = Heard()
    heard.down(f"did not start: exited with status 3{LAST_OUTPUT}one\nout of luck\n", 1.0)
    (failure,) = heard.failures
    assert failure.reason == "m: did not start: exited with status 3: out of luck"
    assert failure.hint == "all that it said: homeport logs m"


async def test_one_that_is_there_after_all_is_told_and_no_other() -> None:
    heard = Heard()
    heard.news.ready(heard.instance, ENDPOINT)
    assert heard.ready == []
    heard.down("did not start", 1.0)
    heard.news.ready(heard.instance, ENDPOINT)
    heard.news.ready(heard.instance, ENDPOINT)
    assert heard.ready == ["m"]


async def test_a_crash_of_one_that_was_ready_is_none_of_it() -> None:
    heard = Heard()
    heard.instance.was_ready = True
    heard.down("exited with status 9", 0.5)
    assert heard.failures == []


async def test_one_that_was_stopped_is_told_anew() -> None:
    heard = Heard()
    heard.down("did not start", 1.0)
    heard.news.stopped(heard.instance)
    heard.down("did not start", 1.0)
    assert len(heard.failures) == 2
