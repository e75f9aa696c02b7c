"""The command itself: help without imports, errors with hints, exit codes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from homeport import __version__
from homeport.cli import main as module
from homeport.cli.main import COMMANDS, Subcommand, main
from homeport.config.problems import CollectedConfigError
from homeport.errors import ConfigError


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name, command in COMMANDS.items():
        assert f"  {name}" in result.stdout
        assert command.help in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_has_the_help_of_the_table(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    first = COMMANDS[name].help.removesuffix(".").split()[0]
    assert first in result.stdout


def groups(of: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Group]]:
    """All of them, by the words that lead there."""
    yield path, of
    context = click.Context(of)
    for name in of.list_commands(context):
        found = of.get_command(context, name)
        if isinstance(found, click.Group):
            yield from groups(found, *path, name)


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("path", [path for path, _ in groups(main)], ids=" ".join)
def test_no_summary_of_a_command_is_cut_off(path: tuple[str, ...], width: int) -> None:
    result = CliRunner().invoke(main, [*path, "--help"], terminal_width=width)
    _, _, listed = result.stdout.partition("\nCommands:\n")
    assert listed
    for line in listed.splitlines():
        assert line.endswith("."), "whole, and on one line"
        assert not line.endswith("..."), line


def test_shell_completion_knows_every_command() -> None:
    assert main.list_commands(click.Context(main)) == list(COMMANDS)


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"homeport {__version__}\n")


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["serv"])
    assert result.exit_code == 2
    assert "serv" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("problem", "stderr"),
    [
        (ConfigError("is wrong"), "error: is wrong\n"),
        (
            ConfigError("is wrong", where="f:1", key="a.b", hint="mend it"),
            "error: f:1: a.b: is wrong\n  hint: mend it\n",
        ),
        (
            CollectedConfigError([ConfigError("one", hint="do"), ConfigError("two", where="f:2")]),
            "error: one\n  hint: do\nerror: f:2: two\n",
        ),
    ],
)
def test_a_config_error_from_anywhere_is_told_without_a_traceback(
    problem: ConfigError, stderr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def broken() -> None:
        raise problem

    monkeypatch.setattr(module, "import_module", lambda _: type("M", (), {"broken": broken}))
    monkeypatch.setitem(COMMANDS, "broken", Subcommand("m", "broken", "Breaks."))
    result = CliRunner().invoke(main, ["broken"])
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", stderr)


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (("ps",), 1, {"message": "no homeport runs here", "where": ""}),
        (("reload",), 1, {"message": "no homeport runs here"}),
        (("profiles", "show", "nope"), 2, {"message": "there is no profile 'nope'"}),
        (("config", "show"), 2, {"key": "prot", "message": "unknown key"}),
        (
            ("pull", "no/such/name"),
            2,
            {"hint": "write ORG/NAME, or ORG/NAME:Q4_K_M for one GGUF of it"},
        ),
        (("key", "new", "x"), 2, {"message": "Got unexpected extra argument (x)"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_program_that_asked_for_json_gets_the_errors_as_json(
    words: tuple[str, ...], status: int, error: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("prot: 1\n")
    env = {"HOMEPORT_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "HOMEPORT_URL": None}
    result = CliRunner().invoke(main, [*words, "--json"], env=env)
    assert result.exit_code == status
    assert len(result.stdout.splitlines()) == 1
    (told,) = json.loads(result.stdout)["errors"]
    assert set(told) == {"where", "key", "message", "hint"}
    assert error.items() <= told.items()
    assert told["message"] in result.stderr, "people read it all the same"
    assert CliRunner().invoke(main, words, env=env).stdout == "", "who has not asked gets none"


def test_a_program_that_has_its_answer_gets_no_second_one(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("prot: 1\n")
    result = CliRunner().invoke(
        main, ["config", "check", "--json"], env={"HOMEPORT_HOME": str(tmp_path)}
    )
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)["errors"]) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--ctx", "64k"),
            "--ctx: must be a whole number, is '64k'\n  hint: write the number out: 65536",
        ),
        (("--ctx", "200"), "--ctx: must be at least 256, is 200"),
        (
            ("--port", "99999"),
            "--port: is not a port: 99999\n  hint: write a number from 1 to 65535",
        ),
        (
            ("--port", "http"),
            "--port: must be a whole number, is 'http'\n  hint: write a number from 1",
        ),
        (("--litellm-port", "0"), "--litellm-port: is not a port: 0"),
        (("--max-tokens", "4k"), "--max-tokens: must be a whole number, is '4k'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_flags_read_numbers_as_the_file_does(words: tuple[str, ...], told: str) -> None:
    result = CliRunner().invoke(main, ["serve", *words])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {told}")


def test_as_a_real_process(tmp_path: Path) -> None:
    """Exit code, the two streams, and no colour where there is no terminal."""
    (tmp_path / "config.yaml").write_text("port: 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "homeport", "config", "show"],
        env={"HOMEPORT_HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {tmp_path / 'config.yaml'}:1: port: unknown key\n"
        "  hint: 'port' belongs under 'server'\n"
    )


def test_help_imports_nothing_heavy() -> None:
    """YAML, the server and the engines cost a quarter of a second that help does not need."""
    code = (
        "import sys; from homeport.cli.main import main; main(['--help'], standalone_mode=False);"
        "print([m for m in sys.modules if m.partition('.')[0] in"
        " ('yaml', 'asyncio', 'uvicorn', 'structlog', 'xllamacpp', 'prometheus_client')"
        " or m.startswith(('homeport.config', 'homeport.app', 'homeport.server'))], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "[]\n"
