"""Reading good files, where files are looked for, and what flags do to them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeport.config import lifecycle_keys, load, model_keys, schema
from homeport.config.flags import Overrides
from homeport.config.kinds import Section
from homeport.config.problems import CollectedConfigError
from homeport.errors import ConfigError
from homeport.settings import (
    ApiKey,
    BackendDefaults,
    Defaults,
    Group,
    LifecycleSettings,
    Limits,
    ModelSettings,
    SearchAccount,
    ServerSettings,
    Settings,
    WebSearchSettings,
)
from tests.config.conftest import SHA, Read

FULL = f"""\
server:
  host: "::1"
  port: 8000
  keys:
    - name: laptop
      sha256: {SHA.upper()}
  allowed_hosts: box.lan
  allowed_origins: [https://Chat.example.org:8443/]
  limits:
    body_bytes: 1MiB
    connect_timeout_s: 2
    idle_timeout_s: 0.5
    drain_timeout_s: "10"
models:
  local:
    path: a.gguf
    engine: llamacpp
    aliases: [l, small]
    ctx: 32_768
    args: [--threads, 8, ""]
    env: {{A: 1, B: on}}
    binary: llama-server
  remote:
    upstream: https://h:1/v1/
    upstream_model: big
    api_key: ${{KEY}}
    alias: r
    embeddings: yes
aliases:
  claude-*: local
  "*": r
default_model: small
strict_models: true
small_models: [tiny, "*-mini"]
"""


def test_every_key(read: Read, folder: Path) -> None:
    assert read(FULL, {"KEY": "geheim"}) == Settings(
        server=ServerSettings(
            host="::1",
            port=8000,
            keys=(ApiKey(name="laptop", sha256=SHA),),
            allowed_hosts=("box.lan",),
            allowed_origins=("https://chat.example.org:8443",),
            limits=Limits(
                body_bytes=1024**2, connect_timeout_s=2, idle_timeout_s=0.5, drain_timeout_s=10
            ),
        ),
        models=(
            ModelSettings(
                id="local",
                path=str(folder / "a.gguf"),
                engine="llamacpp",
                aliases=("l", "small"),
                ctx=32768,
                args=("--threads", "8", ""),
                env=(("A", "1"), ("B", "on")),
                binary="llama-server",
            ),
            ModelSettings(
                id="remote",
                upstream="https://h:1/v1",
                upstream_model="big",
                api_key="geheim",
                aliases=("r",),
                embeddings=True,
            ),
        ),
        aliases=(("claude-*", "local"), ("*", "r")),
        default_model="local",  # an alias in the file, an id from here on
        strict_models=True,
        small_models=("tiny", "*-mini"),
    )


def test_the_example_of_the_reference_is_good(
    read: Read, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.path.exists", lambda _: True)
    found = read(schema.EXAMPLE, {"UPSTREAM_KEY": "x", "HOME": "/home/me"})
    assert found.models[0].path == "/home/me/models/qwen3-8b-q4_k_m.gguf"
    assert len(found.models) == 4


@pytest.mark.parametrize(
    "text",
    ["", "\n", "# only a comment\n", "---\n", "~", "{}", "\ufeff", "server:\nmodels:\naliases:\n",
     "server: {keys: , limits: }", "default_model:\nstrict_models:\nserver: {port: }"],
)  # fmt: skip
def test_what_is_not_set_is_the_default(text: str, read: Read) -> None:
    assert read(text) == Settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no: {path: a.gguf}", "no"),
        ("on: {path: a.gguf}", "on"),
        ("7: {path: a.gguf}", "7"),
        ("1.5: {path: a.gguf}", "1.5"),
        ("2024-01-01: {path: a.gguf}", "2024-01-01"),
        ("org/name: {path: a.gguf}", "org/name"),
        ("gpt-oss:20b: {path: a.gguf}", "gpt-oss:20b"),
        ("'null': {path: a.gguf}", "null"),
    ],
)
def test_names_are_text_whatever_yaml_thinks(text: str, expected: str, read: Read) -> None:
    found = read(f"models:\n  {text}\ndefault_model: '{expected}'\n")
    assert found.models[0].id == found.default_model == expected


@pytest.mark.parametrize("port", ["8000", '"8000"', "'8000'", "8_000", "+8000", "08000"])
def test_a_port_is_a_number_whatever_the_quotes(port: str, read: Read) -> None:
    assert read(f"server: {{port: {port}}}").server.port == 8000


@pytest.mark.parametrize("word", ["true", "yes", "on", "True", "ON", '"yes"'])
def test_true(word: str, read: Read) -> None:
    assert read(f"strict_models: {word}").strict_models


@pytest.mark.parametrize("word", ["false", "no", "off", "No", "'off'"])
def test_false(word: str, read: Read) -> None:
    assert not read(f"strict_models: {word}").strict_models


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("5", 5), ("5B", 5), ("2 KiB", 2048), ("2kb", 2000), ("64MiB", 64 * 1024**2), ("1 GB", 10**9)],
)
def test_sizes(text: str, size_bytes: int, read: Read) -> None:
    found = read(f"server: {{limits: {{body_bytes: {text}}}}}")
    assert found.server.limits.body_bytes == size_bytes


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:8080", "http://h:8080/v1"),
        ("http://h/", "http://h/v1"),
        ("http://h/v1/", "http://h/v1"),
        ("https://h/api/openai", "https://h/api/openai"),
        ("http://[::1]:1/v1", "http://[::1]:1/v1"),
    ],
)
def test_upstreams(url: str, expected: str, read: Read) -> None:
    assert read(f"models: {{m: {{upstream: '{url}'}}}}").models[0].upstream == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [("plain", "plain"), ("${K}", "v"), ("os.environ/K", "v"), ("a${K}", "a${K}")],
)
def test_api_keys_come_from_the_environment(written: str, expected: str, read: Read) -> None:
    found = read(f"models: {{m: {{upstream: http://h, api_key: '{written}'}}}}", {"K": "v"})
    assert found.models[0].api_key == expected


def test_search_services(read: Read) -> None:
    text = "web_search: {tavily: {api_key: os.environ/K, url: http://h:1/}}"
    account = SearchAccount(api_key="v", url="http://h:1")
    assert read(text, {"K": "v"}).web_search == WebSearchSettings(tavily=account)


def test_paths_start_at_the_file_and_know_the_home_folder(read: Read, folder: Path) -> None:
    (folder / "sub").mkdir()
    text = (
        "models: {a: {path: ./sub/../a.gguf}, b: {path: ~/b.gguf}, c: {path: sub, binary: ./sub}}"
    )
    found = read(text, {"HOME": str(folder)})
    expected = [folder / "a.gguf", folder / "b.gguf", folder / "sub"]
    assert [m.path for m in found.models] == list(map(str, expected))
    assert found.models[2].binary == str(folder / "sub")


def test_yaml_anchors_may_be_used(read: Read) -> None:
    found = read("models:\n  a: {path: a.gguf, args: &x [-v]}\n  b: {path: b.gguf, args: *x}\n")
    assert found.models[1].args == ("-v",)


def test_an_alias_that_repeats_its_own_model_is_fine(read: Read) -> None:
    assert read("models: {a: {path: a.gguf, alias: [a, b, b]}}").models[0].id == "a"


# ------------------------------------------------------------------------ where the file is


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"HOME": "/h"}, "/h/.config/homeport"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}, "/x/homeport"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "relative"}, "/h/.config/homeport"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/x", "HOMEPORT_HOME": "/o"}, "/o"),
        ({"HOME": "/h", "HOMEPORT_HOME": ""}, "/h/.config/homeport"),
        ({"HOME": "/h", "HOMEPORT_CONFIG": ""}, "/h/.config/homeport"),
        ({"HOME": "/h", "HOMEPORT_CONFIG": "/none/a.yaml"}, "/h/.config/homeport"),
        ({"HOME": "/h", "HOMEPORT_CONFIG": "/none/folder"}, "/none/folder"),
        ({"HOMEPORT_HOME": "/o", "HOMEPORT_CONFIG": "/none/folder/"}, "/none/folder"),
    ],
)
def test_home(env: dict[str, str], expected: str) -> None:
    assert load.home(env) == Path(expected)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"HOME": "/h"}, "/h/.local/state/homeport"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/x"}, "/x/homeport"),
        ({"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/homeport"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/x", "HOMEPORT_HOME": "/o"}, "/o/state"),
        ({"HOME": "/h", "HOMEPORT_CONFIG": "/none/folder"}, "/h/.local/state/homeport"),
    ],
)
def test_state_home(env: dict[str, str], expected: str) -> None:
    assert load.state_home(env) == Path(expected)


def test_the_file_is_named_by_flag_then_environment_then_found_in_the_folder() -> None:
    env = {"HOMEPORT_HOME": "/o", "HOMEPORT_CONFIG": "/e.yaml"}
    assert load.config_file(Path("/f.yaml"), env) == (Path("/f.yaml"), True)
    assert load.config_file(None, env) == (Path("/e.yaml"), True)
    assert load.config_file(None, env | {"HOMEPORT_CONFIG": ""}) == (Path("/o/config.yaml"), False)


def test_the_file_in_the_folder_may_be_missing_and_is_read_when_there(tmp_path: Path) -> None:
    env = {"HOMEPORT_HOME": str(tmp_path)}
    assert load.settings(None, env) == Settings()
    (tmp_path / "config.yaml").write_text("server: {port: 1}")
    assert load.settings(None, env).server.port == 1


def test_a_folder_may_be_named_in_place_of_the_file(tmp_path: Path) -> None:
    env = {
        "HOMEPORT_HOME": "/o",
        "HOMEPORT_CONFIG": str(tmp_path),
        "AUTO_INFER_LITELLM_CONFIG": "/l",
    }
    assert load.home(env) == tmp_path
    assert load.config_file(None, env) == (tmp_path / "config.yaml", False)
    assert load.settings(None, env) == Settings()
    (tmp_path / "config.yaml").write_text("server: {port: 1}")
    assert load.settings(None, env).server.port == 1
    assert load.config_file(tmp_path / "other.yaml", env) == (tmp_path / "other.yaml", True)
    assert load.state_home(env) == Path("/o/state")
    assert load.data_home(env) == Path("/o/data")


def test_a_file_that_is_named_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "settings"  # whatever it is called
    file.write_text("server: {port: 1}")
    env = {"HOMEPORT_HOME": "/o", "HOMEPORT_CONFIG": str(file)}
    assert load.home(env) == Path("/o")
    assert load.settings(None, env).server.port == 1


@pytest.mark.parametrize("name", ["gone", "gone.yaml"])
def test_what_is_named_must_exist(tmp_path: Path, name: str) -> None:
    named = str(tmp_path / name)
    with pytest.raises(ConfigError, match="there is no such file") as caught:
        load.settings(None, {"HOMEPORT_CONFIG": named})
    assert caught.value.where == named


# ------------------------------------------------------------------------ flags


@pytest.fixture
def file(folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(
        "server: {port: 1}\nmodels:\n  a: {path: b.gguf, alias: x}\n  c: {path: b.gguf}\n"
        "default_model: c\nstrict_models: true\n"
    )
    return path


def test_no_flag_changes_nothing(file: Path) -> None:
    assert load.settings(file, {}) == load.read(file, {})


def test_flags_win_over_the_file(file: Path) -> None:
    flags = Overrides(host="localhost", port=2, default_model="x", strict_models=False)
    found = load.settings(file, {}, flags)
    assert (found.server.host, found.server.port) == ("localhost", 2)
    assert (found.default_model, found.strict_models) == ("a", False)


def test_a_model_by_flag_takes_its_file_s_name_and_becomes_the_default(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    found = load.settings(file, {}, Overrides(models=("a.gguf", "./b.gguf")))
    assert [(m.id, m.path) for m in found.models] == [
        ("a", str(folder / "a.gguf")),  # the file's model of this id, from another file
        ("b", str(folder / "b.gguf")),
        ("c", str(folder / "b.gguf")),
    ]
    assert found.models[0].aliases == ("x",)
    assert found.default_model == "a"


def test_a_model_by_flag_replaces_an_upstream_of_its_name(folder: Path) -> None:
    file = folder / "c.yaml"
    file.write_text("models: {a: {upstream: http://h}}")
    path = str(folder / "a.gguf")
    found = load.settings(file, {}, Overrides(models=(path,)))
    assert found.models == (ModelSettings(id="a", path=path),)


def test_a_port_of_0_by_flag_asks_for_a_free_one(file: Path) -> None:
    assert load.settings(file, {}, Overrides(port=0)).server.port == 0


def test_upstreams_bring_names_that_the_file_does_not_know(folder: Path) -> None:
    file = folder / "c.yaml"
    file.write_text("aliases: {gpt-*: theirs}\ndefault_model: theirs\ndiscover: false\n")
    with pytest.raises(CollectedConfigError, match="theirs"):
        load.settings(file, {})
    found = load.settings(file, {}, Overrides(upstreams=("http://h:1/", "http://g/v1")))
    assert found.upstreams == ("http://h:1/v1", "http://g/v1")
    assert found.default_model == "theirs"


@pytest.mark.parametrize(
    ("flags", "where", "message", "hint"),
    [
        ({"port": 65536}, "--port", "is not a port: 65536", "1 to 65535"),
        ({"host": "a:1"}, "--host", "address or a name alone", "port"),
        ({"models": ("none.gguf",)}, "--model", "no file or folder 'none.gguf'", "looked for at"),
        ({"models": ("a.gguf", "./a.gguf")}, "--model", "would be called 'a'", "different names"),
        ({"upstreams": ("h:1",)}, "--upstream", "not an http://", "http://127"),
        ({"default_model": "d"}, "--default-model", "there is no model 'd'", "known: a, c, x"),
        ({"default_model": "*"}, "--default-model", "holds no '*'", "aliases"),
    ],
)
def test_wrong_flags(
    flags: dict[str, Any],
    where: str,
    message: str,
    hint: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(file.parent)
    with pytest.raises(CollectedConfigError) as caught:
        load.settings(file, {}, Overrides(**flags))
    (error,) = caught.value.errors
    assert error.where == where
    assert message in error.message
    assert hint in error.hint


def test_all_wrong_flags_are_shown() -> None:
    with pytest.raises(CollectedConfigError) as caught:
        load.settings(None, {"HOMEPORT_HOME": "/none"}, Overrides(port=-1, host="/", models=("",)))
    assert {e.where for e in caught.value.errors} == {"--port", "--host", "--model"}


def test_a_bind_beyond_this_machine_needs_a_key(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 lets other machines in") as caught:
        load.settings(file, {}, Overrides(host="0.0.0.0"))
    assert caught.value.where == "--host"
    file.write_text("server: {host: '::'}")
    with pytest.raises(ConfigError, match=":: lets other machines in") as caught:
        load.settings(file, {})
    assert caught.value.where == str(file)
    file.write_text(f"server: {{keys: [{{name: a, sha256: {SHA}}}]}}")
    assert load.settings(file, {}, Overrides(host="0.0.0.0")).server.host == "0.0.0.0"


def test_a_master_key_will_do(file: Path) -> None:
    found = load.settings(file, {"HOMEPORT_MASTER_KEY": "m"}, Overrides(host="0.0.0.0"))
    assert found.needs_key
    assert found.server.keys == ()


def test_a_token_that_is_the_master_key_is_refused(file: Path) -> None:
    env = {"HOMEPORT_MASTER_KEY": "same", "HOMEPORT_METRICS_TOKEN": "same"}
    with pytest.raises(ConfigError, match="is the master key as well") as caught:
        load.settings(file, env)
    assert "same" not in str(caught.value)


# ------------------------------------------------------------------------ the table


@pytest.mark.parametrize(
    ("section", "struct", "not_written"),
    [
        (schema.ROOT, Settings, {"upstreams", "default_aliases"}),  # flags only
        (schema.SERVER, ServerSettings, set()),
        (schema.LIMITS, Limits, set()),
        (schema.KEY, ApiKey, set()),
        (model_keys.MODEL, ModelSettings, {"id"}),  # the key in front
        (lifecycle_keys.DEFAULTS, Defaults, set()),
        (lifecycle_keys.BACKEND_DEFAULTS, BackendDefaults, set()),
        (lifecycle_keys.LIFECYCLE, LifecycleSettings, set()),
        (lifecycle_keys.GROUP, Group, {"name"}),
    ],
)
def test_the_table_has_the_fields_of_the_settings(
    section: Section, struct: type[msgspec.Struct], not_written: set[str]
) -> None:
    assert {k.name for k in section.keys} == set(struct.__struct_fields__) - not_written
