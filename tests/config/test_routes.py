"""Routes in our own file."""

import pytest

from homeport.settings import Route
from tests.config.conftest import Errors, Read

MODELS = """\
models:
  a: {upstream: "http://a"}
  b: {upstream: "http://b", alias: c}
  e: {upstream: "http://e", embeddings: true}
routes:
  r:
"""


def test_a_route(read: Read) -> None:
    text = (
        MODELS
        + "    {models: {a: 2, b: 0.5}, fallbacks: [c], retries: 0, cooldown: 1m, listed: no}"
    )
    assert read(text).routes == (
        Route(
            id="r",
            models=(("a", 2.0), ("b", 0.5)),
            fallbacks=("c",),
            retries=0,
            cooldown_s=60.0,
            listed=False,
        ),
    )


def test_a_route_may_be_the_default_and_have_aliases(read: Read) -> None:
    found = read(MODELS + "    {models: {a: 1}}\naliases: {x-*: r}\ndefault_model: r\n")
    assert (found.default_model, found.aliases) == ("r", (("x-*", "r"),))


@pytest.mark.parametrize(
    ("route", "key", "message"),
    [
        ("{models: {z: 1}}", "routes.r.models.z", "there is no model 'z'"),
        ("{models: {a: 1, e: 1}}", "routes.r.models", "has chat models and embedding models"),
        ("{models: {}}", "routes.r.models", "names no model"),
        ("{models: {a: -1}}", "routes.r.models.a", "must be 0 or more"),
        ("{fallbacks: [a]}", "routes.r", "'models' is missing"),
        ("{models: {a: 1}, fallbacks: [r]}", "routes.r.fallbacks.0", "is this route itself"),
        ("{models: {a: 1}, fallbacks: [z]}", "routes.r.fallbacks.0", "there is no model 'z'"),
    ],
)
def test_what_is_wrong_with_a_route(errors: Errors, route: str, key: str, message: str) -> None:
    (error,) = errors(MODELS + f"    {route}")
    assert error.key == key
    assert message in error.message
    assert error.hint


def test_a_route_is_no_model(errors: Errors) -> None:
    (error,) = errors(MODELS.replace("  r:", "  a:") + "    {models: {b: 1}}")
    assert (error.key, error.message) == ("routes.a", "'a' is a model already")
