"""Watching an engine that is ready: what it is asked, and what ``lifecycle.liveness`` is told."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from homeport.engines.anthropic_messages import auth_headers
from homeport.errors import UpstreamError
from homeport.facts import Command, Endpoint
from homeport.lifecycle import liveness
from homeport.lifecycle.liveness import Liveness
from homeport.runtime.instance import Base
from homeport.runtime.output import Output
from homeport.runtime.probe import Fetch

log = structlog.get_logger()

Silence = Callable[[str], float]
"""For how many seconds nothing has come from the server at a URL; infinite where nothing is open."""


def unheard(url: str) -> float:
    return math.inf


class Patience(NamedTuple):
    """How often an engine is asked, and how long it may be silent."""

    period_s: float = liveness.PERIOD_S
    timeout_s: float = liveness.TIMEOUT_S
    failures: int = liveness.FAILURES
    busy_s: float = liveness.BUSY_S
    one_thread_busy_s: float = liveness.ONE_THREAD_BUSY_S


USUAL: Final = Patience()


async def until_stuck(
    instance: Base,
    endpoint: Endpoint,
    command: Command,
    output: Output,
    *,
    fetch: Fetch,
    silence: Silence,
    patience: Patience,
) -> str:
    """Watch it, and return when it is stuck: what to tell people. Runs until it is cancelled else."""
    busy_s = patience.busy_s if command.answers_busy else patience.one_thread_busy_s
    judge = Liveness(time.monotonic(), busy_s=busy_s, failures=patience.failures)
    left, lines = instance.clients_left, output.next
    while True:
        await asyncio.sleep(patience.period_s)
        if await _answers(endpoint, command, fetch, patience.timeout_s):
            judge.answered(time.monotonic())
            left, lines = instance.clients_left, output.next
            continue
        spoke = output.next != lines
        has_work = instance.in_flight > 0 or instance.clients_left != left
        left, lines = instance.clients_left, output.next
        silence_s = 0.0 if spoke else silence(endpoint.base_url)
        is_stuck = judge.failed(time.monotonic(), silence_s=silence_s, has_work=has_work)
        log.warning("instance.probe_failed", instance=instance.id, stuck=is_stuck, busy=has_work)
        if is_stuck:
            return "did not answer its liveness probe"


async def _answers(endpoint: Endpoint, command: Command, fetch: Fetch, timeout_s: float) -> bool:
    url = endpoint.base_url.removesuffix("/v1") + command.ready_path
    try:
        status, _, _ = await fetch(url, auth_headers(command.api_key, "openai_chat"), timeout_s)
    except UpstreamError:
        return False
    return status == 200
