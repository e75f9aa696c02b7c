"""What ``homeport serve`` says of the servers that it found."""

from __future__ import annotations

import json

import pytest

from homeport.cli.narrators import JsonNarrator, TerminalNarrator
from homeport.cli.serve_cmd import tell_unverified
from homeport.demo import demo_model_path
from homeport.engines.litellm_proxy import Plan
from homeport.errors import ConfigError
from homeport.facts import Endpoint, EngineFacts, ModelFacts
from homeport.litellm import VERSION
from homeport.runtime.discovery import Found
from homeport.runtime.leftovers import Leftovers
from homeport.runtime.start_news import Failure
from homeport.server.admin import Reloaded
from homeport.settings import LiteLLMSettings, ModelSettings, ServerSettings, Settings

URL = "http://127.0.0.1:8080"
MODEL = ModelFacts(name="model-x", context_tokens=32768)
READY = Found(url=URL, state="ready", engine="llamacpp", models=(MODEL,))


def test_models_are_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = TerminalNarrator()
    narrator.found(READY)
    engine = EngineFacts(engine="llamacpp")
    narrator.model_ready("model-x", Endpoint(base_url=f"{URL}/v1", engine=engine, model=MODEL))
    said = capsys.readouterr().err
    assert said == "found llama.cpp on port 8080: model-x (32768 tokens)\n"


def test_many_models_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    models = tuple(ModelFacts(name=f"m{i}") for i in range(30))
    TerminalNarrator().found(Found(url=URL, state="ready", engine="ollama", models=models))
    said = capsys.readouterr().err
    assert said == "found Ollama on port 8080: m0, m1, m2, m3, m4, m5, m6, m7 and 22 more\n"


def test_what_is_left_alone_is_told_with_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = TerminalNarrator()
    narrator.found(Found(url=URL, state="wants_key"))
    narrator.found(Found(url=URL, state="gateway"))
    key, hint, gateway, other_hint = capsys.readouterr().err.splitlines()
    assert key == "warning: a model server on port 8080 wants a key, and is left alone"
    assert "api_key" in hint
    assert "LiteLLM on port 8080" in gateway
    assert other_hint.endswith("--upstream http://127.0.0.1:8080/v1")


def test_a_model_that_cannot_start(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure("m: not a GGUF model file", "look for another", "requests get a 503")
    TerminalNarrator().model_failed("m", failure)
    JsonNarrator().model_failed("m", failure)
    said = capsys.readouterr()
    assert said.err == (
        "error: m: not a GGUF model file\n  hint: look for another\n  requests get a 503\n"
    )
    assert json.loads(said.out) == {
        "event": "model_failed",
        "model": "m",
        "reason": "m: not a GGUF model file",
        "hint": "look for another",
        "after": "requests get a 503",
    }


@pytest.mark.parametrize(("host", "key"), [("127.0.0.1", "local"), ("0.0.0.0", "YOUR-KEY")])
def test_what_to_type_next(host: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Any word will do for a key, unless one is needed."""
    narrator = TerminalNarrator()
    narrator.listening(f"http://{host}:1", Settings(server=ServerSettings(host=host)))
    engine = EngineFacts(engine="llamacpp")
    narrator.model_ready("model-x", Endpoint(base_url=f"{URL}/v1", engine=engine, model=MODEL))
    said = capsys.readouterr().err
    assert f"ANTHROPIC_BASE_URL=http://{host}:1 ANTHROPIC_AUTH_TOKEN={key} claude" in said
    assert f"OPENAI_API_KEY={key}" in said


LEFT = Leftovers(
    processes=(("qwen", 3), ("tiny", 1)),
    containers=("homeport-big-8000",),
    unclear=("homeport-other-9000",),
)


def test_what_an_unclean_end_left_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalNarrator().cleaned_up(LEFT)
    ended, unclear, hint = capsys.readouterr().err.splitlines()
    assert ended == (
        "ended what a homeport has left that was killed: "
        "qwen (3 processes), tiny (1 process), the container homeport-big-8000"
    )
    assert "homeport-other-9000" in unclear
    assert hint.endswith("docker rm --force homeport-other-9000")


def test_programs_hear_of_that_too(capsys: pytest.CaptureFixture[str]) -> None:
    JsonNarrator().cleaned_up(LEFT)
    assert json.loads(capsys.readouterr().out) == {
        "event": "cleaned_up",
        "ended": [{"model": "qwen", "processes": 3}, {"model": "tiny", "processes": 1}],
        "containers": ["homeport-big-8000"],
        "unclear": ["homeport-other-9000"],
    }


def test_programs_hear_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    JsonNarrator().found(READY)
    assert json.loads(capsys.readouterr().out) == {
        "event": "found",
        "upstream": URL,
        "state": "ready",
        "engine": "llamacpp",
        "models": [{"model": "model-x", "context_tokens": 32768}],
    }


ERROR = ConfigError("is wrong", where="f:1", key="a.b", hint="mend it")


def test_a_reload_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    done = Reloaded(added=("new",), adjusted=("same",))
    TerminalNarrator().reloaded(done)
    TerminalNarrator().reload_failed((ERROR,))
    assert capsys.readouterr().err == (
        "configuration read anew: added new; changed, with the engine as it is: same\n"
        "error: f:1: a.b: is wrong\n  hint: mend it\n"
        "the configuration was not taken up; everything goes on as before\n"
    )
    JsonNarrator().reloaded(done)
    JsonNarrator().reload_failed((ERROR,))
    good, bad = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (good["event"], good["added"], good["removed"]) == ("reloaded", ["new"], [])
    assert bad == {"event": "reload_failed", "errors": [str(ERROR)]}


PLAN = Plan(settings=LiteLLMSettings(enabled=True, alias="mine"))
AT_4000 = Endpoint(
    base_url="http://127.0.0.1:4000/v1", engine=EngineFacts(engine="litellm"), model=MODEL
)


def test_litellm_is_told_with_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = TerminalNarrator()
    narrator.installing_litellm(PLAN)
    narrator.litellm_ready(AT_4000, PLAN)
    installing, ready = capsys.readouterr().err.splitlines()
    assert VERSION in installing
    assert ready == ("  LiteLLM is ready on http://127.0.0.1:4000; there the default model is mine")


def test_litellm_is_told_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = JsonNarrator()
    narrator.installing_litellm(PLAN)
    narrator.litellm_ready(AT_4000, PLAN)
    installing, ready = map(json.loads, capsys.readouterr().out.splitlines())
    assert installing == {"event": "installing_litellm", "version": VERSION}
    assert ready == {"event": "litellm_ready", "url": "http://127.0.0.1:4000", "alias": "mine"}


@pytest.mark.parametrize(("version", "warns"), [(None, False), (VERSION, False), ("1.99.0", True)])
def test_another_litellm_is_warned_of(
    capsys: pytest.CaptureFixture[str], version: str | None, warns: bool
) -> None:
    tell_unverified(Settings(litellm=LiteLLMSettings(enabled=True, version=version)))
    assert ("was not verified" in capsys.readouterr().err) == warns


def test_why_requests_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalNarrator().forced(None)
    TerminalNarrator().forced(30.0)
    assert capsys.readouterr().err.splitlines() == [
        "stopping at once; requests under way are cut",
        "requests under way are cut: they had 30 s to finish (server.limits.drain_timeout_s)",
    ]


def ready(settings: Settings, model_id: str, context: int | None) -> TerminalNarrator:
    narrator = TerminalNarrator()
    narrator.listening("http://127.0.0.1:1", settings)
    model = ModelFacts(name=model_id, context_tokens=context)
    engine = EngineFacts(engine="llamacpp")
    narrator.model_ready(model_id, Endpoint(base_url=f"{URL}/v1", engine=engine, model=model))
    return narrator


DEMO = ModelSettings(id="any", path=str(demo_model_path()))
OURS = ModelSettings(id="ours", path="/models/ours.gguf")
SMALL = ModelSettings(id="small", path="/models/small.gguf")


def test_the_demo_is_told_as_the_toy_that_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """With the one way in which Claude Code works with it, and with what comes next."""
    ready(Settings(models=(DEMO,)), "any", 32768)
    said = capsys.readouterr().err
    assert "a toy, to see that everything works" in " ".join(said.split())
    assert [line for line in said.splitlines() if "ANTHROPIC_BASE_URL" in line] == [
        "  Claude Code:  ANTHROPIC_BASE_URL=http://127.0.0.1:1 ANTHROPIC_AUTH_TOKEN=local "
        'claude --bare -p "Hello"'
    ]
    for flag in ("--model path/to/model.gguf", "--download-model ORG/NAME", "--upstream http://"):
        assert f"homeport serve {flag}" in said


def test_a_model_is_no_toy_for_the_demo_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    ready(Settings(models=(OURS, DEMO)), "ours", 65536)
    said = capsys.readouterr().err
    assert "ANTHROPIC_AUTH_TOKEN=local claude\n" in said
    assert "toy" not in said


@pytest.mark.parametrize(
    ("context", "is_told"), [(8192, True), (29_999, True), (30_000, False), (None, False)]
)
def test_a_context_too_small_for_claude_code_is_told(
    capsys: pytest.CaptureFixture[str], context: int | None, is_told: bool
) -> None:
    ready(Settings(models=(OURS,)), "ours", context)
    said = capsys.readouterr().err
    told = f"warning: ours has {context} tokens of context, Claude Code needs 30000\n  hint: serve"
    assert (told in said) == is_told
    assert ("warning" in said) == is_told


def test_only_who_answers_needs_that_context(capsys: pytest.CaptureFixture[str]) -> None:
    """Other models are small on purpose. Of servers that run, the first one answers."""
    ready(Settings(models=(SMALL, OURS), default_model="ours"), "small", 512)
    assert "warning" not in capsys.readouterr().err
    narrator = ready(Settings(upstreams=(URL,)), "first", 4096)
    assert "more in its server's settings" in capsys.readouterr().err
    engine, model = EngineFacts(engine="ollama"), ModelFacts(name="second", context_tokens=512)
    narrator.model_ready("second", Endpoint(base_url=f"{URL}/v1", engine=engine, model=model))
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("called", "path", "shown"),
    [
        (".venv/bin/homeport", "/nowhere", "  .venv/bin/homeport serve --model"),
        ("/usr/lib/homeport/__main__.py", "/nowhere", "  homeport serve --model"),
    ],
)
def test_the_next_command_can_be_typed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    called: str,
    path: str,
    shown: str,
) -> None:
    """After `make serve` the command is within the virtual environment only."""
    monkeypatch.setattr("sys.argv", [called, "serve"])
    monkeypatch.setenv("PATH", path)
    ready(Settings(models=(DEMO,)), "any", 32768)
    assert shown in capsys.readouterr().err
