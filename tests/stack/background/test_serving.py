"""How `homeport serve` is called in the background."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from homeport.errors import ConfigError, StackError
from homeport.stack.background.serving import Serving, as_it_ran, command, differences, serving
from homeport.stack.proxy import Wanted

PLAIN = Wanted()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "services").mkdir()
    return tmp_path


def called(home: Path, stored: str = "", wanted: Wanted = PLAIN, **env: str) -> Serving:
    (home / "services/.env").write_text(stored)
    return serving(wanted, {"HOMEPORT_HOME": str(home), "HOME": str(home), **env})


def test_as_it_is_without_any_wish(home: Path) -> None:
    (home / "services").rmdir()
    call = serving(PLAIN, {"HOMEPORT_HOME": str(home), "SHELL": "sh"})
    assert call.arguments == ("serve",)
    assert call.env == {"HOMEPORT_HOME": str(home), "SHELL": "sh"}
    assert (call.run.host, call.run.port, call.run.profile) == ("127.0.0.1", 11899, None)
    assert call.run.stop_timeout_s > call.run.drain_timeout_s == 30
    assert command("python", call) == ["python", "-P", "-m", "homeport", "serve"]


def test_choices_of_the_stack_and_the_environment_over_them(home: Path) -> None:
    stored = "HOMEPORT_PORT=1234\nHOMEPORT_BIND=127.0.0.2\nHOMEPORT_MASTER_KEY=stored-key\n"
    call = called(home, stored)
    assert call.arguments == ("serve", "--host", "127.0.0.2", "--port", "1234")
    assert (call.run.host, call.run.port) == ("127.0.0.2", 1234)
    assert call.env["HOMEPORT_MASTER_KEY"] == "stored-key"
    call = called(home, stored, HOMEPORT_PORT="4321", HOMEPORT_MASTER_KEY="mine")
    assert call.run.port == 4321
    assert call.env["HOMEPORT_MASTER_KEY"] == "mine"


def test_the_configuration_s_own_port(home: Path) -> None:
    (home / "config.yaml").write_text("server: {port: 2345, limits: {drain_timeout_s: 5}}")
    call = called(home)
    assert call.arguments == ("serve",)
    assert (call.run.port, call.run.drain_timeout_s) == (2345, 5)
    assert called(home, "HOMEPORT_PORT=1234").run.port == 1234


def test_wishes(home: Path) -> None:
    call = called(home, wanted=Wanted(debug=True, no_db=True))
    assert call.arguments == ("serve", "--log-level", "debug")
    assert call.env["HOMEPORT_STORE_URL"] == "off"


def test_what_is_about_containers_stays_there(home: Path) -> None:
    stored = (
        "COMPOSE_PROJECT_NAME=x\nHOMEPORT_DB_PASSWORD=x\nGRAFANA_ADMIN_PASSWORD=x\nLLAMA_PORT=1\n"
        "HOMEPORT_LITELLM_URL=http://litellm:4444\nOPENAI_API_KEY=provider\n"
    )
    env = called(home, stored).env
    assert env == {"HOMEPORT_HOME": str(home), "HOME": str(home), "OPENAI_API_KEY": "provider"}


def test_servers_by_the_names_that_they_have_outside_of_containers(home: Path) -> None:
    stored = (
        "HOMEPORT_UPSTREAM=http://llama:8080/v1, http://host.docker.internal:8000/v1,"
        "http://192.168.1.5:1/v1"
    )
    env = called(home, stored).env
    assert env["HOMEPORT_UPSTREAM"] == "http://127.0.0.1:8000/v1,http://192.168.1.5:1/v1"
    mine = called(home, stored, HOMEPORT_UPSTREAM="http://llama:1/v1").env
    assert mine["HOMEPORT_UPSTREAM"] == "http://llama:1/v1", "the environment means what it says"


def test_paths_do_not_depend_on_where_the_command_was_typed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "mine").mkdir()
    call = serving(PLAIN, {"HOMEPORT_CONFIG": "mine", "HOMEPORT_HOME": "."})
    assert call.env == {"HOMEPORT_CONFIG": str(home / "mine"), "HOMEPORT_HOME": str(home)}


def test_what_of_the_environment_it_needs(home: Path) -> None:
    (home / "config.yaml").write_text(
        "models: {m: {upstream: 'http://127.0.0.1:1/v1', api_key: '${THE_KEY}'}}"
    )
    call = called(
        home,
        "FROM_THE_STACK=1",
        THE_KEY="k",
        AWS_SECRET="not asked for",
        CUDA_VISIBLE_DEVICES="0",
        HF_TOKEN="t",
        PATH="/bin",
    )
    own = {name for name in call.own_env if name != "HOMEPORT_HOME"}
    assert own - {"HOME"} == {
        *("THE_KEY", "FROM_THE_STACK", "CUDA_VISIBLE_DEVICES", "HF_TOKEN", "PATH")
    }


@pytest.mark.parametrize("port", ["x", "65536", "-1", "١"])
def test_a_port_that_is_none(home: Path, port: str) -> None:
    with pytest.raises(ConfigError, match="is no port") as wrong:
        called(home, HOMEPORT_PORT=port)
    assert wrong.value.where == "HOMEPORT_PORT"


def test_a_file_that_cannot_be_read(home: Path) -> None:
    (home / "services/.env").mkdir()
    with pytest.raises(StackError, match=r"\.env cannot be read"):
        serving(PLAIN, {"HOMEPORT_HOME": str(home)})


def test_what_runs_otherwise_is_named(home: Path) -> None:
    runs = called(home).run
    assert differences(runs, runs) == []
    others = replace(runs, port=1, profile="coding", no_db=True, debug=True, drain_timeout_s=1.0)
    assert differences(others, runs) == [
        "on 127.0.0.1:1, not on 127.0.0.1:11899",
        "with the profile coding",
        "without its usage store",
        "with --debug",
    ]
    assert differences(runs, others)[1:] == [
        "with no profile",
        "with its usage store",
        "without --debug",
    ]


def test_as_it_ran(home: Path) -> None:
    wanted = Wanted(profile="coding", no_db=True, debug=True)
    assert as_it_ran(replace(called(home).run, profile="coding", no_db=True, debug=True)) == wanted
    assert as_it_ran(None) == PLAIN
