"""Bodies of clients: real ones decode and encode with nothing lost, wrong ones name the field, and
nothing raises anything but ``ClientError``."""

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from homeport.engines import llamacpp, mlx, vllm
from homeport.errors import ClientError
from homeport.facts import EngineFacts, ModelFacts
from homeport.wire import anthropic, openai_chat, openai_chat_upstream
from tests.wire.cases import CASES, all_cases

MODEL = ModelFacts(name="local", context_tokens=4096)
MLX = replace(mlx.FACTS, ignores=frozenset())  # what is refused is in test_ignored.py
FACTS = [llamacpp.FACTS, vllm.FACTS, MLX]
REQUESTS = sorted((CASES / "requests").glob("*/*.json"))
OPENAI = [p for p in REQUESTS if p.parent.name == "openai-python" or p.name.startswith("oc_chat")]
ANTHROPIC = [p for p in REQUESTS if p not in OPENAI]
by_engine = pytest.mark.parametrize("engine", FACTS, ids=lambda facts: facts.engine)


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def encoded(body: bytes, engine: EngineFacts = FACTS[0]) -> dict[str, Any]:
    """What an Anthropic client's body becomes."""
    request = anthropic.decode(body, counting=True)
    sent: dict[str, Any] = json.loads(openai_chat_upstream.encode(request, engine, MODEL))
    return sent


def relayed(body: bytes, engine: EngineFacts = FACTS[0]) -> dict[str, Any]:
    request = openai_chat.decode(body)
    sent: dict[str, Any] = json.loads(openai_chat.relay_request(body, request, engine, MODEL))
    return sent


# --------------------------------------------------------------------------- real requests


def parts_of(content: str | list[Any]) -> list[Any]:
    return [content] if isinstance(content, str) else content


def blocks_of(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for message in body["messages"]:
        content = message["content"]
        yield from [{"type": "text", "text": content}] if isinstance(content, str) else content


@by_engine
@pytest.mark.parametrize("path", ANTHROPIC, ids=name_of)
def test_real_anthropic_requests_lose_nothing(path: Path, engine: EngineFacts) -> None:
    raw = path.read_bytes()
    body, sent = json.loads(raw), encoded(raw, engine)
    said = "\n".join(
        part if isinstance(part, str) else part.get("text", "")
        for message in sent["messages"]
        for part in parts_of(message["content"])
    )
    at = 0
    for block in blocks_of(body):
        if block["type"] == "text":
            at = said.index(block["text"], at)  # in the client's order
    used = [block for block in blocks_of(body) if block["type"] == "tool_use"]
    calls = [call for message in sent["messages"] for call in message.get("tool_calls", [])]
    assert [(c["id"], c["function"]["name"]) for c in calls] == [(u["id"], u["name"]) for u in used]
    answered = [b["tool_use_id"] for b in blocks_of(body) if b["type"] == "tool_result"]
    assert [m["tool_call_id"] for m in sent["messages"] if m["role"] == "tool"] == answered
    shown = [
        tool["name"]
        for tool in body.get("tools", [])
        if not tool.get("defer_loading") and not tool.get("type", "").startswith("web_search")
    ]
    names = [tool["function"]["name"] for tool in sent.get("tools", [])]
    assert names[: len(shown)] == shown
    assert [m["role"] for m in sent["messages"]].count("system") <= 1
    assert "x-anthropic-billing-header" not in json.dumps(sent)


@pytest.mark.parametrize("path", ANTHROPIC, ids=name_of)
def test_the_same_request_gives_the_same_bytes(path: Path) -> None:
    first, second = (
        openai_chat_upstream.encode(
            anthropic.decode(path.read_bytes(), counting=True), vllm.FACTS, MODEL
        )
        for _ in range(2)
    )
    assert first == second


def test_a_tool_search_brings_its_tools_to_the_end() -> None:
    [path] = [path for path in ANTHROPIC if path.stem == "toolsearch_03"]
    names = [tool["function"]["name"] for tool in encoded(path.read_bytes())["tools"]]
    body = json.loads(path.read_bytes())
    deferred = {tool["name"] for tool in body["tools"] if tool.get("defer_loading")}
    found = [
        reference["tool_name"]
        for block in blocks_of(body)
        if block["type"] == "tool_result"
        for reference in block["content"]
    ]
    assert deferred >= set(found)
    assert names[-len(found) :] == found


def test_claude_code_shows_the_model_its_broken_call() -> None:
    [path] = [path for path in ANTHROPIC if path.stem == "f_badtool_garbage_03"]
    [call] = [c for m in encoded(path.read_bytes())["messages"] for c in m.get("tool_calls", [])]
    assert call["function"]["arguments"].startswith("<tool>")


@by_engine
@pytest.mark.parametrize("path", OPENAI, ids=name_of)
def test_real_openai_requests_keep_every_field_but_the_named(
    path: Path, engine: EngineFacts
) -> None:
    raw = path.read_bytes()
    body, sent = json.loads(raw), relayed(raw, engine)
    assert sent.pop("model") == "local"
    if body.get("stream"):
        assert sent.pop("stream_options")["include_usage"] is True
        assert sent.pop("return_progress", False) is engine.progress
    if not engine.schema_bounds:
        sent.pop("tools", None), body.pop("tools", None)
    for field in ("model", "stream_options"):
        body.pop(field, None)
    if engine.engine == "vllm" and body.get("max_tokens", 0) >= 4096:
        del body["max_tokens"]
    assert sent == body
    assert list(sent) == list(body)


# --------------------------------------------------------------------------- relay


def test_relayed_fields_keep_their_bytes_and_order() -> None:
    body = (
        b'{"zeta":1.50,"messages":[ {"role":"user","content":"\\u00e9"} ],"model":"x",'
        b'"stream":true,"stream_options":{"include_usage":true,"x":1},"new":{"a" :  1e2}}'
    )
    sent = openai_chat.relay_request(body, openai_chat.decode(body), vllm.FACTS, MODEL)
    assert sent == body.replace(b'"x","stream', b'"local","stream')


PARAMETERS = {"maxLength": 5, "type": "object"}
CHAT = {"messages": [{"role": "user", "content": "q"}]}
TOOLS = [
    {"type": "function", "x": 1, "function": {"name": name, "parameters": PARAMETERS}}
    for name in ("f", "g")
]
NAMED = {"type": "function", "function": {"name": "g"}}


def chat(engine: EngineFacts = FACTS[0], **fields: Any) -> dict[str, Any]:
    return relayed(json.dumps({**CHAT, **fields}).encode(), engine)


def test_a_model_is_added_where_none_was() -> None:
    assert chat()["model"] == "local"


@pytest.mark.row("3.3 15")
def test_usage_is_always_asked_for() -> None:
    assert chat(stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in chat()
    unable = EngineFacts(stream_usage=False)
    assert "stream_options" not in chat(unable, stream=True)


def test_tools_for_llama_cpp() -> None:
    body = chat(llamacpp.FACTS, tools=TOOLS, tool_choice=NAMED)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["g"]
    assert body["tool_choice"] == "required"
    assert body["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert body["tools"][0]["x"] == 1
    assert chat(llamacpp.FACTS, tools=TOOLS, tool_choice="auto")["tool_choice"] == "auto"


def test_tools_for_vllm_stay_as_they_are() -> None:
    body = chat(vllm.FACTS, tools=TOOLS, tool_choice=NAMED)
    assert (body["tools"], body["tool_choice"]) == (TOOLS, NAMED)


def test_a_limit_beyond_the_context() -> None:
    assert "max_tokens" not in chat(vllm.FACTS, max_tokens=4096)
    assert "max_completion_tokens" not in chat(vllm.FACTS, max_completion_tokens=99999)
    assert chat(vllm.FACTS, max_tokens=4095)["max_tokens"] == 4095
    assert chat(llamacpp.FACTS, max_tokens=99999)["max_tokens"] == 99999


def test_where_an_image_stands() -> None:
    parts = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "u"}}]
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": parts}]
    request = openai_chat.decode(json.dumps({"messages": messages}).encode())
    assert request.image_at == "messages.1.content.1"
    assert openai_chat.decode(json.dumps(CHAT).encode()).image_at is None


# --------------------------------------------------------------------------- wrong bodies

MISSING = object()
GOOD: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}],
    "tools": [{"name": "f", "input_schema": {}}],
    "tool_choice": {"type": "auto"},
}


def with_(body: dict[str, Any], path: str, value: Any) -> bytes:
    """``body`` with one field changed or taken away."""
    body = copy.deepcopy(body)
    *parents, last = path.split(".")
    at: Any = body
    for key in parents:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is MISSING:
        del at[last]
    elif isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("model", MISSING, "Field required"),
        ("model", 5, "Expected `str`, got `int`"),
        ("model", None, "Expected `str`, got `null`"),
        ("max_tokens", MISSING, "Field required"),
        ("max_tokens", "9", "got `str`"),
        ("max_tokens", -1, "Expected `int` >= 0"),
        ("max_tokens", 1.5, "got `float`"),
        ("messages", MISSING, "Field required"),
        ("messages", [], "length >= 1"),
        ("messages", None, "got `null`"),
        ("messages", "hi", "got `str`"),
        ("messages.0", "hi", "got `str`"),
        ("messages.0.role", MISSING, "Field required"),
        ("messages.0.role", "tool", "'tool'"),
        ("messages.0.role", 5, "got `int`"),
        ("messages.0.content", MISSING, "Field required"),
        ("messages.0.content", None, "got `null`"),
        ("messages.0.content.0", "x", "got `str`"),
        ("messages.0.content.0.type", MISSING, "Field required"),
        ("messages.0.content.0.type", "video", "'video' are not supported"),
        ("messages.0.content.0.text", 5, "got `int`"),
        ("messages.0.content.0.text", MISSING, "Field required"),
        ("system", 5, "got `int`"),
        ("system", [{"type": "image"}], ""),
        ("stream", "yes", "got `str`"),
        ("stop_sequences", "x", "got `str`"),
        ("temperature", "hot", "got `str`"),
        ("tools", {}, "got `object`"),
        ("tools.0.name", MISSING, "Field required"),
        ("tools.0.name", 5, "got `int`"),
        ("tools.0.input_schema", MISSING, "Field required"),
        ("tools.0.input_schema", 5, "Expected `object`"),
        ("tool_choice.type", "required", "'required'"),
        ("tool_choice", "auto", "got `str`"),
        ("thinking", True, "got `bool`"),
        ("output_config", {"effort": 5}, ""),
    ],
)
def test_wrong_anthropic_bodies_name_the_field(path: str, value: Any, reason: str) -> None:
    with pytest.raises(ClientError) as caught:
        anthropic.decode(with_(GOOD, path, value))
    fault = caught.value
    assert fault.kind == "invalid_request"
    assert fault.param is not None
    assert fault.param.startswith(path)
    assert fault.message.startswith(f"{fault.param}: ")
    assert reason in fault.message


GOOD_CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "q"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "function": {"name": "f"}}]},
    ],
    "tools": [{"type": "function", "function": {"name": "f"}}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("messages", MISSING, "Field required"),
        ("messages", [], "length >= 1"),
        ("messages", "hi", "got `str`"),
        ("messages.0.role", MISSING, "Field required"),
        ("messages.0.role", "robot", "'robot'"),
        ("messages.0.content", 5, "got `int`"),
        ("messages.0.content.0", 5, "got `int`"),
        ("messages.0.content.0.type", MISSING, "Field required"),
        ("messages.0.content.0.text", 5, "got `int`"),
        ("messages.1.tool_calls", {}, "got `object`"),
        ("messages.1.tool_calls.0.function.name", MISSING, "Field required"),
        ("model", 5, "got `int`"),
        ("stream", "x", "got `str`"),
        ("stream_options", True, "got `bool`"),
        ("max_tokens", "x", "got `str`"),
        ("temperature", "hot", "got `str`"),
        ("n", 1.5, "got `float`"),
        ("stop", 5, "got `int`"),
        ("tools", "x", "got `str`"),
        ("tools.0.function.name", MISSING, "Field required"),
        ("tool_choice", "any", "'any' is none of"),
        ("tool_choice", 5, "got `int`"),
        ("response_format", "json", "got `str`"),
    ],
)
def test_wrong_openai_bodies_name_the_field(path: str, value: Any, reason: str) -> None:
    with pytest.raises(ClientError) as caught:
        openai_chat.decode(with_(GOOD_CHAT, path, value))
    assert caught.value.param == path
    assert caught.value.message.startswith(f"{path}: ")
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "decode", [anthropic.decode, openai_chat.decode], ids=["anthropic", "openai"]
)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"null", b"5", b'{"a":\xff}', b"[" * 99999, b'{"x":' * 9999, b"{}x"],
)
def test_no_json_or_no_object(decode: Any, body: bytes) -> None:
    with pytest.raises(ClientError) as caught:
        decode(body)
    assert caught.value.kind == "invalid_request"


def test_bytes_that_are_no_utf8_are_found_wherever_they_stand() -> None:
    for text in ('{"new":"%s",', '{"metadata":{"user_id":"%s"},'):
        good = json.dumps(GOOD)[1:]
        with pytest.raises(ClientError, match="not valid JSON"):
            anthropic.decode((text + good).encode().replace(b"%s", b"\xe4"))


def test_numbers_that_no_float_can_hold() -> None:
    body = (
        json.dumps(GOOD).replace('"input_schema": {}', '"input_schema": {"maximum":1e999}').encode()
    )
    with pytest.raises(ClientError):
        encoded(body, llamacpp.FACTS)
    chat = json.dumps({**CHAT, "tools": TOOLS}).replace("5", "1e999").encode()
    with pytest.raises(ClientError, match="tools"):
        relayed(chat, llamacpp.FACTS)


# --------------------------------------------------------------------------- any bodies

keys = st.sampled_from(["type", "text", "content", "role", "name", "id"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("text"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, paths: list[Path]) -> bytes:
    """A real body with one to three values replaced, taken away or doubled."""
    body = json.loads(draw(st.sampled_from(paths)).read_bytes())
    body.pop("tools", None) if draw(st.booleans()) else None
    for _ in range(draw(st.integers(1, 3))):
        at: Any = body
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(at[key], dict | list) and draw(st.integers(0, 3)):
                at = at[key]
                continue
            match draw(st.sampled_from(["replace", "delete", "double"])):
                case "replace":
                    at[key] = draw(values)
                case "delete":
                    del at[key]
                case _ if isinstance(at, list):
                    at.append(at[key])
            break
    return json.dumps(body).encode()


def fault_of(act: Callable[[], object]) -> ClientError | None:
    try:
        act()
    except ClientError as fault:
        return fault
    return None


@settings(max_examples=120, deadline=None)
@given(
    body=mutated([p for p in ANTHROPIC if p.stat().st_size < 13000]), engine=st.sampled_from(FACTS)
)
def test_mutated_anthropic_requests(body: bytes, engine: EngineFacts) -> None:
    if (fault := fault_of(lambda: encoded(body, engine))) is not None:
        assert (fault.kind, bool(fault.message)) == ("invalid_request", True)


@settings(max_examples=150, deadline=None)
@given(body=mutated([p for p in OPENAI if p.stat().st_size < 13000]), engine=st.sampled_from(FACTS))
def test_mutated_openai_requests(body: bytes, engine: EngineFacts) -> None:
    if (fault := fault_of(lambda: relayed(body, engine))) is not None:
        assert (fault.kind, bool(fault.message)) == ("invalid_request", True)


@settings(max_examples=120, deadline=None)
@given(path=st.sampled_from(REQUESTS[:6]), at=st.integers(0, 20_000), junk=st.binary(max_size=4))
def test_broken_bytes(path: Path, at: int, junk: bytes) -> None:
    body = path.read_bytes()
    at %= len(body)
    broken = body[:at] + junk + body[at + len(junk) :]
    for read in (encoded, relayed):
        fault = fault_of(partial(read, broken))
        assert fault is None or fault.kind == "invalid_request"


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.id)
def test_golden_requests_name_no_client_model_upstream(case: Any) -> None:
    sent = json.loads((case.folder / "engine_request.json").read_bytes())
    if sent.get("type") == "error":
        return  # refused
    assert sent["model"] == "tiny"
