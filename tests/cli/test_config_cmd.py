"""``homeport config check`` and ``show``."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from homeport.cli.main import main
from homeport.config import json_schema

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
    assert (result.exit_code, result.stdout) == (0, "")
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
    assert json.loads(good.stdout) == {"file": str(file), "ok": True, "errors": []}
    assert good.exit_code == 0


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
