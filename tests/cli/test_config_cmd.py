"""``homeport config check`` and ``show``."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from homeport.cli.main import main
from homeport.config import json_schema
from homeport.demo import demo_model_path

GOOD = "models:\n  m:\n    upstream: http://h\n    api_key: geheim\n"
BAD = "server:\n  port: x\nmodels:\n  m: {}\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOMEPORT_HOME", str(tmp_path))
    monkeypatch.delenv("HOMEPORT_CONFIG", raising=False)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["config", *map(str, arguments)])


def test_check_a_good_file(home: Path) -> None:
    (home / "config.yaml").write_text(GOOD)
    result = run("check")
    assert result.exit_code == 0
    assert result.stdout.split() == ["m", "asked", "http://h/v1"]
    assert result.stderr == f"{home / 'config.yaml'}: no errors\n"


def test_check_without_a_file(home: Path) -> None:
    result = run("check")
    assert result.exit_code == 0
    assert "there is no such file, so the defaults apply" in result.stderr


def test_check_shows_every_error(home: Path) -> None:
    file = home / "other.yaml"
    file.write_text(BAD)
    result = run("check", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: {file}:2: server.port: must be a whole number, is 'x'\n"
        "  hint: write a number from 1 to 65535\n"
        f"error: {file}:4: models.m: has no 'path', 'hub', 'upstream' or 'command'\n"
        "  hint: add path: FILE, or upstream: http://127.0.0.1:8080/v1\n"
    )


def test_check_a_file_that_is_missing(home: Path) -> None:
    result = run("check", home / "none.yaml")
    assert result.exit_code == 1
    assert "there is no such file" in result.stderr


def test_check_finds_an_open_bind(home: Path) -> None:
    (home / "config.yaml").write_text("server: {host: 0.0.0.0}")
    result = run("check")
    assert result.exit_code == 1
    assert f"error: {home / 'config.yaml'}: server.host: listening on 0.0.0.0 lets" in result.stderr


def test_check_as_json(home: Path) -> None:
    file = home / "config.yaml"
    file.write_text(BAD)
    result = run("check", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    told = json.loads(result.stdout)
    assert (told["file"], told["ok"], len(told["errors"])) == (str(file), False, 2)
    assert told["errors"][0] == {
        "where": f"{file}:2",
        "key": "server.port",
        "message": "must be a whole number, is 'x'",
        "hint": "write a number from 1 to 65535",
    }
    file.write_text(GOOD)
    good = run("check", "--json")
    server = {"model": "m", "engine": "asked", "runner": None, "source": "http://h/v1"}
    assert json.loads(good.stdout) == {
        "file": str(file), "ok": True, "errors": [], "models": [server], "notices": [],
        "profiles": [],
    }  # fmt: skip
    assert good.exit_code == 0


def test_check_tells_what_would_start_each_model(home: Path) -> None:
    (home / "a.gguf").write_bytes(Path(demo_model_path()).read_bytes())
    (home / "config.yaml").write_text(
        "models:\n  a: {path: a.gguf}\n  own: {command: 'my-server --port {port}'}\n"
    )
    result = run("check", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["models"] == [
        {"model": "a", "engine": "llamacpp", "runner": "process", "source": str(home / "a.gguf")},
        {"model": "own", "engine": "custom", "runner": "process", "source": "my-server"},
    ]


def test_check_finds_what_cannot_be_started(home: Path) -> None:
    """Each with its line, beside what is wrong with the file itself."""
    (home / "a.gguf").write_text("no model")
    (home / "empty").mkdir()
    file = home / "config.yaml"
    file.write_text(
        "server: {prot: 1}\nmodels:\n  a:\n    path: a.gguf\n  b: {path: empty}\n"
        "  c: {path: empty, engine: vllm, binary: no-such-program}\n  d: {path: gone}\n"
    )
    result = run("check", "--json")
    assert result.exit_code == 1
    errors = [(e["where"], e["key"], e["message"]) for e in json.loads(result.stdout)["errors"]]
    assert errors == [
        (f"{file}:1", "server.prot", "unknown key"),
        (f"{file}:4", "models.a.path", "not a GGUF model file"),
        (f"{file}:5", "models.b.path", "no model that homeport knows (the folder is empty)"),
        (f"{file}:6", "models.c.binary", "'no-such-program' is not on the PATH, or no program"),
        (f"{file}:7", "models.d.path", "there is no file or folder 'gone'"),
    ]
    assert all(error["hint"] for error in json.loads(result.stdout)["errors"])


def test_check_finds_a_download_that_broke_off(home: Path) -> None:
    (home / "m.gguf").write_bytes(demo_model_path().read_bytes()[:3_000_000])
    (home / "config.yaml").write_text("models:\n  m:\n    path: m.gguf\n")
    result = run("check")
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {home / 'config.yaml'}:3: models.m.path: "
        "m.gguf is cut off: 3.0 of at least 4.2 MB\n"
        "  hint: its download broke off: download it again\n"
    )


def test_check_goes_by_the_defaults_of_an_engine(home: Path) -> None:
    """A model whose engine nobody names gets them as well."""
    (home / "a.gguf").write_bytes(Path(demo_model_path()).read_bytes())
    file = home / "config.yaml"
    file.write_text(
        "models: {a: {path: a.gguf}}\ndefaults: {backends: {llama: {runner: container}}}\n"
    )
    told = json.loads(run("check", "--json").stdout)
    runners = [model["runner"] for model in told["models"]]
    assert runners == ["container"] or "docker" in told["errors"][0]["message"]


def test_show_as_yaml_and_as_json_without_secrets(home: Path) -> None:
    (home / "config.yaml").write_text(GOOD)
    as_yaml, as_json = run("show"), run("show", "--json")
    assert (as_yaml.exit_code, as_yaml.stderr) == (0, "")
    assert "geheim" not in as_yaml.stdout + as_json.stdout
    plain = json.loads(as_json.stdout)
    assert yaml.safe_load(as_yaml.stdout) == plain
    assert plain["server"]["port"] == 11899
    assert plain["models"]["m"]["upstream"] == "http://h/v1"


def test_show_a_named_file(home: Path) -> None:
    (home / "other.yaml").write_text("server: {port: 7}")
    assert "port: 7\n" in run("show", "--config", home / "other.yaml").stdout


def test_show_of_a_wrong_file_is_exit_code_2(home: Path) -> None:
    (home / "config.yaml").write_text(BAD)
    result = run("show")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("error:") == 2


def test_the_schema_is_printed() -> None:
    result = run("schema")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == json_schema.json_schema()


LITELLM = """\
model_list:
  - model_name: m
    litellm_params: {model: openai/a, api_base: "http://h", api_key: geheim}
  - model_name: cloud
    litellm_params: {model: bedrock/x}
litellm_settings: {success_callback: [x]}
"""


def test_check_a_file_of_litellm(home: Path) -> None:
    file = home / "litellm.yaml"
    file.write_text(LITELLM)
    result = run("check", file)
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["m", "asked", "http://h/v1"],
        ["cloud", "litellm", "bedrock/x"],
    ]
    assert result.stderr == (
        "warning: not everything in this LiteLLM configuration means the same here:\n"
        f"  {file}:5: model_list.1.litellm_params.model: only LiteLLM reaches bedrock: this one needs "
        "--with-litellm\n"
        f"  {file}:6: litellm_settings.success_callback: has no effect: nobody is told; homeport has "
        "its own log and /metrics\n"
        f"{file}: no errors\n"
    )


def test_check_a_file_of_litellm_for_programs(home: Path) -> None:
    file = home / "litellm.yaml"
    file.write_text(LITELLM)
    notices = json.loads(run("check", file, "--json").stdout)["notices"]
    assert [notice["key"] for notice in notices] == [
        "model_list.1.litellm_params.model",
        "litellm_settings.success_callback",
    ]


def test_export_for_litellm(home: Path) -> None:
    (home / "config.yaml").write_text(GOOD)
    result = run("export", "litellm", "--claude")
    assert result.exit_code == 0
    names = [entry["model_name"] for entry in yaml.safe_load(result.stdout)["model_list"]]
    assert names == ["m", "claude-*", "*"]
    assert "geheim" not in result.output
    needed = "LiteLLM needs these in its environment: LITELLM_MASTER_KEY, M_API_KEY\n"
    assert result.stderr == needed


def test_nothing_to_export() -> None:
    result = run("export", "litellm")
    assert result.exit_code == 2
    assert "no model is configured" in result.stderr
