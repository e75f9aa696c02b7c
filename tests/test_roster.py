"""The roster: what a new configuration touches, and what it leaves alone.

Nothing is started here; that running requests survive, real processes show in
``tests/e2e/test_control.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from homeport.facts import Endpoint
from homeport.lifecycle.scheduler import Policy
from homeport.roster import ADJUSTABLE, Change, Roster
from homeport.runtime.fleet import Fleet
from homeport.runtime.managed import ManagedInstance
from homeport.server.directory import Directory
from homeport.settings import LifecycleSettings, ModelSettings, Settings

ONE = ModelSettings(id="one", path="/one.gguf")
TWO = ModelSettings(id="two", path="/two.gguf")
FAR = ModelSettings(id="far", upstream="http://127.0.0.1:9/v1")


async def no_fetch(
    url: str, headers: Mapping[str, str], timeout_s: float
) -> tuple[int, Mapping[str, str], bytes]:
    raise AssertionError(f"{url} was asked")


class Quiet:
    def model_ready(self, model_id: str, endpoint: Endpoint) -> None:
        raise AssertionError

    def upstream_down(self, url: str, reason: str) -> None:
        raise AssertionError


class Needs:
    """Counts how often files would have been read."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def need_bytes(self, model: ModelSettings) -> int:
        self.asked.append(model.id)
        return model.memory_bytes or 7


class World:
    def __init__(self, *models: ModelSettings, **settings: Any) -> None:
        self.fleet, self.directory, self.needs = Fleet(Policy()), Directory(), Needs()
        self.settings = Settings(models=models, **settings)
        self.roster = Roster(
            self.settings,
            fetch=no_fetch,
            fleet=self.fleet,
            directory=self.directory,
            narrator=Quiet(),
            learned=lambda endpoint: endpoint,
            needs=self.needs,
            managed=lambda model: ManagedInstance(model, no_fetch, keeper=self.fleet),
        )
        self.needs.asked.clear()

    def apply(self, *models: ModelSettings, **settings: Any) -> Change:
        self.settings = replace(self.settings, models=models, **settings)
        return self.roster.apply(self.settings)

    def terms(self, name: str) -> Any:
        instance = self.directory.instances[name]
        assert isinstance(instance, ManagedInstance)
        return self.fleet.terms_of(instance)


async def test_the_same_again_touches_nothing() -> None:
    world = World(ONE, FAR)
    before = dict(world.directory.instances)
    assert world.apply(ONE, FAR) == Change()
    assert dict(world.directory.instances) == before
    assert world.needs.asked == []


async def test_added_changed_and_removed() -> None:
    world = World(ONE, TWO, FAR)
    before = dict(world.directory.instances)
    change = world.apply(
        replace(ONE, ctx=4096), FAR, ModelSettings(id="new", path="/n.gguf"), default_model="new"
    )
    assert change == Change(added=("new",), changed=("one",), removed=("two",))
    after = world.directory.instances
    assert list(after) == ["one", "far", "new"]
    assert after["far"] is before["far"]
    assert after["one"] is not before["one"]
    assert world.directory.catalog.default == "new"
    assert set(world.fleet.snapshot()) == {"one@1", "new"}, "nobody used the old ones"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aliases", ("other",)),
        ("group", "g"),
        ("pinned", True),
        ("preload", True),
        ("ttl_s", 5.0),
        ("max_queue", 3),
        ("max_wait_s", 2.0),
        ("memory_bytes", 99),
        ("rescue", False),
        ("rescue_retry", True),
        ("starts_thinking", True),
        ("max_tools", 4),
    ],
)
async def test_what_the_engine_need_not_know_leaves_it_alone(name: str, value: Any) -> None:
    world = World(ONE, FAR)
    before = dict(world.directory.instances)
    change = world.apply(replace(ONE, **{name: value}), FAR)
    assert change == Change(adjusted=("one",))
    one = world.directory.instances["one"]
    assert one is before["one"]
    assert isinstance(one, ManagedInstance)
    assert getattr(one.model, name) == value
    terms = world.terms("one")
    if hasattr(terms, name):
        assert getattr(terms, name) == value
    assert terms.need_bytes == (99 if name == "memory_bytes" else 7)
    entry = world.directory.catalog.get("one")
    assert entry is not None
    assert entry.aliases == (("other",) if name == "aliases" else ())


def test_what_is_adjustable_exists() -> None:
    assert set(ADJUSTABLE) <= set(ModelSettings.__struct_fields__)


async def test_what_holds_for_all_models_reaches_those_that_stay() -> None:
    world = World(ONE, replace(TWO, max_queue=1))
    assert world.apply(
        ONE, replace(TWO, max_queue=1), lifecycle=LifecycleSettings(max_queue=5)
    ) == (Change())
    assert (world.terms("one").max_queue, world.terms("two").max_queue) == (5, 1)
    assert world.needs.asked == []


async def test_settings_of_the_answer_reach_an_engine_that_runs() -> None:
    world = World(FAR)
    far = world.directory.instances["far"]
    far.configure(replace(FAR, max_tools=4))
    assert far.endpoint is None
    assert world.apply(replace(FAR, max_tools=4)) == Change(adjusted=("far",))
    assert world.directory.instances["far"] is far


async def test_a_model_that_moves_to_another_server() -> None:
    world = World(FAR)
    before = world.directory.instances["far"]
    assert world.apply(replace(FAR, upstream="http://127.0.0.1:8/v1")) == Change(changed=("far",))
    assert world.directory.instances["far"] is not before
