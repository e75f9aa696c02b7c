"""The terminal that we were started from, and what ``SIGHUP`` means.

The signal has two meanings. Somebody asks a server to read its configuration anew; or the terminal has
gone, with the window or the connection, and the kernel tells all who belonged to it. Who was started in
a terminal and finds it gone stops, as any program there does; everybody else reloads.
"""

import os
import signal


class Terminal:
    """Made when the program starts."""

    def __init__(self) -> None:
        # nohup: whoever ignores the signal does not care about the terminal.
        is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._had_one = _has_one() and not is_ignored
        self._streams = [number for number in (0, 1, 2) if os.isatty(number)]

    def is_gone(self) -> bool:
        return self._had_one and not _has_one()

    def let_go(self) -> None:
        """What is still read from there or written there leads nowhere, and fails no more."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in self._streams:
            os.dup2(nowhere, number)
        os.close(nowhere)


def _has_one() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
