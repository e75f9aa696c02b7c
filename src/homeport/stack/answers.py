"""What a homeport answers on the routes that want no key: whether it is healthy, what its models do."""

import http.client
import json
from typing import Any, Final
from urllib.parse import urlsplit

from homeport.stack.proxy import Check

ANSWER_S: Final = 5.0
"""For an answer that takes milliseconds."""


def why_silent(url: str) -> str:
    """Why it is not healthy; empty when it is."""
    try:
        status, _ = _ask(url, "/health")
    except (OSError, http.client.HTTPException) as error:
        return f"{url} does not answer: {_reason(error)}"
    return "" if status == 200 else f"{url}/health answers with {status}"


def check(name: str, url: str) -> Check:
    """Its health; with what its models are doing, where it is well."""
    if why := why_silent(url):
        return Check(name=name, is_healthy=False, why=why)
    return Check(name=name, is_healthy=True, why=", ".join(models(url)))


def models(url: str) -> list[str]:
    """The state of each model, in words."""
    try:
        _, body = _ask(url, "/readyz")
        found = json.loads(body)
        states = [f"{name} {model['state']}" for name, model in found["models"].items()]
        return states + [f"no answer from {upstream} yet" for upstream in found["waiting_for"]]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return []


def _ask(url: str, path: str) -> tuple[int, Any]:
    parts = urlsplit(url)
    # Straight to it: no proxy of the environment is on the way to this machine.
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
