"""What is told of a homeport by its ``/readyz``."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

from homeport.stack import answers

WHY = "`homeport ps` says why"


@contextmanager
def homeport(*said: dict[str, Any]) -> Iterator[str]:
    """One that says this, one after the other; the last for ever."""
    left = list(said)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(left.pop(0) if len(left) > 1 else left[0]).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def models(is_ready: bool, *waiting_for: str, **states: str) -> dict[str, Any]:
    return {
        "status": "ready" if is_ready else "not ready",
        "models": {name: {"state": state} for name, state in states.items()},
        "waiting_for": waiting_for,
    }


def warned(said: dict[str, Any]) -> list[tuple[str, str]]:
    with homeport(said) as url:
        return [(each.what, each.hint) for each in answers.check("gateway", url).warnings]


def test_as_long_as_one_can_answer_there_is_nothing_to_warn_of() -> None:
    assert warned(models(True, coder="backoff", small="stopped")) == []
    assert warned({"models": {"coder": {"state": "backoff"}}}) == [], "another version"


def test_none_that_can_answer_is_a_warning_with_names_and_the_next_step() -> None:
    ((what, hint),) = warned(models(False, "http://gpu:8000", coder="failed"))
    assert what == "no model can answer now: coder failed, no answer from http://gpu:8000 yet"
    assert hint == f"{WHY}; where homeport starts it, `homeport logs coder` shows what it said"
    assert warned(models(False, coder="starting")) == [
        ("no model can answer now: coder starting", WHY)
    ]
    ((what, _),) = warned(models(False))
    assert what == "there is no model that could answer"


def test_of_many_some_are_named() -> None:
    ((what, _),) = warned(models(False, **{f"m{n}": "failed" for n in range(8)}))
    assert what.endswith("m4 failed, and 3 more")


def test_the_records_that_wait_are_told_behind_it() -> None:
    usage = {"usage": {"store": "down", "spooled_bytes": 5000}}
    first, second = warned({**models(False, coder="failed"), **usage})
    assert first[0].startswith("no model can answer")
    assert second[0].startswith("5 KiB of usage records wait")


def test_one_that_has_just_begun_is_given_a_moment() -> None:
    with homeport(models(True, coder="starting"), models(False, coder="backoff")) as url:
        assert answers.settled(url).models["coder"].state == "backoff"
    asked = models(False, "http://gpu:8000"), models(True, qwen="ready")
    with homeport(*asked) as url:
        assert answers.settled(url).warnings == ()
