"""Fields that a request is given when it does not name them."""

import json
from typing import Any

import pytest

from homeport.config.values import REQUEST_FIELDS
from homeport.server.request_defaults import NAMES, filled

CHAT = "/v1/chat/completions"


def after(body: dict[str, Any], path: str = CHAT, **defaults: str | float) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(filled(json.dumps(body).encode(), path, defaults.items()))
    return found


def test_what_is_missing_is_added_at_the_end() -> None:
    body = filled(b'{"model":"m","messages":[]}', CHAT, (("temperature", 0.5), ("seed", 1)))
    assert body == b'{"model":"m","messages":[],"temperature":0.5,"seed":1}'


def test_what_is_there_stays() -> None:
    body = b'{"temperature": 1.0,  "messages":[]}'
    assert filled(body, CHAT, (("temperature", 0.5),)) is body


def test_null_is_missing() -> None:
    assert after({"temperature": None}, temperature=0.5) == {"temperature": 0.5}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_two_words_for_one_limit(name: str) -> None:
    assert after({name: 5}, max_tokens=9, max_completion_tokens=9) == {name: 5}


def test_each_route_has_its_own_words() -> None:
    assert after({}, "/v1/responses", max_tokens=9) == {"max_output_tokens": 9}
    assert after({}, "/v1/messages", max_completion_tokens=9, seed=1) == {"max_tokens": 9}


def test_other_routes_are_left_alone() -> None:
    assert after({"input": "x"}, "/v1/embeddings", temperature=0.5) == {"input": "x"}


def test_chat_knows_every_field() -> None:
    assert set(NAMES[CHAT]) == set(REQUEST_FIELDS)
