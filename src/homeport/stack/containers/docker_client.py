"""Docker and its Compose as programs, called from commands: synchronous, and what they say in words.

``runtime.docker`` knows what Docker's failures mean; it is the same daemon.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from homeport.errors import StackError
from homeport.runtime.docker import trouble
from homeport.stack.layout import Layout

BRIEF_S: Final = 20.0
"""For a question."""
LAST_LINES: Final = 15
"""Of a program that failed, in an error."""
OF_OTHERS: Final = "COMPOSE_"
"""Variables of the user's shell that begin so are about other stacks. They would lead Compose away from
ours: with the name of another project, ``down --remove-orphans`` would take that one's containers."""

NO_DOCKER: Final = "or run homeport without containers: `homeport proxy start --local`"


class Docker:
    """The Docker client, for one stack. Raises ``StackError`` where there is none that works."""

    def __init__(self, layout: Layout, env: Mapping[str, str]) -> None:
        self.layout = layout
        self.env = dict(env)
        program = shutil.which("docker", path=env.get("PATH"))
        if program is None:
            raise StackError(
                "Docker is not installed: there is no `docker` on the PATH",
                hint=f"install Docker Engine with its Compose plugin, {NO_DOCKER}",
            )
        self._program = program

    def check(self) -> None:
        """Raises ``StackError`` when Docker does not answer, or has no Compose."""
        said = self._said("version", "--format", "{{.Server.Version}}")
        if said.returncode:
            what = trouble(said.stderr) or _last(said.stderr)[-1]
            raise StackError(f"Docker does not answer: {what}", hint=NO_DOCKER.removeprefix("or "))
        said = self._said("compose", "version", "--short")
        if said.returncode:
            raise StackError(
                "Docker has no Compose: `docker compose` is not known to it",
                hint="install the plugin (docker-compose-plugin, docker-compose-v2), " + NO_DOCKER,
            )

    def answers(self) -> bool:
        try:
            self.check()
        except StackError:
            return False
        return True

    def ask(self, *words: str, within_s: float = BRIEF_S) -> str:
        """What a command of Docker's says. Raises ``StackError``."""
        said = self._said(*words, within_s=within_s)
        if said.returncode:
            raise failed(f"docker {words[0]}", said.stderr.splitlines())
        return said.stdout

    def has_image(self, name: str) -> bool:
        return self._said("image", "inspect", "--format={{.Id}}", name).returncode == 0

    def ask_json(self, *words: str) -> Any:
        return json.loads(self.ask(*words) or "null")

    @contextmanager
    def compose(
        self, *words: str, env: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """A command of Compose, in the folder of its files; its output is one text. It is ended when
        the block is left. Which files, COMPOSE_FILE in ``.env`` says; without it these are compose.yaml
        and the user's compose.override.yaml."""
        theirs = {k: v for k, v in self.env.items() if not k.startswith(OF_OTHERS)}
        process = subprocess.Popen(
            [self._program, "compose", *words],
            cwd=self.layout.services,
            env={**theirs, "COMPOSE_ANSI": "never", "COMPOSE_MENU": "false", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            yield process
            process.wait()  # it has closed its output, and may need a moment to end
        finally:
            if process.poll() is None:
                process.terminate()
            assert process.stdout is not None
            process.stdout.close()
            process.wait()

    def composed(self, *words: str, env: Mapping[str, str] | None = None) -> list[str]:
        """All that such a command says, when it has ended. Raises ``StackError``."""
        with self.compose(*words, env=env) as process:
            assert process.stdout is not None
            said = process.stdout.read().splitlines()
        if process.returncode:
            raise failed(f"docker compose {words[0]}", said)
        return said

    def _said(self, *words: str, within_s: float = BRIEF_S) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self._program, *words],
                env=self.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=within_s,
            )
        except subprocess.TimeoutExpired:
            raise StackError(
                f"`docker {words[0]}` did not answer within {within_s:g} s",
                hint="look at Docker itself: `docker info`",
            ) from None


def failed(what: str, said: list[str], hint: str = "") -> StackError:
    """What a failed command means, with its last lines."""
    reason = trouble("\n".join(said)) or "it failed"
    return StackError(f"{what}: {reason}", said=tuple(_last("\n".join(said))), hint=hint)


def _last(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return lines[-LAST_LINES:] or ["it said nothing"]
