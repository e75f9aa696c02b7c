"""Engines and gateways that are killed, stuck or mad. Nothing lost, nothing left.

Real processes throughout; the engines are the fake one under the name of a `llama-server`, and at the
end the real llama.cpp.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from homeport.demo import demo_model_path
from tests.e2e.dialects import ANTHROPIC, BOTH, OPENAI, Dialect
from tests.e2e.raw_client import Exchange, SseEvent, ask, send
from tests.support.engine import Answer
from tests.support.fake_engine.script import DEFAULT_TEXT
from tests.support.gateway import Gateway
from tests.support.own_engines import Own, OwnEngines, is_alive, survivors

pytestmark = pytest.mark.faults

both_dialects = pytest.mark.parametrize("dialect", BOTH, ids=str)
streamed_or_whole = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
GONE_WITHIN_S = 2.0
BUSY_S = 1.0
"""On top, for a machine that runs other tests as well."""
NASTY = ("--ignore-sigterm", "--fork-grandchild")
"""Deaf to SIGTERM, with a daemon in a session of its own."""


async def answered(
    gateway: Gateway, dialect: Dialect, *, stream: bool = True, model: str = "one"
) -> str:
    """The text of an answer that ended well."""
    request = dialect.request(stream=stream, model=model)
    async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
        assert exchange.status == 200, await exchange.body()
        if not stream:
            return str(await exchange.json())
        events = await exchange.all_events()
    assert dialect.errors(events) == []
    assert dialect.ended_well(events)
    return dialect.text_of(events)


async def works(gateway: Gateway, model: str = "one") -> None:
    for dialect in BOTH:
        assert await answered(gateway, dialect, model=model) == DEFAULT_TEXT


@asynccontextmanager
async def asking(
    gateway: Gateway, dialect: Dialect, *, stream: bool = True, model: str = "one"
) -> AsyncIterator[Exchange]:
    request = dialect.request(stream=stream, model=model)
    async with await send(gateway.base_url, "POST", dialect.path, request) as exchange:
        yield exchange


def kill(process: psutil.Process | int) -> None:
    os.kill(process if isinstance(process, int) else process.pid, signal.SIGKILL)


# --- the engine is killed -------------------------------------------------------------------


async def test_idle(tmp_path: Path) -> None:
    """Requests that come at once wait for the restart; they are told nothing of it."""
    own = OwnEngines(tmp_path, {"one": ("--fork-grandchild",)})
    with own.gateway() as gateway:
        await works(gateway)
        first = await own.engine("one")
        tree = first.tree()
        kill(first.process)
        await works(gateway)
        assert await survivors(tree, GONE_WITHIN_S + BUSY_S) == []
        assert (await own.engine("one")).process != first.process
        gateway.wait_idle()


@both_dialects
async def test_loading(tmp_path: Path, dialect: Dialect) -> None:
    """Who waits is told why, in the stream that has opened; the next one has an engine again."""
    own = OwnEngines(tmp_path, {"one": ("--ready-after", "1.5")})
    with own.gateway() as gateway:
        async with asking(gateway, dialect) as exchange:
            engine = await own.engine("one")
            kill(engine.process)
            await exchange.answered()
            if exchange.status == 200:
                (error,) = dialect.errors(await exchange.all_events())
            else:
                error = dialect.error_in(await exchange.json())
            assert "exited with status 137" in error["message"]
        await until_works(gateway, dialect)
        gateway.wait_idle()


async def until_works(gateway: Gateway, dialect: Dialect) -> None:
    """A client that comes again when it is told to."""
    deadline = time.monotonic() + 30
    while True:
        request = dialect.request(stream=False, model="one")
        async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
            if exchange.status == 200:
                return
            assert exchange.status == 503, await exchange.body()
            assert int(exchange.headers["retry-after"]) >= 1
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


@both_dialects
async def test_in_mid_stream(tmp_path: Path, dialect: Dialect) -> None:
    """The stream ends with the error of its dialect, which says what happened."""
    own = OwnEngines(tmp_path, {"one": ()})
    with own.gateway() as gateway:
        await works(gateway)
        engine = await own.engine("one")
        engine.fake.reset()
        engine.fake.script(Answer(text="one two three", then="stall", at=3))
        async with asking(gateway, dialect) as exchange:
            await engine.fake.happens("first", 1)
            kill(engine.process)
            await exchange.answered()
            events = await exchange.all_events()
        (error,) = dialect.errors(events)
        assert "exited with status 137" in error["message"]
        assert not dialect.ended_well(events)
        assert dialect.text_of(events), "what had come before has been sent"
        await works(gateway)
        gateway.wait_idle()


@both_dialects
@streamed_or_whole
@pytest.mark.parametrize("at", ["headers", 0], ids=["no word", "200 and no more"])
async def test_before_the_first_byte(
    tmp_path: Path, dialect: Dialect, stream: bool, at: int | str
) -> None:
    """Nobody has had anything of the answer: it is asked for again, from the restarted engine."""
    own = OwnEngines(tmp_path, {"one": ()})
    with own.gateway() as gateway:
        await works(gateway)
        engine = await own.engine("one")
        engine.fake.reset()
        engine.fake.script(Answer(then="stall", at="headers" if at == "headers" else 0))
        async with asking(gateway, dialect, stream=stream) as exchange:
            await engine.fake.happens("request" if at == "headers" else "headers", 1)
            kill(engine.process)
            await exchange.answered()
            assert exchange.status == 200
            if stream:
                events = await exchange.all_events()
                assert dialect.errors(events) == []
                assert dialect.ended_well(events)
                assert dialect.text_of(events) == DEFAULT_TEXT
            else:
                assert DEFAULT_TEXT in str(await exchange.json())
        gateway.wait_idle()


async def test_many_at_once(tmp_path: Path) -> None:
    """Sixteen clients, some in mid-answer, some not: each gets an answer or an error, and no lease is
    lost."""
    own = OwnEngines(tmp_path, {"one": ()}, slots=16)
    with own.gateway() as gateway:
        await works(gateway)
        engine = await own.engine("one")
        engine.fake.reset()
        engine.fake.script(
            *(Answer(text="a b c d e f", then="stall", at=4 if n % 2 else 0) for n in range(16))
        )

        async def one(number: int) -> list[SseEvent]:
            async with asking(gateway, BOTH[number // 2 % 2]) as exchange:
                await exchange.answered()
                return await exchange.all_events()

        clients = [asyncio.create_task(one(n)) for n in range(16)]
        await engine.fake.happens("headers", 16)
        await engine.fake.happens("first", 8)
        kill(engine.process)
        ends = [0, 0]
        for number, client in enumerate(clients):
            dialect, events = BOTH[number // 2 % 2], await client
            failed, well = bool(dialect.errors(events)), dialect.ended_well(events)
            assert failed != well
            ends[well] += 1
        assert ends[True] >= 8, "those that had had nothing, at least"
        assert ends[False] > 0
        await works(gateway)
        gateway.wait_idle()


# --- homeport is killed ---------------------------------------------------------------------


async def killed(gateway: Gateway, engines: list[Own]) -> None:
    """Nothing of it is there two seconds later."""
    tree = [process for engine in engines for process in engine.tree()]
    tree += [process for process in gateway.children() if process not in tree]
    assert len(tree) >= 2
    kill(gateway.pid)
    assert await survivors(tree, GONE_WITHIN_S + BUSY_S) == []


@pytest.mark.parametrize("options", [(), NASTY], ids=["polite", "nasty"])
async def test_homeport_is_killed_while_it_is_loading(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    own = OwnEngines(tmp_path, {"one": ("--ready-after", "600", *options)})
    with own.gateway() as gateway:
        async with asking(gateway, ANTHROPIC):
            await killed(gateway, [await own.engine("one")])


@pytest.mark.parametrize("options", [(), NASTY], ids=["polite", "nasty"])
async def test_homeport_is_killed_while_it_is_ready(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    own = OwnEngines(tmp_path, {"one": options})
    with own.gateway() as gateway:
        await works(gateway)
        await killed(gateway, [await own.engine("one")])


async def test_homeport_is_killed_in_mid_stream(tmp_path: Path) -> None:
    own = OwnEngines(tmp_path, {"one": NASTY})
    with own.gateway() as gateway:
        await works(gateway)
        engine = await own.engine("one")
        engine.fake.reset()
        engine.fake.script(Answer(flood_bytes=1_000_000_000))
        async with asking(gateway, OPENAI):
            await engine.fake.happens("first", 1)
            await killed(gateway, [engine])


async def test_homeport_is_killed_while_it_evicts(tmp_path: Path) -> None:
    """The one that shall go is deaf and has its ten seconds; the other one waits for its place."""
    own = OwnEngines(tmp_path, {"one": NASTY, "two": ()})
    with own.gateway() as gateway:
        await works(gateway)
        one = await own.engine("one")
        async with asking(gateway, OPENAI, model="two"):
            await until_state(gateway, "one", "stopping")
            await killed(gateway, [one])


async def until_state(gateway: Gateway, model: str, state: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        async with await ask(gateway.base_url, "GET", "/readyz") as exchange:
            found = (await exchange.json())["models"][model]["state"]
        if found == state:
            return
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)


async def test_the_next_homeport_finds_nothing_to_do(tmp_path: Path) -> None:
    """It starts as ever, and says nothing."""
    own = OwnEngines(tmp_path, {"one": ("--fork-grandchild",)})
    with own.gateway() as gateway:
        await works(gateway)
        await killed(gateway, [await own.engine("one")])
    notes = tmp_path / "home" / "homeport" / "state" / "engines"
    assert len(list(notes.iterdir())) == 1
    with own.gateway() as gateway:
        await works(gateway)
        assert "ended what" not in gateway.output()
    assert list(notes.iterdir()) == []


async def test_homeport_and_its_shims_are_killed_together(tmp_path: Path) -> None:
    """The kernel ends the engine, and the next homeport the daemon that fled."""
    own = OwnEngines(tmp_path, {"one": ("--fork-grandchild",)})
    with own.gateway() as gateway:
        await works(gateway)
        engine = await own.engine("one")
        assert engine.fake.grandchild_pid is not None
        daemon = psutil.Process(engine.fake.grandchild_pid)
        shims = psutil.Process(gateway.pid).children()
        for shim in shims:
            shim.suspend()
        kill(gateway.pid)
        for shim in shims:
            shim.kill()
        assert await survivors([engine.process], GONE_WITHIN_S) == []
        assert is_alive(daemon), "else there is nothing to show"
    with own.gateway() as gateway:
        await works(gateway)
        assert not is_alive(daemon)
        assert "ended what a homeport has left that was killed: one (1 process)" in gateway.output()


# --- engines that are mad -------------------------------------------------------------------

FLOOD_BYTES = 300_000_000
SLACK_BYTES = 30_000_000


async def test_a_flood_on_stdout_takes_no_memory(tmp_path: Path) -> None:
    own = OwnEngines(tmp_path, {"one": ("--flood-stdout", str(FLOOD_BYTES // 6))})
    with own.gateway() as gateway:
        await works(gateway)
        before = gateway.rss_bytes()
        for _ in range(2):
            await works(gateway)
        assert gateway.rss_bytes() - before < SLACK_BYTES


async def test_an_engine_that_is_deaf_is_killed_after_the_grace(tmp_path: Path) -> None:
    own = OwnEngines(tmp_path, {"one": NASTY})
    with own.gateway() as gateway:
        await works(gateway)
        tree = (await own.engine("one")).tree()
        assert len(tree) == 3
        began = time.monotonic()
        gateway.terminate()
        assert await asyncio.to_thread(gateway.wait_end) == 0
        assert 10.0 <= time.monotonic() - began < 16.0
        assert await survivors(tree, 0.0) == []


async def test_a_port_that_opens_late(tmp_path: Path) -> None:
    own = OwnEngines(tmp_path, {"one": ()}, prelude="sleep 2")
    with own.gateway() as gateway:
        await works(gateway)
        gateway.wait_idle()


async def test_an_engine_that_is_ready_and_dies(tmp_path: Path) -> None:
    """Over and over: requests end, one way or the other, and homeport lives."""
    own = OwnEngines(tmp_path, {"one": ()}, prelude="(sleep 1; kill -9 $$) &")
    with own.gateway() as gateway:
        answers = 0
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            request = OPENAI.request(stream=False, model="one")
            async with await ask(gateway.base_url, "POST", OPENAI.path, request) as exchange:
                assert exchange.status in (200, 502, 503), await exchange.body()
                answers += exchange.status == 200
                if exchange.status != 200:
                    OPENAI.error_in(await exchange.json())
                    await asyncio.sleep(0.2)
        assert answers > 0
        gateway.wait_idle()


async def test_a_start_that_fails_says_the_last_fifty_lines(tmp_path: Path) -> None:
    own = OwnEngines(tmp_path, {"one": ()}, prelude="seq 1 200; exit 4")
    with own.gateway() as gateway:
        request = OPENAI.request(stream=False, model="one")
        async with await ask(gateway.base_url, "POST", OPENAI.path, request) as exchange:
            assert exchange.status == 503
            message = OPENAI.error_in(await exchange.json())["message"]
    assert "exited with status 4" in message
    assert message.splitlines()[1:] == [str(n) for n in range(151, 201)]


@pytest.mark.slow_engines
async def test_an_engine_that_is_stuck(tmp_path: Path) -> None:
    """Stopped by a signal, it answers nobody; noticed within a minute, killed and started anew."""
    own = OwnEngines(tmp_path, {"one": NASTY})
    with own.gateway() as gateway:
        await works(gateway)
        engine = await own.engine("one")
        tree = engine.tree()
        engine.process.suspend()
        assert await survivors([engine.process], 60.0) == []
        assert await survivors(tree, GONE_WITHIN_S) == []
        await works(gateway)
        assert "did not answer its liveness probe" in gateway.output()


# --- the real llama.cpp ---------------------------------------------------------------------


def llama_cpp(gateway: Gateway) -> psutil.Process:
    """The embedded server's process, below the shim."""
    commands = ((child, " ".join(child.cmdline())) for child in gateway.children())
    (found,) = (child for child, said in commands if "child" in said and "shim.py" not in said)
    return found


@pytest.mark.llamacpp
async def test_real_llama_cpp_is_killed_idle_and_in_mid_stream(tmp_path: Path) -> None:
    with Gateway(tmp_path, "--model", str(demo_model_path()), "--alias", "one") as gateway:
        for dialect in BOTH:
            await answered(gateway, dialect)
            first = llama_cpp(gateway)
            kill(first)
            await answered(gateway, dialect, stream=False)
            second = llama_cpp(gateway)
            assert second != first
            request = dialect.request("Tell me a long story.", stream=True, model="one")
            request["max_tokens"] = 4000
            if dialect is OPENAI:
                request["ignore_eos"] = True
            async with await ask(gateway.base_url, "POST", dialect.path, request) as exchange:
                events = exchange.events()
                seen = [await anext(events)]
                while not dialect.text_of(seen):
                    seen.append(await anext(events))
                kill(second)
                seen += [event async for event in events]
            if dialect is OPENAI:  # without end; the other may have been said before the signal
                (error,) = dialect.errors(seen)
                assert "exited with status 137" in error["message"]
            await answered(gateway, dialect)
        gateway.wait_idle()
        gateway.assert_no_internal_error()
        tree = gateway.children()
        kill(gateway.pid)
        assert await survivors(tree, GONE_WITHIN_S + BUSY_S) == []
