"""One start, watched: until all of its containers are healthy, or one will not be.

``docker compose up`` starts databases first and waits for them; who waits at a terminal wants to know
for what. So it runs beside us, while we look at the containers and tell.

A start that fails leaves nothing that crashes: Docker would start that again and again, after the
machine's next boot, too, and nobody would be told any more. What this start has started and does not
stay up is stopped; its log stays, and ``status`` says how it ended. All else goes on: what ran before
is none of this start's business, what is healthy may be in use, what is unhealthy can be looked into.
The error names it, and what ends it.
"""

import re
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from subprocess import Popen
from threading import Thread
from typing import Final

from homeport.errors import StackError
from homeport.stack.containers.docker_client import Docker, failed
from homeport.stack.containers.inspected import Container
from homeport.stack.proxy import Tell
from homeport.stack.waiting import Repeated

DATABASE: Final = "timescaledb"
LOOK_S: Final = 0.25
"""How often we look at containers that start."""
START_S: Final = 20 * 60.0
"""For all to be healthy: a big model's file may have to be read from a slow disk."""
WORDS_OF_LOGS: Final = 30
END_S: Final = 10
"""For one that crashes, and just runs once more, to end by itself."""

_DEPENDENCY: Final = re.compile(r"dependency failed to start: container (\S+) ")


class TakenAwayError(StackError):
    """Another command has stopped what starts. The rest is that one's."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: stopped by another command while it started",
            hint="`homeport proxy start` begins anew",
        )


class Rise:
    """From now on. ``look`` returns the stack's containers, ``names`` are the services that shall be
    up, ``before`` the containers that there were."""

    def __init__(
        self,
        docker: Docker,
        look: Callable[[], list[Container]],
        names: list[str],
        before: Collection[Container],
    ) -> None:
        self._docker, self._look, self._names = docker, look, names
        self._ran = {each.id for each in before if each.is_alive}
        self._begun = datetime.now(UTC)

    def wait(self, process: Popen[str], turn: ExitStack, tell: Tell) -> None:
        """Until all are healthy, or one will not be: raises ``StackError``. ``process`` is Compose at
        work; ``turn`` ends when all containers are there."""
        deadline = time.monotonic() + START_S
        said: list[str] = []
        reader = Thread(target=_read, args=(process, said), daemon=True)
        reader.start()
        waiting = Repeated(tell)
        while True:
            ended = process.poll()
            there = {c.service: c for c in self._look() if c.service in self._names}
            missing = [name for name in self._names if name not in there or not there[name].is_up]
            if not missing and ended == 0:
                return
            for each in there.values():
                if self._has_failed(each, is_compose_done=ended is not None):
                    raise (TakenAwayError(each.service) if each.was_stopped else self._broken(each))
            if ended:
                reader.join()
                raise self._not_up(said)
            if ended == 0:
                turn.close()
                if gone := [name for name in self._names if name not in there]:
                    raise TakenAwayError(", ".join(gone))
            if time.monotonic() > deadline:
                raise StackError(
                    f"not healthy after {START_S / 60:g} minutes: {', '.join(missing)}",
                    hint="`homeport proxy logs` shows what they say",
                )
            if not there and said:  # images first
                waiting(said[-1].strip())
            elif missing:
                waiting(
                    "waiting for "
                    + ", ".join(there[n].in_short if n in there else n for n in missing)
                )
            time.sleep(LOOK_S)

    def _has_failed(self, each: Container, *, is_compose_done: bool) -> bool:
        """Judged by what has happened since we began. One that ran then may be on its way out, as long
        as Compose is at work: another one takes its place."""
        if each.id in self._ran and not is_compose_done:
            return False
        return each.has_failed and each.since is not None and each.since > self._begun

    def given_up(self, error: StackError) -> StackError:
        """Stops what crashes, of what has been started since; returns the error with what goes on.
        Compose has to have ended."""
        stopped, alive = list[str](), list[str]()
        with suppress(StackError):  # the first error is the one to be told
            crashing = [c for c in self._look() if c.is_crashing and c.id not in self._ran]
            if crashing:
                ids = [each.id for each in crashing]
                self._docker.ask("stop", f"--time={END_S}", *ids, within_s=END_S + 20.0)
                stopped = [each.service for each in crashing]
            alive = [each.service for each in self._look() if each.is_alive]
        hints = filter(None, (error.hint, *_rest(stopped, alive)))
        return StackError(error.message, said=error.said, hint="; ".join(hints))

    def _not_up(self, said: list[str]) -> StackError:
        """Compose has given up. Where it waited for a container, that one has more to say."""
        named = next((match[1] for line in said if (match := _DEPENDENCY.search(line))), None)
        container = next((each for each in self._look() if each.name == named), None)
        if container is None:
            return failed(
                "docker compose up", said, hint="mend that, then `homeport proxy restart`"
            )
        return self._broken(container)

    def _broken(self, container: Container) -> StackError:
        name = container.service
        said = self._docker.composed(
            *("--profile", "*", "logs", "--no-color", "--no-log-prefix"),
            *("--tail", str(WORDS_OF_LOGS), name),
        )
        how = container.last_check
        what = (
            f"is unhealthy{f' ({how})' if how else ''}"
            if container.is_unhealthy
            else f"does not stay up: it exited with status {container.exit_status}"
        )
        return StackError(
            f"{name} {what}",
            said=tuple(said),
            hint=f"`homeport proxy logs --service {name}` shows more; then `homeport proxy restart`",
        )


def _rest(stopped: list[str], alive: list[str]) -> list[str]:
    """What a failed start leaves, in words."""
    found = []
    if stopped:
        verb = "is" if len(stopped) == 1 else "are"
        found.append(f"{', '.join(sorted(stopped))} {verb} stopped now")
    if alive:
        verb = "goes" if len(alive) == 1 else "go"
        database = " --stop-db" if DATABASE in alive else ""
        found.append(f"{', '.join(sorted(alive))} {verb} on, until `homeport proxy stop{database}`")
    return found


def _read(process: Popen[str], said: list[str]) -> None:
    """In a thread: a build says more than a pipe holds."""
    assert process.stdout is not None
    with suppress(ValueError):  # closed, when we are waiting no longer
        said.extend(line for line in process.stdout if line.strip())
