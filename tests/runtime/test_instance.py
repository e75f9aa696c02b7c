"""Instances: who waits gets an endpoint or a reason, and one start serves all."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from homeport.errors import UpstreamError
from homeport.facts import Command, Endpoint
from homeport.lifecycle.machine import State
from homeport.runtime.instance import Instance
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.remote import RemoteInstance
from homeport.settings import ModelSettings
from tests.runtime.conftest import STUB as STUB_FILE
from tests.runtime.conftest import Pids, fetch, stub_command, survivors, until
from tests.support.gguf import SHORTEST

STUB = ModelSettings(id="stub", path="stub.gguf")


@asynccontextmanager
async def managed(*options: str, **settings: Any) -> AsyncIterator[ManagedInstance]:
    """An instance of the stub engine, stopped at the end."""

    def command_for(model: ModelSettings, port: int, api_key: str) -> Command:
        return msgspec.structs.replace(stub_command(port, *options), api_key=api_key)

    given = {"command_for": command_for, "backoff": lambda _: 0.05, **settings}
    instance = ManagedInstance(STUB, fetch, **given)
    try:
        yield instance
    finally:
        await instance.stop()


def states_of(instance: Any) -> list[State]:
    """Record every state from now on."""
    seen: list[State] = []
    move = instance._move

    def recorded(event: Any) -> None:
        move(event)
        seen.append(instance.state)

    instance._move = recorded
    return seen


async def crash(endpoint: Endpoint) -> None:
    with pytest.raises(UpstreamError):
        await fetch(endpoint.base_url.removesuffix("/v1") + "/die", {}, 5.0)


async def test_ready_stop_and_ready_again() -> None:
    async with managed() as instance:
        seen = states_of(instance)
        endpoint = await instance.ensure_ready()
        assert instance.endpoint == endpoint
        assert (endpoint.engine.engine, endpoint.model.name) == ("llamacpp", "stub")
        assert (endpoint.model.context_tokens, endpoint.model.slots) == (4096, 2)
        assert endpoint.api_key
        await instance.stop()
        assert instance.endpoint != endpoint
        assert (await instance.ensure_ready()).base_url
        assert seen == ["starting", "ready", "stopping", "stopped", "starting", "ready"]
        assert repr(instance) == "ManagedInstance('stub', ready, in_flight=0)"


async def test_many_waiters_share_one_start(pids_file: Path, noted: Pids) -> None:
    async with managed("--ready-after", "0.3", "--pids", str(pids_file)) as instance:
        endpoints = await asyncio.gather(*(instance.ensure_ready() for _ in range(20)))
        assert len({endpoint.base_url for endpoint in endpoints}) == 1
        assert len(await noted(1)) == 1


async def test_a_waiter_that_leaves_disturbs_nobody() -> None:
    async with managed("--ready-after", "0.3") as instance:
        first = asyncio.create_task(instance.ensure_ready())
        second = asyncio.create_task(instance.ensure_ready())
        await asyncio.sleep(0.05)
        first.cancel()
        assert await second is instance.endpoint
        assert first.cancelled()


async def test_a_start_goes_on_when_its_only_waiter_leaves() -> None:
    async with managed("--ready-after", "0.2") as instance:
        waiter = asyncio.create_task(instance.ensure_ready())
        await asyncio.sleep(0.05)
        waiter.cancel()
        await until(lambda: instance.endpoint is not None)


async def test_a_port_that_opens_late_and_a_model_that_loads_for_long() -> None:
    async with managed("--listen-after", "0.3", "--ready-after", "0.3") as instance:
        await instance.ensure_ready()


async def test_a_failed_start_says_the_last_lines() -> None:
    async with managed("--say", "no such tensor", "--exit", "1") as instance:
        with pytest.raises(UpstreamError) as raised:
            await instance.ensure_ready()
        assert raised.value.kind == "unavailable"
        assert "exited with status 1" in raised.value.message
        assert raised.value.message.endswith("no such tensor")
        assert raised.value.retry_after_s == 1


async def test_no_readiness_in_time() -> None:
    async with managed("--ready-after", "60", startup_timeout_s=0.2) as instance:
        with pytest.raises(UpstreamError, match="not ready after 0 s"):
            await instance.ensure_ready()


async def test_a_crash_is_followed_by_a_restart() -> None:
    async with managed() as instance:
        seen = states_of(instance)
        first = await instance.ensure_ready()
        await crash(first)
        await until(lambda: instance.state == "ready" and len(seen) > 3)
        assert seen == ["starting", "ready", "backoff", "starting", "ready"]
        assert instance.endpoint is not None
        assert instance.endpoint.base_url != first.base_url
        assert "exited with status 9" in str(instance.last_error)


async def test_in_backoff_a_request_is_told_to_come_back() -> None:
    async with managed(backoff=lambda _: 7.0) as instance:
        await crash(await instance.ensure_ready())
        await until(lambda: instance.state == "backoff")
        with pytest.raises(
            UpstreamError, match=r"stub is not available \(backoff\): exited with status 9"
        ) as raised:
            await instance.ensure_ready()
        assert raised.value.retry_after_s == 7


async def test_too_many_crashes_fail_until_a_later_request_tries_anew(tmp_path: Path) -> None:
    options = ["--exit", "1"]

    def command_for(model: ModelSettings, port: int, api_key: str) -> Command:
        return stub_command(port, *options)

    delays = [0.01, 0.01, None]
    async with managed(
        command_for=command_for, backoff=lambda n: delays[n - 1], retry_failed_s=0.3
    ) as instance:
        seen = states_of(instance)
        instance.start()
        await until(lambda: instance.state == "failed")
        assert seen == ["starting", "backoff", "starting", "backoff", "starting", "failed"]
        with pytest.raises(UpstreamError, match=r"stub is not available \(failed\)"):
            await instance.ensure_ready()
        assert instance.state == "failed"  # too early
        await asyncio.sleep(0.3)
        options.clear()  # the cause is gone
        await instance.ensure_ready()


async def test_restarts_count_anew_after_a_stable_time(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[int] = []

    def backoff(attempt: int) -> float:
        attempts.append(attempt)
        return 0.01

    async with managed(backoff=backoff) as instance:
        for stable_s in (60.0, 60.0, 0.0):
            monkeypatch.setattr("homeport.runtime.managed.STABLE_S", stable_s)
            await until(lambda: instance.state in ("stopped", "ready"))
            await crash(await instance.ensure_ready())
            await until(lambda: instance.state != "ready")
    assert attempts == [1, 2, 1]


async def test_stop_in_every_state() -> None:
    async with managed("--ready-after", "60", startup_timeout_s=60) as instance:
        await instance.stop()  # stopped
        assert instance.state == "stopped"
        instance.start()
        await instance.stop()  # starting, before its task took a step
        assert instance.state == "stopped"
        waiter = asyncio.create_task(instance.ensure_ready())
        await asyncio.sleep(0.2)
        await instance.stop()  # starting
        with pytest.raises(UpstreamError, match=r"stub is not available \(stopped\)"):
            await waiter
    async with managed("--exit", "1", backoff=lambda _: 60.0) as instance:
        instance.start()
        await until(lambda: instance.state == "backoff")
        await instance.stop()
        assert instance.state == "stopped"
    async with managed("--exit", "1", backoff=lambda _: None) as instance:
        instance.start()
        await until(lambda: instance.state == "failed")
        await instance.stop()
        assert instance.state == "stopped"


@pytest.mark.parametrize("after_s", [0.0, 0.002, 0.01, 0.03, 0.08, 0.2])
async def test_a_stop_at_any_moment_leaves_no_process(after_s: float, pids_file: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    async with managed("--pids", str(pids_file)) as instance:
        waiter = asyncio.create_task(instance.ensure_ready())
        await asyncio.sleep(after_s)
        await instance.stop()
        assert instance.state == "stopped"
        await asyncio.wait([waiter])
        waiter.exception()
    children = psutil.Process().children(recursive=True)
    assert survivors([child for child in children if child.pid not in before]) == []


async def test_a_drain_lets_leases_finish_and_takes_no_more() -> None:
    async with managed() as instance:
        endpoint = await instance.ensure_ready()
        with instance.lease():
            stop = asyncio.create_task(instance.stop(drain_s=30))
            await until(lambda: instance.state == "draining")
            with pytest.raises(UpstreamError, match=r"stub is not available \(draining\)"):
                await instance.ensure_ready()
            status, _, _ = await fetch(endpoint.base_url + "/models", {}, 5.0)
            assert status == 200  # the engine still works for the lease
            assert not stop.done()
        await stop
        assert instance.state == "stopped"


async def test_a_drain_ends_after_its_time() -> None:
    async with managed() as instance:
        await instance.ensure_ready()
        with instance.lease():
            await instance.stop(drain_s=0.1)
            assert instance.state == "stopped"


async def test_two_stops_at_once() -> None:
    async with managed() as instance:
        await instance.ensure_ready()
        await asyncio.gather(instance.stop(), instance.stop(drain_s=1.0))
        assert instance.state == "stopped"


async def test_a_lease_is_returned_whatever_happens() -> None:
    async with managed() as instance:

        def fail() -> None:
            with instance.lease():
                assert instance.in_flight == 1
                raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011
            fail()

        async def hold() -> None:
            with instance.lease(), instance.lease():
                await asyncio.sleep(60)

        task = asyncio.create_task(hold())
        await until(lambda: instance.in_flight == 2)
        task.cancel()
        await until(lambda: instance.in_flight == 0)


async def test_a_port_that_was_taken_meanwhile_is_replaced() -> None:
    ports: list[int] = []
    with socket.socket() as taken:

        def command_for(model: ModelSettings, port: int, api_key: str) -> Command:
            ports.append(port)
            if len(ports) == 1:
                taken.bind(("127.0.0.1", port))
            return stub_command(port)

        async with managed(command_for=command_for) as instance:
            seen = states_of(instance)
            endpoint = await instance.ensure_ready()
            assert len(ports) == 2
            assert endpoint.base_url == f"http://127.0.0.1:{ports[1]}/v1"
            assert seen == ["starting", "ready"]


async def test_a_mistake_in_the_settings_is_not_tried_again_by_itself() -> None:
    """The next request may look again soon: nothing was started."""
    instance = ManagedInstance(ModelSettings(id="m", path="/nowhere/m.gguf"), fetch)
    with pytest.raises(UpstreamError, match="cannot read the model: No such file") as raised:
        await instance.ensure_ready()
    assert instance.state == "failed"
    assert instance.misconfigured is not None
    assert raised.value.retry_after_s == 1
    await instance.stop()


async def test_a_bug_of_ours_leaves_nobody_waiting() -> None:
    def command_for(model: ModelSettings, port: int, api_key: str) -> Command:
        raise ZeroDivisionError("oops")

    async with managed(command_for=command_for) as instance:
        with pytest.raises(UpstreamError, match="oops"):
            await instance.ensure_ready()


async def test_a_system_llama_server_is_started_with_its_flags(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(SHORTEST)
    binary = tmp_path / "llama-server"
    binary.write_text(
        f"""#!{sys.executable}
import json, os, sys
with open({str(tmp_path / "given.json")!r}, "w") as file:
    json.dump([sys.argv[1:], os.environ["LLAMA_API_KEY"]], file)
port = sys.argv[sys.argv.index("--port") + 1]
os.execv(sys.executable, [sys.executable, {str(STUB_FILE)!r}, "--port", port])
"""
    )
    binary.chmod(0o755)
    model = ModelSettings(
        id="m", path=str(tmp_path / "m.gguf"), binary=str(binary), args=("--no-mmap",)
    )
    instance = ManagedInstance(model, fetch)
    try:
        endpoint = await instance.ensure_ready()
        argv, key = json.loads((tmp_path / "given.json").read_text())
        assert key == endpoint.api_key
        assert {"--jinja", "--metrics", "--slots", "--no-mmap"} <= set(argv)
        assert key not in argv
    finally:
        await instance.stop()


# --------------------------------------------------------------------------- remote


class FakeServer:
    """Answers of a server as a ``Fetch``; may be down, slow, or count its probes."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.is_up = True
        self.delay_s = 0.0
        self.status = 200
        self.asked = 0

    async def __call__(
        self, url: str, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        if url.endswith("/models"):
            self.asked += 1
            await asyncio.sleep(self.delay_s)
        if not self.is_up:
            raise UpstreamError("unavailable", f"cannot connect to {url}")
        data = [{"id": name, "owned_by": "vllm", "max_model_len": 2048} for name in self.names]
        body = {"data": data} if url.endswith("/models") else {"version": "0.33.0"}
        return self.status, {"server": "uvicorn"}, json.dumps(body).encode()


def remote(server: FakeServer, **settings: Any) -> RemoteInstance:
    return RemoteInstance(ModelSettings(id="r", upstream="http://host:1/v1", **settings), server)


async def test_remote_becomes_ready_by_asking() -> None:
    instance = remote(FakeServer("a", "b"))
    assert instance.state == "stopped"
    endpoint = await instance.ensure_ready()
    assert endpoint.base_url == "http://host:1/v1"
    assert (endpoint.engine.engine, endpoint.engine.version) == ("vllm", "0.33.0")
    assert (endpoint.model.name, endpoint.model.context_tokens) == ("a", 2048)
    await instance.stop()
    assert (instance.state, instance.endpoint) == ("stopped", None)


async def test_remote_model_is_picked_by_name() -> None:
    instance = remote(FakeServer("a", "b"), upstream_model="b")
    assert (await instance.ensure_ready()).model.name == "b"


async def test_remote_model_that_is_not_listed_is_believed_to_exist() -> None:
    instance = remote(FakeServer("a"), upstream_model="hidden")
    endpoint = await instance.ensure_ready()
    assert (endpoint.model.name, endpoint.model.context_tokens) == ("hidden", None)


async def test_remote_without_models() -> None:
    with pytest.raises(UpstreamError, match="lists no models"):
        await remote(FakeServer()).ensure_ready()


async def test_remote_that_is_down_is_asked_once_for_all_and_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("homeport.runtime.remote.RETRY_PROBE_S", 0.1)
    server = FakeServer("a")
    server.is_up, server.delay_s = False, 0.05
    instance = remote(server)
    results = await asyncio.gather(
        *(instance.ensure_ready() for _ in range(10)), return_exceptions=True
    )
    assert {type(result) for result in results} == {UpstreamError}
    assert server.asked == 1
    assert instance.state == "backoff"
    with pytest.raises(UpstreamError, match="cannot connect"):
        await instance.ensure_ready()
    assert server.asked == 1  # too early
    server.is_up = True
    await asyncio.sleep(0.1)
    assert await instance.ensure_ready() == instance.endpoint


async def test_remote_reported_down_is_asked_again_by_the_next_request() -> None:
    server = FakeServer("a")
    instance = remote(server)
    await instance.ensure_ready()
    instance.report_down("connection refused")
    instance.report_down("connection refused")  # by another request
    assert (instance.state, instance.endpoint) == ("backoff", None)
    server.names = ("renamed",)
    assert (await instance.ensure_ready()).model.name == "renamed"
    assert server.asked == 2


@pytest.mark.parametrize(
    ("status", "words"), [(401, "wants a key"), (503, "loading"), (404, "answered 404")]
)
async def test_remote_says_what_is_wrong(status: int, words: str) -> None:
    server = FakeServer("a")
    server.status = status
    with pytest.raises(UpstreamError, match=words):
        await remote(server).ensure_ready()


async def test_remote_says_that_its_key_is_wrong() -> None:
    server = FakeServer("a")
    server.status = 401
    with pytest.raises(UpstreamError, match="refuses our api_key"):
        await remote(server, api_key="k").ensure_ready()


async def test_remote_that_was_discovered_is_ready_at_once() -> None:
    server = FakeServer("a")
    endpoint = await remote(server).ensure_ready()
    instance = RemoteInstance(STUB, server, endpoint=endpoint)
    assert (instance.state, instance.endpoint) == ("ready", endpoint)
    assert await instance.ensure_ready() is endpoint
    await instance.stop()
    assert server.asked == 1


async def test_remote_stop_during_a_probe() -> None:
    server = FakeServer("a")
    server.delay_s = 30
    instance = remote(server)
    waiter = asyncio.create_task(instance.ensure_ready())
    await asyncio.sleep(0.02)
    await instance.stop()
    with pytest.raises(UpstreamError, match=r"r is not available \(stopped\)"):
        await waiter


async def test_remote_drains() -> None:
    instance = remote(FakeServer("a"))
    await instance.ensure_ready()
    with instance.lease():
        stop = asyncio.create_task(instance.stop(drain_s=30))
        await until(lambda: instance.state == "draining")
    await stop
    assert instance.state == "stopped"


def test_both_kinds_follow_the_interface() -> None:
    async def main() -> None:
        kinds: list[Instance] = [ManagedInstance(STUB, fetch), remote(FakeServer())]
        assert [kind.state for kind in kinds] == ["stopped", "stopped"]

    asyncio.run(main())
