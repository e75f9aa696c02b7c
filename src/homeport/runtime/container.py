"""One engine in a container: the same face as ``process.EngineProcess``.

The program that runs under the shim is ``docker run``, in the foreground: what the engine says is what
it says (the pulling of the image before that too), and its end is the engine's. But the container is a
child of Docker's daemon. Killing the client leaves it where it is. So:

* **Asked to end**, it is asked through the daemon (``docker stop``), which knows the signal that the
  image wants and kills after the grace.
* **Whoever dies first**, the shim removes it by its name (``docker rm --force``, its end command): when
  homeport has gone, when the client was killed, and once more when all went well, to no effect. Names
  are new for each start, so that this never meets another one.
* **If the shim dies as well**, its labels tell the next homeport whose it was (``runtime.leftovers``).

A container that an unclean end has left holds its port and, much worse, the GPU's memory. So those
whose homeport has gone are removed before a start, too.
"""

import asyncio
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from homeport.facts import Command
from homeport.runtime import docker, identity
from homeport.runtime.output import Output
from homeport.runtime.process import STOP_GRACE_S, TAIL_LINES, EngineProcess
from homeport.runtime.shims import Shims

log = structlog.get_logger()

OWNER: Final = "homeport.owner"
"""The label that says which homeport it belongs to."""
INSTANCE: Final = "homeport.instance"
CLIENT_END_S: Final = 3.0
"""How long the client may take to end once its container has, or when it has none yet."""
_LIST: Final = f'{{{{.ID}}}}\t{{{{.Names}}}}\t{{{{.Label "{INSTANCE}"}}}}\t{{{{.Label "{OWNER}"}}}}'


class EngineContainer:
    """A running engine in a container.

    ``spawn`` starts it and returns when Docker has been told to. ``wait`` returns when the container
    has ended and is removed.
    """

    def __init__(self, client: EngineProcess, program: str, name: str) -> None:
        self._client, self._docker, self._name = client, program, name

    @classmethod
    async def spawn(
        cls, command: Command, output: Output | None = None, *, spares: Shims | None = None
    ) -> "EngineContainer":
        """``command`` is a ``docker run``; its ``container`` is the name in it."""
        program, name = command.argv[0], command.container
        assert name is not None, "the command of a container"
        await _make_way(program)
        at_end = (program, "rm", "--force", name)
        client = await EngineProcess.spawn(command, output, at_end, spares=spares)
        return cls(client, program, name)

    @property
    def pid(self) -> int:
        """The shim's; what it has below it is Docker's client only."""
        return self._client.pid

    @property
    def exit_status(self) -> int | None:
        return self._client.exit_status

    @property
    def how_ended(self) -> str:
        return docker.how_ended(self.exit_status, self.tail())

    async def measured_pid(self) -> int | None:
        """The container's first process. None where it is not one of this machine, as far as can be
        seen: Docker may run in a virtual machine, or somewhere else altogether."""
        form = "{{.State.Pid}} {{.Id}}"
        try:
            said = await docker.run(self._docker, "inspect", "--format", form, self._name)
        except OSError:
            return None
        match = re.fullmatch(r"([1-9]\d*) ([0-9a-f]{64})", said.out.strip())
        if match is None:
            return None
        pid, container_id = match.groups()
        return int(pid) if _is_of(int(pid), container_id) else None

    async def wait(self) -> int:
        return await self._client.wait()

    async def stop(self, grace_s: float = STOP_GRACE_S) -> int:
        """End it: by the daemon, and without it when it does not answer or has not started it yet.
        Without grace it is killed. May be called at any time, also again."""
        ask_s = CLIENT_END_S
        try:
            if self.exit_status is None and grace_s > 0 and await self._ask(math.ceil(grace_s)):
                with suppress(TimeoutError):  # it ends by itself, with the engine's status
                    await asyncio.wait_for(self._client.wait(), CLIENT_END_S)
        except OSError as error:  # the program has been uninstalled meanwhile
            log.warning("container.not_stopped", name=self._name, error=error.strerror)
        except BaseException:
            ask_s = 0.0
            raise
        finally:
            status = await self._client.stop(min(ask_s, grace_s))
        return status

    async def _ask(self, grace_s: int) -> bool:
        """Tell the daemon to stop it. False when there is none yet, or no answer."""
        words = ("stop", "-t", str(grace_s), self._name)
        said = await docker.run(self._docker, *words, within_s=grace_s + docker.BRIEF_S)
        log.debug("container.stop", name=self._name, status=said.status, said=said.err)
        return said.status == 0

    def tail(self, lines: int = TAIL_LINES) -> str:
        return self._client.tail(lines)

    async def __aenter__(self) -> "EngineContainer":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __repr__(self) -> str:
        state = "running" if self.exit_status is None else f"exited {self.exit_status}"
        return f"EngineContainer({self._name!r}, {state})"


class Ours:
    """Containers that homeports have started, as Docker lists them."""

    def __init__(self, program: str, containers: list[tuple[str, str, str, identity.Identity]]):
        self._docker = program
        self.containers = containers
        """Id, name, instance and owner of each."""

    @classmethod
    async def listed(cls, program: str) -> "Ours":
        """Raises ``OSError`` when Docker cannot be asked; its ``strerror`` says why."""
        words = ("ps", "--all", "--no-trunc", "--filter", f"label={OWNER}", "--format", _LIST)
        said = await docker.run(program, *words)
        if said.status != 0:
            raise OSError(said.status, docker.how_ended(125, said.err))
        found = []
        for line in said.out.splitlines():
            container_id, name, instance, label = line.split("\t")
            if (owner := identity.parsed(label)) is not None:
                found.append((container_id, name, instance, owner))
        return cls(program, found)

    async def remove(self, container_id: str) -> bool:
        """End and remove it; True also when it has gone meanwhile."""
        said = await docker.run(self._docker, "rm", "--force", container_id, within_s=30.0)
        return said.status == 0 or bool(re.search("No such|already in progress", said.err))


async def _make_way(program: str) -> None:
    """Remove what has no owner any more."""
    try:
        ours = await Ours.listed(program)
        for container_id, name, instance, owner in ours.containers:
            if owner.fate == "gone":
                log.warning("container.reaped", name=name, instance=instance)
                await ours.remove(container_id)
    except OSError as error:  # ``docker run`` will say it to the person
        log.debug("container.not_listed", error=error.strerror)


def _is_of(pid: int, container_id: str) -> bool:
    """Whether the process is in that container: its control group is called after it."""
    try:
        return container_id in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False
