"""``homeport boot``: the entrypoint of a container image for inference.

Everything is said on stdout, members' lines and our own, one line each with who says it in front: that
is what a container's log has. Members' lines are handed on as they come.
"""

import asyncio
import os
import sys
from collections.abc import Mapping

import click

from homeport.cli import output
from homeport.cli.serve_cmd import set_up_logs
from homeport.stack.boot import init, look
from homeport.stack.boot.plan import Member, Plan


@click.command()
@click.option("--check", is_flag=True, help="Show what would be started, and start nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --check: as JSON on stdout.")
def boot(*, check: bool, as_json: bool) -> None:
    """Start llama-server, LiteLLM and the gateway in a container, as its environment says.

    AUTO_INFER_LLAMA_CPP_ON_BOOT=1 starts llama-server on port 8080 with the model that
    AUTO_INFER_LLAMA_CPP_MODEL (or ..._CONFIG) names, AUTO_INFER_LITELLM_ON_BOOT=1 LiteLLM on port 8000
    with the file AUTO_INFER_LITELLM_CONFIG, which is written if there is none. The gateway on port
    11899 is always started, on all interfaces: clients need HOMEPORT_MASTER_KEY, else
    LITELLM_MASTER_KEY, else the key that is made, kept and printed at the first boot.
    """
    if as_json and not check:
        raise click.UsageError("--json goes with --check")
    if check:
        tell(look.planned(os.environ), as_json)
        return
    if init.needs_init():
        init.split_off()
    sys.exit(run(os.environ))


def run(env: Mapping[str, str]) -> int:
    from homeport.stack.boot.chain import Chain  # heavy
    from homeport.upstream import Client

    set_up_logs("warning")
    plan = look.planned(env)
    look.prepare(plan, env)
    narrator = BootNarrator()
    narrator.key(plan, env)

    async def started() -> int:
        client = Client()
        try:
            return await Chain(plan, client.fetch, narrator).run()
        finally:
            await client.close()

    return asyncio.run(started())


def tell(plan: Plan, as_json: bool) -> None:
    if as_json:
        output.data_json(look.told(plan))
        return
    for number, member in enumerate(plan.members, 1):
        output.data(f"{number}. {member.title} on port {member.port}")
        output.data(f"   {' '.join(member.command.argv)}")
        output.data(f"   ready when {member.ready_url} answers 200")
    for file in plan.files:
        what = "is missing, and will be written" if file.is_users else "will be written"
        output.data(f"{file.path} {what}")
    output.data(f"clients need {KEYS.get(plan.key_from, plan.key_from)}")


KEYS = {
    "configuration": "one of the keys that the configuration has",
    "saved": "the key that an earlier boot has made",
    "new": "a key, which will be made at the first boot, and printed",
}


class BootNarrator:
    """Says it on stdout."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}

    def key(self, plan: Plan, env: Mapping[str, str]) -> None:
        file = look.state_folder(env) / look.KEY_FILE
        match plan.key_from:
            case "new":
                self._say(f"made a master key, which clients need: {look.client_key(plan)}")
                self._say(f"it is kept in {file}, and not shown again")
            case "saved":
                self._say(f"clients need the master key in {file}")
            case "configuration":
                self._say("clients need one of the keys of the configuration")
            case variable:
                self._say(f"clients need the master key in {variable}")
        for file_written in plan.files:
            if file_written.is_users:
                self._say(f"wrote {file_written.path}, because there was none; it is yours now")

    def line(self, member: Member, text: str) -> None:
        self._print(f"[{member.name}] {text}")

    def starting(self, member: Member) -> None:
        self._say(f"starting {member.title} on port {member.port}")

    def waiting(self, member: Member, waited_s: float) -> None:
        self._say(f"waiting for {member.title} ({member.ready_url}) for {waited_s:.0f} s")

    def ready(self, member: Member, took_s: float) -> None:
        self._members[member.name] = member
        self._say(f"{member.title} is ready on port {member.port}, after {took_s:.1f} s")

    def died(
        self, member: Member, reason: str, last_lines: list[str], retry_s: float | None
    ) -> None:
        self._say(f"{member.title} {reason}" + ("; it said last:" if last_lines else ""))
        for text in last_lines:
            self._say(f"  {text}")
        if retry_s is None:
            self._say(f"{member.title} is given up, and all else is stopped")
        else:
            self._say(f"{member.title} is started again in {retry_s:g} s")

    def complete(self) -> None:
        chain = " -> ".join(member.title for member in reversed(self._members.values()))
        self._say(f"all is ready: {chain}")

    def stopping(self) -> None:
        self._say("stopping")

    def killed(self, member: Member, after_s: float) -> None:
        self._say(f"{member.title} did not end within {after_s:.0f} s, and was killed")

    def stopped(self, exit_code: int) -> None:
        self._say(f"stopped (exit code {exit_code})")

    def _say(self, text: str) -> None:
        self._print(f"[boot] {text}")

    def _print(self, text: str) -> None:
        try:
            output.lines([text])
        except BrokenPipeError:  # nobody reads any more; the chain goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
