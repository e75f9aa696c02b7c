"""Who is measured, and how each is started in front of the mock engine.

- **nginx**: a plain reverse proxy with keep-alive upstream connections, one worker, no access log,
  ``proxy_buffering off`` for streams: about the least that relaying a request can cost.
- **homeport**: ``python -m homeport serve --upstream ...`` with its defaults, and nothing of the
  user's own configuration.
- **LiteLLM**: its proxy with one worker and its defaults, no database; installed into an
  environment of its own below the user's cache folder, from the lock that homeport itself has.

A contestant that cannot run is skipped with a reason which says what to install.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.bodies import MODEL, Dialect
from bench.processes import Child
from homeport.litellm import LOCK

REQUIREMENTS = LOCK
INSTALL_S = 900.0
HOMES = ("HOME", "HOMEPORT_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
"""Where homeport would look for a user's own configuration."""


class SkippedError(Exception):
    """This contestant cannot take part; the message says why and what to do."""


@dataclass(frozen=True)
class Kind:
    """How one contestant is started. `start` is given the engine's port and a scratch folder."""

    name: str
    command: tuple[str, ...]  # may hold {engine}, {port} and {folder}
    health: str
    dialects: tuple[Dialect, ...]
    start_s: float = 30.0
    env: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()  # written into the scratch folder first
    slow: bool = False  # milliseconds, not microseconds, per request: fewer of them are enough


@dataclass(frozen=True)
class Lane:
    """One thing that is measured: a running contestant asked in one dialect."""

    name: str
    child: Child
    dialect: Dialect
    slow: bool


_NGINX_CONFIG = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

_LITELLM_CONFIG = f"""\
model_list:
  - model_name: {MODEL}
    litellm_params:
      model: openai/{MODEL}
      api_base: http://127.0.0.1:{{engine}}/v1
      api_key: none
litellm_settings:
  telemetry: false
  use_chat_completions_url_for_anthropic_messages: true
"""


def nginx() -> Kind:
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise SkippedError(
            "nginx is not installed; on Debian and Ubuntu: apt-get install nginx-light"
        )
    error_log = "{folder}/nginx.error.log"
    return Kind(
        "nginx",
        (binary, "-e", error_log, "-c", "{folder}/nginx.conf"),
        "/health",
        ("chat",),
        files=(("nginx.conf", _NGINX_CONFIG),),
    )


def homeport() -> Kind:
    upstream = "http://127.0.0.1:{engine}/v1"
    command = ("-m", "homeport", "serve", "--upstream", upstream, "--port", "{port}")
    return Kind(
        "homeport",
        (sys.executable, *command),
        "/health",
        ("chat", "messages"),
        env=tuple((name, "{folder}/home") for name in HOMES),
    )


def litellm() -> Kind:
    return Kind(
        "litellm",
        (
            *(str(_litellm_environment() / "bin" / "litellm"), "--config", "{folder}/config.yaml"),
            *("--host", "127.0.0.1", "--port", "{port}", "--num_workers", "1"),
        ),
        "/health/liveliness",
        ("chat", "messages"),
        start_s=180.0,
        env=(
            ("HOME", "{folder}"),
            ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),  # no look-up on the network
            ("LITELLM_TELEMETRY", "False"),
            ("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true"),  # on loopback, no keys
            ("NO_PROXY", "127.0.0.1"),
        ),
        files=(("config.yaml", _LITELLM_CONFIG),),
        slow=True,
    )


@contextmanager
def running(kind: Kind, engine: Child) -> Iterator[Child]:
    """The contestant in front of `engine`, healthy; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="homeport-bench-") as folder:
        child = launch(kind, engine, Path(folder))
        try:
            processes.wait_healthy(child, kind.health, kind.start_s)
            yield child
        finally:
            processes.stop(child)


def launch(kind: Kind, engine: Child, folder: Path) -> Child:
    """Spawn only: whoever calls waits for what it wants to see, and stops the process."""
    port = processes.free_port()
    words = {"engine": engine.port, "port": port, "folder": folder}
    (folder / "home").mkdir(exist_ok=True)
    for name, text in kind.files:
        (folder / name).write_text(text.format(**words))
    command = [word.format(**words) for word in kind.command]
    env = {name: value.format(**words) for name, value in kind.env}
    return processes.spawn(kind.name, command, port, folder, env)


@contextmanager
def engine_running() -> Iterator[Child]:
    """The mock engine, listening."""
    with tempfile.TemporaryDirectory(prefix="homeport-bench-") as folder, ExitStack() as stack:
        port = processes.free_port()
        command = [sys.executable, "-m", "bench.mock_engine", "--port", str(port)]
        root = str(Path(__file__).resolve().parent.parent)
        engine = processes.spawn("engine", command, port, Path(folder), {"PYTHONPATH": root})
        stack.callback(processes.stop, engine)
        processes.wait_listening(engine, 10.0)
        yield engine


def _litellm_environment() -> Path:
    """Where LiteLLM is installed; installed first if this lock file's environment is not there."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "homeport-bench" / f"litellm-{digest}-py{sys.version_info[1]}"
    if not (folder / "complete").exists():
        print("installing LiteLLM into an environment of its own (about a minute)", file=sys.stderr)
        _install(folder)
    return folder


def _install(folder: Path) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    steps = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        # --no-deps: the lock is complete, and two of its pins override LiteLLM's (see README.md)
        [*pip, "install", "--no-deps", "--require-hashes", "-r", str(REQUIREMENTS)],
    )
    for step in steps:
        try:
            subprocess.run(step, check=True, capture_output=True, timeout=INSTALL_S)
        except (OSError, subprocess.SubprocessError) as problem:
            said = getattr(problem, "stderr", b"") or b""
            raise SkippedError(
                f"LiteLLM could not be installed: {said.decode()[-400:]}"
            ) from problem
    (folder / "complete").touch()
