"""What comes over from run-claude's layout: all that helps, once, and nothing over what is here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from homeport.errors import StackError
from homeport.stack import env_file
from homeport.stack.installing import migrate
from homeport.stack.installing.migrate import Migration, Old

ENV = """\
# mine
LITELLM_MASTER_KEY=sk-old
LITELLM_PORT=4545
export OPENAI_API_KEY="sk-o$TAIL"   # mine, too
TAIL=xyz
RUN_CLAUDE_TIMESCALEDB_PASSWORD=secret
DATABASE_URL=postgres://x
STORE_MODEL_IN_DB=True
PYTHONPATH=/app
COMPOSE_PROJECT_NAME=run-claude
HTTPS_PROXY=http://proxy:3128
"""
CONFIG = b"model_list: []\n"
COMPOSE = b"services: {}\n"


class Person:
    """Somebody's home with an older layout in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / ".config" / "run-claude"
        self.dep = home / ".local" / "state" / "run-claude" / "dep"
        self.env = {"HOME": str(home)}

    def has(self, file: Path, data: bytes | str) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data if isinstance(data, bytes) else data.encode())
        return file

    def has_all(self) -> None:
        self.has(self.config / ".env", ENV)
        self.has(self.config / "litellm_config.yaml", CONFIG)
        self.has(self.dep / "docker-compose.yaml", COMPOSE)
        self.has(self.dep / "callbacks" / "usage.py", "pass\n")
        self.has(self.dep / "callbacks" / "__pycache__" / "usage.pyc", "x")
        self.has(self.dep / "proxy.log", "x")

    def look(self, **more: str) -> Old:
        found = migrate.look({**self.env, **more})
        assert found is not None
        return found


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


def planned(
    old: Old, known: Mapping[str, str] | None = None, *, has: bool = False, litellm: bool = False
) -> Migration:
    return migrate.plan(old, known or {}, has_litellm_config=has, with_litellm=litellm)


# --- looking ------------------------------------------------------------------------------------


def test_nobody_was_here(person: Person) -> None:
    assert migrate.look(person.env) is None


def test_all_of_it_is_found(person: Person) -> None:
    person.has_all()
    old = person.look()
    assert old.folders == (str(person.config), str(person.dep))
    assert old.env_files == ((str(person.config / ".env"), ENV),)
    assert old.litellm_config == CONFIG
    assert old.files == {"docker-compose.yaml": COMPOSE, "callbacks/usage.py": b"pass\n"}
    assert old.unread == ()


@pytest.mark.parametrize("part", ["env", "config", "dep"])
def test_a_part_of_it_is_enough(person: Person, part: str) -> None:
    match part:
        case "env":
            person.has(person.config / ".env", ENV)
        case "config":
            person.has(person.config / "litellm_config.yaml", CONFIG)
        case _:
            person.dep.mkdir(parents=True)
    done = planned(person.look())
    assert bool(done.env) == (part == "env")
    assert (done.litellm_config is not None) == (part == "config")
    assert done.files == {}


def test_where_it_was_when_it_had_moved_already(person: Person) -> None:
    person.has(person.config / "services" / "docker-compose.yaml", COMPOSE)
    assert person.look().files == {"docker-compose.yaml": COMPOSE}


def test_where_variables_say_that_it_is(person: Person, tmp_path: Path) -> None:
    person.has(tmp_path / "mine" / ".env", "A=1\n")
    person.has(tmp_path / "state" / "run-claude" / "dep" / "x", "x")
    person.has(tmp_path / "conf" / "run-claude" / ".env", "A=2\n")
    state = str(tmp_path / "state")
    old = person.look(RUN_CLAUDE_CONFIG=str(tmp_path / "mine"), XDG_STATE_HOME=state)
    assert [text for _, text in old.env_files] == ["A=1\n"]
    assert set(old.files) == {"x"}
    assert planned(person.look(XDG_CONFIG_HOME=str(tmp_path / "conf"))).lines == {"A": "A=2"}


def test_the_users_own_env_counts_more_than_that_of_the_stack(person: Person) -> None:
    person.has(person.config / ".env", "A=1\n")
    person.has(person.dep / ".env", "A=2\nB=2\n")
    assert planned(person.look()).lines == {"A": "A=1", "B": "B=2"}
    assert ".env" not in person.look().files


def test_a_file_that_matters_and_cannot_be_read_stops_it(person: Person) -> None:
    (person.config / ".env").mkdir(parents=True)
    with pytest.raises(
        StackError,
        match=r"\.env of run-claude cannot be read: .*\n.*hint: what is in it would be lost",
    ):
        migrate.look(person.env)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_nothing_is_waited_for(person: Person) -> None:
    person.config.mkdir(parents=True)
    os.mkfifo(person.config / "litellm_config.yaml")
    with pytest.raises(StackError, match="no plain file"):
        migrate.look(person.env)


def test_files_that_do_not_matter_are_left_out_and_named(person: Person) -> None:
    big = person.has(person.dep / "dump.sql", b"x" * (migrate.FILE_BYTES + 1))
    (person.dep / "broken").symlink_to("nowhere")
    for number in range(migrate.FILES + 5):
        person.has(person.dep / "many" / f"{number:03}", "x")
    old = person.look()
    assert len(old.files) == migrate.FILES - 2
    assert [text for text in old.unread if str(big) in text]
    assert [text for text in old.unread if "broken" in text]
    assert [text for text in old.unread if "more than" in text]
    assert set(old.unread) <= set(planned(old).left)


def test_links_among_the_old_stacks_files_are_named_and_not_followed(person: Person) -> None:
    """One may lead to what its owner may not read, where root installs."""
    secret = person.has(person.dep.parent.parent / "of-another", "secret")
    person.has(person.dep / "docker-compose.yaml", COMPOSE)
    (person.dep / "notes").symlink_to(secret)
    (person.dep / "folder").symlink_to(secret.parent)
    old = person.look()
    assert old.files == {"docker-compose.yaml": COMPOSE}
    assert old.unread == (f"{person.dep / 'notes'} (a link)",)


# --- planning -----------------------------------------------------------------------------------


def test_a_first_install_takes_the_key_the_port_and_what_is_the_users(person: Person) -> None:
    person.has_all()
    done = planned(person.look())
    assert done.env == {"LITELLM_MASTER_KEY": "sk-old", "LITELLM_PORT": "4545"}
    assert done.lines == {
        "OPENAI_API_KEY": 'export OPENAI_API_KEY="sk-o$TAIL"   # mine, too',
        "TAIL": "TAIL=xyz",
        "HTTPS_PROXY": "HTTPS_PROXY=http://proxy:3128",
    }
    assert done.litellm_config == CONFIG
    assert done.files == {
        "old/docker-compose.yaml": COMPOSE,
        "old/callbacks/usage.py": b"pass\n",
    }


def test_what_stays_behind_is_named_with_its_reason_and_without_its_value(person: Person) -> None:
    person.has_all()
    done = planned(person.look())
    left = "\n".join(done.left)
    assert "RUN_CLAUDE_TIMESCALEDB_PASSWORD, DATABASE_URL: of the old database" in left
    assert "STORE_MODEL_IN_DB: set by homeport's compose file" in left
    assert "COMPOSE_PROJECT_NAME: has a meaning of its own in homeport" in left
    assert "PYTHONPATH: would change how programs start" in left
    assert "its volume stays as it is" in left
    told = "\n".join((*done.taken, *done.left, repr(done), repr(person.look())))
    for secret in ("sk-old", "sk-o$", "secret", "postgres://x"):
        assert secret not in told


def test_what_is_here_already_stays(person: Person) -> None:
    person.has_all()
    known = {"HOMEPORT_MASTER_KEY": "sk-ours", "LITELLM_PORT": "4444", "TAIL": "ours"}
    done = planned(person.look(), known, has=True)
    assert done.env == {}
    assert set(done.lines) == {"OPENAI_API_KEY", "HTTPS_PROXY"}
    assert done.litellm_config is None
    left = "\n".join(done.left)
    assert "LITELLM_MASTER_KEY: homeport has a master key already, which stays" in left
    assert "LITELLM_PORT: services/.env has another one, which stays" in left
    assert "TAIL: is in services/.env already" in left
    assert "there is a litellm_config.yaml here already" in left


def test_the_same_key_and_port_are_no_news(person: Person) -> None:
    person.has(person.config / ".env", "LITELLM_MASTER_KEY=k\nLITELLM_PORT=1\n")
    done = planned(person.look(), {"HOMEPORT_MASTER_KEY": "k", "LITELLM_PORT": "1"})
    assert (done.env, done.taken) == ({}, ())
    assert not [text for text in done.left if "LITELLM" in text]


@pytest.mark.parametrize(
    "line", ["LITELLM_MASTER_KEY=$OTHER", "LITELLM_MASTER_KEY=schlüssel", "LITELLM_PORT=many"]
)
def test_values_that_nothing_can_be_done_with_are_named(person: Person, line: str) -> None:
    name = line.partition("=")[0]
    person.has(person.config / ".env", f"{line}\n")
    done = planned(person.look())
    assert (done.env, done.lines) == ({}, {})
    assert [text for text in done.left if text.startswith(f"{name}: ")]


def test_lines_that_are_not_understood_are_named_by_number(person: Person) -> None:
    path = person.has(person.config / ".env", 'PEM="begins\nhere"\nA=1\n')
    done = planned(person.look())
    assert done.lines == {"A": "A=1"}
    assert f"{path}: not understood, copy by hand: line 1, 2" in done.left


def test_where_litellm_is(person: Person) -> None:
    person.has_all()
    hint = "LiteLLM itself: it runs here with `homeport install --with litellm`"
    assert hint in planned(person.look()).left
    assert hint not in planned(person.look(), litellm=True).left


def test_what_of_litellms_file_means_something_else_in_a_container(person: Person) -> None:
    file = person.config / "litellm_config.yaml"
    person.has(file, b"api_base: http://localhost:8080\ncallbacks: run_claude.callbacks.x\n")
    left = "\n".join(planned(person.look()).left)
    assert "host.docker.internal" in left
    assert "Python code of run_claude" in left
    person.has(file, CONFIG)
    assert "litellm_config.yaml" not in "\n".join(planned(person.look()).left)


def test_lines_that_are_taken_are_read_as_they_were(person: Person) -> None:
    person.has_all()
    done = planned(person.look())
    before = env_file.values(ENV)
    for name, line in done.lines.items():
        assert env_file.values(line) == {name: before[name]}
