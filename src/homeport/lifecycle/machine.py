"""The states of an instance, and when it is started again.

``TRANSITIONS`` is the machine; everything else reads it. An instance is one running engine (or one
remote server that we watch), and one task owns its state. The states:

* ``stopped``: no process; the next request starts one.
* ``starting``: the process exists and may still be loading.
* ``ready``: it takes requests.
* ``asleep``: the process is there, and has given its memory back; waking it is a start.
* ``draining``: no new requests; those under way may finish.
* ``stopping``: it was asked to end.
* ``backoff``: it ended by itself; started again after a delay.
* ``failed``: it ended too often in a row; only a request that comes later tries again.

The events:

* ``start``, ``sleep``, ``drain``, ``stop``: someone wants it.
* ``became_ready``: the readiness probe succeeded.
* ``exited``: the process ended (for a remote server: it does not answer).
* ``gave_up``: no restart is left.
"""

from collections.abc import Mapping
from typing import Literal

from homeport.errors import InternalError

State = Literal[
    "stopped", "starting", "ready", "asleep", "draining", "stopping", "backoff", "failed"
]
Event = Literal["start", "became_ready", "sleep", "drain", "stop", "exited", "gave_up"]

TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    "stopped": {"start": "starting"},
    "starting": {
        "became_ready": "ready",
        "exited": "backoff",
        "gave_up": "failed",
        "stop": "stopping",
    },
    "ready": {
        "sleep": "asleep",
        "drain": "draining",
        "exited": "backoff",
        "gave_up": "failed",
        "stop": "stopping",
    },
    "asleep": {
        "start": "starting",
        "exited": "stopped",  # nobody was using it: the next request starts one
        "stop": "stopping",
    },
    "draining": {
        "exited": "stopped",  # it was about to be stopped: no restart
        "stop": "stopping",
    },
    "stopping": {"exited": "stopped"},
    "backoff": {"start": "starting", "stop": "stopped", "gave_up": "failed"},
    "failed": {"start": "starting", "stop": "stopped"},
}

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
MAX_ATTEMPTS = 7
"""Restarts in a row before we give up: after about a minute of delays. What fails so often (a broken
file, too little memory) does not heal by itself. (systemd gives up after 5 in 10 s, Supervisor after
3; an engine may have to wait for memory that another one is just giving back.)"""


def transition(state: State, event: Event) -> State:
    """Return the state after ``event``; ``InternalError`` when it cannot happen in ``state``."""
    after = TRANSITIONS[state].get(event)
    if after is None:
        raise InternalError("internal", f"{event} cannot happen to an instance that is {state}")
    return after


def backoff_s(attempt: int) -> float | None:
    """Return the delay before restart ``attempt`` (1 is the first), None to give up."""
    if attempt > MAX_ATTEMPTS:
        return None
    return min(FIRST_BACKOFF_S * 2.0 ** (attempt - 1), MAX_BACKOFF_S)
