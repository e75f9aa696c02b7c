"""The embedded llama.cpp, for real, with the demo model."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from homeport.demo import demo_model_path
from homeport.errors import UpstreamError
from homeport.facts import Endpoint
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.probe import discover
from homeport.runtime.remote import RemoteInstance
from homeport.settings import ModelSettings
from tests.runtime.conftest import fetch, survivors, until

pytestmark = pytest.mark.llamacpp


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[ManagedInstance]:
    model = ModelSettings(**{"id": "demo", "path": str(demo_model_path()), **settings})
    instance = ManagedInstance(model, fetch, backoff=lambda _: 0.05)
    try:
        yield instance
    finally:
        await instance.stop()


async def post(endpoint: Endpoint, path: str, body: Any, *, api_key: str | None) -> tuple[int, Any]:
    headers = {"content-type": "application/json"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"

    def send() -> tuple[int, Any]:
        request = urllib.request.Request(
            endpoint.base_url + path, data=json.dumps(body).encode(), headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return await asyncio.to_thread(send)


CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}


async def test_it_serves_and_says_what_it_is() -> None:
    async with serving() as instance:
        endpoint = await instance.ensure_ready()
        assert endpoint.engine.engine == "llamacpp"
        assert endpoint.model.name == "demo"
        assert (endpoint.model.context_tokens, endpoint.model.slots) == (32768, 2)
        assert endpoint.model.vision is False
        status, answer = await post(endpoint, "/chat/completions", CHAT, api_key=endpoint.api_key)
        assert status == 200
        assert answer["usage"]["completion_tokens"] > 0
        (found,) = await discover(endpoint.base_url, endpoint.api_key, fetch)
        assert (found.engine, found.model.context_tokens) == (endpoint.engine, 32768)


async def test_only_we_may_use_it() -> None:
    """Any page in a browser can reach a port on loopback; llama.cpp allows all origins."""
    async with serving() as instance:
        endpoint = await instance.ensure_ready()
        status, _ = await post(endpoint, "/chat/completions", CHAT, api_key=None)
        assert status == 401
        stranger = RemoteInstance(ModelSettings(id="x", upstream=endpoint.base_url), fetch)
        with pytest.raises(UpstreamError, match="wants a key"):
            await stranger.ensure_ready()


async def test_context_per_request_is_what_was_asked_for() -> None:
    async with serving(ctx=2048) as instance:
        assert (await instance.ensure_ready()).model.context_tokens == 2048


async def test_a_killed_engine_comes_back() -> None:
    async with serving() as instance:
        first = await instance.ensure_ready()
        engines = [
            process
            for process in psutil.Process().children(recursive=True)
            if "homeport.runtime.llamacpp_child" in process.cmdline()
            and "shim.py" not in " ".join(process.cmdline())
        ]
        assert len(engines) == 1
        engines[0].kill()
        await until(lambda: instance.endpoint not in (None, first))
        assert "exited with status 137" in str(instance.last_error)
        assert survivors(engines) == []


async def test_a_broken_model_file_is_told_in_the_engines_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(demo_model_path().read_bytes().replace(b"blk.3.", b"blk.9."))
    async with serving(path=str(broken)) as instance:
        with pytest.raises(UpstreamError) as raised:
            await instance.ensure_ready()
        first, hint = raised.value.message.splitlines()
        assert "did not start: exited with status 1: " in first
        assert "error loading model: check_tensor_dims: tensor 'blk.3." in first
        assert hint == "  hint: all that it said: homeport logs demo"


async def test_an_embedding_model_answers_embeddings() -> None:
    """The demo model is none, so it has no pooling: told so, instead of "not supported" (501)."""
    async with serving(embeddings=True) as instance:
        endpoint = await instance.ensure_ready()
        body = {"input": ["one", "two"]}
        status, answer = await post(endpoint, "/embeddings", body, api_key=endpoint.api_key)
        assert status == 400
        assert "Pooling" in answer["error"]["message"]
