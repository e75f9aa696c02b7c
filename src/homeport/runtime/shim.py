"""The small process between us and an engine, which sees to it that the engine never outlives us.

Run as a script by ``runtime.shims``: ``python -I -S shim.py``. Standard library only, and nothing of
homeport, so that it starts in milliseconds; and which engine to start it is told by the first message
on its stdin (``order``), so that it can be started before anybody knows.

Why a process of its own: a gateway that is killed with SIGKILL runs no code any more. This one does:

* Its stdin is the **lifeline**, a pipe whose other end only the gateway holds. End of file there
  means that the gateway has gone, however it went; this works on every system. Nothing is ever
  written to it but the order.
* On Linux it is also **subreaper**: descendants of the engine whose parents died, those that called
  ``setsid`` included, become its children, and so it can find and end them all. Elsewhere it ends
  the engine's process group.
* What an engine leads outside of its tree is ended by a command, the order's ``at_end``: a container
  belongs to Docker's daemon, and the tree has only the client that waits for it.
* Should the shim itself be killed, the kernel kills the engine (``PR_SET_PDEATHSIG``, Linux). What
  remains even then is found at the next start (``runtime.leftovers``).

The engine gets a process group of its own: Ctrl-C in the terminal goes to the gateway alone, which
then drains.

Until the order has come there is nothing to see to: end of file and signals end the shim at once. Then,
in order of priority:

1. End of file on the lifeline: SIGTERM to the tree (unless sent already), then, after ``GRACE_S``,
   SIGKILL; after a SIGTERM there is no grace left to give, the gateway has waited already.
2. SIGTERM (or SIGINT, SIGHUP) to the shim: SIGTERM to the tree. How long to wait is the gateway's
   decision: it closes the lifeline when it has waited enough.
3. The engine ends: what is left of its tree is ended like in 1., and the shim exits with the
   engine's status (128 + N when signal N ended it, as shells do).

The end command runs after 1. and 3., when nothing of the tree is left that could undo it.
"""

import ctypes
import marshal
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

GRACE_S = 1.0
"""Between SIGTERM and SIGKILL once the gateway has gone."""
AT_END_S = 10.0
"""For the end command, which is killed then: Docker's daemon may be slow to end a container that has
much memory, and may not answer at all."""
FOREIGN_S = 2.0
"""Where we are not subreaper, the dead of a group are collected by others, and may lie there until
then. They are not waited for any longer."""
AGAIN_S = 1.0
"""When the gateway has gone, the end command runs once more after so long: what a client that was
killed had asked for last may have come true only after the first time."""

_SIZE_BYTES = 4
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_ON_LINUX = sys.platform == "linux"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> int:
    if _ON_LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        # A second line behind the lifeline. It is sent when the *thread* that started us ends; the
        # gateway starts shims from the thread of its event loop, which lives as long as it does.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        argv, env, at_end = _ordered()
    except EOFError:
        return 0
    os.environ.clear()
    os.environ.update(env)  # the end command lives in it, too
    wakeup = _signals_as_bytes()
    try:
        engine = _start(argv)
    except OSError as error:
        print(f"cannot start {argv[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 127
    status, has_gone = _watch(engine, wakeup)
    if at_end:
        _run_briefly(at_end)
        if has_gone:
            time.sleep(AGAIN_S)
            _run_briefly(at_end)
    return status


def order(argv: Sequence[str], env: Mapping[str, str], at_end: Sequence[str] = ()) -> bytes:
    """What the gateway writes, once: the engine's command and whole environment, and the end command.

    In ``marshal``, which costs no import; both ends are the same Python.
    """
    said = marshal.dumps((list(argv), dict(env), list(at_end)))
    return len(said).to_bytes(_SIZE_BYTES, "big") + said


def _ordered() -> tuple[list[str], dict[str, str], list[str]]:
    """Wait for the order. Raises ``EOFError`` when the gateway has gone before it was whole."""
    argv, env, at_end = marshal.loads(_read(int.from_bytes(_read(_SIZE_BYTES), "big")))
    return argv, env, at_end


def _read(count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = os.read(0, count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _watch(engine: int, wakeup: int) -> tuple[int, bool]:
    """Wait for one of the three things of the module's docstring; return the exit status, and whether
    the gateway went without a word."""
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    poll.register(wakeup, select.POLLIN)
    asked = False
    while True:
        ready = {fd for fd, _ in poll.poll()}
        numbers = os.read(wakeup, 4096) if wakeup in ready else b""
        status, _ = _reap(engine)
        if status is not None:  # 3.
            _end_tree(engine, grace_s=GRACE_S)
            return status, False
        if 0 in ready and not os.read(0, 4096):  # 1.
            status = _end_tree(engine, grace_s=0.0 if asked else GRACE_S)
            return (128 + signal.SIGKILL if status is None else status), not asked
        if any(number in _SIGNALS for number in numbers):  # 2.
            asked = True
            _signal_tree(engine, signal.SIGTERM)


def _signals_as_bytes() -> int:
    """Turn signals into bytes on a pipe, so that one ``poll`` waits for everything."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (*_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reader


def _start(argv: list[str]) -> int:
    """Start the engine in its own process group; return its pid."""
    shim = os.getpid()
    errors, report = os.pipe()  # closed by a successful exec, else it carries errno
    pid = os.fork()
    if pid == 0:
        _become_engine(argv, shim, report)
    os.close(report)
    with os.fdopen(errors, "rb") as pipe:
        errno = pipe.read()
    if errno:
        os.waitpid(pid, 0)
        raise OSError(int(errno), os.strerror(int(errno)))
    return pid


def _become_engine(argv: list[str], shim: int, report: int) -> None:
    """In the child: never returns."""
    try:
        for number in (*_SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        if _ON_LINUX:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != shim:  # died before the line above
                os._exit(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(report, str(error.errno).encode())
    finally:
        os._exit(127)


def _end_tree(engine: int, *, grace_s: float) -> int | None:
    """End every process of the tree; return the engine's status if it was reaped here."""
    deadline = time.monotonic() + grace_s
    is_asked = not grace_s
    status = None
    while True:
        reaped, has_children = _reap(engine)
        status = reaped if status is None else status
        if not has_children and not _group_left(engine):
            return status
        if not is_asked:  # here, so that nobody is looked for where nobody is left
            is_asked = True
            _signal_tree(engine, signal.SIGTERM)
        now = time.monotonic()
        if now >= deadline:
            _signal_tree(engine, signal.SIGKILL)  # again and again: the tree may still be growing
            if not has_children and now >= deadline + FOREIGN_S:
                return status
        time.sleep(0.01)


def _reap(engine: int) -> tuple[int | None, bool]:
    """Collect the dead. Return the engine's exit status if it is among them, and whether there are
    children left."""
    status = None
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status, False
        if pid == 0:
            return status, True
        if pid == engine:
            code = os.waitstatus_to_exitcode(raw)
            status = 128 - code if code < 0 else code


def _group_left(engine: int) -> bool:
    """Whether processes of the engine's group live that are not our children."""
    if _ON_LINUX:
        return False  # as subreaper we would have inherited every survivor
    try:
        os.killpg(engine, 0)
    except OSError:
        return False
    return True


def _run_briefly(argv: list[str]) -> None:
    """Run a command without input and output, for ``AT_END_S`` at most."""
    pid = os.fork()
    if pid == 0:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            os.setpgid(0, 0)
            os.execvp(argv[0], argv)
        finally:
            os._exit(127)
    deadline = time.monotonic() + AT_END_S
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.01)


def _signal_tree(engine: int, number: int) -> None:
    """Signal all of the tree; who has ended meanwhile needs none."""
    with suppress(OSError):
        os.killpg(engine, number)
    for pid in _descendants() if _ON_LINUX else ():
        with suppress(OSError):
            if os.getpgid(pid) != engine:  # the others were reached above
                os.kill(pid, number)


def _descendants() -> list[int]:
    """Return the pids of our children, their children and so on."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # ended meanwhile
            children.setdefault(int(fields[1]), []).append(int(name))
    found = [os.getpid()]
    for pid in found:  # grows while we walk it
        found += children.get(pid, [])
    return found[1:]


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    os._exit(
        main()
    )  # the interpreter's own end would take milliseconds, and somebody waits for ours
