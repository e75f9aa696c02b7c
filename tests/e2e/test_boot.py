"""The boot chain as a container has it, here as processes: llama.cpp with the demo model, the real
LiteLLM where it is asked for, the gateway, and the real Claude Code CLI as a client.
"""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from homeport.stack.boot.plan import EXIT_CONFIG
from tests.e2e.dialects import ANTHROPIC, BOTH, Dialect
from tests.e2e.raw_client import ask
from tests.e2e.test_claude_code import SMALL_MODEL, assert_good_run
from tests.e2e.test_litellm import HELLO, WEATHER, read_stream, read_whole, tools_of
from tests.support import litellm_proxy
from tests.support.boot import KEY, Boot
from tests.support.claude_code import ClaudeCode
from tests.support.engine import PROGRAM, Answer, FakeEngine
from tests.support.fake_engine.script import DEFAULT_TEXT
from tests.support.litellm_beside import link_installation

both_dialects = pytest.mark.parametrize("dialect", BOTH, ids=str)
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
with_litellm = [pytest.mark.slow_litellm, pytest.mark.timeout(300)]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("llama", marks=pytest.mark.llamacpp),
        pytest.param("litellm", marks=with_litellm),
    ],
)
def boot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Boot]:
    """Without LiteLLM in the chain, and with it."""
    more = {"HOMEPORT_MASTER_KEY": KEY}
    if request.param == "litellm":
        more |= {
            "AUTO_INFER_LITELLM_ON_BOOT": "yes",
            "LITELLM_BIN": str(litellm_proxy.executable()),
        }
    with Boot(tmp_path_factory.mktemp("boot"), **more) as booted:
        yield booted
        assert booted.end() == 0
        assert "request.failed" not in booted.output(), booted.output()


def has_litellm(boot: Boot) -> bool:
    return "AUTO_INFER_LITELLM_ON_BOOT" in boot.env


async def answer(boot: Boot, dialect: Dialect, stream: bool, **request: Any) -> dict[str, Any]:
    body = dialect.request(stream=stream) | {"max_tokens": 128, "temperature": 0} | request
    headers = {"authorization": f"Bearer {KEY}"}
    async with await ask(boot.base_url, "POST", dialect.path, body, headers=headers) as exchange:
        if exchange.status != 200:
            return {"status": exchange.status, "error": await exchange.json()}
        if stream:
            return read_stream(dialect, await exchange.all_events())
        return read_whole(dialect, await exchange.json())


@both_dialects
@streams
@pytest.mark.parametrize("model", ["demo", "claude-opus-4-6", "gpt-nobody-knows"])
async def test_it_answers_by_every_name(
    boot: Boot, dialect: Dialect, stream: bool, model: str
) -> None:
    got = await answer(boot, dialect, stream, model=model)
    assert got["text"] == HELLO, got
    assert got["completion"] > 0


@both_dialects
@streams
async def test_it_calls_tools(boot: Boot, dialect: Dialect, stream: bool) -> None:
    got = await answer(
        boot,
        dialect,
        stream,
        model="claude-haiku-4-5",
        messages=[{"role": "user", "content": WEATHER}],
        tools=tools_of(dialect),
    )
    assert got["calls"] == [("get_weather", {"city": "Paris"})], got


async def test_requests_take_the_way_that_was_chosen(boot: Boot) -> None:
    lines = boot.output().count('"POST /v1/chat/completions HTTP/1.1" 200')
    await answer(boot, ANTHROPIC, True, model="claude-opus-4-6")
    after = boot.output().count('"POST /v1/chat/completions HTTP/1.1" 200')
    assert after - lines == (1 if has_litellm(boot) else 0)


async def test_nobody_comes_in_without_the_key(boot: Boot) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}):
        for dialect in BOTH:
            body = dialect.request(stream=False, model="demo")
            async with await ask(
                boot.base_url, "POST", dialect.path, body, headers=headers
            ) as exchange:
                assert exchange.status == 401, await exchange.body()
    for process in boot.children():
        assert KEY not in " ".join(process.cmdline()), "everybody can read a command line"


def test_only_the_gateway_listens_on_all_interfaces(boot: Boot) -> None:
    listening = {
        c.laddr.port: c.laddr.ip
        for process in boot.children()
        for c in process.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    }
    expected = {boot.port: "0.0.0.0", boot.llama_port: "127.0.0.1"}
    if has_litellm(boot):
        expected[boot.litellm_port] = "127.0.0.1"
    assert listening == expected


async def test_reports_of_claude_code_are_taken_and_go_nowhere(boot: Boot) -> None:
    before = boot.output()
    for path in ("/api/event_logging/batch", "/api/event_logging/v2/batch"):
        async with await ask(boot.base_url, "POST", path, {"events": []}) as exchange:
            assert exchange.status == 200, await exchange.body()
    assert boot.output() == before, "nobody else has heard of it"


@pytest.mark.claude_code
@pytest.mark.timeout(900)
def test_claude_code(boot: Boot, claude: ClaudeCode, tmp_path: Path) -> None:
    run = claude.run(
        "Hello",
        base_url=boot.base_url,
        folder=tmp_path,
        model="claude-haiku-4-5",
        options=["--bare"],
        env={**SMALL_MODEL, "ANTHROPIC_AUTH_TOKEN": KEY},
    )
    assert_good_run(run)
    assert run.text.strip()


async def test_members_that_are_killed_come_back(boot: Boot) -> None:
    """The gateway goes on while the one behind it is away, and says so."""
    names = ("litellm", "gateway") if has_litellm(boot) else ("gateway",)
    pids = {name: boot.member(name).pid for name in names}
    ready = boot.output().count("llama-server is ready")
    llama = boot.member("llama")
    llama.suspend()  # so that it is away for certain when it is asked
    llama.kill()
    got = await answer(boot, ANTHROPIC, False, model="demo")
    if "text" not in got:  # it was back already
        assert got["status"] in (502, 503), got  # 502 where it broke off just then
    boot.wait_said("llama-server is ready", times=ready + 1)
    assert (await answer(boot, ANTHROPIC, False, model="demo"))["text"] == HELLO
    assert {name: boot.member(name).pid for name in names} == pids
    assert "[boot] llama-server exited with status 137" in boot.output()
    for name in names:
        title = {"litellm": "LiteLLM", "gateway": "the gateway"}[name]
        ready = boot.output().count(f"{title} is ready")
        boot.member(name).kill()
        boot.wait_said(f"{title} is ready", times=ready + 1)
        assert (await answer(boot, ANTHROPIC, True, model="demo"))["text"] == HELLO


# --- first boot, check, failures ------------------------------------------------------------------


@pytest.mark.llamacpp
async def test_the_first_boot_makes_a_key_and_the_next_one_has_it(tmp_path: Path) -> None:
    with Boot(tmp_path) as first:
        file = first.home / "state" / "boot" / "master_key"
        key = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert first.output().count(key) == 1
        assert first.end() == 0
    with Boot(tmp_path) as second:
        assert key not in second.output()
        body = ANTHROPIC.request(stream=False, model="demo")
        headers = {"x-api-key": key}
        async with await ask(
            second.base_url, "POST", ANTHROPIC.path, body, headers=headers
        ) as exchange:
            assert exchange.status == 200, await exchange.body()
        assert second.end() == 0


@pytest.mark.llamacpp
def test_nothing_outlives_a_boot_that_is_killed(tmp_path: Path) -> None:
    with Boot(tmp_path, HOMEPORT_MASTER_KEY=KEY) as boot:
        children = boot.children()
        assert len(children) == 4, "two members, each behind its shim"
        boot.process.kill()
        _, alive = psutil.wait_procs(children, 20)
        assert alive == []


def test_check_shows_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    boot = Boot(tmp_path, AUTO_INFER_LITELLM_ON_BOOT="1", HOMEPORT_MASTER_KEY=KEY)
    assert boot.start("--check", "--json").process.wait(30) == 0
    shown = json.loads(boot.output())
    assert [(m["name"], m["port"]) for m in shown["members"]] == [
        ("llama", boot.llama_port),
        ("litellm", boot.litellm_port),
        ("gateway", boot.port),
    ]
    assert shown["key"] == "HOMEPORT_MASTER_KEY"
    assert KEY not in boot.output()
    assert not boot.home.exists()
    assert boot.start("--check").process.wait(30) == 0
    assert "1. llama-server on port" in boot.output()
    assert "litellm_config.yaml is missing, and will be written" in boot.output()
    assert KEY not in boot.output()


def test_what_is_wrong_is_told_before_anything_is_started(tmp_path: Path) -> None:
    boot = Boot(tmp_path, AUTO_INFER_LITELLM_ON_BOOT="perhaps")
    assert boot.start().process.wait(30) == EXIT_CONFIG
    assert "error: AUTO_INFER_LITELLM_ON_BOOT: must be on or off" in boot.output()


def test_a_model_that_is_none_is_told_too(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(64))
    boot = Boot(tmp_path, AUTO_INFER_LLAMA_CPP_MODEL=str(broken))
    assert boot.start().process.wait(30) == EXIT_CONFIG
    assert f"error: {broken}: " in boot.output()


# --- a LiteLLM of the user's, and the one that homeport installs ----------------------------------

FILE = """
model_list:
  - model_name: claude-opus-*
    litellm_params: {{model: hosted_vllm/fake, api_base: "{fake}"}}
  - model_name: claude-*
    litellm_params: {{model: hosted_vllm/demo, api_base: "http://127.0.0.1:{llama}/v1"}}
  - model_name: mine
    litellm_params: {{model: hosted_vllm/demo, api_base: "http://127.0.0.1:{llama}/v1"}}
general_settings: {{master_key: {key}}}
"""


@pytest.mark.slow_litellm
@pytest.mark.timeout(300)
async def test_the_users_file_decides_what_names_mean(tmp_path: Path) -> None:
    """And has a key of its own. LiteLLM is found where homeport installs it."""
    file = tmp_path / "own.yaml"
    boot = Boot(
        tmp_path,
        AUTO_INFER_LITELLM_ON_BOOT="1",
        AUTO_INFER_LITELLM_CONFIG=str(file),
        HOMEPORT_MASTER_KEY=KEY,
    )
    link_installation(boot.home)
    with FakeEngine() as fake:
        text = FILE.format(fake=fake.base_url, llama=boot.llama_port, key=litellm_proxy.MASTER_KEY)
        file.write_text(text)
        with boot:
            for dialect in BOTH:
                opus = await answer(boot, dialect, True, model="claude-opus-4-6")
                assert opus["text"] == DEFAULT_TEXT
                for name in ("claude-haiku-4-5", "mine", "gpt-nobody-knows"):
                    assert (await answer(boot, dialect, True, model=name))["text"] == HELLO
            chats = [chat["body"] for chat in fake.chats()]
            assert {chat["model"] for chat in chats} == {"fake"}
            assert boot.end() == 0
    assert file.read_text() == text


async def test_an_answer_under_way_is_finished_by_the_gateways_own_engine(tmp_path: Path) -> None:
    """Who asks the chain to end asks the gateway, and not its tree."""
    boot = Boot(tmp_path, AUTO_INFER_LLAMA_CPP_ON_BOOT="0", HOMEPORT_MASTER_KEY=KEY)
    hello = tmp_path / "hello"
    command = [sys.executable, "-S", str(PROGRAM), "--port", "{port}", "--hello-file", str(hello)]
    boot.home.mkdir()
    config = {"models": {"own": {"command": command, "preload": True}}}
    (boot.home / "config.yaml").write_text(json.dumps(config))
    with boot:
        boot.wait_said("own is ready")
        engine = FakeEngine.running_at(hello)
        engine.script(Answer(text="one two three four", fragment_chars=(4,), delay_between_s=0.2))
        body, headers = ANTHROPIC.request(stream=True), {"authorization": f"Bearer {KEY}"}
        async with await ask(
            boot.base_url, "POST", ANTHROPIC.path, body, headers=headers
        ) as exchange:
            await engine.happens("first")
            boot.process.terminate()
            events = await exchange.all_events()
        assert ANTHROPIC.ended_well(events)
        assert ANTHROPIC.text_of(events) == "one two three four"
        assert boot.end() == 0
