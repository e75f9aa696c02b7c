"""The store of responses: its bounds, its owners; and what the routes make of it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.errors import ClientError
from homeport.facts import Endpoint, EngineFacts, ModelFacts
from homeport.server.http import Http
from homeport.server.response_store import (
    ITEM_OVERHEAD_BYTES,
    ResponseStore,
    Segment,
    Stored,
)
from homeport.server.responses import Responses, ResponsesCall
from homeport.settings import Limits
from homeport.wire.events import Text, Thinking, Turn
from tests.support.asgi import Exchange

ENDPOINT = Endpoint(base_url="http://x/v1", engine=EngineFacts(), model=ModelFacts(name="real"))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def segment(*ids: str, size: int = 10) -> Segment:
    return Segment([(id_, b"x" * size) for id_ in ids])


def stored(name: str, history: tuple[Segment, ...] = (), size: int = 10) -> Stored:
    return Stored(b"r" * size, history, segment(f"in_{name}"), segment(f"out_{name}"))


COST = 10 + 2 * (10 + ITEM_OVERHEAD_BYTES)
"""What ``stored`` takes up."""

# --------------------------------------------------------------------------- the store


def test_a_response_is_there_until_it_is_deleted() -> None:
    store = ResponseStore()
    store.put("key", "resp_1", first := stored("1"))
    assert store.get("key", "resp_1") is first
    assert store.delete("key", "resp_1") is True
    assert store.get("key", "resp_1") is None
    assert store.delete("key", "resp_1") is False
    assert (len(store), store.size_bytes) == (0, 0)


def test_one_key_cannot_see_what_another_has() -> None:
    store = ResponseStore()
    store.put("alice", "resp_1", stored("1"))
    assert store.get("bob", "resp_1") is None
    assert store.delete("bob", "resp_1") is False
    assert store.find_item("bob", "in_1") is None
    assert store.find_item("alice", "in_1") == b"x" * 10


def test_the_oldest_goes_when_there_are_too_many() -> None:
    store = ResponseStore(max_responses=2)
    for name in "123":
        store.put("", name, stored(name))
    assert [store.get("", name) is not None for name in "123"] == [False, True, True]


def test_the_oldest_goes_when_there_are_too_many_bytes() -> None:
    store = ResponseStore(max_bytes=2 * COST)
    for name in "123":
        store.put("", name, stored(name))
    assert [store.get("", name) is not None for name in "123"] == [False, True, True]
    assert store.size_bytes == 2 * COST


def test_what_is_larger_than_the_store_is_not_kept() -> None:
    store = ResponseStore(max_bytes=COST)
    store.put("", "1", stored("1", size=2 * COST))
    assert (len(store), store.size_bytes) == (0, 0)


def test_what_is_old_goes() -> None:
    clock = Clock()
    store = ResponseStore(clock=clock, max_age_s=60)
    store.put("", "1", stored("1"))
    clock.now += 59
    store.put("", "2", stored("2"))
    assert store.get("", "1") is not None
    clock.now += 1
    assert store.get("", "1") is None
    assert store.get("", "2") is not None
    assert store.find_item("", "in_1") is None
    assert store.size_bytes == COST


def test_a_conversation_is_counted_once_and_outlives_its_first_response() -> None:
    store = ResponseStore(max_responses=1)
    first = stored("1")
    second = stored("2", history=first.segments)
    store.put("", "1", first)
    store.put("", "2", second)
    assert store.get("", "1") is None
    assert store.size_bytes == COST + 2 * (10 + ITEM_OVERHEAD_BYTES), "the history is held still"
    assert [id_ for id_, _ in second.input_items()] == ["in_1", "out_1", "in_2"]
    assert store.find_item("", "out_1") is not None
    store.delete("", "2")
    assert store.size_bytes == 0


def test_the_store_tells_what_it_holds() -> None:
    store = ResponseStore()
    store.put("", "1", stored("1"))
    assert repr(store) == f"<ResponseStore 1 responses, {COST} bytes>"


def ids_of(one: Stored) -> list[str]:
    return [id_ for segment in one.segments for id_, _ in segment.items]


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "continue", "delete", "wait"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 5),
        st.integers(0, 3 * COST),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps)
def test_the_bounds_hold_whatever_happens(steps: list[tuple[str, str, int, int]]) -> None:
    clock = Clock()
    store = ResponseStore(clock=clock, max_bytes=4 * COST, max_responses=3, max_age_s=100)
    for what, key, name, size in steps:
        if what == "wait":
            clock.now += size / 20
        elif what == "delete":
            store.delete(key, str(name))
        else:
            before = store.get(key, str(name)) if what == "continue" else None
            history = before.segments if before else ()
            store.put(key, str(name + 1), stored(f"{key}{name}", history, size))
        held = {id(seg): seg for _, one in store._all.values() for seg in one.segments}
        own = sum(len(one.response) for _, one in store._all.values())
        assert store.size_bytes == own + sum(seg.size_bytes for seg in held.values())
        assert store.size_bytes <= 4 * COST
        assert len(store) <= 3
        items = {(key, id_) for (key, _), (_, one) in store._all.items() for id_ in ids_of(one)}
        assert set(store._items) <= items, "nothing is found that is gone"
    for key, response_id in list(store._all):
        store.delete(key, response_id)
    assert not store._items
    assert store.size_bytes == 0


# --------------------------------------------------------------------------- the call


def engine_says(text: str, thinking: str = "") -> bytes:
    message = {"role": "assistant", "content": text, "reasoning_content": thinking or None}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }
    ).encode()


def call(kept: ResponseStore, key: str = "", **body: Any) -> ResponsesCall:
    return ResponsesCall(json.dumps({"model": "m", "input": "hi", **body}).encode(), kept, key)


def answered(kept: ResponseStore, text: str, key: str = "", **body: Any) -> dict[str, Any]:
    answer, _ = call(kept, key, **body).whole(engine_says(text, "hmm"), ENDPOINT)
    response: dict[str, Any] = json.loads(answer)
    return response


@pytest.mark.row("3.7 previous_response_id, item_reference", "3.7 store")
def test_a_response_is_continued() -> None:
    store = ResponseStore()
    first = answered(store, "one", instructions="Be brief.")
    second = answered(store, "two", previous_response_id=first["id"], input="more")
    third = call(store, previous_response_id=second["id"], input="still more")
    assert third._request.turns == (
        Turn("user", (Text("hi"),)),
        Turn("assistant", (Thinking("hmm"), Text("one"))),
        Turn("user", (Text("more"),)),
        Turn("assistant", (Thinking("hmm"), Text("two"))),
        Turn("user", (Text("still more"),)),
    ), "instructions are not carried over"
    assert second["previous_response_id"] == first["id"]


@pytest.mark.row("3.7 store")
def test_what_is_not_to_be_stored_is_not() -> None:
    store = ResponseStore()
    response = answered(store, "one", store=False)
    assert response["store"] is False
    assert len(store) == 0


@pytest.mark.row("3.7 previous_response_id, item_reference")
def test_an_unknown_response_cannot_be_continued() -> None:
    store = ResponseStore()
    response = answered(store, "one", key="alice")
    for key, id_ in (("bob", response["id"]), ("alice", "resp_none")):
        with pytest.raises(ClientError) as caught:
            call(store, key, previous_response_id=id_)
        assert (caught.value.kind, caught.value.param) == ("not_found", "previous_response_id")


def test_a_stored_item_may_be_referred_to() -> None:
    store = ResponseStore()
    response = answered(store, "one")
    message = response["output"][1]
    reference = {"type": "item_reference", "id": message["id"]}
    again = call(store, input=[reference, {"role": "user", "content": "why?"}])
    assert again._request.turns[0] == Turn("assistant", (Text("one"),))


def test_a_stream_is_stored_before_its_end_goes_out() -> None:
    store = ResponseStore()
    asked = call(store, stream=True)
    asked.prepare("req_1")
    translation = asked.translation(ENDPOINT)
    assert b"response.created" in asked.opening(1)
    chunk = '{"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":"stop"}]}'
    translation.feed(f"data: {chunk}\n\n".encode())
    assert len(store) == 0
    assert b"response.completed" in translation.feed(b"data: [DONE]\n\n")
    assert len(store) == 1
    assert translation.finish() == b""
    assert len(store) == 1


def test_a_stream_that_fails_is_not_stored() -> None:
    store = ResponseStore()
    asked = call(store, stream=True)
    asked.prepare("req_1")
    translation = asked.translation(ENDPOINT)
    assert b"response.failed" in translation.finish()
    assert len(store) == 0


def test_blind_models_get_no_images() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    asked = call(ResponseStore(), input=[{"role": "user", "content": [image]}])
    blind = Endpoint(
        base_url="http://x/v1", engine=EngineFacts(), model=ModelFacts(name="m", vision=False)
    )
    with pytest.raises(ClientError, match="cannot see images"):
        asked.engine_body(blind)
    assert b"image_url" in asked.engine_body(ENDPOINT)


# --------------------------------------------------------------------------- the routes


class Client:
    """Calls handlers directly and keeps what they answer."""

    def __init__(self, store: ResponseStore) -> None:
        self._routes = Responses(None, Limits(), store)  # type: ignore[arg-type]  # no proxy: nothing is asked

    async def __call__(self, method: str, rest: str, query: str = "", key: str = "") -> Any:
        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            http = Http(scope, receive, send, "openai_responses")
            http.key_name = key
            handlers = self._routes.methods(rest)
            assert handlers is not None
            await handlers[method](http)

        async with Exchange(app, method, f"/v1/responses/{rest}", query=query) as exchange:
            await exchange.task
        return await exchange.json()


@pytest.fixture
def store() -> ResponseStore:
    return ResponseStore()


@pytest.fixture
def client(store: ResponseStore) -> Client:
    return Client(store)


async def test_get_and_delete(store: ResponseStore, client: Client) -> None:
    response = answered(store, "one", key="alice")
    assert await client("GET", response["id"], key="alice") == response
    for method in ("GET", "DELETE"):
        with pytest.raises(ClientError, match="not found"):
            await client(method, response["id"], key="bob")
    deleted = await client("DELETE", response["id"], key="alice")
    assert deleted == {"id": response["id"], "object": "response", "deleted": True}
    with pytest.raises(ClientError, match="not found"):
        await client("GET", response["id"], key="alice")


async def test_input_items_are_what_the_model_was_given(
    store: ResponseStore, client: Client
) -> None:
    first = answered(store, "one")
    items = [
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": "prefix"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ]
    second = answered(store, "two", previous_response_id=first["id"], input=items)
    path = f"{second['id']}/input_items"
    page = await client("GET", path, "order=asc")
    assert [item["type"] for item in page["data"]] == [
        "message",
        "reasoning",
        "message",
        "message",
        "message",
        "function_call_output",
    ]
    assert page["data"][0]["content"] == [{"type": "input_text", "text": "hi"}]
    assert page["data"][4]["content"][0]["type"] == "output_text"
    ids = [item["id"] for item in page["data"]]
    assert len(set(ids)) == 6
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[0], ids[-1], False)
    latest = await client("GET", path, "limit=2")
    assert [item["id"] for item in latest["data"]] == [ids[5], ids[4]]
    assert latest["has_more"] is True
    rest = await client("GET", path, f"after={ids[4]}")
    assert [item["id"] for item in rest["data"]] == ids[3::-1]
    with pytest.raises(ClientError, match="not found"):
        await client("GET", path, "after=none")
    for limit in ("0", "101", "x"):
        with pytest.raises(ClientError, match="limit"):
            await client("GET", path, f"limit={limit}")


async def test_nothing_can_be_cancelled(store: ResponseStore, client: Client) -> None:
    response = answered(store, "one")
    with pytest.raises(ClientError) as caught:
        await client("POST", f"{response['id']}/cancel")
    assert caught.value.kind == "invalid_request"
    with pytest.raises(ClientError) as caught:
        await client("POST", "resp_none/cancel")
    assert caught.value.kind == "not_found"


async def test_a_stored_response_is_not_streamed_again(
    store: ResponseStore, client: Client
) -> None:
    response = answered(store, "one")
    with pytest.raises(ClientError, match="streamed"):
        await client("GET", response["id"], "stream=true")


def test_other_paths_are_no_routes() -> None:
    routes = Responses(None, Limits(), ResponseStore())  # type: ignore[arg-type]  # no proxy
    assert routes.methods("resp_1/compact") is None
