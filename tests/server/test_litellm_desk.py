"""What LiteLLM asks and tells at `/internal/litellm`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from homeport.engines.litellm_proxy import FACTS
from homeport.facts import Endpoint, ModelFacts
from homeport.routing.catalog import Catalog, Entry
from homeport.runtime.instance import Instance
from homeport.runtime.remote import RemoteInstance
from homeport.runtime.via import ViaInstance
from homeport.server.admission import Admission
from homeport.server.directory import Directory
from homeport.server.litellm_desk import LiteLLMDesk, Report, record_of
from homeport.server.metrics import Metrics
from homeport.settings import ModelSettings, ServerSettings
from homeport.store.base import UsageRecord
from tests.test_roster import no_fetch

HERE = Endpoint(base_url="http://127.0.0.1:4000/v1", engine=FACTS, model=ModelFacts(name="x"))
URL = HERE.base_url


class FakeHttp:
    """As much of an exchange as the desk uses."""

    def __init__(self, body: object) -> None:
        self._body = json.dumps(body).encode()
        self.said: Any = None

    async def body(self, limit: int) -> bytes:
        assert len(self._body) <= limit
        return self._body

    async def answer(self, status: int, body: bytes) -> None:
        assert status == 200
        self.said = json.loads(body)


class Desk:
    def __init__(self) -> None:
        litellm = RemoteInstance(ModelSettings(id="litellm", upstream=URL), no_fetch, endpoint=HERE)
        self.native = RemoteInstance(
            ModelSettings(id="native", upstream=URL), no_fetch, endpoint=HERE
        )
        beyond = ViaInstance(ModelSettings(id="beyond", via="litellm"), lambda: litellm)
        around = ViaInstance(
            ModelSettings(id="around", via="litellm"), lambda: litellm, self.native
        )
        directory, self.records = Directory(), list[UsageRecord]()
        instances: dict[str, Instance] = {"native": self.native, "beyond": beyond, "around": around}
        entries = [Entry(id=name) for name in instances]
        directory.publish(
            Catalog(entries, aliases=[("far", "beyond")], default="native"), instances
        )
        admission = Admission(ServerSettings())
        self._desk = LiteLLMDesk(directory, Metrics(), lambda: admission, self.records.append)

    def model(self, **asked: Any) -> Any:
        http: Any = FakeHttp(asked)
        asyncio.run(self._desk.model(http))
        return http.said

    def usage(self, **report: Any) -> None:
        http: Any = FakeHttp({"id": "chatcmpl-1", **report})
        asyncio.run(self._desk.usage(http))


def test_a_name_is_told_with_who_serves_it() -> None:
    desk = Desk()
    assert desk.model(model="far") == {"model": "beyond", "is_native": False}
    assert desk.model(model="around") == {"model": "around", "is_native": True}
    assert desk.model(model="claude-opus-5") == {"model": "native", "is_native": True}


def test_what_nobody_else_saw_is_recorded() -> None:
    desk = Desk()
    desk.usage(model="beyond", prompt_tokens=9, completion_tokens=5, duration_s=1.5)
    [record] = desk.records
    assert (record.model, record.prompt_tokens, record.completion_tokens) == ("beyond", 9, 5)


def test_what_came_by_here_is_not_recorded_twice() -> None:
    desk = Desk()
    desk.usage(model="beyond", relayed_id="req_1")
    desk.usage(model="native")
    desk.usage(model="around")
    desk.usage(model="nobody's")
    assert desk.records == []


def test_a_failed_call_has_no_tokens() -> None:
    report = Report(id="c", model="beyond", outcome="failed", duration_s=2.0, prompt_tokens=3)
    record = record_of(report, now_us=10_000_000)
    assert (record.at_us, record.status, record.error) == (8_000_000, 502, "upstream")
    assert record.prompt_tokens is None
