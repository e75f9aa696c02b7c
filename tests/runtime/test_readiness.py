"""When an engine counts as ready, and as which model it is asked: each kind of engine, scripted.

The engines are processes that answer as the real ones do (``tests.support.scripted_engines``), started
by the command lines that we make.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from homeport.facts import Command, Endpoint, Machine
from homeport.runtime.probe import StartError, ready_endpoint
from homeport.runtime.process import EngineProcess, free_port
from homeport.runtime.starting import command_for
from homeport.settings import ModelSettings
from tests.runtime.conftest import fetch
from tests.support import scripted_engines

PROGRAM = Path(scripted_engines.__file__)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as Hugging Face has them, and executables of all engines."""
    model = tmp_path / "some-model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen3"}')
    (model / "model.safetensors").touch()
    for engine in scripted_engines.ENGINES:
        (tmp_path / engine).write_text(
            f'#!/bin/sh\nexec {sys.executable} -S {PROGRAM} {engine} "$@"\n'
        )
        (tmp_path / engine).chmod(0o755)
    return tmp_path


@asynccontextmanager
async def ready(model: ModelSettings) -> AsyncIterator[tuple[Command, Endpoint]]:
    port = free_port()
    command = command_for(model, Machine(), port, "s3cret")
    async with await EngineProcess.spawn(command) as process:
        yield (
            command,
            await ready_endpoint(
                process,
                f"http://127.0.0.1:{port}/v1",
                fetch=fetch,
                api_key=command.api_key,
                engine=command.engine,
                ready_path=command.ready_path,
                model=command.model,
                timeout_s=30,
            ),
        )


def model(folder: Path, engine: str, **settings: object) -> ModelSettings:
    given = {"path": str(folder / "some-model"), "binary": str(folder / engine), **settings}
    return ModelSettings(id="chat", engine=engine, **given)  # type: ignore[arg-type]  # keywords


async def test_sglang_is_known_by_our_name_for_it(folder: Path) -> None:
    """Its port opens late, its list wants the key, and it tells its context."""
    async with ready(model(folder, "sglang", ctx=8192)) as (_, endpoint):
        assert (endpoint.engine.engine, endpoint.model.name) == ("sglang", "chat")
        assert (endpoint.model.context_tokens, endpoint.api_key) == (8192, "s3cret")


async def test_trtllm_calls_its_model_by_the_folder(folder: Path) -> None:
    async with ready(model(folder, "trtllm")) as (_, endpoint):
        assert (endpoint.engine.engine, endpoint.model.name) == ("trtllm", "some-model")
        assert (endpoint.engine.version, endpoint.api_key) == ("1.2.1", None)


async def test_mlx_is_asked_for_what_it_was_started_with(folder: Path) -> None:
    """Its list begins with others."""
    async with ready(model(folder, "mlx")) as (_, endpoint):
        assert (endpoint.engine.engine, endpoint.model.name) == (
            "mlx",
            str(folder / "some-model"),
        )


async def test_an_engine_of_ones_own_has_no_health(folder: Path) -> None:
    """503 while it loads; then it is asked what it is, and what it has."""
    command = (str(folder / "custom"), "--port", "{port}", "{model}")
    settings = model(folder, "custom", binary=None, command=command)
    async with ready(settings) as (_, endpoint):
        assert endpoint.engine.engine == "openai_compatible"
        assert endpoint.model.name == "some-model"


async def test_a_flag_that_the_engine_does_not_have(folder: Path) -> None:
    settings = model(folder, "sglang", args=("--no-such-flag",))
    with pytest.raises(StartError, match="exited with status 2"):
        async with ready(settings):
            pass
