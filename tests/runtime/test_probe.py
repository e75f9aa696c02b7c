"""Asking servers what they are, over the recorded answers of each engine."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from homeport.errors import ConfigError, UpstreamError
from homeport.facts import EngineName
from homeport.runtime.probe import base_url_of, discover

CASES = Path(__file__).parents[1] / "cases" / "engines"
FILES = {
    "/v1/models": "models",
    "/props": "props",
    "/version": "version",
    "/api/version": "api_version",
}

Recorded = Callable[[str], "RecordedServer"]


class RecordedServer:
    """The answers in one folder as a ``Fetch``; 404 for what was not recorded."""

    def __init__(self, folder: Path) -> None:
        self.answers = {
            route: json.loads((folder / f"{name}.json").read_text())
            for route, name in FILES.items()
            if (folder / f"{name}.json").exists()
        }
        self.headers: dict[str, str] = json.loads((folder / "headers.json").read_text())
        self.requests: list[tuple[str, Mapping[str, str]]] = []

    async def __call__(
        self, url: str, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        path = url.removeprefix("http://host:1")
        self.requests.append((path, headers))
        if path not in self.answers:
            return 404, self.headers, b"Not Found"
        return 200, self.headers, json.dumps(self.answers[path]).encode()


@pytest.fixture
def recorded() -> Recorded:
    return lambda engine: RecordedServer(CASES / engine)


@pytest.mark.parametrize(
    ("engine", "version", "models", "context"),
    [
        ("llamacpp", "b0-unknown", ["tiny"], 2048),
        ("vllm", "0.32.0", ["tiny"], 2048),
        ("sglang", None, ["qwen3"], 40960),
        ("trtllm", "1.3.0", ["TinyLlama-1.1B-Chat-v1.0"], None),
        ("mlx", None, ["/models/tiny-hf"], None),
        ("ollama", "0.14.0", ["qwen3:8b", "someone/tuned:latest"], None),
    ],
)
async def test_every_engine(
    engine: str, version: str | None, models: list[str], context: int | None, recorded: Recorded
) -> None:
    found = await discover("http://host:1/v1", None, recorded(engine))
    assert [endpoint.model.name for endpoint in found] == models
    assert {endpoint.engine.engine for endpoint in found} == {engine}
    assert {endpoint.engine.version for endpoint in found} == {version}
    assert {endpoint.model.context_tokens for endpoint in found} == {context}
    assert {endpoint.base_url for endpoint in found} == {"http://host:1/v1"}


async def test_an_unknown_server(recorded: Recorded) -> None:
    first, second = await discover("http://host:1", None, recorded("lmstudio"))
    assert first.engine.engine == second.engine.engine == "openai_compatible"
    assert (first.model.name, second.model.name) == ("qwen3-8b", "text-embedding-nomic")


async def test_what_the_user_says_goes(recorded: Recorded) -> None:
    said: EngineName = "sglang"
    (endpoint,) = await discover("http://host:1", None, recorded("vllm"), engine=said)
    assert endpoint.engine.engine == "sglang"


async def test_the_key_goes_to_every_route_and_shows_nowhere(recorded: Recorded) -> None:
    server = recorded("llamacpp")
    (endpoint,) = await discover("http://host:1/v1", "s3cret", server)
    assert endpoint.api_key == "s3cret"
    assert "s3cret" not in repr(endpoint)
    assert [path for path, _ in server.requests] == ["/v1/models", "/props"]
    assert {headers["authorization"] for _, headers in server.requests} == {"Bearer s3cret"}


async def test_an_empty_answer_is_no_models(recorded: Recorded) -> None:
    """mlx_lm, before its first model was downloaded."""
    server = recorded("mlx")
    server.answers["/v1/models"] = None
    assert await discover("http://host:1/v1", None, server) == ()


async def test_a_server_that_breaks_off_on_unknown_routes(recorded: Recorded) -> None:
    server = recorded("lmstudio")

    async def rude(url: str, headers: Mapping[str, str], timeout_s: float) -> Any:
        if not url.endswith("/v1/models"):
            raise UpstreamError("upstream", "closed the connection")
        return await server(url, headers, timeout_s)

    assert len(await discover("http://host:1/v1", None, rude)) == 2


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        ("http://host:8080", "http://host:8080/v1"),
        ("http://host:8080/", "http://host:8080/v1"),
        ("http://host:8080/v1", "http://host:8080/v1"),
        ("http://host:8080/v1/", "http://host:8080/v1"),
        ("https://host/api/openai/v1", "https://host/api/openai/v1"),
        ("http://[::1]:1", "http://[::1]:1/v1"),
    ],
)
def test_base_url(url: str, base_url: str) -> None:
    assert base_url_of(url) == base_url


@pytest.mark.parametrize("url", ["host:8080", "ftp://host/v1", "http://", "", "http:///v1"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match="not an HTTP URL"):
        base_url_of(url)
