"""What is told to somebody who waits."""

import time
from typing import Final

from homeport.stack.proxy import Tell

TELL_S: Final = 10.0
"""How often it is said again what is waited for."""


class Repeated:
    """Tells what is waited for when that changes, and again after a while."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._last, self._at = tell, "", 0.0

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if text != self._last or now - self._at > TELL_S:
            self._tell(text)
            self._last, self._at = text, now
