"""The container stack on a real Docker: installed, started, asked, broken, stopped.

One path is in every run where Docker answers; the rest takes `--slow-containers`. The database and the
engine in the gateway's container (llama.cpp with the demo model) are real. The images of this machine
may be stand-ins with the official names, which the tests cannot tell.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from homeport.demo import demo_model_path
from homeport.runtime.process import free_port
from tests.support.stack import Stack, docker, needs_docker, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Installed, and started for the first time."""
    needs_docker()
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.homeport("install")
        yield stack


def usage_rows(stack: Stack) -> int:
    return int(stack.sql("SELECT count(*) FROM homeport_usage")[0])


def test_installed_started_asked_and_stopped(stack: Stack) -> None:
    said = stack.homeport("proxy", "start").stderr
    assert "waiting for" in said
    assert stack.url in said
    assert stack.chat().startswith("Hello")
    assert stack.message().startswith("Hello")
    until(lambda: usage_rows(stack) == 2, "usage is in TimescaleDB")
    rows = stack.sql("SELECT dialect, model, status FROM homeport_usage ORDER BY at")
    assert rows == ["openai_chat|homeport-demo|200", "anthropic|homeport-demo|200"]
    hypertables = "SELECT count(*) FROM timescaledb_information.hypertables"
    assert stack.sql(hypertables + " WHERE hypertable_name = 'homeport_usage'") == ["1"]

    assert stack.homeport("proxy", "stop", "--stop-db").returncode == 0
    left = stack.left()
    assert (left["containers"], left["networks"]) == ([], [])
    assert left["volumes"], "data stays"
    assert "nothing runs" in stack.homeport("proxy", "stop").stderr


@pytest.fixture
def running(stack: Stack) -> Stack:
    stack.homeport("proxy", "start")
    return stack


@pytest.mark.slow_containers
def test_who_runs_is_not_started_again(running: Stack) -> None:
    before = running.container("gateway")
    assert "runs already" in running.homeport("proxy", "start").stderr
    assert running.container("gateway") == before


@pytest.mark.slow_containers
def test_other_settings_want_a_restart_and_cut_nobody_off(running: Stack) -> None:
    before = running.container("gateway")
    refused = running.homeport("proxy", "start", "--debug", status=1).stderr
    assert "other settings" in refused
    assert "homeport proxy restart" in refused
    assert running.container("gateway") == before
    running.homeport("proxy", "restart", "--debug")
    running.homeport("proxy", "restart")  # as it ran
    command = json.loads(running.inspected("gateway", "json .Config.Cmd"))
    assert command[-2:] == ["--log-level", "debug"]
    running.homeport("proxy", "stop")


@pytest.mark.slow_containers
def test_status_health_and_logs(running: Stack) -> None:
    status = json.loads(running.homeport("proxy", "status", "--json").stdout)
    members = {member["name"]: member for member in status["members"]}
    assert set(members) == {"gateway", "timescaledb"}
    assert members["gateway"]["health"] == "healthy"
    assert members["gateway"]["ports"] == [f"127.0.0.1:{running.port}"]
    assert members["timescaledb"]["ports"] == [], "the database is not published"
    table = running.homeport("proxy", "status").stdout
    assert "gateway" in table
    assert "healthy" in table

    checks = json.loads(running.homeport("proxy", "health", "--json").stdout)["checks"]
    assert all(check["is_healthy"] for check in checks)
    assert any(running.url in check["name"] for check in checks)

    said = running.homeport("proxy", "logs", "--lines", "5").stdout
    assert "timescaledb" in said
    with subprocess.Popen(
        [sys.executable, "-m", "homeport", "proxy", "logs", "-f", "--lines", "0"],
        env=running.env,
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        said_now = follower.stdout
        assert said_now is not None
        nobody = ("exec", running.container("timescaledb"), "psql", "-h127.0.0.1", "-Unobody", "x")
        told: list[str] = []
        reader = Thread(target=lambda: told.append(said_now.readline()), daemon=True)
        reader.start()
        until(lambda: docker(*nobody, check=False) or told, "what the database says is followed")
        assert "timescaledb" in told[0]
        follower.send_signal(signal.SIGINT)
        assert follower.wait(timeout=20) == 130


@pytest.mark.slow_containers
def test_a_killed_gateway_comes_back(running: Stack) -> None:
    pid = int(running.inspected("gateway", ".State.Pid"))
    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        now = (
            running.inspected("gateway", ".State.Pid"),
            running.inspected("gateway", ".State.Health.Status"),
        )
        return now[0] not in ("0", str(pid)) and now[1] == "healthy"

    until(is_back, "restarted, and healthy")
    assert running.chat().startswith("Hello")
    status = running.homeport("proxy", "status").stdout
    assert "restarted once" in status


@pytest.mark.slow_containers
def test_without_its_database_requests_go_on_and_usage_arrives_later(running: Stack) -> None:
    before = usage_rows(running)
    docker("stop", running.container("timescaledb"))
    for _ in range(3):
        assert running.chat().startswith("Hello")
    unhealthy = running.homeport("proxy", "health", status=1).stdout
    assert "timescaledb" in unhealthy
    running.homeport("proxy", "start")  # the gateway stays as it is
    until(lambda: usage_rows(running) == before + 3, "what was spooled is in the database")


@pytest.mark.slow_containers
def test_a_database_that_refuses_the_password_is_a_warning(running: Stack) -> None:
    before = usage_rows(running)
    running.homeport("proxy", "restart", env={"HOMEPORT_DB_PASSWORD": "another"})
    try:
        assert running.chat().startswith("Hello")
        waits = "of usage records wait on disk: the database does not take them"
        until(lambda: waits in running.homeport("proxy", "health").stderr, "it is told")
        assert waits in running.homeport("proxy", "status").stderr
        checks = json.loads(running.homeport("proxy", "health", "--json").stdout)["checks"]
        assert all(check["is_healthy"] for check in checks), "requests are served"
        assert waits in next(w["what"] for c in checks for w in c["warnings"])
        said = running.homeport("usage", status=1).stderr
        assert "password authentication failed" in said, "as the hint says"
    finally:
        running.homeport("proxy", "restart")
    until(lambda: usage_rows(running) == before + 1, "it is in the database")
    assert running.homeport("proxy", "health").stderr == ""


@pytest.mark.slow_containers
def test_without_a_database_at_all(stack: Stack) -> None:
    stack.homeport("proxy", "stop", "--stop-db")
    stack.homeport("proxy", "start", "--no-db")
    assert stack.chat().startswith("Hello")
    assert len(stack.left()["containers"]) == 1
    stack.homeport("proxy", "stop")


@pytest.mark.slow_containers
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/admin/models"])
def test_whoever_has_no_key_stays_outside(running: Stack, path: str) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(running.url + path, timeout=20)
    with refused.value:
        assert refused.value.code == 401


@pytest.mark.slow_containers
def test_the_gateway_is_no_root_and_cannot_write(running: Stack) -> None:
    gateway = running.container("gateway")
    assert docker("exec", gateway, "id", "-u") != "0"
    assert running.inspected("gateway", ".HostConfig.ReadonlyRootfs") == "true"
    secrets = docker("exec", "--user=0", gateway, "ls", "-A", "/etc/homeport/services")
    assert secrets == "", "secrets of the other services are not there"


@pytest.mark.slow_containers
def test_a_taken_port_is_named_with_its_holder(stack: Stack) -> None:
    stack.homeport("proxy", "stop")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", stack.port))
        taken.listen()
        said = stack.homeport("proxy", "start", status=1).stderr
    assert f"port {stack.port}" in said
    assert f"pid {os.getpid()}" in said
    assert "HOMEPORT_PORT" in said


@pytest.mark.slow_containers
def test_a_configuration_with_errors_is_told_as_it_is(stack: Stack) -> None:
    stack.homeport("proxy", "stop")
    file = stack.home / "config.yaml"
    file.write_text("server: {prot: 1}\n")
    try:
        said = stack.homeport("proxy", "start", status=None)
        assert said.returncode in (1, 2)
        assert "prot" in said.stderr
        assert "gateway does not stay up: it exited with status 2" in said.stderr
        assert "gateway is stopped now; timescaledb goes on" in said.stderr
        assert stack.inspected("gateway", ".State.Status") == "exited", "not for ever"
        assert "exit status" in stack.homeport("proxy", "status").stdout
        assert "prot" in stack.homeport("proxy", "logs", "--service", "gateway").stdout
    finally:
        file.unlink()
        stack.homeport("proxy", "stop", status=None)


@pytest.mark.slow_containers
def test_an_unhealthy_database_is_told_with_its_last_lines(tmp_path: Path) -> None:
    needs_docker()
    with Stack(tmp_path, "sick") as stack:
        stack.homeport("install", "--no-images")
        compose = stack.home / "services" / "compose.yaml"
        broken = compose.read_text().replace(
            "POSTGRES_DB: homeport", "POSTGRES_INITDB_ARGS: --nonsense"
        )
        compose.write_text(broken)
        said = stack.homeport("proxy", "start", status=1).stderr
        assert "timescaledb" in said
        assert "nonsense" in said
        assert "homeport proxy logs" in said


@pytest.mark.slow_containers
def test_prometheus_watches_the_gateway_and_a_service_that_cannot_be_had_is_left_out(
    stack: Stack,
) -> None:
    """Grafana's image is one that no registry has, so that this is the same everywhere."""
    port = free_port()
    stack.env["PROMETHEUS_PORT"] = str(port)
    stack.homeport("install", "--no-images", "--with", "monitoring")
    own = stack.home / "services" / "compose.override.yaml"
    own.write_text("services: {grafana: {image: homeport-test/no-such-image:1}}\n")
    try:
        said = stack.homeport("proxy", "start").stderr
        assert "the image of grafana could not be pulled" in said
        assert "without grafana" in said
        stack.chat()

        def answered() -> float:
            found = stack.asked("/api/v1/query?query=sum(homeport_requests_total)", port=port)
            result = found["data"]["result"]
            return float(result[0]["value"][1]) if result else 0.0

        until(answered, "Prometheus has seen a request", within_s=90)
        targets = stack.asked("/api/v1/targets", port=port)["data"]["activeTargets"]
        states = {target["labels"]["job"]: target["health"] for target in targets}
        assert states["homeport"] == "up", states
    finally:
        own.unlink()
        stack.homeport("proxy", "stop")
        stack.homeport("install", "--no-images", "--without", "monitoring")


@pytest.mark.slow_containers
def test_llama_serves_a_model_of_the_users_folder(stack: Stack) -> None:
    """llama.cpp is real; its image is ours, since the official one is not to be had everywhere."""
    folder = stack.home / "image"
    folder.mkdir()
    (folder / "llama-server").write_text(LLAMA_SERVER)
    (folder / "Dockerfile").write_text(
        f"FROM {stack.project}-gateway\nCOPY llama-server /\n"
        'ENTRYPOINT ["python", "/llama-server"]\n'
    )
    image = f"{stack.project}-llama:1"
    docker("build", "--quiet", "--tag", image, str(folder))
    models = stack.home / "models"
    models.mkdir()
    shutil.copy(demo_model_path(), models / "my-model.gguf")
    chosen = {
        "HOMEPORT_MODELS": str(models),
        "LLAMA_MODEL": "my-model.gguf",
        "LLAMA_IMAGE": image,
        "LLAMA_PORT": str(free_port()),
    }
    stack.env |= chosen
    stack.homeport("install", "--no-images", "--with", "llama")
    try:
        stack.homeport("proxy", "start")
        listed = [model["id"] for model in stack.asked("/v1/models")["data"]]
        assert listed == ["my-model"]
        assert stack.message().startswith("Hello")
        assert stack.sql("SELECT engine FROM homeport_usage ORDER BY at DESC LIMIT 1") == [
            "llamacpp"
        ]
    finally:
        stack.homeport("proxy", "stop")
        stack.homeport("install", "--no-images", "--without", "llama")
        for name in chosen:
            del stack.env[name]
        docker("rmi", image)


LLAMA_SERVER = '''
"""llama-server's flags for the llama.cpp that comes with homeport."""
import sys
from pathlib import Path
from homeport.runtime import llamacpp_child

words = [word for word in sys.argv[1:] if word not in ("--jinja", "--metrics")]
words[words.index("--ctx-size") + 1] = "4096"
sys.exit(llamacpp_child.main([*words, "--alias", Path(words[words.index("--model") + 1]).stem]))
'''


@pytest.mark.slow_containers
def test_a_profile_is_taken_and_kept_by_a_restart(stack: Stack) -> None:
    inside = "/opt/homeport/lib/python3.13/site-packages/homeport/demo/demo.gguf"
    profiles = stack.home / "profiles"
    profiles.mkdir()
    (profiles / "coding.yaml").write_text(f"models: {{coder: {{path: {inside}}}}}\n")
    stack.homeport("proxy", "start", "--profile", "coding")
    for _ in range(2):
        assert [model["id"] for model in stack.asked("/v1/models")["data"]] == ["coder"]
        stack.homeport("proxy", "restart")
    stack.homeport("proxy", "stop")
    said = stack.homeport("proxy", "start", "--profile", "codding", status=2).stderr
    assert "codding" in said
    assert "did you mean 'coding'" in said
    stack.homeport("proxy", "stop")
