"""`homeport serve --download-model`: from a hub to an answer, with the real llama.cpp."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.demo import demo_model_path
from tests.e2e.dialects import ANTHROPIC
from tests.e2e.raw_client import ask
from tests.support.fake_hub import FakeHub
from tests.support.gateway import Gateway

WEIGHTS = Path(demo_model_path()).read_bytes()


@pytest.mark.llamacpp
async def test_a_model_is_loaded_and_served(tmp_path: Path) -> None:
    with FakeHub(org__demo={"demo-Q2_K.gguf": b"no model", "demo-Q4_K_M.gguf": WEIGHTS}) as hub:
        env = {"HF_ENDPOINT": hub.url}
        flags = ("--download-model", "org/demo", "--ctx", "2048")
        with Gateway(tmp_path, *flags, env=env) as gateway:
            assert "org/demo: 1 file, " in gateway.output()
            request = ANTHROPIC.request("Hello!", stream=True, model="org/demo")
            async with await ask(gateway.base_url, "POST", ANTHROPIC.path, request) as exchange:
                assert ANTHROPIC.ended_well(await exchange.all_events())
    # Now it is here: the hub is gone, and the name alone is enough.
    with Gateway(tmp_path, "--model", "org/demo:Q4_K_M", "--ctx", "2048") as gateway:
        request = ANTHROPIC.request("Hello!", stream=True, model="org/demo")
        async with await ask(gateway.base_url, "POST", ANTHROPIC.path, request) as exchange:
            assert ANTHROPIC.ended_well(await exchange.all_events())


def test_what_cannot_be_loaded_is_said_before_anything_is_served(tmp_path: Path) -> None:
    with FakeHub() as hub, pytest.raises(RuntimeError, match="there is no org/none") as raised:
        Gateway(tmp_path, "--download-model", "org/none", env={"HF_ENDPOINT": hub.url}).start()
    assert "ended with 1" in str(raised.value)
    assert "listens" not in str(raised.value)
