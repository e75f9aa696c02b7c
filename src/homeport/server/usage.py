"""The record of one request, made at its end from what the others have noted on the way.

All of this runs where requests are served, so that it has to be cheap (``bench`` has the suite
``record``): what repeats, the user agent, is read once; what takes time is left to the recorder's
thread.
"""

import functools
import re
import time
from typing import Final

from homeport.routing.affinity import Key
from homeport.runtime.instance import Instance
from homeport.server.calls import Call
from homeport.server.http import Http
from homeport.server.metrics import Outcome
from homeport.settings import CaptureSettings
from homeport.store.base import LEAST_SPEED_S, MAX_TEXT, Capture, UsageRecord
from homeport.store.capture import CaptureRules, Heard, capture_of
from homeport.store.recorder import Recorder
from homeport.wire import faults
from homeport.wire.ending import ending_of
from homeport.wire.rounds import summed

_AGENT: Final = re.compile(r"([^\s/]+(?:/[A-Za-z][^\s/]*)*)(?:[/ ]v?(\d[^\s;,)]*))?")
"""``claude-cli/2.1.0 (external)``, ``OpenAI/Python 1.99.0``, ``codex_cli_rs/0.50.0 (…)``."""
_SECRET_HEADERS: Final = frozenset({b"authorization", b"x-api-key", b"api-key"})


class UsageLog:
    """What requests call; hands records and captures to the recorder."""

    def __init__(self, recorder: Recorder, capture: CaptureSettings) -> None:
        self._recorder, self._settings = recorder, capture
        self._rules = CaptureRules(capture) if capture.is_on else None

    def __repr__(self) -> str:
        return f"<UsageLog {self._recorder!r} captures={self._rules is not None}>"

    @property
    def state(self) -> dict[str, str | int]:
        """For whoever has no key: where records go, and nothing of what is in them; why the database
        takes none is for the log."""
        recorder = self._recorder
        store = "down" if recorder.is_down else "up"
        return {"store": store, "spooled_bytes": recorder.spooled_bytes}

    def begin(self, http: Http, call: Call, outcome: Outcome, session: Key | None) -> None:
        outcome.ending = ending_of(call.dialect, has_tools=call.has_tools)
        if self._rules is not None and self._rules.wants(
            key=http.key_name, model=http.model_id, session=session.session if session else ""
        ):
            secrets = (_secret(http.headers.get(name, b"")) for name in _SECRET_HEADERS)
            http.heard = Heard(self._settings, http.raw_body, tuple(filter(None, secrets)))

    def end(
        self, http: Http, call: Call, instance: Instance, outcome: Outcome, session: Key | None
    ) -> None:
        record = record_of(http, call, instance, outcome, session)
        self._recorder.record(record)
        if isinstance(heard := http.heard, Heard):
            blank = Capture(
                at_us=record.at_us,
                request_id=record.request_id,
                expires_us=record.at_us + round(self._settings.keep_s * 1_000_000),
                key=record.key,
                model=record.model,
                session=record.session,
            )
            is_stream = call.stream and http.status == 200
            self._recorder.capture(lambda: capture_of(heard, blank, is_stream=is_stream))

    def record(self, record: UsageRecord) -> None:
        """Of a request that did not come by here."""
        self._recorder.record(record)


def record_of(
    http: Http, call: Call, instance: Instance, outcome: Outcome, session: Key | None
) -> UsageRecord:
    duration_s = time.monotonic() - outcome.began
    client, client_version = client_of(http.headers.get(b"user-agent", b""))
    usage = summed(outcome.usage) if outcome.usage is not None else None
    first_token_s = tokens_per_s = None
    if outcome.first_sent is not None:
        first_token_s = outcome.first_sent - outcome.began
        answered_s = duration_s - first_token_s
        if usage is not None and usage.completion_tokens > 1 and answered_s >= LEAST_SPEED_S:
            tokens_per_s = usage.completion_tokens / answered_s
    ending, endpoint = outcome.ending, instance.endpoint
    # By position: Python makes a dict for a call with so many names, which takes longer than all else.
    return UsageRecord(
        time.time_ns() // 1000 - round(duration_s * 1_000_000),
        http.request_id,
        http.key_name,
        client,
        client_version,
        _text(session.session) if session else "",
        _text(session.agent) if session else "",
        _text(call.model),
        http.model_id,
        instance.id,
        endpoint.engine.engine if endpoint is not None else None,
        call.dialect,
        endpoint.dialect if endpoint is not None else None,
        call.stream,
        usage.prompt_tokens if usage else None,
        usage.cached_tokens if usage else None,
        usage.completion_tokens if usage else None,
        duration_s,
        http.waited_s,
        first_token_s,
        tokens_per_s,
        http.status or _status_of(http, outcome),
        ending.stop_reason if ending else None,
        ending.tool_calls if ending else 0,
        "left" if http.has_left else outcome.fault.kind if outcome.fault else None,
        len(http.raw_body),
        http.sent_bytes,
    )


def _status_of(http: Http, outcome: Outcome) -> int:
    """An error goes out after this: what it will be."""
    if outcome.fault is None or http.has_left:
        return 0
    return faults.status_of(outcome.fault, http.dialect)


@functools.lru_cache(maxsize=256)
def client_of(user_agent: bytes) -> tuple[str, str]:
    """A client's name and version; its first word where the rest is unusual."""
    found = _AGENT.match(_text(user_agent.decode("latin-1")))
    return (found[1], found[2] or "") if found else ("", "")


def _text(said: str) -> str:
    """What a client has written, as every database takes it."""
    return said[:MAX_TEXT].replace("\0", "")


def _secret(value: bytes) -> str:
    scheme, _, token = value.decode("latin-1").partition(" ")
    return (token or scheme).strip()
