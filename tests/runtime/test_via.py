"""Models that are reached through LiteLLM, with a fake LiteLLM."""

from __future__ import annotations

import pytest

from homeport.engines.litellm_proxy import FACTS
from homeport.errors import ClientError
from homeport.facts import Endpoint, ModelFacts
from homeport.routing.catalog import Catalog, Entry
from homeport.runtime.remote import RemoteInstance
from homeport.runtime.via import ViaInstance
from homeport.server.directory import Directory
from homeport.settings import ModelSettings
from tests.test_roster import no_fetch

HERE = Endpoint(base_url="http://127.0.0.1:4000/v1", engine=FACTS, model=ModelFacts(name="first"))
LITELLM = ModelSettings(id="litellm", upstream="http://127.0.0.1:4000/v1")
BEYOND = ModelSettings(id="far", via="litellm", upstream_model="azure/far", ctx=1000, rescue=False)


def litellm() -> RemoteInstance:
    return RemoteInstance(LITELLM, no_fetch, endpoint=HERE)


def native(model_id: str) -> RemoteInstance:
    return RemoteInstance(ModelSettings(id=model_id, upstream=HERE.base_url), no_fetch)


def test_it_is_litellm_by_another_name() -> None:
    via = ViaInstance(BEYOND, litellm)
    assert via.endpoint is not None
    assert via.endpoint.model == ModelFacts(name="far", context_tokens=1000)
    assert via.endpoint.base_url == HERE.base_url
    assert not via.endpoint.rescue
    assert via.state == "ready"


def test_a_lease_of_it_is_one_of_litellms() -> None:
    of = litellm()
    via = ViaInstance(BEYOND, lambda: of)
    with via.lease() as lease:
        assert lease.endpoint == via.endpoint
        assert (of.in_flight, via.in_flight) == (1, 1)
    assert (of.in_flight, via.in_flight) == (0, 0)


def test_without_litellm_it_is_not_there() -> None:
    via = ViaInstance(BEYOND, lambda: None)
    assert via.state == "failed"
    with pytest.raises(ClientError, match="--with-litellm"):
        via.lease()


def directory() -> Directory:
    found, of = Directory(), litellm()
    instances = {
        "far": ViaInstance(BEYOND, lambda: of),
        "around": ViaInstance(ModelSettings(id="around", via="litellm"), lambda: of, native("x")),
    }
    found.publish(Catalog([Entry(id=name) for name in instances]), instances)
    return found


def test_litellm_is_given_the_native_one() -> None:
    known = directory()
    _, instance = known.resolve("around", kind="chat")
    assert isinstance(instance, ViaInstance)
    _, instance = known.resolve("around", kind="chat", for_litellm=True)
    assert instance is known.native_of("around")


def test_litellm_is_not_sent_to_itself() -> None:
    with pytest.raises(ClientError, match="in circles"):
        directory().resolve("far", kind="chat", for_litellm=True)
