"""A gateway in front of a fake engine, both real processes, shared by the tests of one module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import claude_code
from tests.support.engine import FakeEngine
from tests.support.gateway import Gateway


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def gateway(
    shared_engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with Gateway(folder, "--upstream", shared_engine.base_url) as gateway:
        yield gateway
    gateway.assert_no_internal_error()


@pytest.fixture(scope="module")
def keeping_gateway(
    shared_engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One that keeps connections to the engine: it is told that this is no llama.cpp."""
    folder = tmp_path_factory.mktemp("keeping-gateway")
    config = folder / "config.yaml"
    settings = f"{{upstream: '{shared_engine.base_url}', engine: openai_compatible}}"
    config.write_text(f"models: {{fake: {settings}}}\ndefault_model: fake\n", "utf-8")
    with Gateway(folder, "--config", str(config)) as gateway:
        yield gateway
    gateway.assert_no_internal_error()


@pytest.fixture
def engine(shared_engine: FakeEngine) -> FakeEngine:
    """The module's engine, with an empty script and an empty journal."""
    shared_engine.reset()
    return shared_engine


@pytest.fixture(scope="session")
def claude() -> claude_code.ClaudeCode:
    try:
        return claude_code.installed()
    except claude_code.NpmMissingError as missing:
        pytest.skip(str(missing))
