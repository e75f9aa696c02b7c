"""Cases of docs/dialects.md chapter 3 that no other file has: what is *not* sent, what each engine is
told about thinking, and whole paths through both halves of a translation."""

import json
from base64 import b64encode
from types import ModuleType
from typing import Any

import msgspec
import pytest

from homeport.engines import llamacpp, mlx, ollama, openai_compatible, sglang, trtllm, vllm
from homeport.facts import Endpoint, EngineFacts, ModelFacts
from homeport.server.calls import AnthropicCall
from homeport.server.responses import ResponsesCall
from homeport.wire import (
    anthropic,
    anthropic_answer,
    anthropic_upstream,
    anthropic_upstream_answer,
    openai_chat_neutral,
    openai_chat_upstream,
)
from homeport.wire.events import End, Event, Finish, TextDelta, ToolCallDelta, ToolCallStart
from homeport.wire.openai_chat_answer import decode_body
from homeport.wire.openai_chat_stream import ChatStream
from homeport.wire.sse import Parser, encode
from homeport.wire.stream import FromChat
from tests.server.fakes import READY, World
from tests.support import responses_grammar
from tests.support.asgi import ask
from tests.wire.anthropic_support import (
    TEXT,
    TOOL,
    after_call,
    assistant,
    refused,
    result,
    sent,
    user_content,
)
from tests.wire.cases import anthropic_stream
from tests.wire.responses_support import MODEL, decoded, responses_stream
from tests.wire.test_anthropic_answer import answer, function

ENDPOINT = Endpoint(base_url="http://x/v1", engine=EngineFacts(), model=ModelFacts(name="m"))

# --------------------------------------------------------------------------- what is not sent

OWN: dict[str, Any] = {
    "metadata": {"user_id": "MARK"},
    "service_tier": "MARK",
    "speed": "MARK",
    "container": "MARK",
    "diagnostics": {"x": "MARK"},
    "betas": ["MARK"],
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "MARK"}]},
    "cache_control": {"type": "MARK"},
}


@pytest.mark.row(
    "3.1 metadata, service_tier, speed, container, diagnostics, betas",
    "3.1 context_management",
    "3.1 cache_control",
)
@pytest.mark.parametrize("field", OWN)
def test_what_is_anthropics_own_is_not_sent(field: str) -> None:
    body = sent(**{field: OWN[field]})
    assert sorted(body) == ["max_tokens", "messages", "model", "stream"]
    assert "MARK" not in json.dumps(body)


@pytest.mark.row("3.1 cache_control")
def test_marks_of_the_cache_are_not_sent() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    image = {"type": "image", "source": {"type": "url", "url": "u"}}
    turns = [{"role": "user", "content": [{**TEXT, **mark}, {**image, **mark}]}]
    body = sent(turns, system=[{**TEXT, **mark}], tools=[{**TOOL, **mark}])
    assert "cache_control" not in json.dumps(body)


@pytest.mark.row("3.1 fallback")
def test_which_model_took_over_is_not_said() -> None:
    assert assistant({"type": "fallback", "model": "claude-x"}, TEXT) == assistant(TEXT)


@pytest.mark.row("3.1 container_upload, browser_state")
@pytest.mark.parametrize(
    ("kind", "why"), [("container_upload", "Files API"), ("browser_state", "trained")]
)
def test_what_is_refused_says_why(kind: str, why: str) -> None:
    fault = refused([TEXT, {"type": kind}])
    assert fault.param == "messages.0.content.1.type"
    assert f"'{kind}'" in fault.message
    assert why in fault.message


@pytest.mark.row("3.1 image, document by file id")
@pytest.mark.parametrize("kind", ["image", "document"])
def test_files_cannot_be_referred_to(kind: str) -> None:
    assert (
        "Files API" in refused([{"type": kind, "source": {"type": "file", "file_id": "f"}}]).message
    )


@pytest.mark.row("3.1 document: PDF")
def test_the_text_of_a_pdf() -> None:
    source = {
        "type": "base64",
        "media_type": "application/pdf",
        "data": b64encode(b"%PDF").decode(),
    }
    block = {"type": "document", "title": "T", "source": source}
    assert "PDF" in refused([block]).message
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [block]}]}
    read = anthropic.decode(json.dumps(body).encode(), pdf_text=lambda data: f"<{data.decode()}>")
    [message] = json.loads(openai_chat_upstream.encode(read, EngineFacts(), MODEL))["messages"]
    assert message["content"] == "T\n<%PDF>"


@pytest.mark.row("3.1 tool_result … document, search_result")
def test_a_document_in_a_result_is_text() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "body"}
    [tool] = after_call(result([{"type": "document", "title": "T", "source": source}]))
    assert tool["content"] == "T\nbody"


@pytest.mark.row("3.1 mixed user turn")
def test_text_between_two_results_stays_between_them() -> None:
    calls = [{"type": "tool_use", "id": i, "name": "f", "input": {}} for i in "ab"]
    results = [{"type": "tool_result", "tool_use_id": i, "content": i} for i in "ab"]
    turns = [
        {"role": "assistant", "content": calls},
        {"role": "user", "content": [results[0], TEXT, results[1]]},
    ]
    said = [(m["role"], m["content"]) for m in sent(turns)["messages"][1:]]
    assert said == [("tool", "a"), ("user", "look"), ("tool", "b")]


@pytest.mark.row("3.1 document: url", "3.1 image, url")
def test_nothing_is_fetched() -> None:
    source = {"type": "url", "url": "https://example.org/a"}
    [part] = user_content({"type": "image", "source": source})
    assert part == {"type": "image_url", "image_url": {"url": "https://example.org/a"}}
    assert "not fetched" in refused([{"type": "document", "source": source}]).message


@pytest.mark.row("3.1 unknown block type")
def test_an_unknown_block_is_named() -> None:
    assert "'brain_wave'" in refused([TEXT, {"type": "brain_wave"}]).message


# --------------------------------------------------------------------------- thinking, per engine

THINKS: list[tuple[ModuleType, str, dict[str, Any], dict[str, Any]]] = [
    (
        llamacpp,
        "reasoning_content",
        {"chat_template_kwargs": {"enable_thinking": True}, "thinking_budget_tokens": 2000},
        {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"},
    ),
    (
        vllm,
        "reasoning",
        {"chat_template_kwargs": {"enable_thinking": True}, "thinking_token_budget": 2000},
        {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"},
    ),
    (
        sglang,
        "reasoning_content",
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"},
    ),
    (trtllm, "reasoning_content", {}, {"reasoning_effort": "none"}),
    (ollama, "reasoning", {}, {"reasoning_effort": "none"}),
    (
        mlx,
        "reasoning",
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ),
    (openai_compatible, "reasoning_content", {}, {"reasoning_effort": "none"}),
]
SWITCHES = (
    "chat_template_kwargs",
    "reasoning_effort",
    "thinking_budget_tokens",
    "thinking_token_budget",
)


def switches(engine: ModuleType, thinking: dict[str, Any]) -> dict[str, Any]:
    body = sent(engine=engine.FACTS, thinking=thinking)
    return {name: body[name] for name in SWITCHES if name in body}


def check_thinking(engine: ModuleType) -> None:
    [(_, key, on, off)] = [row for row in THINKS if row[0] is engine]
    block = {"type": "thinking", "thinking": "hmm", "signature": "x"}
    said = assistant(block, TEXT, engine=engine.FACTS)
    assert said == {"role": "assistant", "content": "look", key: "hmm"}
    assert switches(engine, {"type": "enabled", "budget_tokens": 2000}) == on
    assert switches(engine, {"type": "disabled"}) == off


@pytest.mark.row("3.4 llama.cpp")
def test_thinking_on_llama_cpp() -> None:
    check_thinking(llamacpp)


@pytest.mark.row("3.4 vLLM from 0.33")
def test_thinking_on_vllm() -> None:
    check_thinking(vllm)


@pytest.mark.row("3.4 SGLang")
def test_thinking_on_sglang() -> None:
    check_thinking(sglang)


@pytest.mark.row("3.4 TensorRT-LLM")
def test_thinking_on_tensorrt_llm() -> None:
    check_thinking(trtllm)


@pytest.mark.row("3.4 Ollama")
def test_thinking_on_ollama() -> None:
    check_thinking(ollama)


@pytest.mark.row("3.4 mlx-lm")
def test_thinking_on_mlx() -> None:
    check_thinking(mlx)


@pytest.mark.row("3.4 others (unchecked)")
def test_thinking_on_others() -> None:
    check_thinking(openai_compatible)
    for message in (
        {"content": "Yes.", "reasoning_content": "hmm"},
        {"content": "Yes.", "reasoning": "hmm"},
        {"content": "<think>hmm</think>Yes."},
    ):
        content = whole(message)["content"]
        assert [(b["type"], b.get("thinking", b.get("text"))) for b in content] == [
            ("thinking", "hmm"),
            ("text", "Yes."),
        ]


def whole(message: dict[str, Any]) -> dict[str, Any]:
    """A whole answer as the server makes it, mending included."""
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]}
    call = AnthropicCall(json.dumps(asked).encode())
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    made: dict[str, Any] = json.loads(call.whole(json.dumps(body).encode(), ENDPOINT)[0])
    return made


# --------------------------------------------------------------------------- answers


@pytest.mark.row("3.2 further choices, logprobs, timings")
def test_one_choice_and_nothing_of_the_engines_own() -> None:
    choices = [
        {"index": i, "message": {"content": text}, "finish_reason": "stop", "logprobs": {"x": []}}
        for i, text in enumerate(("first", "second"))
    ]
    body = {"id": "c", "choices": choices, "timings": {"prompt_ms": 1}, "system_fingerprint": "b1"}
    made = anthropic_answer.encode_message(
        decode_body(msgspec.json.encode(body)), message_id="msg_1", model="m"
    )
    assert [block["text"] for block in json.loads(made)["content"]] == ["first"]
    assert not any(word in made for word in (b"second", b"logprobs", b"timings", b"fingerprint"))


@pytest.mark.row("3.2 tool_calls")
def test_calls_keep_name_and_order() -> None:
    calls = [function("{}", name=name, id_=name) for name in ("g", "f")]
    made = answer({"content": "Both.", "tool_calls": calls}, "tool_calls")
    assert [(b["type"], b.get("name")) for b in made["content"]] == [
        ("text", None),
        ("tool_use", "g"),
        ("tool_use", "f"),
    ]


@pytest.mark.row("3.2 reasoning_tokens")
def test_tokens_of_thinking_are_named() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 7,
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
    made = anthropic_answer.encode_message(
        decode_body(json.dumps(body).encode()), message_id="msg_1", model="m"
    )
    assert json.loads(made)["usage"]["output_tokens_details"] == {"thinking_tokens": 5}


# --------------------------------------------------------------------------- streams


def frames(*events: Event) -> list[tuple[str, Any]]:
    stream = anthropic_stream()
    data = stream.start(1) + stream.ping() + b"".join(map(stream.feed, events))
    return [(sse.event, json.loads(sse.data)) for sse in Parser().feed(data)]


@pytest.mark.row("3.3 22")
def test_22_every_frame_is_named_as_its_type() -> None:
    made = frames(TextDelta("x"), ToolCallStart(0, "a", "f"), Finish("end"), End())
    assert len(made) == 9
    assert [name for name, _ in made] == [data["type"] for _, data in made]


@pytest.mark.row("3.3 10")
def test_10_a_call_that_comes_whole_is_one_delta() -> None:
    call: list[Event] = [ToolCallStart(0, "a", "f"), ToolCallDelta(0, '{"x":1}')]
    made = [data for _, data in frames(*call, Finish("tool_use"), End())]
    [start] = [data["content_block"] for data in made if data["type"] == "content_block_start"]
    deltas = [data["delta"] for data in made if data["type"] == "content_block_delta"]
    assert start["input"] == {}
    assert deltas == [{"type": "input_json_delta", "partial_json": '{"x":1}'}]


@pytest.mark.row("3.3 12")
def test_12_calls_that_are_held_back_stand_before_the_text_that_follows_them() -> None:
    begun: list[Event] = [
        ToolCallStart(0, "a", "f"),
        ToolCallDelta(0, "{"),
        ToolCallStart(1, "b", "f"),
    ]
    made = frames(*begun, TextDelta("so"), Finish("end"), End())
    starts = [data["content_block"] for _, data in made if "content_block" in data]
    assert [start.get("id", start["type"]) for start in starts] == ["a", "b", "text"]


@pytest.mark.row("3.3 20")
def test_20_a_large_call_in_one_event() -> None:
    """64 KiB were too little for an engine that sends whole calls."""
    data = b"data: " + b"x" * 1_000_000
    parser = Parser()
    pieces = [data[at : at + 65536] for at in range(0, len(data), 65536)]
    events = [event for piece in [*pieces, b"\n\n"] for event in parser.feed(piece)]
    assert [len(event.data) for event in events] == [1_000_000]


@pytest.mark.row("3.7 custom tool's input in a stream")
def test_the_input_of_a_custom_tool_is_one_delta() -> None:
    stream = responses_stream()
    events: list[Event] = [
        ToolCallStart(0, "a", "shout"),
        ToolCallDelta(0, '{"input":"lo'),
        ToolCallDelta(0, 'ud"}'),
        Finish("tool_use"),
        End(),
    ]
    data = stream.start() + b"".join(map(stream.feed, events))
    kind = "response.custom_tool_call_input.delta"
    deltas = [event["delta"] for event in responses_grammar.events(data) if event["type"] == kind]
    assert deltas == ["loud"]


@pytest.mark.row("3.7 silence")
def test_signs_of_life_of_a_response_are_comments() -> None:
    stream = responses_stream()
    stream.start()
    assert stream.keep_alive().startswith(b": ")
    assert not Parser().feed(stream.keep_alive())
    assert ResponsesCall.grace_s == 0.25


@pytest.mark.row("3.7 tools", "3.7 instructions, leading system and developer messages")
def test_a_response_as_the_engine_gets_it() -> None:
    tool = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}
    items = [
        {"role": "developer", "content": "b"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "developer", "content": "late"},
        {"role": "user", "content": "r"},
    ]
    body = {"input": items, "instructions": "a", "tools": [tool]}
    made = json.loads(openai_chat_upstream.encode(decoded(body).request, EngineFacts(), MODEL))
    assert made["messages"] == [
        {"role": "system", "content": "a\n\nb"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "<system>\nlate\n</system>\nr"},
    ]
    keeps = EngineFacts(system_inside=True)
    kept = json.loads(openai_chat_upstream.encode(decoded(body).request, keeps, MODEL))
    assert kept["messages"][3:] == [
        {"role": "system", "content": "late"},
        {"role": "user", "content": "r"},
    ]
    assert made["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "d",
                "parameters": {"type": "object"},
                "strict": True,
            },
        }
    ]


@pytest.mark.row("3.7 stream")
def test_calls_of_a_response_never_overlap() -> None:
    stream = responses_stream()
    events: list[Event] = [
        ToolCallStart(0, "a", "f"),
        ToolCallDelta(0, '{"x":'),
        ToolCallStart(1, "b", "f"),
        ToolCallDelta(1, "{}"),
        ToolCallDelta(0, "1}"),
        Finish("tool_use"),
        End(),
    ]
    made = responses_grammar.read(stream.start() + b"".join(map(stream.feed, events)))
    assert [(item["call_id"], item["arguments"]) for item in made.calls] == [
        ("a", '{"x":1}'),
        ("b", "{}"),
    ]


# --------------------------------------------------------------------------- the count


@pytest.mark.row("3.1 count_tokens")
@pytest.mark.parametrize(
    ("route", "path", "count"),
    [
        ("chat_input_tokens", "/v1/chat/completions/input_tokens", b'{"input_tokens":42}'),
        ("tokenize", "/tokenize", b'{"count":42}'),
    ],
)
async def test_our_translation_is_what_is_counted(route: Any, path: str, count: bytes) -> None:
    world = World()
    engine = msgspec.structs.replace(READY.engine, token_count=route)
    world.instance.endpoint = msgspec.structs.replace(READY, engine=engine)
    world.client.count = count
    asked = {"model": "it", "system": "s", "messages": [{"role": "user", "content": "Hi"}]}
    found = await ask(world, "POST", "/v1/messages/count_tokens", json.dumps(asked).encode())
    assert (await found.status(), await found.json()) == (200, {"input_tokens": 42})
    ((url, counted),) = world.client.counted
    assert url == f"http://engine:1{path}"
    assert [m["role"] for m in counted["messages"]] == ["system", "user"]


# --------------------------------------------------------------------------- an Anthropic upstream


def asked_of_anthropic(*messages: dict[str, Any]) -> Any:
    request = openai_chat_neutral.neutral(json.dumps({"messages": list(messages)}).encode())
    return json.loads(anthropic_upstream.encode(request, EngineFacts(), MODEL))["messages"]


def calling(*ids: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": id_, "type": "function", "function": function} for id_ in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


@pytest.mark.row("3.6 Tool messages")
def test_results_come_first_whatever_the_user_says() -> None:
    results = [{"role": "tool", "tool_call_id": id_, "content": id_} for id_ in "ab"]
    said = {"role": "user", "content": "q"}
    made = asked_of_anthropic(said, calling("a", "b"), results[0], said, results[1])
    assert [message["role"] for message in made] == ["user", "assistant", "user"]
    kinds = [block.get("tool_use_id", block["type"]) for block in made[2]["content"]]
    assert kinds == ["a", "b", "text"]


@pytest.mark.row("3.6 Text without any letter in it, and turns without a block, are left out")
def test_nothing_empty_is_sent_to_anthropic() -> None:
    said = [{"role": "user", "content": text} for text in ("q", " ")]
    made = asked_of_anthropic(said[0], {"role": "assistant", "content": " "}, said[1], said[0])
    assert made == [{"role": "user", "content": [{"type": "text", "text": "q"}] * 2}]


def translated_chat(*frames_: dict[str, Any]) -> list[dict[str, Any]]:
    """An Anthropic upstream's stream as chunks."""
    out = ChatStream(completion_id="c", model="m", created_at_s=1, request_id="r", wants_usage=True)
    stream = FromChat(out, None, anthropic_upstream_answer.Decoder())
    data = b"".join(encode(json.dumps(frame).encode(), frame["type"]) for frame in frames_)
    chunks = Parser().feed(stream.feed(data) + stream.finish())
    return [json.loads(chunk.data) for chunk in chunks if chunk.data != b"[DONE]"]


BEGUN = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}}
OVER = {"type": "message_stop"}


@pytest.mark.row("3.6 Thinking")
def test_thinking_of_an_upstream_is_reasoning_content() -> None:
    deltas = [
        {"type": "thinking_delta", "thinking": "hmm"},
        {"type": "signature_delta", "signature": "x"},
    ]
    made = translated_chat(
        BEGUN,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        OVER,
    )
    said = [chunk["choices"][0]["delta"] for chunk in made if chunk["choices"]]
    assert said == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hmm"},
        {},
    ]


@pytest.mark.row("3.6 prompt_tokens")
def test_all_that_was_read_is_the_prompt() -> None:
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 7,
        "output_tokens": 3,
    }
    made = translated_chat(
        BEGUN, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}, OVER
    )
    assert made[-1]["usage"] == {
        "prompt_tokens": 42,
        "completion_tokens": 3,
        "total_tokens": 45,
        "prompt_tokens_details": {"cached_tokens": 30},
    }


@pytest.mark.row("3.6 count_tokens")
async def test_the_upstreams_own_count() -> None:
    world = World()
    engine = msgspec.structs.replace(READY.engine, token_count="messages")
    world.instance.endpoint = msgspec.structs.replace(READY, engine=engine, dialect="anthropic")
    world.client.count = 42
    asked = {"model": "it", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    found = await ask(world, "POST", "/v1/messages/count_tokens", json.dumps(asked).encode())
    assert (await found.status(), await found.json()) == (200, {"input_tokens": 42})
    ((url, counted),) = world.client.counted
    assert url == "http://engine:1/v1/messages/count_tokens"
    assert counted == {"model": "inner", "messages": asked["messages"]}
