"""LiteLLM as a container of the stack, on a real Docker: the real LiteLLM, the real gateway, llama.cpp.

The image is built without prisma, and LiteLLM runs without a database: that needs a file from prisma's
servers. What makes its role and its database runs all the same.

`cloud` stands for what only LiteLLM reaches; behind its address is the gateway once more, by the key by
which it knows LiteLLM.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from homeport.runtime.process import free_port
from tests.support.stack import Stack, docker, needs_docker, until

pytestmark = [pytest.mark.docker, pytest.mark.slow_litellm, pytest.mark.timeout(900)]

DEMO = "/opt/homeport/lib/python3.13/site-packages/homeport/demo/demo.gguf"
CONFIG = f"""\
models:
  native: {{path: {DEMO}}}
  cloud:
    via: litellm
    upstream_model: hosted_vllm/native
    litellm_params:
      api_base: http://gateway:11899/v1
      api_key: os.environ/HOMEPORT_INTERNAL_KEY
aliases: {{claude-*: native}}
default_model: native
"""
HELLO = "Hello! How can I help you today?"


class WithLiteLLM(Stack):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "litellm")
        self.litellm_port = free_port()
        self.env |= {
            "LITELLM_PORT": str(self.litellm_port),
            "LITELLM_WITH_DATABASE": "0",
            "LITELLM_DATABASE_URL": "",
        }

    @property
    def configured(self) -> Path:
        return self.home / "litellm_config.yaml"

    def said(self, port: int, model: str) -> str:
        """What Chat Completions answer."""
        messages = [{"role": "user", "content": "hello"}]
        body = {"model": model, "messages": messages, "max_tokens": 20, "temperature": 0}
        answer = self.asked("/v1/chat/completions", body, port)
        return str(answer["choices"][0]["message"]["content"])

    def message_of(self, port: int, model: str) -> str:
        """What Anthropic's Messages answer."""
        messages = [{"role": "user", "content": "hello"}]
        body = {"model": model, "messages": messages, "max_tokens": 20, "temperature": 0}
        answer = self.asked("/v1/messages", body, port)
        return str(next(b["text"] for b in answer["content"] if b["type"] == "text"))

    def refused(self, port: int) -> int:
        """What who has no key is told."""
        with pytest.raises(HTTPError) as refused:
            urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=20)
        refused.value.close()
        return refused.value.code

    def usage(self) -> dict[str, int]:
        """Records so far, by model and dialect."""
        rows = self.sql("SELECT model, dialect, count(*) FROM homeport_usage GROUP BY 1, 2")
        return {f"{m} {d}": int(n) for m, d, n in (row.split("|") for row in rows)}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithLiteLLM]:
    needs_docker()
    stack = WithLiteLLM(tmp_path_factory.mktemp("stack"))
    with stack:
        (stack.home / "config.yaml").write_text(CONFIG)
        stack.homeport("install", "--with", "litellm")
        said = stack.homeport("proxy", "start").stderr
        assert "litellm" in said, "it is waited for"
        yield stack


def test_its_clients_get_the_same_models_and_each_request_counts_once(stack: WithLiteLLM) -> None:
    port = stack.litellm_port
    assert stack.said(port, "native") == HELLO
    assert stack.message_of(port, "claude-sonnet-4-5") == HELLO
    assert stack.said(port, "any name") == HELLO
    until(lambda: sum(stack.usage().values()) >= 3, "they are recorded")
    assert stack.usage() == {"native openai_chat": 2, "native anthropic": 1}


def test_what_only_it_reaches_is_served_at_both_ports(stack: WithLiteLLM) -> None:
    before = stack.usage()
    assert stack.said(stack.port, "cloud") == HELLO
    assert stack.message_of(stack.port, "cloud") == HELLO
    assert stack.said(stack.litellm_port, "cloud") == HELLO

    def new() -> dict[str, int]:
        return {name: n - before.get(name, 0) for name, n in stack.usage().items()}

    until(lambda: sum(new().values()) >= 6, "they are recorded")
    # Three by their own name; three more as what the cloud was asked for.
    assert new() == {"cloud openai_chat": 2, "cloud anthropic": 1, "native openai_chat": 3} | {
        name: 0 for name in before if name != "native openai_chat"
    }


def test_it_lists_what_homeport_has(stack: WithLiteLLM) -> None:
    listed = stack.asked("/v1/models", port=stack.litellm_port)["data"]
    assert {model["id"] for model in listed} == {"local-model", "native", "cloud"}


def test_homeport_decides_who_comes_in(stack: WithLiteLLM) -> None:
    assert stack.refused(stack.litellm_port) == 401


def test_it_is_no_root_and_has_no_secret_of_the_others(stack: WithLiteLLM) -> None:
    container = stack.container("litellm")
    assert docker("exec", container, "id", "-u") != "0"
    # That of its first process: `docker exec` would show what the container was given.
    env = docker("exec", container, "cat", "/proc/1/environ")
    for name in ("HOMEPORT_MASTER_KEY", "HOMEPORT_DB_PASSWORD", "GRAFANA_ADMIN_PASSWORD"):
        assert stack.values[name] not in env
    assert "DATABASE_URL" not in env


def test_its_role_and_database_are_there_and_made_once(stack: WithLiteLLM) -> None:
    made = (
        "SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'litellm'"
        " UNION ALL SELECT rolname, rolsuper::text FROM pg_roles WHERE rolname = 'litellm'"
    )
    assert stack.sql(made) == ["litellm|litellm", "litellm|false"]
    status = json.loads(stack.homeport("proxy", "status", "--json").stdout)
    assert "litellm-database" not in {member["name"] for member in status["members"]}
    checks = json.loads(stack.homeport("proxy", "health", "--json").stdout)["checks"]
    assert all(check["is_healthy"] for check in checks)


def test_without_it_the_gateway_goes_on(stack: WithLiteLLM) -> None:
    docker("stop", stack.container("litellm"))
    assert stack.said(stack.port, "native") == HELLO
    with pytest.raises(HTTPError) as failed:
        stack.said(stack.port, "cloud")
    failed.value.close()
    assert failed.value.code in (502, 503)
    gateway = stack.container("gateway")
    stack.homeport("proxy", "start")
    assert stack.said(stack.port, "cloud") == HELLO
    assert stack.container("gateway") == gateway, "only what is missing is started"


def test_other_models_are_taken_up_by_a_restart(stack: WithLiteLLM) -> None:
    before = stack.container("litellm")
    assert "runs already" in stack.homeport("proxy", "start").stderr
    (stack.home / "config.yaml").write_text(CONFIG.replace("  cloud:", "  other:"))
    said = stack.homeport("proxy", "start", status=1).stderr
    assert "other models" in said
    assert stack.container("litellm") == before
    stack.homeport("proxy", "restart")
    assert stack.said(stack.litellm_port, "other") == HELLO
    (stack.home / "config.yaml").write_text(CONFIG)


def test_a_file_of_the_users_is_used_as_it_is(stack: WithLiteLLM) -> None:
    stack.homeport("proxy", "stop")
    own: dict[str, Any] = {
        "model_list": [
            {
                "model_name": "mine",
                "litellm_params": {
                    "model": "hosted_vllm/native",
                    "api_base": "http://gateway:11899/v1",
                    "api_key": "os.environ/HOMEPORT_INTERNAL_KEY",
                },
            }
        ],
        "litellm_settings": {"callbacks": ["callback.homeport"]},
        "general_settings": {"custom_auth": "callback.admit"},
    }
    text = json.dumps(own)
    stack.configured.unlink()
    stack.configured.write_text(text)
    stack.homeport("proxy", "start")
    assert stack.said(stack.litellm_port, "mine") == HELLO
    assert stack.configured.read_text() == text
    assert stack.refused(stack.litellm_port) == 401


def test_one_that_does_not_start_is_told_with_its_last_lines(stack: WithLiteLLM) -> None:
    stack.homeport("proxy", "stop")
    stack.configured.write_text("general_settings: {custom_auth: no_module_of_ours.admit}\n")
    said = stack.homeport("proxy", "start", status=1).stderr
    assert "litellm" in said
    assert "no_module_of_ours" in said
    assert "homeport proxy logs --service litellm" in said
    stack.homeport("proxy", "stop", "--stop-db")


def test_an_image_that_cannot_be_built_is_told(stack: WithLiteLLM) -> None:
    lock = stack.home / "services" / "litellm" / "requirements.txt"
    good = lock.read_text()
    lock.write_text("litellm\n")
    try:
        said = stack.homeport("install", status=1).stderr
    finally:
        lock.write_text(good)
    assert "the image of litellm could not be built" in said
    assert "hash" in said, "the last lines of the build"
