"""Messages that homeport cannot read: handed on to servers that are asked in Anthropic's dialect,
refused by name where they would have to be translated."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.engines.anthropic_messages import speaking
from homeport.errors import ClientError
from homeport.facts import Endpoint, EngineFacts, ModelFacts
from homeport.server.calls import AnthropicCall
from homeport.server.documents import Documents
from homeport.wire import sse
from tests.server.fakes import READY, FakeInstance, Plan, World
from tests.support.asgi import Exchange, ask

NATIVE = msgspec.structs.replace(READY, dialect="anthropic", engine=speaking(EngineFacts()))
BETA = "context-hints-2027-01-01,other"
SAID = {"anthropic-beta": BETA, "anthropic-version": "2027-01-01", "x-other": "mine"}
LONG = "x" * 20_000
"""Long enough for the guardian of prefixes to look at it."""
USER = {"role": "user", "content": "hi"}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "inner",
    "content": [{"type": "text", "text": "ok"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 4, "output_tokens": 1},
}
START = {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}
STREAM = b"".join(
    sse.encode(json.dumps(event).encode(), str(event["type"]))
    for event in (START, DELTA, {"type": "message_stop"})
)
PDF = {
    "type": "document",
    "source": {
        "type": "base64",
        "media_type": "application/pdf",
        "data": base64.b64encode(b"%PDF-1.7 no more").decode(),
    },
}


def with_block(block: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [USER, {"role": "user", "content": [block]}]}


UNREADABLE: list[tuple[dict[str, Any], str]] = [
    (with_block({"type": "hologram", "data": {"x": [1]}}), "messages.1.content.0.type"),
    (with_block({"type": "hologram", "text": {"of": "another shape"}}), "messages.1"),
    (with_block({"type": "container_upload", "file_id": "f"}), "messages.1.content.0.type"),
    (with_block({"type": "image", "source": {"type": "file", "file_id": "f"}}), "messages.1"),
    (with_block(PDF), "messages.1"),
    ({"messages": [USER, {"role": "narrator", "content": "x"}]}, "messages.1.role"),
    ({"messages": [], "max_tokens": "many"}, ""),
    ({"messages": [USER], "tools": [{"type": "browser_2027", "name": "b"}]}, "tools"),
    ({"messages": [USER], "tools": {"of": "another shape"}}, "tools"),
    ({"messages": [USER], "thinking": "deep"}, "thinking"),
]


def asked(fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "it", "max_tokens": 9, **fields, **more}


def data_of(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


async def post(
    world: World, body: dict[str, Any], path: str = "/v1/messages", **headers: str
) -> Exchange:
    return await ask(world, "POST", path, data_of(body), {**SAID, **headers})


@pytest.mark.row("3.6 What homeport does not know, or refuses elsewhere (3.1)")
@pytest.mark.parametrize(("fields", "place"), UNREADABLE)
async def test_a_server_of_that_dialect_gets_it_as_it_is(
    fields: dict[str, Any], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Documents, data: bytes) -> str:
        raise AssertionError("nobody asked for its text")

    monkeypatch.setattr(Documents, "pdf_text", read)
    world = World(FakeInstance("it", NATIVE))
    world.client.plans = [Plan(pieces=[json.dumps(MESSAGE).encode()]), Plan(pieces=[STREAM])]
    session = {"x-claude-code-session-id": "s"}
    answer = await post(world, asked(fields, odd=LONG), **session)
    assert await answer.status() == 200, await answer.body()
    assert (await answer.json())["model"] == "it"
    streamed = await post(world, asked(fields, odd=LONG, stream=True), **session)
    assert (await streamed.body()).count(b"event: message_stop") == 1
    whole, stream = world.client.exchanges
    assert whole.url == "http://engine:1/v1/messages"
    assert whole.request == asked(fields, odd=LONG, model="inner")
    assert stream.request == asked(fields, odd=LONG, model="inner", stream=True)
    counted = await post(world, {**fields, "model": "it"}, "/v1/messages/count_tokens")
    assert (await counted.status(), await counted.json()) == (200, {"input_tokens": 7})
    world.assert_tidy()


@pytest.mark.row("3.6 What homeport does not know, or refuses elsewhere (3.1)")
@pytest.mark.parametrize(("fields", "place"), UNREADABLE)
async def test_where_it_would_be_translated_it_is_refused_before_anything_starts(
    fields: dict[str, Any], place: str
) -> None:
    for endpoint in (READY, None):
        world = World(FakeInstance("it", endpoint))
        answer = await post(world, asked(fields, stream=True))
        assert await answer.status() == 400
        message = (await answer.json())["error"]["message"]
        assert place in message
        assert (world.instance.leases, world.client.exchanges) == (0, [])


@pytest.mark.row("3.6 What homeport does not know, or refuses elsewhere (3.1)")
@pytest.mark.parametrize(("fields", "place"), UNREADABLE)
def test_an_engines_own_route_is_not_known_to_be_right_in_it(
    fields: dict[str, Any], place: str
) -> None:
    """Whatever its record names."""
    facts = EngineFacts(native_messages=frozenset({"stream", "tools", "images", "thinking"}))
    endpoint = Endpoint(base_url="http://h/v1", engine=facts, model=ModelFacts(name="real"))
    call = AnthropicCall(data_of(asked(fields)))
    assert call.refusal is not None
    with pytest.raises(ClientError):
        call.engine_body(endpoint)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"messages":[]}', b'{"model":1}', b'{"model":"it","odd":"\xff"}']
)
async def test_what_is_no_request_is_refused_here(body: bytes) -> None:
    world = World(FakeInstance("it", NATIVE))
    answer = await ask(world, "POST", "/v1/messages", body)
    assert await answer.status() == 400
    assert world.client.exchanges == []


async def test_it_waits_for_a_server_that_is_down() -> None:
    """Its dialect is known from the configuration."""
    world = World(FakeInstance("it", None))
    world.instance.dialect = "anthropic"
    world.client.plans = [Plan(pieces=[json.dumps(MESSAGE).encode()])]
    body = data_of(asked(UNREADABLE[0][0]))
    async with Exchange(world, "POST", "/v1/messages", {}, "") as answer:
        answer.feed(body)
        while world.instance.starting is None:  # noqa: ASYNC110  (a fake has no event for it)
            await asyncio.sleep(0)
        world.instance.starting.set_result(NATIVE)
        assert await answer.status() == 200


@pytest.mark.row("3.6 anthropic-beta, anthropic-version")
async def test_what_says_how_the_body_is_meant_passes_with_it() -> None:
    world = World(FakeInstance("it", NATIVE))
    world.client.plans = [Plan(pieces=[json.dumps(MESSAGE).encode()])]
    await (await post(world, asked({"messages": [USER]}))).status()
    await (
        await post(world, {"model": "it", "messages": [USER]}, "/v1/messages/count_tokens")
    ).status()
    for sent in (world.client.exchanges[0].headers, world.client.counted_with[0]):
        assert sent["anthropic-beta"] == BETA
        assert sent["anthropic-version"] == "2027-01-01"
        assert "x-other" not in sent


@pytest.mark.row("3.6 anthropic-beta, anthropic-version")
async def test_a_translated_body_was_not_written_for_them() -> None:
    world = World()
    world.client.plans = [Plan(pieces=[b"{}"])]
    await (await post(world, asked({"messages": [USER]}))).status()
    assert not {"anthropic-beta", "anthropic-version"} & set(world.client.exchanges[0].headers)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "name", "source", "input"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)
FIELDS = ("messages", "system", "tools", "tool_choice", "thinking", "metadata", "max_tokens", "x")


@given(fields=st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_any_body_passes_whole(fields: dict[str, Any]) -> None:
    call = AnthropicCall(data_of({**fields, "model": "it"}))
    assert json.loads(call.engine_body(NATIVE)) == {**fields, "model": "inner"}
    assert (call.model, call.stream) == ("it", False)
