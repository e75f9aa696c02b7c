"""``homeport key new``: the key alone on stdout, the rest is talk."""

import json
from pathlib import Path

from click.testing import CliRunner

from homeport.cli.main import main
from homeport.config import load
from homeport.config.keys import sha256_of


def test_the_key_is_all_of_stdout_and_the_lines_hold_its_hash() -> None:
    result = CliRunner().invoke(main, ["key", "new", "--name", "laptop"])
    assert result.exit_code == 0
    key = result.stdout.removesuffix("\n")
    assert key.startswith("hp-")
    assert key not in result.stderr
    assert f'    - name: "laptop"\n      sha256: {sha256_of(key)}\n' in result.stderr


def test_as_json() -> None:
    result = CliRunner().invoke(main, ["key", "new", "--json"])
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["name"] == f"key-{told['sha256'][:8]}"
    assert told["sha256"] == sha256_of(told["key"])


def test_the_lines_of_two_keys_stand_below_one_another(tmp_path: Path) -> None:
    config, env = tmp_path / "config.yaml", {"HOMEPORT_HOME": str(tmp_path)}
    for _ in range(2):
        said = CliRunner().invoke(main, ["key", "new"], env=env).stderr
        lines = said.partition("configuration file:\n\n")[2].partition("\nAnother key")[0]
        with config.open("a") as file:
            file.write(lines)
    names = [key.name for key in load.settings(None, env).server.keys]
    assert len(set(names)) == 2, "and the file has no errors"

    again = CliRunner().invoke(main, ["key", "new", "--name", names[0]], env=env)
    assert again.exit_code == 0
    assert f"warning: the configuration has a key called '{names[0]}' already" in again.stderr


def test_a_name_that_is_none() -> None:
    result = CliRunner().invoke(main, ["key", "new", "--name", " "])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: --name: is empty\n  hint: " in result.stderr
