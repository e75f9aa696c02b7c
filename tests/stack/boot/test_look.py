"""What the boot chain finds on the disk, and writes there."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from homeport.demo import demo_model_path
from homeport.errors import ConfigError
from homeport.stack.boot import look
from homeport.stack.boot.plan import Findings, wishes

DEMO = str(demo_model_path())
LLAMA_ON = {"AUTO_INFER_LLAMA_CPP_ON_BOOT": "1"}
LITELLM_ON = {"AUTO_INFER_LITELLM_ON_BOOT": "1"}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Of a container that has nothing but a home."""
    return {"HOMEPORT_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "PATH": "/nowhere"}


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def found(env: dict[str, str]) -> Findings:
    return look.findings(wishes(env), env)


# --- llama-server ---------------------------------------------------------------------------------


def argument(env: dict[str, str], flag: str) -> str:
    llama = found(env).llama
    assert llama is not None
    return llama.command.argv[llama.command.argv.index(flag) + 1]


def test_a_file_and_a_folder_with_one(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.gguf").symlink_to(DEMO)
    env |= LLAMA_ON
    for variable, path in (
        ("AUTO_INFER_LLAMA_CPP_MODEL", DEMO),
        ("AUTO_INFER_LLAMA_CPP_CONFIG", DEMO),
        ("AUTO_INFER_LLAMA_CPP_CONFIG", str(tmp_path / "models")),
    ):
        here = {**env, variable: path}
        llama = found(here).llama
        assert llama is not None
        assert any(word.endswith(".gguf") for word in llama.command.argv)
        assert argument(here, "--port") == "8080"
        assert argument(here, "--host") == "127.0.0.1"
        assert llama.command.api_key is None
        assert llama.context_tokens == 32768


CONFIG = """
models:
  far: {{upstream: "http://127.0.0.1:9/v1"}}
  first: {{path: "{demo}", ctx: 1024}}
  second: {{path: "{demo}", ctx: 2048, slots: 3}}
"""


@pytest.mark.parametrize(
    ("default", "alias", "context"),
    [("", "first", "2048"), ("default_model: second", "second", "6144")],
)
def test_a_configuration_of_ours(
    env: dict[str, str], tmp_path: Path, default: str, alias: str, context: str
) -> None:
    """Its default model, else the first one that llama.cpp serves."""
    file = tmp_path / "models.yaml"
    file.write_text(CONFIG.format(demo=DEMO) + default)
    env |= {**LLAMA_ON, "AUTO_INFER_LLAMA_CPP_CONFIG": str(file)}
    assert argument(env, "--alias") == alias
    assert argument(env, "-c") == context


def test_a_llama_server_on_the_path_is_taken(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = executable(tmp_path / "bin" / "llama-server")
    monkeypatch.setenv("PATH", str(server.parent))
    llama = found({**env, **LLAMA_ON, "AUTO_INFER_LLAMA_CPP_MODEL": DEMO}).llama
    assert llama is not None
    assert llama.command.argv[0] == str(server)
    assert "--jinja" in llama.command.argv


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("missing.gguf", None, "there is no "),
        ("text.gguf", "hello", "not a GGUF"),
        ("none.yaml", "models: {a: {upstream: 'http://h/v1'}}", "has no model that llama.cpp"),
        ("bad.yaml", "modles: {}", "modles"),
    ],
)
def test_models_that_cannot_be(
    env: dict[str, str], tmp_path: Path, name: str, text: str | None, words: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        found({**env, **LLAMA_ON, "AUTO_INFER_LLAMA_CPP_CONFIG": str(path)})


# --- LiteLLM --------------------------------------------------------------------------------------


def test_where_litellm_is(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable, the PATH, beside homeport's own command, else the one that homeport installs."""
    env |= LITELLM_ON
    monkeypatch.setattr("sys.argv", [str(tmp_path / "prefix" / "bin" / "homeport")])

    def argv(env: dict[str, str]) -> tuple[str, ...]:
        litellm = found(env).litellm
        assert litellm is not None
        assert litellm.installs == ("--lock" in litellm.argv)
        return litellm.argv

    assert "--lock" in argv(env)
    assert argv(env)[-1] == "--"
    beside = executable(tmp_path / "prefix" / "bin" / "litellm")
    assert argv(env) == (str(beside),)
    on_path = executable(tmp_path / "path" / "litellm")
    assert argv({**env, "PATH": str(on_path.parent)}) == (str(on_path),)
    named = executable(tmp_path / "other")
    assert argv({**env, "PATH": str(on_path.parent), "LITELLM_BIN": str(named)}) == (str(named),)
    with pytest.raises(ConfigError, match="is no executable"):
        found({**env, "LITELLM_BIN": str(tmp_path / "missing")})


def test_a_litellm_that_was_tampered_with_is_refused(env: dict[str, str], tmp_path: Path) -> None:
    binary = executable(tmp_path / "venv" / "bin" / "litellm")
    package = tmp_path / "venv" / "lib" / "python3.12" / "site-packages"
    (package / "litellm-1.82.8.dist-info").mkdir(parents=True)
    assert look.version_of(str(binary)) == "1.82.8"
    with pytest.raises(ConfigError, match=r"1\.82\.8 was tampered with"):
        found({**env, **LITELLM_ON, "LITELLM_BIN": str(binary)})


def test_its_file_with_those_that_it_includes(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{include: [b.yaml], model_list: [{model_name: a}]}")
    (tmp_path / "b.yaml").write_text("model_list: [{model_name: b}]")
    env |= {**LITELLM_ON, "AUTO_INFER_LITELLM_CONFIG": str(tmp_path / "a.yaml")}
    litellm = found(env).litellm
    assert litellm is not None
    assert litellm.file is not None
    assert [name.name for name in litellm.file.names] == ["a", "b"]
    (tmp_path / "b.yaml").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        found(env)


# --- the gateway ----------------------------------------------------------------------------------


def test_sections_that_do_not_say_which_models_there_are(
    env: dict[str, str], tmp_path: Path
) -> None:
    home = Path(env["HOMEPORT_HOME"])
    home.mkdir()
    (home / "config.yaml").write_text(
        "server: {limits: {body_bytes: 1MiB}}\nstore: {url: usage.db}\n"
        f"models: {{own: {{path: '{DEMO}'}}}}\n"
    )
    it = found({**env, **LITELLM_ON})
    assert it.config == {
        "server": {"limits": {"body_bytes": "1MiB"}},
        "store": {"url": str(home / "usage.db")},
    }
    assert not it.has_keys
    text = "store: {url: 'postgresql://x:${PASSWORD}@db/x'}"
    (home / "config.yaml").write_text(text)
    env |= {"PASSWORD": "secret", "HOMEPORT_STORE_URL": "postgresql://x:other@db/x"}
    kept = found({**env, **LITELLM_ON}).config
    assert kept == {"store": {"url": "postgresql://x:${PASSWORD}@db/x"}}, "no secret is copied"


def test_its_keys_are_seen_and_its_mistakes(env: dict[str, str]) -> None:
    home = Path(env["HOMEPORT_HOME"])
    home.mkdir()
    config = home / "config.yaml"
    config.write_text("server: {master_key: sk-of-the-file}")
    assert found(env).has_keys
    config.write_text("servre: {}")
    with pytest.raises(ConfigError, match="servre"):
        found(env)


# --- writing --------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_kept_for_its_owner_alone(env: dict[str, str]) -> None:
    first = look.planned(env)
    assert first.key_from == "new"
    assert not Path(env["HOMEPORT_HOME"]).exists(), "looking changes nothing"
    look.prepare(first, env)
    file = look.state_folder(env) / look.KEY_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    again = look.planned(env)
    assert again.key_from == "saved"
    assert look.client_key(again) == look.client_key(first) == file.read_text().strip()
    assert look.client_key(first) not in str(look.told(first))


def test_a_key_that_cannot_be_read_is_not_made_anew(env: dict[str, str]) -> None:
    """Clients have it."""
    file = look.state_folder(env) / look.KEY_FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(b"sk-\xff\n")
    with pytest.raises(ConfigError, match="the master key cannot be read: it is no text") as raised:
        look.planned(env)
    assert raised.value.where == str(file)
    assert look.planned({**env, "HOMEPORT_MASTER_KEY": "sk-1"}).key_from == "HOMEPORT_MASTER_KEY"
    assert file.read_bytes() == b"sk-\xff\n"


def test_litellms_file_is_written_once(env: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "etc" / "litellm.yaml"
    env |= {
        **LLAMA_ON,
        **LITELLM_ON,
        "AUTO_INFER_LLAMA_CPP_MODEL": DEMO,
        "AUTO_INFER_LITELLM_CONFIG": str(config),
    }
    look.prepare(look.planned(env), env)
    written = yaml.safe_load(config.read_text())
    assert [entry["model_name"] for entry in written["model_list"]] == ["demo", "claude-*"]
    gateway = look.state_folder(env) / "gateway.yaml"
    assert stat.S_IMODE(gateway.stat().st_mode) == 0o600
    config.write_text("model_list: [{model_name: mine}]")
    look.prepare(look.planned(env), env)
    assert config.read_text() == "model_list: [{model_name: mine}]"
    assert list(yaml.safe_load(gateway.read_text())["models"]) == ["mine"]


def test_a_folder_that_cannot_be_written(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match="cannot be written") as raised:
        look.prepare(look.planned(env), env)
    assert "HOMEPORT_HOME" in raised.value.hint
