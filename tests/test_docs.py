"""The documentation against the code: what exists is told, what is told exists.

Every route, option, metric, header and kind of error has its place in the documentation; links lead
somewhere; commands, configurations and programs that a reader would copy are right.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import click
import pytest

from homeport.cli.main import main
from homeport.config import load
from homeport.engines.detect import FACTS
from homeport.errors import FaultKind
from homeport.facts import EngineFacts
from homeport.lifecycle.machine import TRANSITIONS
from homeport.lifecycle.scheduler import Policy
from homeport.runtime.fleet import Fleet
from homeport.server.admin import ACTIONS, Admin, Reload
from homeport.server.asgi import Gateway
from homeport.server.directory import Directory
from homeport.server.fleet_metrics import FleetMetrics
from homeport.server.http import LINE, Http
from homeport.server.metrics import Metrics
from homeport.server.news import News
from homeport.server.store_metrics import StoreMetrics
from homeport.settings import ServerSettings, StoreSettings
from homeport.store.choosing import recorder_for
from homeport.store.migrate import TABLE as MIGRATIONS
from homeport.store.postgres import READER
from homeport.store.sql import CAPTURE, USAGE
from homeport.upstream import Client
from homeport.wire.anthropic_stream import NEXT
from homeport.wire.faults import WORDS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
GENERATED = DOCS / "configuration.md"  # tests/config/test_reference.py has it
PAGES = (*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")))

HEADERS_OF_ANY_ANSWER = frozenset({"content-type", "content-length", "connection"})
"""Not worth a word."""


ROUTES = ("completions", "embeddings", "rerank", "infill")
"""Beside chat, in the order of the table."""


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str

    def __repr__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    language, begun, lines = "", 0, list[str]()
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        if not line.startswith("```"):
            lines.append(line)
        elif begun:
            yield Block(page, begun, language, "\n".join(lines) + "\n")
            begun = 0
        else:
            language, begun, lines = line[3:].strip(), number, []
    assert not begun, f"{page}:{begun}: a block without an end"


def blocks(language: str) -> list[Block]:
    found = (block for page in PAGES if page != GENERATED for block in blocks_of(page))
    return [block for block in found if block.language == language]


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def first_cells(text: str) -> list[str]:
    """The first cell of every table row."""
    return [row.split("|")[1].strip() for row in text.splitlines() if row.startswith("|")]


# --- what exists is told ----------------------------------------------------------------------


def gateway(metrics: Metrics) -> Gateway:
    return Gateway(ServerSettings(), Directory(), Client(), metrics, started_at_s=0)


def admin_routes() -> Iterator[tuple[str, str]]:
    """These are asked for one by one as well."""
    scope = {"method": "GET", "headers": [], "extensions": {LINE: None}}
    admin = Admin(Directory(), Fleet(Policy()), News(), cast(Reload, None))
    for path in (
        *("/admin/models", "/admin/events", "/admin/reload", "/admin/models/{id}"),
        *(f"/admin/models/{{id}}/{action}" for action in ACTIONS),
    ):
        asked = Http(
            {**scope, "path": path, "raw_path": path.encode()},
            *2 * (cast(Any, None),),
            "openai_chat",
        )
        for method in admin.methods(asked) or ():
            yield method, path


def routes() -> set[tuple[str, str]]:
    """Method and path of every route; those with an id in them are asked for one by one."""
    it = gateway(Metrics())
    found = {(method, path) for path, methods in it._routes.items() for method in methods}
    found.add(("GET", "/v1/models/{name}"))
    for path in (
        "/v1/responses/{id}",
        "/v1/responses/{id}/input_items",
        "/v1/responses/{id}/cancel",
    ):
        methods = it._responses.methods(path.removeprefix("/v1/responses/"))
        found |= {(method, path) for method in methods or ()}
    return found | set(admin_routes())


def test_every_route_is_told_and_no_other() -> None:
    told = re.findall(r"^\| `([A-Z]+) (/[^`]*)`", page("api.md"), re.MULTILINE)
    assert sorted(told) == sorted(routes())


def test_every_metric_is_told_and_no_other() -> None:
    metrics = Metrics()
    FleetMetrics(Fleet(Policy()), Directory(), metrics.registry)
    with tempfile.TemporaryDirectory() as folder:
        recorder = recorder_for(StoreSettings(), Path(folder))
    assert recorder is not None
    StoreMetrics(recorder, metrics.registry)
    exist = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
    }
    told = {
        cell.strip("`") for cell in first_cells(page("api.md")) if cell.startswith("`homeport_")
    }
    assert told == exist
    mentioned = {
        name for p in PAGES for name in re.findall(r"`(homeport_\w+)`", p.read_text("utf-8"))
    }
    assert mentioned - {USAGE, CAPTURE, MIGRATIONS, READER} <= exist, "or of the store"


def test_every_header_of_an_answer_is_told() -> None:
    sources = "".join(p.read_text("utf-8") for p in (ROOT / "src/homeport/server").glob("*.py"))
    pairs = re.findall(r'(?<!get)(?<!in )\(b"([a-z][a-z-]+)", ', sources)
    assert "request-id" in pairs, "the pattern above does not fit the code any more"
    text = page("api.md")
    named = set(pairs) - HEADERS_OF_ANY_ANSWER
    assert [name for name in sorted(named) if f"`{name}" not in text] == []


def test_every_kind_of_error_is_told_as_it_is() -> None:
    section = page("api.md").partition("\n## Errors\n")[2]
    rows = [row for row in section.splitlines() if re.match(r"\| `\w+` \| \d{3}", row)]
    told = {row.split("|")[1].strip(" `"): [c.strip() for c in row.split("|")[2:6]] for row in rows}
    assert set(told) == set(get_args(FaultKind)) == set(WORDS)
    for kind, (status, anthropic, openai, code) in WORDS.items():
        cells = told[kind]
        assert cells[0].startswith(str(status))
        assert cells[1:3] == [f"`{anthropic}`", f"`{openai}`"]
        assert f"`{code}`" in cells[3] if code else cells[3] == "–"


def test_every_state_is_told() -> None:
    text = page("architecture.md")
    told = {
        row.split("|")[1].strip(" `"): set(re.findall("[a-z]+", row.split("|")[3]))
        for row in text.splitlines()
        if re.match(r"\| `\w+` \|", row)
    }
    for state, events in TRANSITIONS.items():
        assert set(events.values()) <= told[state], state


def test_the_stream_machine_is_told_as_it_is() -> None:
    text = page("architecture.md")
    for (state, event), after in NEXT.items():
        row = f"| {state} | `{event}` | {after} |"
        assert event in ("ping", "error") or row in text, row


def test_every_module_is_on_the_tour() -> None:
    text = page("architecture.md")
    folders = [path.parent for path in (ROOT / "src/homeport").rglob("*.py")]
    for folder in {f for f in folders if f.name not in ("engines", "config", "cli", "demo")}:
        for module in folder.glob("*.py"):
            assert module.name.startswith("__") or f"`{module.name}`" in text, module


IGNORED = {"schema": "schemas", "n": "`n`", "tool_choice": "forced calls"}


def cells_for(facts: EngineFacts) -> dict[str, str]:
    """What the table of engines has to say of one; the beginning of each cell."""

    def yes(claim: bool, otherwise: str) -> str:
        return "yes" if claim else otherwise

    counting = {
        "chat_input_tokens": "`/v1/chat/completions/input_tokens`",
        "tokenize": "`/tokenize`",
    }
    budget = facts.thinking_budget_key
    return {
        "name in settings": f"`{facts.engine}`",
        "replayed reasoning goes into": f"`{facts.reasoning_key}`",
        "system turns in mid-conversation": "kept" if facts.system_inside else "folded",
        "honours `tool_choice`": yes(facts.tool_choice, "no"),
        "… naming one function": yes(facts.named_tool_choice, "no"),
        "`parallel_tool_calls`": yes(facts.parallel_tool_calls, "not sent"),
        "`strict` on tools": yes(facts.strict_tools, "not sent"),
        "bounds in tool schemas": "kept" if facts.schema_bounds else "taken out",
        "`chat_template_kwargs`": yes(facts.template_kwargs, "not sent"),
        "limit on thinking": f"`{budget}`" if budget else "–",
        "`reasoning_effort`": yes(facts.reasoning_effort, "not sent"),
        "effort `xhigh` and `max` become": ", ".join(f"`{e}`" for e in facts.top_efforts)
        if facts.reasoning_effort
        else "–",
        "goes on with an answer begun": "told to" if facts.prefill else "by itself",
        "images in tool results": "stay there"
        if facts.image_in_tool
        else "follow in a user message",
        "`top_k` from Anthropic clients": yes("top_k" in facts.extensions, "not sent"),
        "exact token count": counting.get(facts.token_count or "", "–"),
        "routes beside chat": ", ".join(r for r in ROUTES if r in facts.routes),
        "`max_tokens` above the context": "left to it"
        if facts.max_tokens_over_context
        else "left out",
        "refused, because it would be ignored": ", ".join(
            told for name, told in IGNORED.items() if name in facts.ignores
        )
        or "–",
        "stops for a client that has left": "yes" if facts.stops_when_left else "no",
    }


def test_the_table_of_engines_is_true() -> None:
    lines = [line for line in page("engines.md").splitlines() if line.startswith("|")]
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines}
    names = [cell.strip(" `") for cell in rows["name in settings"]]
    assert sorted(names) == sorted(FACTS)
    for name, facts in FACTS.items():
        for label, cell in cells_for(facts).items():
            told = rows[label][names.index(name)].strip()
            assert told == cell or told.startswith((f"{cell}:", f"{cell},")), (
                f"{name}: {label}: '{told}' should be '{cell}'"
            )


def test_every_option_of_serve_is_told() -> None:
    serve = subcommand(main, "serve")
    options = {o for p in serve.params for o in p.opts if o.startswith("--")}
    rows = first_cells(page("quick-start.md"))
    told = {cell.strip("`").split()[0] for cell in rows if cell.startswith("`--")}
    assert options - {"--help"} == told


def test_every_command_is_told() -> None:
    everything = "".join(p.read_text("utf-8") for p in PAGES)
    missing = [name for name in commands() if f"homeport {name}" not in everything]
    assert missing == []


# --- what is told exists ----------------------------------------------------------------------


CONTEXT = click.Context(main)


def subcommand(group: click.Group, word: str) -> click.Command:
    """Commands are loaded when they are asked for, so the group has to be asked."""
    command = group.get_command(CONTEXT, word)
    assert command is not None, f"{group.name} has no command {word}"
    return command


def commands(group: click.Group = main, prefix: str = "") -> Iterator[str]:
    for name in group.list_commands(CONTEXT):
        command = subcommand(group, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name


def check_homeport(words: list[str]) -> None:
    """The words after ``homeport`` name a command that exists, and options that it has."""
    command: click.Command = main
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        command, words = subcommand(command, words[0]), words[1:]
    known = {o for p in command.params for o in p.opts} | {"--help", "-h", "--version"}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known


def shell_lines() -> Iterator[list[str]]:
    """The words of each command that a reader may copy, less comments."""
    for block in blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if line.startswith(("homeport ", "make ")):
                yield shlex.split(line, comments=True)
    for p in PAGES:
        for code in re.findall(r"`((?:homeport|make) [^`]+)`", p.read_text("utf-8")):
            yield shlex.split(code)


def copied(program: str) -> list[object]:
    """The arguments of ``program`` wherever it is called, once each."""
    found = {shlex.join(words[1:]): words[1:] for words in shell_lines() if words[0] == program}
    return [pytest.param(words, id=text) for text, words in found.items()]


@pytest.mark.parametrize("words", copied("homeport"))
def test_homeport_commands_are_right(words: list[str]) -> None:
    check_homeport(words)


@pytest.mark.parametrize("words", copied("make"))
def test_make_targets_exist(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    asked = [word for word in words if "=" not in word]
    assert set(asked) <= targets
    for word in words:
        if words[0] == "serve" and word.startswith("ARGS="):
            check_homeport(["serve", *shlex.split(word.removeprefix("ARGS="))])


@pytest.mark.parametrize("block", blocks("yaml"), ids=repr)
def test_configurations_load(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(block.text, "utf-8")
    monkeypatch.setattr(os.path, "exists", lambda _: True)  # the reader's models
    env = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block.text), "secret")
    load.settings(file, {**env, "HOME": str(tmp_path)})


@pytest.mark.parametrize("block", blocks("python"), ids=repr)
def test_programs_compile(block: Block) -> None:
    compile(block.text, repr(block), "exec")


@pytest.mark.parametrize("block", blocks("json"), ids=repr)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        to = (path.parent / name).resolve() if name else path
        assert to.exists(), f"{path.name}: {target}"
        assert not anchor or anchor in anchors(to), f"{path.name}: {target}"


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_repository_paths_exist() -> None:
    """``src/homeport/x.py`` and the like, where a page names them."""
    tops = "src|tests|docs|scripts|bench|demo-model|requirements"
    for path in PAGES:
        for name in re.findall(rf"`((?:{tops})/[\w./*-]*)`", path.read_text("utf-8")):
            assert any(ROOT.glob(name.rstrip("/"))), f"{path.name}: {name}"


def test_every_decision_is_listed() -> None:
    index = (DOCS / "adr/README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \| .* \| (.*?) \|$", index, re.MULTILINE)
    assert [name for _, name, _ in listed] == sorted(p.name for p in DOCS.glob("adr/0*.md"))
    for number, name, status in listed:
        text = (DOCS / "adr" / name).read_text("utf-8")
        assert name.startswith(number)
        assert text.startswith(f"# {int(number)}. ")
        assert f"**Status:** {status}" in text


def test_every_page_is_in_the_index() -> None:
    index = page("README.md")
    names = [path.name for path in DOCS.glob("*.md") if path.name != "README.md"]
    assert [name for name in names if f"({name})" not in index] == []


def test_pictures_are_small() -> None:
    assert {
        p.name: p.stat().st_size for p in DOCS.glob("img/*") if p.stat().st_size > 200_000
    } == {}
