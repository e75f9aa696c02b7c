"""The part of ``homeport boot`` that is process 1 of a container, where nobody else is.

The kernel treats process 1 in two ways like no other. Processes whose parents have ended become its
children, and stay as zombies until it collects them; those of the chain go to their shims, but a
``docker exec`` may leave some as well. And a signal without a handler has no effect on it, not even
SIGTERM, so that ``docker stop`` would wait in vain.

``split_off`` returns in a child, which does the work; process 1 does these two things and nothing else.
Where another init is there already (tini, ``docker run --init``), none is needed.
"""

import os
import signal
from typing import Final, NoReturn

FORWARDED: Final = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2),
)


def needs_init() -> bool:
    return os.getpid() == 1


def split_off() -> None:
    """Returns in a child; who called it hands signals on to that, collects the dead, and exits with its
    status (128 + N where signal N has ended it). To be called before there are threads."""
    waited_for = {*FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)  # from here on they wait to be fetched
    child = os.fork()
    if child:
        _be_init(child, waited_for)
    # In a group of its own: Ctrl-C in the terminal goes to process 1, which hands it on, once.
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, waited_for)


def _be_init(child: int, waited_for: set[signal.Signals]) -> NoReturn:
    while True:
        number = signal.sigwait(waited_for)
        if number != signal.SIGCHLD:
            os.kill(child, number)  # it is there until it is collected, which is done below
        elif (ended := _collected(child)) is not None:
            os._exit(ended)


def _collected(child: int) -> int | None:
    """Collect all that have ended; return the exit status of ``child`` if it is among them."""
    while True:
        pid, raw = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            code = os.waitstatus_to_exitcode(raw)
            return 128 - code if code < 0 else code
        if pid == 0:
            return None
