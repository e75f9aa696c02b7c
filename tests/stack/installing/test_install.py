"""``homeport install``: what lies in the user's folder afterwards, whatever was there and goes wrong.

Images are for tests/e2e/test_stack_install.py, where there is a real Docker.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from homeport.engines import llamacpp
from homeport.stack import env_file
from homeport.stack.installing.files_plan import digest
from tests.support.terminal import Terminal

HOMEPORT = (sys.executable, "-m", "homeport")
FILES = Path(__file__).resolve().parents[3] / "src" / "homeport" / "stack" / "files"
CARD = "16000:8000:0:0"
DISK_BYTES = 100_000
"""More than .env and most files, less than the wheel."""

Env = Mapping[str, str]
NO_ENV: Env = {}


class User:
    """Somebody with a home of their own, and no Docker but what a test gives."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / ".config" / "homeport"
        self.services = self.home / "services"
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir(parents=True)
        self.docker = programs / "docker"
        self.env = {"PATH": str(programs), "HOME": str(folder), "LANG": "C.UTF-8"}

    def run(
        self, *words: str, before: Callable[[], None] | None = None, env: Env = NO_ENV
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*HOMEPORT, *words],
            env={**self.env, **env},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            preexec_fn=before,
            timeout=60,
        )

    def install(self, *words: str, status: int = 0, env: Env = NO_ENV) -> str:
        """What it tells."""
        done = self.run("install", "--no-images", *words, env=env)
        assert done.returncode == status, done.stderr
        return done.stderr

    def said(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        return json.loads(done.stdout)

    def has_docker(self, script: str) -> None:
        self.docker.write_text(f"#!/bin/sh\n{script}\n")
        self.docker.chmod(0o755)

    @property
    def values(self) -> dict[str, str]:
        return env_file.read(self.services / ".env")

    def files(self) -> set[str]:
        root = self.services
        return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path / "you")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- files and secrets --------------------------------------------------------------------------


def test_a_first_install(user: User) -> None:
    told = user.install()
    shipped = {p.relative_to(FILES).as_posix() for p in FILES.rglob("*") if p.is_file()}
    assert shipped | {"prometheus/metrics_token"} <= user.files()
    assert len([path for path in user.files() if path.endswith(".whl")]) == 1
    sums = json.loads((user.services / "manifest.json").read_text())
    assert set(sums) == user.files() - {"manifest.json"}
    for path, each in sums.items():
        assert each == digest((user.services / path).read_bytes()), path
    assert mode(user.services) == 0o700
    assert mode(user.services / ".env") == 0o600
    assert (user.services / "models").is_dir()
    key = user.values["HOMEPORT_MASTER_KEY"]
    assert f"the key that clients need: {key}\n" in told
    assert user.values["COMPOSE_PROFILES"] == ""
    token = (user.services / "prometheus/metrics_token").read_text()
    assert token == user.values["HOMEPORT_METRICS_TOKEN"]
    assert told.endswith("next: homeport proxy start\n")


def test_who_breaks_it_off_has_been_shown_the_key(user: User, tmp_path: Path) -> None:
    pipe = tmp_path / "go"
    os.mkfifo(pipe)
    user.has_docker(FAKE)
    env = {**user.env, "PIPE": str(pipe), "PATH": f"{user.env['PATH']}:{os.defpath}"}
    with subprocess.Popen(
        [*HOMEPORT, "install"], env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while process.stderr.readline() != "  gateway: building\n":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait(60) == 1
    assert f"the key that clients need: {user.values['HOMEPORT_MASTER_KEY']}\n" in told
    assert "Aborted" in told


def test_secrets_are_long_and_never_the_same_twice(user: User, tmp_path: Path) -> None:
    user.install()
    other = User(tmp_path / "other")
    other.install()
    secret = [name for name in user.values if re.search("KEY|PASSWORD|TOKEN", name)]
    assert len(secret) >= 5
    all_of_them = [who.values[name] for who in (user, other) for name in secret]
    assert len(set(all_of_them)) == len(all_of_them)
    assert min(map(len, all_of_them)) >= 32


def test_again_changes_nothing_and_shows_no_key(user: User) -> None:
    user.install("--with", "monitoring")
    before = {path: (user.services / path).read_bytes() for path in user.files()}
    told = user.install()
    assert "0 of" in told
    assert user.values["HOMEPORT_MASTER_KEY"] not in told
    assert {path: (user.services / path).read_bytes() for path in user.files()} == before


def test_a_key_of_the_environment_is_taken_and_not_shown(user: User) -> None:
    told = user.install(env={"LITELLM_MASTER_KEY": "sk-it's mine"})
    assert user.values["HOMEPORT_MASTER_KEY"] == "sk-it's mine"
    assert "sk-it's mine" not in told


def test_what_is_in_env_stays_and_what_it_lacks_comes_behind(user: User) -> None:
    user.services.mkdir(parents=True)
    user.services.chmod(0o755)
    mine = "# mine\nexport HOMEPORT_PORT='12345' # why\nMINE=\xff\n".encode("latin-1")
    (user.services / ".env").write_bytes(mine)
    user.install()
    now = (user.services / ".env").read_bytes()
    assert now.startswith(mine)
    assert user.values["HOMEPORT_PORT"] == "12345"
    assert mode(user.services) == 0o700
    assert mode(user.services / ".env") == 0o600


def test_a_secret_that_was_emptied_is_made_anew_in_its_place(user: User) -> None:
    user.install()
    file = user.services / ".env"
    before = file.read_text().splitlines()
    at = next(n for n, line in enumerate(before) if line.startswith("HOMEPORT_MASTER_KEY="))
    file.write_text("\n".join([*before[:at], "HOMEPORT_MASTER_KEY=", *before[at + 1 :], ""]))
    said = user.install()
    after = file.read_text().splitlines()
    assert re.fullmatch(r"HOMEPORT_MASTER_KEY=sk-[\w-]{32}", after[at])
    assert after[at] != before[at]
    assert after[at].partition("=")[2] in said, "clients need it"
    assert (after[:at], after[at + 1 :]) == (before[:at], before[at + 1 :])


def test_what_is_empty_and_may_be_stays_so(user: User) -> None:
    user.services.mkdir(parents=True)
    (user.services / ".env").write_text("HOMEPORT_METRICS_TOKEN=\n")
    user.install()
    assert user.values["HOMEPORT_METRICS_TOKEN"] == ""


def test_a_line_that_is_not_understood_is_told(user: User) -> None:
    user.services.mkdir(parents=True)
    (user.services / ".env").write_text("A=1\nHOMEPORT_PROFILE='coding\n")
    assert "line 2" in user.install()


def test_a_changed_file_stays_and_the_new_one_lies_beside_it(user: User) -> None:
    user.install()
    compose = user.services / "compose.yaml"
    compose.write_text("mine")
    assert "compose.yaml stays as you have changed it\n" in user.install()
    manifest = user.services / "manifest.json"
    sums = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**sums, "compose.yaml": "of an older version"}))
    assert "stays as you have changed it; the new one is compose.yaml.new\n" in user.install()
    assert compose.read_text() == "mine"
    assert (user.services / "compose.yaml.new").read_bytes() == (
        FILES / "compose.yaml"
    ).read_bytes()


def test_what_was_written_by_another_version_is_brought_up_to_date_or_goes(user: User) -> None:
    user.install()
    dashboard = user.services / "grafana/dashboards/old.json"
    wheel = user.services / "gateway/homeport-0.0.1-py3-none-any.whl"
    compose = user.services / "compose.yaml"
    for file in (dashboard, wheel, compose):
        file.write_text("old")
    manifest = user.services / "manifest.json"
    sums = json.loads(manifest.read_text())
    old = dict.fromkeys(("grafana/dashboards/old.json", "compose.yaml"), digest(b"old"))
    manifest.write_text(json.dumps(sums | old))
    user.install()
    assert not dashboard.exists()
    assert not wheel.exists()
    assert compose.read_bytes() == (FILES / "compose.yaml").read_bytes()


def test_links_stay_links(user: User) -> None:
    """As those have it who keep such files in a repository."""
    mine = user.folder / "mine.env"
    mine.write_text("MINE=1\n")
    user.services.mkdir(parents=True)
    (user.services / ".env").symlink_to(mine)
    user.install()
    assert (user.services / ".env").is_symlink()
    assert env_file.read(mine)["MINE"] == "1"
    assert "HOMEPORT_MASTER_KEY" in mine.read_text()


def test_bytes_that_are_no_text_stay_and_stop_nothing(user: User) -> None:
    user.services.mkdir(parents=True)
    strange = b"MINE='\xff\xfe'\nHOMEPORT_METRICS_TOKEN=\xff\nHOMEPORT_MASTER_KEY=a\0b\n"
    (user.services / ".env").write_bytes(strange)
    user.install()
    assert (user.services / ".env").read_bytes().startswith(strange)
    assert (user.services / "prometheus" / "metrics_token").read_bytes() == b"\xff"
    assert user.values["HOMEPORT_MASTER_KEY"].startswith("sk-")


# --- services -----------------------------------------------------------------------------------


def test_with_and_without(user: User) -> None:
    user.install("--with", "llama")
    user.install("--with", "monitoring")
    assert user.values["COMPOSE_PROFILES"] == "llama,monitoring"
    assert user.values["HOMEPORT_UPSTREAM"] == "http://llama:8080/v1"
    told = user.install("--without", "llama")
    assert user.values["COMPOSE_PROFILES"] == "monitoring"
    assert user.values["HOMEPORT_UPSTREAM"] == ""
    assert "llama is left out from now on" in told
    assert told.endswith("next: homeport proxy restart\n")
    assert "at once" not in user.install("--without", "llama")
    done = user.run("install", "--with", "llama", "--without", "llama")
    assert done.returncode == 2
    assert "--with and --without llama" in done.stderr


def test_the_users_upstreams_stay(user: User) -> None:
    user.install()
    env = user.services / ".env"
    mine = env_file.changed(env.read_text(), {"HOMEPORT_UPSTREAM": "http://mine:1"})
    env.write_text(mine)
    user.install("--with", "llama")
    assert user.values["HOMEPORT_UPSTREAM"] == "http://llama:8080/v1,http://mine:1"
    user.install("--without", "llama")
    assert user.values["HOMEPORT_UPSTREAM"] == "http://mine:1"


def test_llama_without_a_model_is_told_with_the_next_step(user: User) -> None:
    told = user.install("--with", "llama")
    models = user.services / "models"
    assert f"there is no model.gguf in {models}; put a GGUF there" in told
    (models / "qwen.gguf").touch()
    assert "there is qwen.gguf; set LLAMA_MODEL" in user.install()
    (models / "model.gguf").touch()
    assert "no model" not in user.install()


def test_llama_gets_a_gpu_where_there_is_one(user: User, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the fake NVML")
    source = Path(__file__).parents[2] / "runtime" / "fake_nvml.c"
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    cards = {"LD_LIBRARY_PATH": str(tmp_path), "FAKE_NVML_CARDS": CARD}
    user.install(env=cards)
    assert "COMPOSE_FILE" not in user.values, "nobody asked for llama"
    told = user.install("--with", "llama", env=cards)
    assert user.values["COMPOSE_FILE"] == "compose.yaml:compose.gpu.yaml"
    assert "llama gets the NVIDIA GPU" in told


def test_without_a_gpu_nothing_is_said_of_one(user: User) -> None:
    done = user.run("install", "--no-images", "--with", "llama", "--json")
    assert "COMPOSE_FILE" not in user.values
    assert "nvml" not in (done.stdout + done.stderr).lower()


def test_the_images_of_llama_are_those_of_the_engine() -> None:
    image = llamacpp.IMAGE
    assert image.cpu is not None
    for file, name, tag in (
        ("compose.yaml", *image.cpu),
        ("compose.gpu.yaml", image.name, image.version),
    ):
        assert f"image: ${{LLAMA_IMAGE:-{name}:{tag}}}\n" in (FILES / file).read_text(), file


# --- what can go wrong --------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


@contextmanager
def nothing_changes(folder: Path) -> Iterator[None]:
    before = snapshot(folder) if folder.exists() else {}
    yield
    assert (snapshot(folder) if folder.exists() else {}) == before


def full_disk() -> None:
    """No file can grow beyond this; a write beyond fails like one on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_BYTES, DISK_BYTES))


@pytest.mark.parametrize("again", [False, True])
def test_a_full_disk_changes_nothing(user: User, again: bool) -> None:
    if again:
        user.install()
        for path in ("compose.yaml", "gateway/homeport-0.1.0-py3-none-any.whl"):
            (user.services / path).unlink()
    with nothing_changes(user.home):
        done = user.run("install", "--no-images", "--with", "llama", before=full_disk)
        assert done.returncode == 1
        assert re.match(r"error: .*\.whl cannot be written: ", done.stderr), done.stderr
        assert "make room on its disk; nothing was changed" in done.stderr
    user.install()
    assert not [path for path in user.files() if ".part" in path]


def test_a_place_that_is_taken_changes_nothing(user: User) -> None:
    user.home.mkdir(parents=True)
    user.services.write_text("mine")
    with nothing_changes(user.home):
        told = user.install(status=1)
        assert re.match(r"error: .*/services.* cannot be written: ", told), told
        assert "hint: look at the folder's owner, or set HOMEPORT_CONFIG" in told


def like_anybody() -> None:
    """What may not be written cannot be written, by root neither (Linux, capabilities(7))."""
    if os.getuid() == 0:
        drop_from_bounding_set, dac_override, dac_read_search = 24, 1, 2
        for capability in (dac_override, dac_read_search):
            assert ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0) == 0


@pytest.mark.skipif(sys.platform != "linux" and os.getuid() == 0, reason="root may do anything")
@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_may_not_be_written_changes_nothing(user: User, again: bool) -> None:
    """As one of another user."""
    user.home.mkdir(parents=True)
    if again:
        user.install()
        (user.services / "compose.yaml").unlink()
    folder = user.services if again else user.home
    folder.chmod(0o500)
    with nothing_changes(user.home):
        done = user.run("install", "--no-images", "--with", "llama", before=like_anybody)
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith(f"error: {user.services}"), done.stderr
        assert (
            "cannot be written: Permission denied\n  hint: look at the folder's owner"
            in done.stderr
        )
    folder.chmod(0o700)


def test_a_narrow_umask_leaves_what_containers_read_readable(user: User) -> None:
    def narrow() -> None:
        os.umask(0o077)

    done = user.run("install", "--no-images", before=narrow)
    assert done.returncode == 0
    for path in user.services.rglob("*"):
        if path.name not in (".env", "models"):
            assert mode(path) == (0o755 if path.is_dir() else 0o644), path
    assert mode(user.services) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="everybody else's gateway runs as they do")
def test_root_is_told_what_the_gateway_may_not_read(user: User) -> None:
    user.install()
    (user.home / "config.yaml").write_text("{}")
    (user.home / "config.yaml").chmod(0o600)
    user.home.chmod(0o700)
    told = user.install()
    for path in (user.home, user.home / "config.yaml"):
        assert f"the gateway runs as user 10001, who may not read {path}: `chmod go+rX" in told
    assert "may not read" not in user.install(env={"HOMEPORT_UID": "0"})


def test_two_at_once_are_one_after_the_other(user: User) -> None:
    command = [*HOMEPORT, "install", "--no-images"]
    both = [
        subprocess.Popen(
            [*command, "--with", name], env=user.env, stderr=subprocess.PIPE, text=True
        )
        for name in ("llama", "monitoring", "litellm")
    ]
    told = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0, 0], told
    assert set(user.values["COMPOSE_PROFILES"].split(",")) == {"llama", "monitoring", "litellm"}
    shown = [text for text in told if "the key that clients need" in text]
    assert len(shown) == 1
    assert user.values["HOMEPORT_MASTER_KEY"] in shown[0]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("config.yaml", "HOMEPORT_CONFIG={folder} means that folder"),
        ("my.yaml", "copy it to {home}"),
    ],
)
def test_a_configuration_that_is_a_file(user: User, name: str, hint: str) -> None:
    file = user.folder / "mine" / name
    file.parent.mkdir()
    file.write_text("{}")
    told = user.install(status=1, env={"HOMEPORT_CONFIG": str(file)})
    assert f"HOMEPORT_CONFIG names a file, and the stack needs a folder: {file}" in told
    assert hint.format(folder=file.parent, home=user.home) in told
    assert not user.home.exists()


def test_a_folder_for_the_configuration(user: User) -> None:
    folder = user.folder / "mine"
    user.install(env={"HOMEPORT_CONFIG": str(folder)})
    assert (folder / "services" / "compose.yaml").is_file()
    assert not user.home.exists()


# --- Docker -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (None, "Docker is not installed"),
        (
            "echo 'Cannot connect to the Docker daemon at unix:///x' >&2; exit 1",
            "Docker does not answer: Docker is not running",
        ),
        (
            '[ "$1" = version ] && echo 26.1 || { echo "not a docker command" >&2; exit 1; }',
            "Docker has no Compose",
        ),
    ],
)
def test_without_docker_the_files_are_there_and_the_next_step_is_said(
    user: User, script: str | None, why: str
) -> None:
    if script:
        user.has_docker(script)
    done = user.run("install")
    assert done.returncode == 1
    assert f"error: {why}" in done.stderr
    assert "hint: the files are written; " in done.stderr
    assert "`homeport proxy start --local`" in done.stderr
    assert "next:" not in done.stderr
    assert (user.services / "compose.yaml").is_file()
    assert why in user.said("install")["failed"][0]


FAKE = """
case "$*" in
  version*|"compose version"*) echo 26.1 ;;
  *"config --profiles") echo monitoring; echo mine ;;
  *"config --format=json") cat <<'END'
{"name": "box", "services": {"gateway": {"build": {}}, "grafana": {"profiles": ["monitoring"]}}}
END
  ;;
  *build*) echo "#1 [build 1/2] FROM python"; echo "#2 [build 2/2] RUN pip"; read line < "$PIPE" ;;
  *pull*) echo "Error: registry says no such host" >&2; exit 1 ;;
esac
"""


def test_a_service_that_there_is_none_of_is_named_with_those_that_there_are(
    user: User, tmp_path: Path
) -> None:
    user.install()
    pipe = tmp_path / "go"
    pipe.write_text("go\n")
    user.has_docker(FAKE)
    env = {"PIPE": str(pipe), "PATH": f"{user.env['PATH']}:{os.defpath}"}
    file = user.services / ".env"
    text = file.read_text().replace(
        "COMPOSE_PROFILES=", "COMPOSE_PROFILES='monitorng, monitoring, mine'"
    )
    file.write_text(text)
    note = (
        f"COMPOSE_PROFILES in {file} has 'monitorng', which brings no service; "
        "there are mine, monitoring"
    )
    done = user.run("install", "--json", env=env)
    assert f"\n  {note}\nimages:\n" in done.stderr
    assert json.loads(done.stdout)["notes"] == [note]
    assert user.values["COMPOSE_PROFILES"] == "monitorng,monitoring,mine", "it is the user's"
    done = user.run("proxy", "start", env=env)
    assert f"\n{note}\n" in done.stderr
    assert "'mine'" not in done.stderr


def test_names_of_services_may_have_spaces_between_them_as_for_compose(user: User) -> None:
    user.install()
    file = user.services / ".env"
    text = file.read_text().replace("COMPOSE_PROFILES=", "COMPOSE_PROFILES='monitoring, llama'")
    file.write_text(text)
    user.install()
    assert user.values["HOMEPORT_UPSTREAM"] == "http://llama:8080/v1"
    assert "llama is left out" in user.install("--without", "llama")
    assert user.values["COMPOSE_PROFILES"] == "monitoring"


def test_what_fails_keeps_nothing_else_away_in_a_log(user: User, tmp_path: Path) -> None:
    pipe = tmp_path / "go"
    pipe.write_text("go\n")
    user.has_docker(FAKE)
    env = {"PIPE": str(pipe), "PATH": f"{user.env['PATH']}:{os.defpath}"}
    done = user.run("install", "--with", "monitoring", env=env)
    assert done.returncode == 1
    images = done.stderr.partition("images:\n")[2]
    assert images.startswith(
        "  gateway: building\n  gateway: built\n  grafana: pulling\n  grafana: failed\n"
        "error: the image of grafana could not be pulled: "
    )
    assert "  Error: registry says no such host\n" in images
    assert "to do without it: `homeport install --without monitoring`" in images


def test_a_terminal_shows_what_is_done_just_now(user: User, tmp_path: Path) -> None:
    pipe = tmp_path / "go"
    os.mkfifo(pipe)
    user.has_docker(FAKE)
    env = {**user.env, "PIPE": str(pipe), "PATH": f"{user.env['PATH']}:{os.defpath}"}
    with Terminal([*HOMEPORT, "install", "--with", "monitoring"], user.folder, env) as terminal:
        terminal.until(r"gateway: #2 \[build 2/2\] RUN pip")
        with pipe.open("w") as stream:
            stream.write("go\n")
        screen = terminal.until("--without monitoring")
        assert terminal.wait_end() == 1
    lines = [line.rstrip() for line in screen.splitlines()]
    at = lines.index("images:")
    assert re.fullmatch(r"  gateway: built( \(\d+ s\))?", lines[at + 1])
    assert lines[at + 2] == "  grafana: failed"
    assert lines[at + 3].startswith("error: the image of grafana")
    assert "RUN pip" not in screen


# --- from an older layout -----------------------------------------------------------------------


def has_older(user: User) -> Path:
    old = user.folder / ".config" / "run-claude"
    old.mkdir(parents=True)
    text = "LITELLM_MASTER_KEY='sk-o$d'\nLITELLM_PORT=4545\nOPENAI_API_KEY=\"a$TAIL\"\nTAIL=z\n"
    (old / ".env").write_text(text)
    (old / "litellm_config.yaml").write_text("model_list: []\n")
    (old / "litellm_config.yaml").chmod(0o640)
    dep = user.folder / ".local" / "state" / "run-claude" / "dep"
    dep.mkdir(parents=True)
    (dep / "docker-compose.yaml").write_text("services: {}\n")
    return old


def test_an_older_layout_comes_over_once(user: User) -> None:
    old = has_older(user)
    before = snapshot(user.folder / ".config" / "run-claude"), snapshot(user.folder / ".local")
    told = user.install()
    assert user.values["HOMEPORT_MASTER_KEY"] == user.values["LITELLM_MASTER_KEY"] == "sk-o$d"
    assert user.values["LITELLM_PORT"] == "4545"
    env = (user.services / ".env").read_text()
    assert env.endswith('\n# From run-claude.\nOPENAI_API_KEY="a$TAIL"\nTAIL=z\n')
    assert (user.home / "litellm_config.yaml").read_text() == "model_list: []\n"
    assert mode(user.home / "litellm_config.yaml") == 0o640
    copied = user.services / "old" / "docker-compose.yaml"
    assert copied.read_text() == "services: {}\n"
    assert mode(copied) == 0o600
    assert f"copied from {old} and " in told
    assert "the key that clients need" not in told, "they have it"
    assert "sk-o" not in told
    assert snapshot(old) == before[0], "the old folder is as it was"
    assert before[1].items() <= snapshot(user.folder / ".local").items()
    lines = [line for line in env.splitlines() if not line.startswith("TAIL=")]
    (user.services / ".env").write_text("\n".join(lines) + "\n")
    copied.unlink()
    assert "copied from" not in user.install()
    assert "TAIL" not in user.values, "what was taken out again stays out"
    assert not copied.exists()


def test_an_older_layout_is_told_to_programs(user: User) -> None:
    has_older(user)
    migrated = user.said("install", "--no-images")["migrated"]
    assert set(migrated) == {"from", "taken", "left"}
    assert json.loads((user.services / "migrated.json").read_text()) == migrated
    assert user.said("install", "--no-images")["migrated"] is None


def test_an_older_layout_comes_to_an_install_that_is_there(user: User) -> None:
    user.install()
    key = user.values["HOMEPORT_MASTER_KEY"]
    has_older(user)
    (user.home / "litellm_config.yaml").write_text("mine")
    told = user.install()
    assert user.values["HOMEPORT_MASTER_KEY"] == key
    assert user.values["LITELLM_PORT"] == "4444"
    assert user.values["TAIL"] == "z"
    assert (user.home / "litellm_config.yaml").read_text() == "mine"
    assert "LITELLM_MASTER_KEY: homeport has a master key already" in told


def test_an_older_file_that_cannot_be_read_stops_it_before_anything_is_done(user: User) -> None:
    old = has_older(user)
    (old / ".env").unlink()
    (old / ".env").mkdir()
    told = user.install(status=1)
    assert told.startswith(f"error: {old / '.env'} of run-claude cannot be read: ")
    assert not user.home.exists()


@pytest.mark.skipif(sys.platform != "linux" and os.getuid() == 0, reason="root may do anything")
@pytest.mark.parametrize("name", [".config/run-claude", ".local/state/run-claude"])
def test_an_older_folder_that_may_not_be_looked_into_stops_it(user: User, name: str) -> None:
    has_older(user)
    folder = user.folder / name
    folder.chmod(0o600)
    done = user.run("install", "--no-images", before=like_anybody)
    folder.chmod(0o700)
    assert done.returncode == 1
    assert re.match(rf"error: {folder}/\S+ of run-claude cannot be read: Permission", done.stderr)
    assert not user.home.exists()


def test_a_full_disk_takes_nothing_of_an_older_layout(user: User) -> None:
    has_older(user)
    done = user.run("install", "--no-images", before=full_disk)
    assert done.returncode == 1
    assert not user.home.exists()
    user.install()
    assert user.values["HOMEPORT_MASTER_KEY"] == "sk-o$d"
