"""A real PostgreSQL, started by hand in a folder of its own; and TimescaleDB, where there is one.

The server's programs come from the distribution (Debian: `postgresql`). It refuses to run as root, so
that root starts it as another user. TimescaleDB is looked for at `$HOMEPORT_TEST_TIMESCALE_URL`, then
made by a Docker engine that answers. Where there is none of it, `MissingError` says what to do.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psutil
import psycopg

from tests.support.gateway import free_port

START_S = 60.0
POLL_S = 0.05
TIMESCALE_URL = "HOMEPORT_TEST_TIMESCALE_URL"
TIMESCALE_IMAGE = "timescale/timescaledb:2.23.1-pg17"
"""The one that the containers of homeport use."""

_numbers = itertools.count(1)


class MissingError(Exception):
    """There is no such database here; says why."""


def programs() -> Path:
    """The folder of `initdb` and `postgres`. Raises `MissingError`."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr/local/pgsql").glob("bin")]
    if on_path := shutil.which("postgres"):
        found.append(Path(on_path).resolve().parent)
    for folder in sorted(found, reverse=True):
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise MissingError("there is no PostgreSQL server here; on Debian: apt-get install postgresql")


class Postgres:
    """One server, on loopback, on a free port."""

    def __init__(self) -> None:
        self._programs = programs()
        self._user = _other_user() if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="homeport-pg-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Postgres {self._folder} port={self.port}>"

    def __enter__(self) -> Self:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self._call("initdb", "-D", str(self._data), "-U", "homeport", "-A", "trust", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://homeport@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """After a crash, too: it recovers by itself, once its old children have gone."""
        deadline = time.monotonic() + START_S
        while True:
            self._process = self._spawn()
            while self._process.poll() is None:
                with contextlib.suppress(psycopg.OperationalError):
                    psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                    return
                time.sleep(POLL_S)
            assert time.monotonic() < deadline, self.output()
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Immediately, as to its clients; without loss."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_S)

    def kill(self) -> None:
        """-9, and its children with it."""
        assert self._process is not None
        self._signal_all(signal.SIGKILL)
        self._process.wait(START_S)

    def freeze(self) -> None:
        """It takes connections and bytes, and does nothing."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def output(self) -> str:
        return (self._folder / "output.txt").read_text("utf-8", "replace")

    def _signal_all(self, number: int) -> None:
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        for each in [server, *server.children()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _spawn(self) -> subprocess.Popen[bytes]:
        sockets = f"unix_socket_directories={self._folder}"
        settings = ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", sockets]
        with (self._folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._data), *settings],
                cwd=self._folder,
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self._folder,
            user=self._user,
            env={"LANG": "C.UTF-8", "PATH": os.environ.get("PATH", os.defpath)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _other_user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in names:
            return name
    raise MissingError("PostgreSQL does not run as root, and there is no user 'nobody'")


@contextlib.contextmanager
def database(server_url: str) -> Iterator[str]:
    """A new, empty database on the server; gone afterwards. Its URL."""
    name = f"homeport_test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(server_url, autocommit=True) as server:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@contextlib.contextmanager
def timescale() -> Iterator[str]:
    """URL of a server with the extension. Raises `MissingError`."""
    if given := os.environ.get(TIMESCALE_URL):
        yield given
        return
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True).returncode:
        raise MissingError(f"no TimescaleDB: set {TIMESCALE_URL}, or let a Docker engine run")
    port = free_port()
    publish = ("--publish", f"127.0.0.1:{port}:5432")
    password = ("--env", "POSTGRES_PASSWORD=homeport")
    started = subprocess.run(
        [docker, "run", "--rm", "--detach", *publish, *password, TIMESCALE_IMAGE],
        capture_output=True,
        text=True,
    )
    if started.returncode:
        raise MissingError(f"no TimescaleDB: {started.stderr.strip().splitlines()[-1]}")
    container = started.stdout.strip()
    try:
        url = f"postgresql://postgres:homeport@127.0.0.1:{port}/postgres"
        until_up(url)
        yield url
    finally:
        subprocess.run([docker, "rm", "--force", "--volumes", container], capture_output=True)


def until_up(url: str) -> None:
    """Its image starts the server twice: at first without TCP."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, f"no answer from {url}"
            time.sleep(POLL_S)


def add_timescale(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
