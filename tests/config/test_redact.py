"""Nothing secret is shown."""

import json

from homeport.config.redact import HIDDEN, shown
from homeport.settings import (
    ApiKey,
    ModelSettings,
    SearchAccount,
    ServerSettings,
    Settings,
    WebSearchSettings,
)

SETTINGS = Settings(
    server=ServerSettings(
        keys=(ApiKey(name="laptop", sha256="ab" * 32),),
        master_key="geheim",
        metrics_token="geheim",
    ),
    models=(
        ModelSettings(
            id="local",
            path="/m.gguf",
            args=(
                "--api-key",
                "geheim",
                "-v",
                "--hf-token=geheim",
                "--API-KEY-FILE",
                "geheim",
                "--max-tokens",
                "5",
            ),
            env=(("HF_TOKEN", "geheim"),),
        ),
        ModelSettings(id="remote", upstream="http://h/v1", api_key="geheim", aliases=("r",)),
    ),
    aliases=(("gpt-*", "remote"),),
    upstreams=("http://u/v1",),
)


def test_secrets_are_hidden_and_the_rest_is_shown() -> None:
    plain = shown(SETTINGS)
    assert "geheim" not in json.dumps(plain)
    assert plain["models"] == {
        "local": {
            "path": "/m.gguf",
            "args": [
                "--api-key",
                HIDDEN,
                "-v",
                f"--hf-token={HIDDEN}",
                "--API-KEY-FILE",
                HIDDEN,
                "--max-tokens",
                "5",
            ],
            "env": {"HF_TOKEN": HIDDEN},
        },
        "remote": {"upstream": "http://h/v1", "api_key": HIDDEN, "aliases": ["r"]},
    }
    assert plain["server"]["keys"] == [{"name": "laptop", "sha256": "abababab..."}]
    assert plain["server"]["master_key"] == plain["server"]["metrics_token"] == HIDDEN
    assert plain["aliases"] == {"gpt-*": "remote"}
    assert plain["upstreams"] == ["http://u/v1"]


def test_a_secret_flag_at_the_end_hides_nothing_else() -> None:
    model = ModelSettings(id="m", path="/m", args=("--api-key", "--token", "x"))
    plain = shown(Settings(models=(model,)))
    assert plain["models"]["m"]["args"] == ["--api-key", HIDDEN, "x"]


def test_what_is_switched_off_is_shown() -> None:
    model = ModelSettings(id="m", upstream="http://h/v1", rescue=False, starts_thinking=True)
    assert shown(Settings(models=(model,)))["models"]["m"] == {
        "upstream": "http://h/v1",
        "rescue": False,
        "starts_thinking": True,
    }


def test_keys_of_search_services_are_hidden() -> None:
    account = SearchAccount(api_key="geheim", url="http://proxy")
    search = WebSearchSettings(searxng="http://s", brave=account, tavily=SearchAccount(api_key="g"))
    assert shown(Settings(web_search=search))["web_search"] == {
        "searxng": "http://s",
        "brave": {"api_key": HIDDEN, "url": "http://proxy"},
        "tavily": {"api_key": HIDDEN},
    }
    assert "geheim" not in repr(search)
    assert "web_search" not in shown(Settings())
