"""`homeport check`: what it finds out about real llama.cpp, and what `homeport serve` makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from homeport.engines import llamacpp
from homeport.engines.probes import PROBES
from homeport.engines.records import Record, engine_facts
from homeport.facts import ModelFacts
from homeport.wire import anthropic
from homeport.wire.openai_chat_upstream import encode
from tests.e2e.test_warm_cache import engine_behind
from tests.support.engine import FakeEngine
from tests.support.fake_anthropic import KEY, FakeAnthropic
from tests.support.gateway import Gateway

FEATURES = [probe.feature for probe in PROBES]


def check(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return typed(home, "check", *arguments)


def typed(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LANG": "C.UTF-8"}
    return subprocess.run(
        [sys.executable, "-m", "homeport", *words],
        env={**env, "HOMEPORT_HOME": str(home / "homeport")},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def results(answer: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)["findings"]
    return {feature: finding["result"] for feature, finding in found.items()}


@pytest.fixture(scope="module")
def checked(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The demo model was checked, and its record kept in ``home`` of this folder."""
    folder = tmp_path_factory.mktemp("checked")
    return folder, check(folder / "home", "--json", "--save")


@pytest.mark.llamacpp
def test_llamacpp_is_what_we_believe_it_to_be(
    checked: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, answer = checked
    found = results(answer)
    assert list(found) == FEATURES
    expected = {
        "system_inside": "yes",
        "tool_choice_required": "yes",
        "tool_choice_none": "yes",
        "tool_choice_named": "no",
        "schema": "yes",
        "schema_min_length": "no",
        "image": "no",
        "image_in_tool": "unsure",
        "stream_usage": "yes",
        "count_chat_input_tokens": "yes",
        "count_tokenize": "no",
        "stop": "yes",
        "stop_told": "no",
        "abort": "yes",
        "messages": "no",
        "messages_tools": "no",
        "messages_stop": "no",
        "responses": "yes",
        "responses_stream": "no",
    }
    assert {feature: found[feature] for feature in expected} == expected
    changes = json.loads(answer.stdout)["changes"]
    assert changes == {"system_inside": True}, "the rest of the shipped facts is what was seen"
    (saved,) = (folder / "home" / "homeport" / "dialects").glob("llamacpp-*-homeport_demo.json")
    assert list(json.loads(saved.read_text())["findings"]) == FEATURES


TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Say hello."},
    {"role": "system", "content": "The date has changed."},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Again."},
    {"role": "system", "content": "Be brief."},
]
RENDERED = (
    "<|im_start|>user\nSay hello.<|im_end|>\n"
    "<|im_start|>system\nThe date has changed.<|im_end|>\n"
    "<|im_start|>assistant\nHello.<|im_end|>\n"
    "<|im_start|>user\nAgain.<|im_end|>\n"
    "<|im_start|>system\nBe brief.<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@pytest.mark.llamacpp
def test_system_turns_stand_in_the_prompt_where_the_client_put_them(
    checked: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """Real llama.cpp, with the record that the check has made: what it renders of the engine's body,
    and that the gateway's body is as long as that."""
    folder, answer = checked
    record = msgspec.json.decode(msgspec.json.encode(json.loads(answer.stdout)), type=Record)
    asked = {"model": "any", "max_tokens": 1, "messages": TALK}
    counted = {"model": "any", "messages": TALK}
    with Gateway(folder) as gateway:
        ours = post(f"{gateway.base_url}/v1/messages/count_tokens", counted, "")["input_tokens"]
        port, key = engine_behind(gateway)
        engine = f"http://127.0.0.1:{port}"
        facts = engine_facts(llamacpp.FACTS, record.findings)
        request = anthropic.decode(json.dumps(asked).encode())
        body = json.loads(encode(request, facts, ModelFacts(name="homeport-demo")))
        assert post(f"{engine}/apply-template", body, key)["prompt"] == RENDERED
        route = "/v1/chat/completions/input_tokens"
        kept = post(f"{engine}{route}", {"messages": TALK}, key)["input_tokens"]
        usage = post(f"{gateway.base_url}/v1/messages", asked, "")["usage"]
        assert ours == kept == usage["input_tokens"] + usage["cache_read_input_tokens"]
    with Gateway(folder, env={"HOMEPORT_HOME": str(folder / "empty")}) as gateway:
        folded = post(f"{gateway.base_url}/v1/messages/count_tokens", counted, "")["input_tokens"]
    assert folded != kept, "without the record they are folded"


def post(url: str, body: dict[str, Any], key: str) -> dict[str, Any]:
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as reply:
        value: dict[str, Any] = json.load(reply)
    return value


def test_any_engine_can_be_asked_and_a_table_is_told(tmp_path: Path) -> None:
    with FakeEngine() as engine:
        answer = check(tmp_path, "--upstream", engine.base_url)
    assert answer.returncode == 0, answer.stderr
    rows = answer.stdout.splitlines()
    assert len(rows) == len(PROBES)
    assert {row.split()[0] for row in rows} <= {"ok", "no", "unsure"}
    assert not (tmp_path / "homeport").exists()


def test_an_anthropic_upstream_is_asked_in_its_dialect(tmp_path: Path) -> None:
    with FakeAnthropic() as upstream:
        model = {"upstream": upstream.base_url, "api_key": KEY, "dialect": "anthropic"}
        config = tmp_path / "config.yaml"
        config.write_text(json.dumps({"models": {"far": model}}))
        found = results(check(tmp_path, "far", "--config", str(config), "--json"))
    assert found["models"] == "yes"
    assert set(found) == {f for f in FEATURES if f.startswith(("messages", "models"))}


def test_a_server_with_keys(tmp_path: Path) -> None:
    """The hint says where a key goes; from there it is taken, by name and by URL."""
    with FakeEngine(api_key="sesame") as engine:
        refused = check(tmp_path, "--upstream", engine.base_url)
        assert refused.returncode == 1
        assert "wants a key, and homeport has none for it (401)" in refused.stderr
        assert "api_key into the configuration" in refused.stderr
        config = tmp_path / "config.yaml"
        model = {"upstream": engine.base_url, "api_key": "sesame"}
        config.write_text(json.dumps({"models": {"far": model}}))
        of_config = ["--config", str(config), "--json"]
        assert results(check(tmp_path, "far", *of_config))["models"] == "yes"
        assert results(check(tmp_path, "--upstream", engine.base_url, *of_config))["stop"]


@pytest.mark.llamacpp
def test_a_model_that_a_homeport_here_has_loaded(tmp_path: Path) -> None:
    """A second engine with it would take its memory twice; freed, it is checked."""
    env = {"HOMEPORT_HOME": str(tmp_path / "homeport")}
    with Gateway(tmp_path, env=env) as gateway:
        assert typed(tmp_path, "load", "homeport-demo").returncode == 0
        loaded = check(tmp_path)
        assert (loaded.returncode, loaded.stdout) == (1, "")
        assert f"homeport-demo is loaded by the homeport at {gateway.base_url}" in loaded.stderr
        assert "homeport unload homeport-demo" in loaded.stderr
        assert typed(tmp_path, "unload", "homeport-demo").returncode == 0
        assert results(check(tmp_path, "--json"))["models"] == "yes"


def test_a_model_of_another_configuration(tmp_path: Path) -> None:
    """`ps` shows it, so it is not simply unknown; and without a name it is the one that is served."""
    env = {"HOMEPORT_HOME": str(tmp_path / "homeport")}
    config = tmp_path / "two.yaml"
    with FakeEngine() as engine:
        config.write_text(json.dumps({"models": {"g": {"upstream": engine.base_url}}}))
        with Gateway(tmp_path, "--config", str(config), env=env):
            for arguments in (["g"], []):
                answer = check(tmp_path, *arguments)
                assert answer.returncode == 2
                assert "there is no model 'g'" in answer.stderr
                assert f"homeport check --upstream {engine.base_url}" in answer.stderr
            assert check(tmp_path, "g", "--config", str(config)).returncode == 0


def test_serving_goes_by_the_record(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "homeport" / "dialects"
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    choice: Any = {"type": "function", "function": {"name": "f"}}

    def asked_with_choice(engine: FakeEngine) -> Any:
        with (
            Gateway(tmp_path, "--upstream", engine.base_url) as gateway,
            openai.OpenAI(base_url=gateway.base_url + "/v1", api_key="x") as client,
        ):
            client.chat.completions.create(
                model="any",
                messages=[{"role": "user", "content": "hi"}],
                tools=[tool],
                tool_choice=choice,
            )
        return engine.chats()[-1]["body"]["tool_choice"]

    with FakeEngine() as engine:
        assert asked_with_choice(engine) == "required"  # as llama.cpp has to be asked
        answer = check(tmp_path / "home", "--upstream", engine.base_url, "--json", "--save")
        results(answer)
        (file,) = folder.glob("*.json")
        record = json.loads(file.read_text())
        for probe in ("tool_choice_required", "tool_choice_named"):
            record["findings"][probe] = {"result": "yes", "seen": "called f"}
        file.write_text(json.dumps(record))
        assert asked_with_choice(engine) == choice


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--upstream", "http://127.0.0.1:9"], 1, "does not answer"),
        (["nobody"], 2, "there is no model 'nobody'"),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    answer = check(tmp_path, *arguments)
    assert answer.returncode == status
    assert said in answer.stderr
    assert answer.stdout == ""
