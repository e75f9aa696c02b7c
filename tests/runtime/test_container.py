"""Engines in containers, with a scripted Docker: whoever dies first, no container goes on."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from homeport.errors import UpstreamError
from homeport.facts import Command
from homeport.runtime import container, docker, identity, shim
from homeport.runtime.container import OWNER, EngineContainer
from homeport.runtime.ledger import Ledger
from homeport.runtime.leftovers import reap
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.output import Output
from homeport.runtime.process import free_port
from homeport.settings import ModelSettings
from tests.runtime.conftest import fetch, survivors, until
from tests.support.fake_docker import FakeDocker

HOLDER = """
import asyncio, sys
from pathlib import Path
from homeport.facts import Command
from homeport.runtime.launcher import Launcher
from homeport.runtime.ledger import Ledger
from homeport.runtime.output import Output

async def main():
    command = Command(argv=tuple(sys.argv[3:]), container=sys.argv[2])
    output = Output()
    async with Launcher(Ledger(Path(sys.argv[1]))).running("m", command, output) as engine:
        await output.changed(1)
        print(engine.pid, flush=True)
        await asyncio.sleep(120)

asyncio.run(main())
"""
NAME = "homeport-m-1"
GONE = str(msgspec.structs.replace(identity.own(), started="1"))
UNKNOWN = str(msgspec.structs.replace(identity.own(), host="another"))


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path) as fake:
        yield fake


def started(
    fake: FakeDocker, *words: str, image: str = "stub:1", owner: str = "", port: int = 0
) -> Command:
    label = f"{OWNER}={owner or identity.own()}"
    port = port or free_port()
    options = ("--rm", "--init", "--name", NAME, "--label", label, "--env", "KEY")
    return Command(
        argv=(str(fake.program), "run", *options, image, "--port", str(port), *words),
        env=(("KEY", "secret"),),
        container=NAME,
    )


async def running(fake: FakeDocker) -> int:
    """The pid of the container's first process, once it is there."""
    await until(lambda: NAME in fake.containers())
    return int(fake.containers()[NAME]["pid"])


def lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_it_runs_speaks_and_stops(fake: FakeDocker) -> None:
    output = Output()
    async with await EngineContainer.spawn(started(fake, "--say", "hello"), output) as engine:
        pid = await running(fake)
        await until(lambda: engine.tail() == "hello")
        assert engine.exit_status is None
        assert fake.containers()[NAME]["env"] == {"KEY": "secret"}
        assert repr(engine) == f"EngineContainer('{NAME}', running)"
        assert await engine.stop() == 128 + signal.SIGTERM
        assert await engine.stop() == 128 + signal.SIGTERM
    assert not lives(pid)
    assert fake.containers() == {}
    assert ["stop", "-t", "10", NAME] in fake.calls()


async def test_one_that_ignores_sigterm_is_killed_after_the_grace(fake: FakeDocker) -> None:
    command = started(fake, "--ignore-sigterm", "--say", "up")
    engine = await EngineContainer.spawn(command)
    await until(lambda: engine.tail() == "up")
    began = time.monotonic()
    assert await engine.stop(0.5) == 128 + signal.SIGKILL
    assert time.monotonic() - began < 4
    assert fake.containers() == {}


async def test_without_grace_it_is_killed_at_once(fake: FakeDocker) -> None:
    engine = await EngineContainer.spawn(started(fake, "--ignore-sigterm", "--say", "up"))
    await until(lambda: engine.tail() == "up")
    await engine.stop(0.0)
    assert fake.containers() == {}
    assert not any(call[0] == "stop" for call in fake.calls())


async def test_a_cancelled_stop_leaves_nothing(fake: FakeDocker) -> None:
    engine = await EngineContainer.spawn(started(fake, "--ignore-sigterm", "--say", "up"))
    await until(lambda: engine.tail() == "up")
    stop = asyncio.create_task(engine.stop(60))
    await until(lambda: any(call[0] == "stop" for call in fake.calls()))
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    assert fake.containers() == {}


async def test_a_stop_while_the_image_is_pulled(fake: FakeDocker) -> None:
    """There is no container yet. What the pull says is seen."""
    engine = await EngineContainer.spawn(started(fake, image="slow-pull:1"))
    await until(lambda: "Pulling from" in engine.tail())
    began = time.monotonic()
    assert await engine.stop(30) == 130
    assert time.monotonic() - began < 5


async def test_a_killed_client_takes_its_container_along(fake: FakeDocker) -> None:
    async with await EngineContainer.spawn(started(fake, "--say", "up")) as engine:
        pid = await running(fake)
        await until(lambda: engine.tail() == "up")
        (client,) = psutil.Process(engine.pid).children()
        client.kill()
        assert await engine.wait() == 128 + signal.SIGKILL
        assert not lives(pid)
        assert fake.containers() == {}


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("missing:1", "there is no such image"),
        ("no-network:1", "could not be pulled"),
        ("no-gpu:1", "install the NVIDIA Container Toolkit"),
        ("no-program:1", "the image has no such program (status 127)"),
    ],
)
async def test_what_docker_says_is_told_with_the_next_step(
    fake: FakeDocker, image: str, words: str
) -> None:
    async with await EngineContainer.spawn(started(fake, image=image)) as engine:
        assert await engine.wait() in (125, 127)
        assert words in engine.how_ended


async def test_docker_that_does_not_run(fake: FakeDocker) -> None:
    fake.stop()
    async with await EngineContainer.spawn(started(fake)) as engine:
        assert await engine.wait() == 125
        assert "Docker is not running; start it" in engine.how_ended


async def test_the_engine_s_own_status_is_told_as_it_is(fake: FakeDocker) -> None:
    async with await EngineContainer.spawn(started(fake, "--exit", "3")) as engine:
        assert await engine.wait() == 3
        assert engine.how_ended == "exited with status 3"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (125, "status 125"),
        (126, "cannot be executed"),
        (137, "exited with status 137"),
        (None, "exited with status None"),
    ],
)
def test_statuses(status: int | None, words: str) -> None:
    assert words in docker.how_ended(status, "nothing that we know")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Got permission denied while trying to connect to the Docker daemon socket", "its group"),
        ("Conflict. The container name is already in use by container", "docker rm --force"),
        ("Bind for 127.0.0.1:8000 failed: port is already allocated", "its port is taken"),
    ],
)
def test_troubles(said: str, words: str) -> None:
    assert words in docker.how_ended(125, said)


# --------------------------------------------------------------------------- memory


async def test_whose_memory_is_measured(fake: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container's first process, if it is surely that one; never Docker's client."""
    async with await EngineContainer.spawn(started(fake, "--say", "up")) as engine:
        pid = await running(fake)
        assert await engine.measured_pid() is None, "this one is in no control group of Docker's"
        monkeypatch.setattr(container, "_is_of", lambda *_: True)
        assert await engine.measured_pid() == pid
        await engine.stop()
        assert await engine.measured_pid() is None


# --------------------------------------------------------------------------- left behind


async def test_before_a_start_those_without_an_owner_are_removed(fake: FakeDocker) -> None:
    fake.run(NAME, f"{OWNER}={GONE}", "homeport.instance=m")
    fake.run("other", f"{OWNER}={identity.own()}", "homeport.instance=m")
    before = int(fake.containers()[NAME]["pid"])
    async with await EngineContainer.spawn(started(fake, "--say", "up")) as engine:
        await until(lambda: engine.tail() == "up")
        assert not lives(before)
        assert await running(fake) != before
    assert list(fake.containers()) == ["other"]


async def test_a_name_that_is_taken_is_an_error(fake: FakeDocker) -> None:
    fake.run(NAME)
    async with await EngineContainer.spawn(started(fake)) as engine:
        assert await engine.wait() == 125
        assert "a container with this name is there" in engine.how_ended


async def test_at_the_start_those_without_an_owner_are_removed(
    fake: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{sys.exec_prefix}")
    fake.run("gone", f"{OWNER}={GONE}")
    fake.run("living", f"{OWNER}={identity.own()}")
    fake.run("unclear", f"{OWNER}={UNKNOWN}")
    fake.run("not-ours")
    fake.run("strange", f"{OWNER}=nonsense")
    ledger = Ledger(tmp_path / "engines")
    assert not await reap(ledger, uses_docker=False), "nobody uses containers: none are looked at"
    left = await reap(ledger, uses_docker=True)
    assert (left.containers, left.unclear) == (("gone",), ("unclear",))
    assert sorted(fake.containers()) == ["living", "not-ours", "strange", "unclear"]


class Held:
    """A homeport with an engine in a container."""

    def __init__(self, fake: FakeDocker, folder: Path, *words: str) -> None:
        command = started(fake, "--say", "up", *words)
        argv = [sys.executable, "-c", HOLDER, str(folder / "engines"), NAME, *command.argv]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.shim = psutil.Process(int(self.process.stdout.readline()))

    def kill(self) -> float:
        self.process.kill()
        self.process.communicate()
        return time.monotonic()


@pytest.mark.parametrize("words", [(), ("--ignore-sigterm",)], ids=["polite", "deaf"])
async def test_a_killed_homeport_leaves_no_container(
    fake: FakeDocker, tmp_path: Path, words: tuple[str, ...]
) -> None:
    held = Held(fake, tmp_path, *words)
    pid = await running(fake)
    killed_at = held.kill()
    await until(lambda: not fake.containers())
    assert time.monotonic() - killed_at < shim.GRACE_S + 2.0
    assert not lives(pid)


async def test_a_container_that_outlived_the_shim_is_removed_at_the_next_start(
    fake: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though containers are not configured any more: the note names it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{sys.exec_prefix}")
    held = Held(fake, tmp_path)
    pid = await running(fake)
    ledger = Ledger(tmp_path / "engines")
    ((path, record),) = ledger.read()
    assert record is not None
    assert record.container == NAME
    clients = held.shim.children()
    held.shim.suspend()
    held.kill()
    held.shim.kill()
    assert survivors(clients) == []  # else it is ended with its tree, and passes the signal on
    assert lives(pid)
    # Its label says that this process started it (``started``): as if that one had gone.
    listed = container.Ours.listed

    async def relabelled(program: str) -> container.Ours:
        ours = await listed(program)
        gone = identity.parsed(GONE)
        assert gone is not None
        ours.containers = [(a, b, c, gone) for a, b, c, _ in ours.containers]
        return ours

    monkeypatch.setattr(container.Ours, "listed", relabelled)
    left = await reap(ledger, uses_docker=False)
    assert left.containers == (NAME,)
    assert not lives(pid)
    assert not path.exists()


async def test_while_docker_is_down_the_note_stays(
    fake: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{sys.exec_prefix}")
    ledger = Ledger(tmp_path / "engines")
    entry = ledger.begin("m", started(fake))
    entry._record = msgspec.structs.replace(entry._record, owner=identity.parsed(GONE))
    entry.spawned(1)
    fake.stop()
    assert not await reap(ledger, uses_docker=False)
    assert len(ledger.read()) == 1


# --------------------------------------------------------------------------- the whole instance


async def test_an_instance_in_a_container(fake: FakeDocker) -> None:
    def command_for(model: ModelSettings, port: int, api_key: str) -> Command:
        return started(fake, port=port)

    instance = ManagedInstance(
        ModelSettings(id="m"), fetch, command_for=command_for, backoff=lambda _: 0.05
    )
    try:
        first = await instance.ensure_ready()
        fake_pid = await running(fake)
        psutil.Process(fake_pid).kill()  # it crashes inside
        await until(lambda: instance.endpoint not in (None, first))
        assert "exited with status 137" in str(instance.last_error)
    finally:
        await instance.stop()
    assert fake.containers() == {}


async def test_an_image_that_is_not_there_fails_the_start_with_what_docker_said(
    fake: FakeDocker,
) -> None:
    def command_for(model: ModelSettings, port: int, api_key: str) -> Command:
        return started(fake, image="missing:1", port=port)

    instance = ManagedInstance(
        ModelSettings(id="m"), fetch, command_for=command_for, backoff=lambda _: None
    )
    with pytest.raises(UpstreamError) as raised:
        await instance.ensure_ready()
    assert "there is no such image" in raised.value.message
    assert "pull access denied" in raised.value.message
    await instance.stop()
