"""Stand-ins for `systemctl --user` and `journalctl --user`, which really run what the unit says.

They know of one unit what homeport asks of systemd, as the manual of version 252 has it: the variables
of the environment file and no others of the user's, one process with its output in the journal, an
exit status that is known afterwards. They restart nothing.

    systemd = FakeSystemd(folder)
    env = {"PATH": systemd.path, "HOME": …}    # and then `systemctl` is ours
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

STARTED_S = 30.0


class FakeSystemd:
    """The test's side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("systemctl", "journalctl"):
            program = folder / name
            words = shlex.join([sys.executable, __file__, name, str(folder)])
            program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            program.chmod(0o755)
        self.says("running")

    @property
    def path(self) -> str:
        return f"{self.folder}:{os.environ.get('PATH', os.defpath)}"

    def says(self, state: str) -> None:
        """What `is-system-running` answers."""
        (self.folder / "state").write_text(state)

    def refuses(self, verb: str) -> None:
        (self.folder / f"refuses-{verb}").touch()

    def calls(self) -> list[str]:
        """What was asked of systemctl that changes something."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if line.split()[0] not in ("show", "is-system-running")]

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text())

    @property
    def is_enabled(self) -> bool:
        return (self.folder / "enabled").exists()


# --- the programs -----------------------------------------------------------------------------


class Manager:
    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home

    def call(self, words: list[str]) -> int:
        with (self.folder / "calls").open("a") as calls:
            calls.write(shlex.join(words) + "\n")
        verb, *rest = words
        if (self.folder / f"refuses-{verb}").exists():
            print(f"Failed to {verb} unit: refused by the test", file=sys.stderr)
            return 1
        match verb:
            case "is-system-running":
                state = (self.folder / "state").read_text()
                print(state)
                return 0 if state == "running" else 1
            case "show":
                wanted = [
                    w.removeprefix("--property=") for w in rest if w.startswith("--property=")
                ]
                properties = self.properties()
                print("\n".join(f"{name}={properties[name]}" for name in wanted))
            case "enable":
                self.unit("Service", "ExecStart")
                (self.folder / "enabled").touch()
            case "disable":
                (self.folder / "enabled").unlink(missing_ok=True)
                if "--now" in rest:
                    self.stop()
            case "start":
                self.start()
            case "stop":
                self.stop()
            case "daemon-reload" | "reset-failed":
                pass
            case _:
                print(f"Unknown command verb '{verb}'.", file=sys.stderr)
                return 1
        return 0

    def unit(self, section: str, key: str) -> str:
        file = self.home / ".config/systemd/user/homeport.service"
        inside = False
        for line in file.read_text().splitlines():
            if line.startswith("["):
                inside = line == f"[{section}]"
            elif inside and line.startswith(f"{key}="):
                return line.partition("=")[2].replace("%%", "%")
        raise KeyError(key)

    def start(self) -> None:
        for name in ("pid", "status"):
            (self.folder / name).unlink(missing_ok=True)
        words = [word.replace("$$", "$") for word in shlex.split(self.unit("Service", "ExecStart"))]
        # Quotes and backslashes mean in such a file what they mean to a shell.
        script = f'set -a; . {shlex.quote(self.unit("Service", "EnvironmentFile"))}; exec "$@"'
        program = ["/bin/sh", "-c", script, "sh", *words]
        subprocess.Popen(
            [sys.executable, __file__, "keep", str(self.folder), *program],
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin"},
            cwd=self.unit("Service", "WorkingDirectory"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + STARTED_S
        while not (self.folder / "pid").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        if self.is_alive:
            os.kill(int((self.folder / "pid").read_text()), signal.SIGTERM)

    @property
    def is_alive(self) -> bool:
        return (self.folder / "pid").exists() and not (self.folder / "status").exists()

    def properties(self) -> dict[str, object]:
        status = 0
        if (self.folder / "status").exists():
            status = json.loads((self.folder / "status").read_text())
        alive, failed = self.is_alive, status not in (0, -signal.SIGTERM)
        result = "success" if not failed else "signal" if status < 0 else "exit-code"
        return {
            "ActiveState": "active" if alive else "failed" if failed else "inactive",
            "SubState": "running" if alive else "failed" if failed else "dead",
            "MainPID": (self.folder / "pid").read_text() if alive else 0,
            "Result": result,
            "ExecMainStatus": abs(status),
            "NRestarts": 0,
            "ActiveEnterTimestampMonotonic": int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6),
        }


def keep(folder: Path, program: list[str]) -> None:
    with (folder / "journal").open("ab") as journal:
        process = subprocess.Popen(program, stdout=journal, stderr=journal)
    write(folder / "pid", str(process.pid))
    write(folder / "status", str(process.wait()))


def write(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def show(journal: Path, words: list[str]) -> None:
    journal.touch()
    follow = ["-F"] if "--follow" in words else []
    count = words[words.index("--lines") + 1]
    os.execvp("tail", ["tail", "-n", count, *follow, str(journal)])


def main() -> int:
    name, folder, *words = sys.argv[1:]
    if name == "keep":
        keep(Path(folder), words)
        return 0
    assert words.pop(0) == "--user"
    if name == "journalctl":
        show(Path(folder) / "journal", words)
    return Manager(Path(folder), Path(os.environ["HOME"])).call(words)


if __name__ == "__main__":
    sys.exit(main())
