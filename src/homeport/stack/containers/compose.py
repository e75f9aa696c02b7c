"""The stack in containers, behind the face of ``stack.proxy``: Docker Compose does it, we watch.

How a start goes on, and what becomes of one that fails, is ``rising``. What a container is and how it
is, Docker itself is asked (``docker inspect``), by the labels that Compose gives.

A container that runs is never replaced by ``start``: Compose is asked first what it would do
(``--dry-run``), and only Compose knows whether settings and image are still those.

One command at a time makes or removes containers; two of Compose at once would fail at each other's
names. A start that only waits for health any more lets a stop in, and ends when it sees what that did.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Final

import msgspec
from msgspec.structs import replace

from homeport.config import load
from homeport.errors import StackError
from homeport.stack import answers, ports
from homeport.stack.alone import alone
from homeport.stack.containers import litellm_file
from homeport.stack.containers.docker_client import Docker, failed
from homeport.stack.containers.inspected import Container, container
from homeport.stack.containers.rising import DATABASE, Rise, TakenAwayError
from homeport.stack.layout import chosen_profiles
from homeport.stack.proxy import (
    GATEWAY,
    Health,
    Kind,
    Member,
    Started,
    Status,
    Tell,
    Wanted,
)

DATABASES: Final = (DATABASE, "litellm-database")
"""What is left out without one."""
FOLDER: Final = "stack"
"""Below the state folder; it is made when containers are started or stopped for the first time, with a
Docker that answers."""
ALL: Final = "*"
"""Stands for every profile."""
LOOKS: Final = 3
"""At containers, when one of them goes in between."""
CLEARED: Final = "\x1b[2K"
"""Compose 2.26 begins each line of a log with it, in a pipe, too."""

PORTS: Final = {
    GATEWAY: "HOMEPORT_PORT",
    "litellm": "LITELLM_PORT",
    "llama": "LLAMA_PORT",
    "prometheus": "PROMETHEUS_PORT",
    "grafana": "GRAFANA_PORT",
}
"""The variable of ``.env`` that says where a service is reached on this machine."""


_RECREATE: Final = re.compile(r"Container (\S+)\s+Recreate$")
"""In what a dry run says."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One service of the compose file, as Compose reads it."""

    name: str
    image: str
    is_built: bool
    profiles: tuple[str, ...]
    ports: tuple[int, ...]
    """On this machine."""


class Compose:
    """See ``stack.proxy.Proxy``. Every call raises ``StackError`` where Docker does not answer."""

    kind: Kind = "containers"

    def __init__(self, docker: Docker) -> None:
        self._docker, self._layout = docker, docker.layout

    # ------------------------------------------------------------------- images

    def services(self, profiles: Sequence[str] | None = None) -> list[Service]:
        """The services of these profiles; None takes those that ``.env`` has chosen."""
        words = [word for name in profiles or () for word in ("--profile", name)]
        env = None if profiles is None else {"COMPOSE_PROFILES": ""}
        try:
            said = self._docker.composed(*words, "config", "--format=json", env=env)
        except StackError as error:
            files = f"{self._layout.env_file} and {self._layout.compose_file}"
            hint = f"Compose reads {files}: mend what it names"
            raise StackError(error.message, said=error.said, hint=hint) from None
        read = json.loads("\n".join(said))
        return [
            Service(
                name=name,
                image=service.get("image") or f"{read['name']}-{name}",
                is_built="build" in service,
                profiles=tuple(service.get("profiles", ())),
                ports=tuple(int(port["published"]) for port in service.get("ports", ())),
            )
            for name, service in read["services"].items()
        ]

    def unknown_profiles(self) -> list[str]:
        """Names in ``.env`` that bring no service, in words: Compose passes over them in silence."""
        asked = chosen_profiles(self._layout.variables())
        if not asked:
            return []
        there = sorted(filter(None, map(str.strip, self._docker.composed("config", "--profiles"))))
        return [
            f"COMPOSE_PROFILES in {self._layout.env_file} has '{name}', which brings no service; "
            f"there are {', '.join(there)}"
            for name in asked
            if name not in (*there, ALL)
        ]

    def get_image(self, service: Service, tell: Tell) -> None:
        """Build or pull it, and tell how it goes on. Raises ``StackError``."""
        words = (
            ("--progress", "plain", "build")
            if service.is_built
            else ("pull", "--policy", "missing")
        )
        said: list[str] = []
        with self._docker.compose("--profile", "*", *words, service.name) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line.rstrip())
                tell(f"{service.name}: {said[-1]}")
        if process.returncode:
            what = "built" if service.is_built else "pulled"
            hint = "try again: `homeport install`"
            if service.profiles:
                hint += f"; to do without it: `homeport install --without {service.profiles[0]}`"
            raise failed(f"the image of {service.name} could not be {what}", said, hint)

    # ------------------------------------------------------------------- start and stop

    def start(self, wanted: Wanted, tell: Tell) -> Started:
        self._check()
        with self._alone(tell) as turn:
            return self._start(wanted, tell, turn, cuts_off=False)

    def restart(self, wanted: Wanted | None, tell: Tell) -> Started:
        self._check()
        with self._alone(tell) as turn:
            services = self.services()  # a compose file with errors stops nothing
            gateway = next((c for c in self._containers() if c.service == GATEWAY), None)
            if wanted is None:
                ran = gateway.wanted if gateway else ""
                wanted = msgspec.json.decode(ran, type=Wanted) if ran else Wanted()
            if any(service.name == litellm_file.SERVICE for service in services):
                litellm_file.news(self._layout, self._env(wanted))
            if gateway is not None and gateway.is_up:
                self._try_configuration(services, self._env(wanted))
            self._stop(tell, stop_db=False)
            return self._start(wanted, tell, turn, cuts_off=True)

    def _alone(self, tell: Tell) -> ExitStack:
        """The turn of this command; it ends with the block, or earlier by ``close``."""
        turn = ExitStack()
        turn.enter_context(alone(load.state_home(self._docker.env) / FOLDER, tell))
        return turn

    def _try_configuration(self, services: list[Service], env: Mapping[str, str]) -> None:
        """Where the gateway would read it, since models and servers are elsewhere there. Raises
        ``StackError``."""
        image = next(service.image for service in services if service.name == GATEWAY)
        if not self._docker.has_image(image):
            return
        words = ("run", "--rm", "--no-deps", "--no-TTY", GATEWAY, "config", "show")
        try:
            self._docker.composed(*words, env=env)
        except StackError as error:
            raise StackError(
                "the gateway would not start as it is configured now; nothing was stopped",
                said=error.said,
                hint="mend that, then `homeport proxy restart`",
            ) from None

    def _start(self, wanted: Wanted, tell: Tell, turn: ExitStack, *, cuts_off: bool) -> Started:
        for text in self.unknown_profiles():
            tell(text)
        services = [s for s in self.services() if not (wanted.no_db and s.name in DATABASES)]
        without = [s.name for s in services if s.profiles and not self._can_have_image(s, tell)]
        services = [service for service in services if service.name not in without]
        up = ("up", "--detach", *["--no-deps"] * wanted.no_db)
        names = [service.name for service in services]
        env = self._env(wanted)
        there = {container.service: container for container in self._containers()}
        if not cuts_off:
            self._refuse_others({name: there[name] for name in names if name in there}, wanted, env)
        if litellm_file.SERVICE in names:
            self._configure_litellm(there, env)
        if all(there.get(name) and there[name].is_up for name in names):
            return self._started(answers.ready, without, was_running=True)
        self._check_ports(services, there)
        rise = Rise(self._docker, self._containers, names, there.values())
        try:
            with self._docker.compose(*up, *names, env=env) as process:
                rise.wait(process, turn, tell)
        except KeyboardInterrupt:
            tell("no longer waiting; what was started goes on: `homeport proxy stop` ends it")
            raise
        except TakenAwayError:
            raise
        except StackError as error:
            raise rise.given_up(error) from None
        return self._started(answers.settled, without, was_running=False)

    def _started(
        self, asked: Callable[[str], answers.Ready], without: list[str], *, was_running: bool
    ) -> Started:
        url = self._url()
        warnings = asked(url).warnings if url else ()
        return Started(url=url, was_running=was_running, without=tuple(without), warnings=warnings)

    def _can_have_image(self, service: Service, tell: Tell) -> bool:
        """Of one that is not needed: what cannot be had does not keep the others away."""
        if self._docker.has_image(service.image):
            return True
        tell(f"{'building' if service.is_built else 'pulling'} the image of {service.name}")
        try:
            self.get_image(service, lambda _: None)
        except StackError as error:
            tell(str(error))
            return False
        return True

    def stop(self, tell: Tell, *, stop_db: bool = False) -> bool:
        self._check()
        with self._alone(tell):
            return self._stop(tell, stop_db=stop_db)

    def _stop(self, tell: Tell, *, stop_db: bool) -> bool:
        there = [c for c in self._containers() if stop_db or c.service != DATABASE]
        if not there:
            return False
        running = [c.service for c in there if c.status in ("running", "restarting")]
        if running:
            tell(f"stopping {', '.join(running)}; requests under way have 30 s")
        if stop_db:
            self._docker.composed("--profile", "*", "down", "--remove-orphans")
        else:
            names = [container.service for container in there]
            self._docker.composed("--profile", "*", "rm", "--stop", "--force", *names)
        return bool(running)

    def _check(self) -> None:
        if not self._layout.is_installed:
            raise StackError(
                f"the stack is not installed: there is no {self._layout.compose_file}",
                hint="`homeport install` writes it; `homeport proxy start --local` needs no containers",
            )
        self._docker.check()

    def _env(self, wanted: Wanted) -> dict[str, str]:
        """What is different for this run; the rest is in ``.env``."""
        if wanted == Wanted():
            return {}
        env = {"HOMEPORT_WANTED": _told(wanted)}
        if wanted.profile is not None:
            env["HOMEPORT_PROFILE"] = wanted.profile
        if wanted.debug:
            env["HOMEPORT_LOG_LEVEL"] = "debug"
        if wanted.no_db:
            env |= {"HOMEPORT_STORE_URL": "off", "LITELLM_DATABASE_URL": ""}
        return env

    def _configure_litellm(self, there: Mapping[str, Container], env: Mapping[str, str]) -> None:
        """Raises ``StackError`` when one runs by what ``config.yaml`` said before."""
        news = litellm_file.news(self._layout, env)
        if news is None:
            return
        container = there.get(litellm_file.SERVICE)
        if container is not None and container.status == "running":
            raise StackError(
                "litellm runs already, and config.yaml has other models for it now",
                hint="to take them up: `homeport proxy restart`",
            )
        litellm_file.write(self._layout, news)

    def _refuse_others(
        self, there: Mapping[str, Container], wanted: Wanted, env: Mapping[str, str]
    ) -> None:
        """Raises ``StackError`` when a container that runs would be replaced."""
        running = [container for container in there.values() if container.status == "running"]
        if not running:
            return
        if wanted.no_db:  # Compose only tells of all services together
            others = [c for c in running if c.service == GATEWAY and c.wanted != _told(wanted)]
        else:
            plan = self._docker.composed("create", "--dry-run", *there, env=env)
            replaced = {match[1] for line in plan if (match := _RECREATE.search(line))}
            others = [container for container in running if container.name in replaced]
        if others:
            raise StackError(
                f"{others[0].service} runs already, with other settings or of another image",
                hint="to take up the new ones: `homeport proxy restart`",
            )

    def _check_ports(self, services: list[Service], there: Mapping[str, Container]) -> None:
        for service in services:
            if service.name in there and there[service.name].status == "running":
                continue
            for port in service.ports:
                if holder := ports.holder(port):
                    variable = PORTS.get(service.name, "its port")
                    raise StackError(
                        f"port {port} of {service.name} is taken by {holder}",
                        hint=f"stop that, or set {variable} in {self._layout.env_file}",
                    )

    # ------------------------------------------------------------------- looking

    def status(self) -> Status:
        self._check()
        there = {container.service: container for container in self._containers()}
        shown = [name for name, c in there.items() if not (c.is_once and c.is_up)]
        members = [there[name].member for name in sorted(shown, key=_gateway_first)]
        if GATEWAY not in there:
            members.insert(0, Member(name=GATEWAY, state="stopped"))
        elif urls := there[GATEWAY].urls:
            members[0] = replace(members[0], warnings=answers.ready(urls[0]).warnings)
        return Status(kind=self.kind, members=tuple(members))

    def health(self) -> Health:
        self._check()
        checks = [container.check for container in self._containers()]
        if url := self._url():
            checks.append(answers.check(f"{GATEWAY} at {url}", url))
        return Health(checks=tuple(sorted(checks, key=lambda check: _gateway_first(check.name))))

    def logs(self, *, lines: int, follow: bool, service: str | None = None) -> Iterator[str]:
        self._check()
        if service is not None and service not in {c.service for c in self._containers()}:
            names = ", ".join(each.name for each in self.services(("*",)))
            if service not in names.split(", "):
                raise StackError(f"there is no service '{service}'", hint=f"there are {names}")
        words = ["--profile", "*", "logs", "--no-color", "--tail", str(lines)]
        words += [*["--follow"] * follow, *[service or ""] * (service is not None)]
        with self._docker.compose(*words) as process:
            assert process.stdout is not None
            said: list[str] = []
            for line in process.stdout:
                said = [*said[-5:], line.rstrip("\n").removeprefix(CLEARED)]
                yield said[-1]
        if process.returncode and not follow:
            raise failed("docker compose logs", said)

    def _url(self) -> str:
        """Where the gateway that runs is reached from this machine; empty where it is not."""
        there = (c for c in self._containers() if c.service == GATEWAY)
        return next((url for each in there for url in each.urls), "")

    def _containers(self) -> list[Container]:
        of_project = f"--filter=label=com.docker.compose.project={self._layout.project}"
        for _ in range(LOOKS):
            ids = self._docker.ask("ps", "--all", "--quiet", of_project).split()
            if not ids:
                return []
            with suppress(StackError):  # one has gone since
                inspected = self._docker.ask_json("inspect", *ids)
                return [found for each in inspected if (found := container(each))]
        return []


def _told(wanted: Wanted) -> str:
    return "" if wanted == Wanted() else msgspec.json.encode(wanted).decode()


def _gateway_first(name: str) -> tuple[bool, str]:
    return not name.startswith(GATEWAY), name
