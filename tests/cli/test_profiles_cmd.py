"""``homeport profiles``, and profiles in ``homeport config check``."""

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from homeport.cli.main import main
from homeport.config import load, profile_template
from homeport.settings import Settings

BASE = """\
models:
  qwen3-8b: {upstream: http://h, api_key: geheim, alias: qwen}
  small: {upstream: http://s, ctx: 4096}
aliases: {claude-*: qwen3-8b}
"""
WORK = """\
description: for work
server: {limits: {max_tokens: 8192}}
aliases: {claude-haiku-*: small}
autocomplete_model: small
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOMEPORT_HOME", str(tmp_path))
    for name in ("HOMEPORT_CONFIG", "HOMEPORT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config.yaml").write_text(BASE)
    (tmp_path / "profiles").mkdir()
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def write(home: Path, name: str, text: str) -> Path:
    file = home / "profiles" / f"{name}.yaml"
    file.write_text(text)
    return file


# --- list and show ------------------------------------------------------------------------------


def test_list(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, "work", WORK)
    write(home, "bad", "description: not right\nserver: {port: 1}\n")
    monkeypatch.setenv("HOMEPORT_PROFILE", "work")
    result = run("profiles", "list")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["PROFILE", "DEFAULT", "MODEL", "WHAT", "FOR"],
        ["bad", "-", "(has", "errors)", "not", "right"],
        ["work", "*", "qwen3-8b", "for", "work"],
    ]
    assert "homeport config check --profile bad" in result.stderr
    (bad, work) = json.loads(run("profiles", "list", "--json").stdout)
    assert (bad["is_right"], bad["is_chosen"], bad["default_model"]) == (False, False, None)
    assert work == {
        "name": "work",
        "file": str(home / "profiles/work.yaml"),
        "description": "for work",
        "is_chosen": True,
        "is_right": True,
        "default_model": "qwen3-8b",
    }


def test_list_where_there_are_none() -> None:
    result = run("profiles", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "homeport profiles new NAME" in result.stderr
    assert json.loads(run("profiles", "list", "--json").stdout) == []


def test_show(home: Path) -> None:
    file = write(home, "work", WORK)
    result = run("profiles", "show", "work")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["work: for work", f"{file} over {home / 'config.yaml'}"]
    words = [line.split() for line in lines]
    for row in (
        ["qwen3-8b", "*", "-", "-", "http://h/v1"],
        ["small", "4096", "-", "http://s/v1"],
        ["opus", "qwen3-8b"],
        ["haiku", "small"],
        ["other", "names", "qwen3-8b"],
        ["completions", "small"],
        ["claude-haiku-*", "small"],
    ):
        assert any(row == [w for w in line if w in row][: len(row)] for line in words), row
    assert lines[-1] == "limits: max_tokens 8 192"
    assert "geheim" not in result.stdout


def test_show_as_json(home: Path) -> None:
    write(home, "work", WORK)
    told = json.loads(run("profiles", "show", "work", "--json").stdout)
    assert told["tiers"] == {"opus": "qwen3-8b", "sonnet": "qwen3-8b", "haiku": "small"}
    assert (told["default_model"], told["completions_model"]) == ("qwen3-8b", "small")
    assert told["settings"]["server"]["limits"]["max_tokens"] == 8192
    assert told["settings"]["models"]["qwen3-8b"]["api_key"] == "(hidden)"
    assert "geheim" not in json.dumps(told)


def test_show_without_any_model(home: Path) -> None:
    (home / "config.yaml").unlink()
    write(home, "empty", "")
    result = run("profiles", "show", "empty")
    assert result.exit_code == 0
    assert "no models of its own" in result.stdout


@pytest.mark.parametrize("name", ["wrk", "../config", ""])
def test_show_one_that_there_is_not(name: str, home: Path) -> None:
    write(home, "work", WORK)
    result = run("profiles", "show", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: NAME: ")


def test_settings_with_a_profile(home: Path) -> None:
    write(home, "work", WORK)
    told = yaml.safe_load(run("config", "show", "--profile", "work").stdout)
    assert told["autocomplete_model"] == "small"


# --- new ----------------------------------------------------------------------------------------


def test_new_writes_a_profile_that_works_and_changes_nothing(home: Path) -> None:
    result = run("profiles", "new", "fast-one.2")
    file = home / "profiles" / "fast-one.2.yaml"
    assert (result.exit_code, result.stdout) == (0, f"{file}\n")
    assert "homeport serve --profile fast-one.2" in result.stderr
    env = {"HOMEPORT_HOME": str(home)}
    plain, made = load.settings(None, env), load.settings(None, env, profile="fast-one.2")
    assert made.models == plain.models
    assert dict(made.aliases) == {
        "claude-*": "qwen3-8b",
        **dict.fromkeys(["claude-opus-*", "claude-sonnet-*", "claude-haiku-*"], "qwen3-8b"),
    }


def test_new_never_writes_over_one(home: Path) -> None:
    file = write(home, "mine", "description: mine\n")
    result = run("profiles", "new", "mine")
    assert result.exit_code == 2
    assert f"error: {file}: this profile is there already" in result.stderr
    assert file.read_text() == "description: mine\n"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "a b", "ä", "x" * 65, "-x"])
def test_new_with_a_name_that_is_none(name: str, home: Path) -> None:
    result = run("profiles", "new", "--", name)
    assert result.exit_code == 2
    assert "is no name of a profile" in result.stderr
    assert list(home.rglob("*.yaml")) == [home / "config.yaml"]


def test_new_where_nothing_can_be_written(home: Path) -> None:
    (home / "profiles").rmdir()
    (home / "profiles").write_text("a file")
    result = run("profiles", "new", "x")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr or "there already" in result.stderr


@pytest.mark.parametrize("base", [BASE, "", "models: {'a \"b\"': {hub: o/n}}"])
def test_all_that_the_template_shows_is_right(base: str, home: Path) -> None:
    """With each example taken out of its comment."""
    (home / "config.yaml").write_text(base)
    assert run("profiles", "new", "shown").exit_code == 0
    file = home / "profiles" / "shown.yaml"
    file.write_text(re.sub(r"^#(?=[a-z]|  )", "", file.read_text(), flags=re.MULTILINE))
    found = load.settings(None, {"HOMEPORT_HOME": str(home)}, profile="shown")
    assert found.server.limits.max_tokens == 8192
    assert [m.id for m in found.models if m.ctx == 65536] == [found.default_model]
    assert found.autocomplete_model == found.default_model


def test_a_configuration_that_is_wrong_does_not_keep_one_from_writing(home: Path) -> None:
    (home / "config.yaml").write_text("models: {x: wrong}")
    assert run("profiles", "new", "shown").exit_code == 0
    assert load.description(home / "profiles" / "shown.yaml", {}) == "what shown is for"


def test_the_template_without_a_configuration_says_nothing() -> None:
    text = profile_template.text("x", None)
    assert yaml.safe_load(text) == {"description": "what x is for"}
    assert text == profile_template.text("x", Settings())


# --- config check -------------------------------------------------------------------------------


def test_check_checks_each_profile(home: Path) -> None:
    work = write(home, "work", WORK)
    bad = write(home, "bad", "\ndefault_model: none\n")
    result = run("config", "check")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"{home / 'config.yaml'}: no errors",
        f"error: {bad}:2: default_model: there is no model 'none'",
        "  hint: known: qwen, qwen3-8b, small",
        f"{work}: no errors",
    ]
    told = json.loads(run("config", "check", "--json").stdout)
    assert told["ok"]
    assert [(p["profile"], p["file"], p["ok"]) for p in told["profiles"]] == [
        ("bad", str(bad), False),
        ("work", str(work), True),
    ]


def test_check_with_one_profile(home: Path) -> None:
    work = write(home, "work", WORK)
    write(home, "bad", "default_model: none\n")
    result = run("config", "check", "--profile", "work")
    assert result.exit_code == 0
    assert result.stderr == f"{work} over {home / 'config.yaml'}: no errors\n"
    assert run("config", "check", "--profile", "bad").exit_code == 1
    assert "did you mean 'work'?" in run("config", "check", "--profile", "wrok").stderr


def test_the_configuration_s_own_errors_are_told_once(home: Path) -> None:
    write(home, "work", WORK)
    (home / "config.yaml").write_text(BASE + "strict_models: perhaps\n")
    result = run("config", "check")
    assert result.exit_code == 1
    assert result.stderr.count("strict_models") == 1
    assert result.stderr.endswith("work.yaml: no errors of its own\n")


def test_another_file_is_checked_alone(home: Path) -> None:
    write(home, "bad", "default_model: none\n")
    other = home / "other.yaml"
    other.write_text(BASE)
    assert run("config", "check", other).exit_code == 0


def test_the_environment_s_profile_is_one_of_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration is checked as it is, too."""
    monkeypatch.setenv("HOMEPORT_PROFILE", "gone")
    assert run("config", "check").exit_code == 0
    assert "there is no profile 'gone'" in run("config", "show").stderr
