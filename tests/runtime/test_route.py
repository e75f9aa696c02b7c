"""A name for several instances, and a name that each request fills in."""

from typing import cast

import pytest

from homeport.runtime.instance import Instance
from homeport.runtime.route import RouteInstance, called
from homeport.settings import Route
from tests.server.fakes import FakeInstance


def fake(name: str) -> Instance:
    return cast(Instance, FakeInstance(name))


@pytest.mark.parametrize(
    ("pattern", "stars", "name"),
    [
        ("*", ("gpt-5",), "gpt-5"),
        ("org/*", ("x",), "org/x"),
        ("*-of-*", ("a", "b"), "a-of-b"),
        ("*", ("a", "b"), "a"),
        ("*-*", ("a",), "a-"),
    ],
)
def test_a_name_is_filled_in(pattern: str, stars: tuple[str, ...], name: str) -> None:
    instance = fake("it")
    found = called(instance, pattern, stars)
    assert found.endpoint is not None
    assert found.endpoint.model.name == name
    with found.lease() as lease:
        assert lease.endpoint is not None
        assert lease.endpoint.model.name == name
        assert instance.in_flight == 1
    assert instance.in_flight == 0


@pytest.mark.parametrize(("pattern", "stars"), [(None, ("a",)), ("plain", ("a",)), ("*", ())])
def test_other_names_are_left_alone(pattern: str | None, stars: tuple[str, ...]) -> None:
    instance = fake("it")
    assert called(instance, pattern, stars) is instance


def test_a_route_is_as_well_as_its_best_deployment() -> None:
    one, two = FakeInstance("a"), FakeInstance("b")
    deployments = {"a": cast(Instance, one), "b": cast(Instance, two)}
    route = RouteInstance(Route(id="r", models=(("a", 1.0), ("b", 1.0))), deployments)
    one.state, two.state = "backoff", "starting"
    assert route.state == "starting"
    one.state = "ready"
    assert (route.state, route.endpoint) == ("ready", one.endpoint)
