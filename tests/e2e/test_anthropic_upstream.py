"""An upstream that speaks Anthropic Messages only: clients of every dialect use it unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.support.fake_anthropic import CALLS, KEY, MODEL, TEXT, THINKING, FakeAnthropic
from tests.support.gateway import Gateway

CONFIG = """\
models:
  far:
    upstream: {url}
    api_key: {key}
    dialect: anthropic
"""

TOOLS = [
    {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {}}}},
    {"name": "clock", "input_schema": {"type": "object"}},
]
CHAT_TOOLS = [
    {"type": "function", "function": {"name": t["name"], "parameters": t["input_schema"]}}
    for t in TOOLS
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(upstream: FakeAnthropic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "config.yaml").write_text(CONFIG.format(url=upstream.base_url, key=KEY))
    with Gateway(folder, "--config", str(folder / "config.yaml"), wait_ready=False) as gateway:
        yield gateway
    gateway.assert_no_internal_error()


@pytest.fixture
def chat(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url + "/v1", api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.base_url, api_key="x", max_retries=0) as client:
        yield client


def test_a_whole_chat_answer(chat: openai.OpenAI, upstream: FakeAnthropic) -> None:
    answer = chat.chat.completions.create(
        model="far",
        messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}],
    )
    assert answer.model == "far"
    assert answer.choices[0].message.content == "".join(TEXT)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (42, 7)
    assert upstream.asked["model"] == MODEL
    assert upstream.asked["system"] == "Be kind."
    assert upstream.asked["max_tokens"] == 4096  # the model's own limit, from /v1/models
    assert upstream.headers[-1]["x-api-key"] == KEY


def test_a_chat_stream(chat: openai.OpenAI) -> None:
    chunks = list(
        chat.chat.completions.create(
            model="far",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(texts) == "".join(TEXT)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 42


def test_calls_in_a_chat_stream_and_their_results(
    chat: openai.OpenAI, upstream: FakeAnthropic
) -> None:
    with chat.chat.completions.stream(
        model="far",
        messages=[{"role": "user", "content": "call"}],
        tools=CHAT_TOOLS,  # type: ignore[arg-type]  # plain dicts
    ) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    calls = [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ()]
    assert calls == list(CALLS)
    assert message.model_extra is not None
    assert message.model_extra.get("reasoning_content") == THINKING
    history = [
        {"role": "user", "content": "call"},
        message.model_dump(exclude_none=True, exclude={"parsed"}),
        *({"role": "tool", "tool_call_id": id_, "content": f"of {name}"} for id_, name, _ in CALLS),
    ]
    for call in history[1]["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
    chat.chat.completions.create(model="far", messages=history, tools=CHAT_TOOLS)  # type: ignore[arg-type]
    _, said, results = upstream.asked["messages"]
    assert [block["type"] for block in said["content"]] == ["tool_use", "tool_use"]
    assert [(b["type"], b["tool_use_id"], b["content"]) for b in results["content"]] == [
        ("tool_result", "toolu_a", "of weather"),
        ("tool_result", "toolu_b", "of clock"),
    ]


def test_errors_reach_a_chat_client_in_its_words(chat: openai.OpenAI) -> None:
    def ask(text: str) -> None:
        chat.chat.completions.create(model="far", messages=[{"role": "user", "content": text}])

    with pytest.raises(openai.BadRequestError) as overflow:
        ask("long")
    assert overflow.value.code == "context_length_exceeded"
    with pytest.raises(openai.InternalServerError) as overload:
        ask("overload")
    assert overload.value.status_code == 503


@pytest.mark.parametrize("text", ["fail", "cut"])
def test_a_broken_stream_is_an_error_to_a_chat_client(chat: openai.OpenAI, text: str) -> None:
    stream = chat.chat.completions.create(
        model="far", messages=[{"role": "user", "content": text}], stream=True
    )
    with pytest.raises(openai.APIError):
        list(stream)


def test_what_cannot_be_translated_is_refused_by_name(chat: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="n: "):
        chat.chat.completions.create(model="far", messages=[{"role": "user", "content": "hi"}], n=2)


def test_embeddings_are_not_there(chat: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        chat.embeddings.create(model="far", input="hi")


def test_a_responses_client(chat: openai.OpenAI) -> None:
    answer = chat.responses.create(model="far", input="hi")
    assert answer.output_text == "".join(TEXT)
    with chat.responses.stream(model="far", input="hi") as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(texts) == final.output_text == "".join(TEXT)


def test_an_anthropic_client_gets_the_upstreams_own_bytes(
    claude: anthropic.Anthropic, upstream: FakeAnthropic
) -> None:
    with claude.messages.stream(
        model="far",
        max_tokens=99,
        messages=[{"role": "user", "content": "call"}],
        tools=TOOLS,  # type: ignore[arg-type]  # plain dicts
        extra_body={"of_tomorrow": {"a": 1}},
    ) as stream:
        message = stream.get_final_message()
    assert message.id == "msg_upstream"
    assert message.model == "far"
    assert [block.type for block in message.content] == ["thinking", "tool_use", "tool_use"]
    assert message.content[0].signature == "real"  # type: ignore[union-attr]  # a thinking block
    assert message.usage.cache_read_input_tokens == 30
    assert upstream.asked["of_tomorrow"] == {"a": 1}
    assert upstream.asked["max_tokens"] == 99


def test_a_signature_comes_back_as_it_was(
    claude: anthropic.Anthropic, upstream: FakeAnthropic
) -> None:
    first = claude.messages.create(
        model="far",
        max_tokens=99,
        messages=[{"role": "user", "content": "call"}],
        tools=TOOLS,  # type: ignore[arg-type]  # plain dicts
    )
    history: list[Any] = [
        {"role": "user", "content": "call"},
        {"role": "assistant", "content": first.content},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": id_, "content": "fine"}
                for id_, _, _ in CALLS
            ],
        },
    ]
    answer = claude.messages.create(
        model="far",
        max_tokens=99,
        messages=history,
        tools=TOOLS,  # type: ignore[arg-type]  # plain dicts
    )
    assert answer.content[0].text == "".join(TEXT)  # type: ignore[union-attr]  # a text block


def test_the_billing_line_reaches_an_unknown_upstream(
    claude: anthropic.Anthropic, upstream: FakeAnthropic
) -> None:
    line = "x-anthropic-billing-header: cc_version=1"
    claude.messages.create(
        model="far",
        max_tokens=9,
        system=[{"type": "text", "text": line}, {"type": "text", "text": "Be kind."}],
        messages=[{"role": "user", "content": "hi"}],
    )
    assert [block["text"] for block in upstream.asked["system"]] == [line, "Be kind."]


HOLOGRAM: Any = {"type": "hologram", "data": {"x": [1, 2]}}


def test_what_homeport_has_never_heard_of_reaches_the_upstream(
    claude: anthropic.Anthropic, upstream: FakeAnthropic
) -> None:
    asked: Any = {
        "model": "far",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [HOLOGRAM, {"type": "text", "text": "hi"}]}],
    }
    news = {"holograms": {"depth": 3}}
    headers = {"anthropic-beta": "holograms-2027-01-01"}
    answer = claude.messages.create(**asked, extra_body=news, extra_headers=headers)
    assert answer.content[0].text == "".join(TEXT)
    assert upstream.asked == {**asked, **news, "model": MODEL}
    assert upstream.headers[-1]["anthropic-beta"] == "holograms-2027-01-01"
    with claude.messages.stream(**asked, extra_body=news) as stream:
        assert stream.get_final_text() == "".join(TEXT)
    assert upstream.asked["messages"] == asked["messages"]
    assert "anthropic-beta" not in upstream.headers[-1]
    count = claude.messages.count_tokens(model="far", messages=asked["messages"])
    assert count.input_tokens == 42


def test_what_is_wrong_with_a_request_is_the_upstreams_to_say(claude: anthropic.Anthropic) -> None:
    turns: Any = [{"role": "narrator", "content": "Once upon a time"}]
    with pytest.raises(anthropic.BadRequestError, match=r"messages\.0\.role: unexpected"):
        claude.messages.create(model="far", max_tokens=9, messages=turns)


def test_counting_is_the_upstreams(claude: anthropic.Anthropic, chat: openai.OpenAI) -> None:
    count = claude.messages.count_tokens(model="far", messages=[{"role": "user", "content": "hi"}])
    assert count.input_tokens == 42
    answer = chat.responses.input_tokens.count(model="far", input="hi")
    assert answer.input_tokens == 42


def test_errors_reach_an_anthropic_client(claude: anthropic.Anthropic) -> None:
    def ask(text: str) -> None:
        claude.messages.create(
            model="far", max_tokens=9, messages=[{"role": "user", "content": text}]
        )

    with pytest.raises(
        anthropic.BadRequestError, match="prompt is too long: 300000 tokens > 200000"
    ):
        ask("long")
    with pytest.raises(anthropic.APIStatusError) as overload:
        ask("overload")
    assert overload.value.status_code == 529
    body = json.loads(overload.value.response.text)
    assert body["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize("text", ["fail", "cut"])
def test_a_broken_stream_is_an_error_to_an_anthropic_client(
    claude: anthropic.Anthropic, text: str
) -> None:
    with (
        pytest.raises(anthropic.APIError),
        claude.messages.stream(
            model="far", max_tokens=9, messages=[{"role": "user", "content": text}]
        ) as stream,
    ):
        stream.get_final_message()
