"""Whether an engine that was ready is stuck. Pure: what probes and connections tell comes in, with the
time.

A probe that fails says less than it seems. An engine that reads a long prompt may have no time for
anything else: servers with one thread do not even accept a connection meanwhile. To kill it then would
be the worst answer: minutes of work are lost, and the same prompt comes again. So what counts, in this
order:

1. The probe is answered: it lives.
2. Something else has come from it since the last look, a piece of an answer or a line of output: it
   lives, and failures count anew.
3. It has had no work since it last answered a probe: ``FAILURES`` in a row, and it is stuck.
4. It has had work: it is stuck only after a silence that no work explains.
"""

from typing import Final

PERIOD_S: Final = 10.0
"""Between two probes. (Kubernetes' default as well.)"""
TIMEOUT_S: Final = 5.0
"""For one probe; an idle engine answers in milliseconds."""
FAILURES: Final = 3
"""In a row, of an engine without work: noticed within 45 s. One may be lost to a machine that swaps."""
BUSY_S: Final = 300.0
"""Silence of an engine with work whose server answers beside the computing (llama.cpp, vLLM, SGLang,
TensorRT-LLM): nothing that it computes keeps it from that, but a machine that is all taken may, for a
while."""
ONE_THREAD_BUSY_S: Final = 1800.0
"""The same for one that answers nobody while it computes, or of which we do not know: half an hour is a
cold prompt of 100 000 tokens at 55 tokens a second."""


class Liveness:
    """The judge of one engine, from when it became ready."""

    def __init__(self, now: float, *, busy_s: float, failures: int = FAILURES) -> None:
        self._busy_s, self._allowed = busy_s, failures
        self._alive_at = now
        self._failures = 0
        self._has_worked = False

    def __repr__(self) -> str:
        return f"<Liveness failures={self._failures} has_worked={self._has_worked}>"

    def answered(self, now: float) -> None:
        """The probe was."""
        self._alive_at, self._failures, self._has_worked = now, 0, False

    def failed(self, now: float, *, silence_s: float, has_work: bool) -> bool:
        """The probe did. ``silence_s`` is how long nothing else has come; ``has_work`` whether a
        request is in flight, or a client has left since the last look, for whom it may still compute.
        Returns whether it is stuck."""
        self._has_worked |= has_work
        if now - silence_s > self._alive_at:  # 2.
            self._alive_at, self._failures = now - silence_s, 0
            return False
        self._failures += 1
        if self._failures < self._allowed:
            return False
        return not self._has_worked or now - self._alive_at >= self._busy_s  # 3., 4.
