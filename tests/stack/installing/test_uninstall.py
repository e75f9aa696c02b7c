"""``homeport uninstall``: what goes, what stays, and that it is told.

Containers, images and data are for tests/e2e/test_stack_install.py, where there is a real Docker; here
is a stand-in that says what there is and notes what is asked of it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.stack.installing.test_install import HOMEPORT, User
from tests.support.terminal import Terminal

LEFT = {".env", "manifest.json"}
"""While there is data, or may be."""
VOLUMES = ("box_state", "box_timescaledb-data")
DOCKER = """
echo "$*" >> "$ASKED"
case "$1 $2" in
  "version "*|"compose version") echo 26.1 ;;
  "images "*) printf 'sha256:1\\tbox-gateway\\nsha256:2\\tbox-litellm\\n'
               printf 'sha256:1234567890123\\t<none>\\n' ;;
  "ps "*) printf "c1\\ttimescaledb\\ttimescale/timescaledb:2.23.1-pg17\\t$MADE_IN\\n"
          printf "c2\\tlitellm\\tbox-litellm\\t$MADE_IN\\nc3\\tgateway\\tbox-gateway\\t$MADE_IN\\n" ;;
  "network ls") echo box_internal; echo box_outside ;;
  "volume ls") echo box_state; echo box_timescaledb-data ;;
  "image rm") [ "$4" != sha256:2 ] || { echo "image is being used" >&2; exit 1; } ;;
esac
"""
EMPTY = """
case "$1 $2" in "version "*|"compose version") echo 26.1 ;; esac
"""


class Box(User):
    """With a Docker that has a stack of theirs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked = folder / "asked"
        self.env |= {
            "PATH": f"{self.env['PATH']}:{os.defpath}",
            "ASKED": str(self.asked),
            "COMPOSE_PROJECT_NAME": "box",
            "MADE_IN": str(self.services),
        }
        self.has_docker(DOCKER)

    def uninstall(self, *words: str, status: int = 0) -> str:
        done = self.run("uninstall", *words)
        assert done.returncode == status, done.stderr
        return done.stderr

    def changes(self) -> list[str]:
        """What was asked of Docker that is no question."""
        lines = self.asked.read_text().splitlines()
        return [line for line in lines if re.match(r"stop|rm|\w+ rm", line)]


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path / "you")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "you")


def test_nothing_is_left_where_nothing_ran(user: User) -> None:
    user.install()
    user.has_docker(EMPTY)
    (user.home / "config.yaml").write_text("{}")
    env = {"PATH": f"{user.env['PATH']}:{os.defpath}"}
    done = user.run("uninstall", env=env)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r".*/services: \d+ files removed\n", done.stderr)
    assert [path.name for path in user.home.iterdir()] == ["config.yaml"]
    done = user.run("uninstall", env=env)
    assert (done.returncode, done.stderr) == (0, f"nothing is installed in {user.services}\n")


def test_what_the_user_changed_or_put_there_stays_and_is_named(user: User) -> None:
    user.install("--with", "llama")
    (user.services / "models" / "a.gguf").write_text("x")
    (user.services / "compose.override.yaml").write_text("{}")
    (user.services / "compose.yaml").write_text("mine")
    (user.services / "compose.yaml.new").write_text("mine")
    (user.services / "prometheus" / "mine.yml").write_text("{}")
    (user.services / ".env").write_text((user.services / ".env").read_text() + "MINE=1\n")
    user.has_docker(EMPTY)
    done = user.run("uninstall", env={"PATH": f"{user.env['PATH']}:{os.defpath}"})
    kept = {
        ".env",
        "compose.override.yaml",
        "compose.yaml",
        "compose.yaml.new",
        "models/a.gguf",
        "prometheus/mine.yml",
    }
    assert user.files() == kept
    for path in kept:
        name = f"{path.partition('/')[0]}/" if "/" in path else path
        assert f"  {name} stays: you have changed it, or put it there\n" in done.stderr
    status = user.run("proxy", "status", "--json")
    assert json.loads(status.stdout)["kind"] != "containers", "it is not installed any more"


def test_what_was_copied_from_an_older_layout_stays(user: User) -> None:
    dep = user.folder / ".local" / "state" / "run-claude" / "dep"
    dep.mkdir(parents=True)
    (dep / "docker-compose.yaml").write_text("services: {}\n")
    user.install()
    done = user.run("uninstall")
    assert "  old/ stays: " in done.stderr
    assert user.files() == {"old/docker-compose.yaml"}


def test_where_no_container_was_ever_started_there_is_nothing_to_keep_a_password_for(
    user: User,
) -> None:
    user.install()
    done = user.run("uninstall")
    assert done.returncode == 0
    assert "services/.env" not in done.stderr
    assert "were not looked at: Docker is not installed" in done.stderr
    assert not user.services.exists()


def start_in_vain(user: User) -> None:
    """With a Docker that answers, and gives no container."""
    user.has_docker(EMPTY)
    env = {"PATH": f"{user.env['PATH']}:{os.defpath}"}
    assert user.run("proxy", "start", env=env).returncode == 1
    user.docker.unlink()


def test_without_docker_the_files_go_and_the_secrets_stay(user: User) -> None:
    user.install()
    start_in_vain(user)
    done = user.run("uninstall")
    assert done.returncode == 0
    assert user.files() == LEFT
    assert "services/.env stays: the password of the database is in it\n" in done.stderr
    assert "were not looked at: Docker is not installed" in done.stderr
    assert "when Docker answers, `homeport uninstall` again" in done.stderr
    again = user.run("uninstall").stderr
    assert again.startswith(f"nothing is installed in {user.services}\n")
    key = user.values["HOMEPORT_MASTER_KEY"]
    user.install()
    assert user.values["HOMEPORT_MASTER_KEY"] == key
    user.has_docker(EMPTY)
    user.run("uninstall", env={"PATH": f"{user.env['PATH']}:{os.defpath}"})
    assert not user.services.exists(), "all of it was ours all the time"


def test_data_cannot_be_deleted_without_docker(user: User) -> None:
    user.install()
    before = user.files()
    done = user.run("uninstall", "--volumes", "--yes")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no data can be deleted: Docker is not installed")
    assert user.files() == before


def test_data_stays_and_with_it_the_secrets(box: Box) -> None:
    box.install()
    told = box.uninstall()
    assert box.changes() == [
        "stop c3",
        "rm --force --volumes c3",
        "stop c2",
        "rm --force --volumes c2",
        "stop c1",
        "rm --force --volumes c1",
        "network rm box_internal",
        "network rm box_outside",
        "image rm --force sha256:1",
        "image rm --force sha256:2",
        "image rm --force sha256:1234567890123",
    ]
    assert "containers removed: gateway, litellm, timescaledb\n" in told
    assert "images removed: 123456789012, box-gateway\n" in told
    assert "stay, since others may use them: box-litellm, timescale/timescaledb:2.23.1-pg17" in told
    assert f"data stays: {', '.join(VOLUMES)}\n" in told
    assert "services/.env stays: the password of the database is in it\n" in told
    assert box.files() == LEFT


def test_with_volumes_all_goes(box: Box) -> None:
    box.install()
    done = box.run("uninstall", "--volumes", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert f"volume rm {' '.join(VOLUMES)}" in box.changes()
    assert not box.services.exists()
    said = json.loads(done.stdout)
    assert said["volumes"] == list(VOLUMES)
    assert said["volumes_kept"] == []
    assert said["env_kept"] is False
    assert f"data deleted: {', '.join(VOLUMES)}\n" in done.stderr


def test_the_name_of_another_project_in_the_shell_takes_nothing_of_it(box: Box) -> None:
    box.install()
    done = box.run("uninstall", env={"COMPOSE_PROJECT_NAME": "theirs"})
    assert done.returncode == 0, done.stderr
    assert "label=com.docker.compose.project=box " in box.asked.read_text()
    assert "theirs" not in box.asked.read_text()


def test_containers_of_another_folder_stay(box: Box) -> None:
    box.install()
    theirs = box.folder / "theirs"
    theirs.mkdir()
    before = box.files()
    done = box.run("uninstall", "--volumes", "--yes", env={"MADE_IN": str(theirs)})
    assert done.returncode == 1
    assert f"the containers of box are not those of {box.services}, but of {theirs}" in done.stderr
    assert box.changes() == []
    assert box.files() == before
    theirs.rmdir()
    assert "containers removed" in box.run("uninstall", env={"MADE_IN": str(theirs)}).stderr


def test_data_is_not_deleted_where_nobody_can_be_asked(box: Box) -> None:
    box.install()
    before = box.files()
    told = box.uninstall("--volumes", status=2)
    assert "add --yes where nobody can be asked" in told
    assert box.changes() == []
    assert box.files() == before


@pytest.mark.parametrize(("answer", "deletes"), [("n", False), ("y", True)])
def test_who_deletes_data_is_asked(box: Box, answer: str, deletes: bool) -> None:
    box.install()
    with Terminal([*HOMEPORT, "uninstall", "--volumes"], box.folder, box.env) as terminal:
        screen = terminal.until(r"Delete it\? \[y/N\]")
        assert "The data of box will be deleted" in screen
        terminal.press(f"{answer}\r")
        terminal.until("data deleted" if deletes else "Aborted")
        assert terminal.wait_end() == (0 if deletes else 1)
    assert box.services.exists() != deletes
    assert bool(box.changes()) == deletes


def test_a_docker_that_fails_leaves_the_files(box: Box) -> None:
    box.install()
    before = box.files()
    box.has_docker(
        DOCKER.replace('"network ls")', '"stop "*) echo broken >&2; exit 1 ;;\n"network ls")')
    )
    told = box.uninstall(status=1)
    assert "error: docker stop: " in told
    assert "\n  broken\n" in told
    assert box.files() == before


def test_a_homeport_in_the_background_is_stopped(user: User) -> None:
    env = {"PATH": f"{user.env['PATH']}:{os.defpath}", "HOMEPORT_PORT": "0"}
    (user.home).mkdir(parents=True)
    (user.home / "config.yaml").write_text(
        "{discover: false, models: {m: {upstream: http://127.0.0.1:1}}}"
    )
    try:
        started = user.run("proxy", "start", "--local", env=env)
        assert started.returncode == 0, started.stderr
        done = user.run("uninstall", env=env)
        assert "stopped: a process\n" in done.stderr, done.stderr
        status = user.run("proxy", "status", "--json", env=env)
        assert json.loads(status.stdout)["members"][0]["state"] == "stopped"
    finally:
        user.run("proxy", "stop", "--local", env=env)
