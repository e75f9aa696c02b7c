"""Our Anthropic streams, read by the official SDK: its accumulator is the strictest reader there is."""

import asyncio
import json
from typing import Any

import anthropic
import pytest

from tests.support.anthropic_grammar import read
from tests.wire.cases import Case, opening, run, streams, translation

CASES = [case for case in streams() if case.dialect == "anthropic"]


def frame(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"id": "c", "choices": [choice], **fields}).encode()


async def accumulated(stream: bytes) -> anthropic.types.Message:
    """The message that the SDK makes of ``stream``, served from a real loopback port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        _, _, rest = head.lower().partition(b"content-length:")
        await reader.readexactly(int(rest.split(b"\r\n")[0]))
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        writer.write(head + stream)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        anthropic.AsyncAnthropic(api_key="x", base_url=url, max_retries=0) as client,
        client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "q"}]
        ) as messages,
    ):
        return await messages.get_final_message()


BROKEN = "anthropic-vllm/tool_required"
"""vLLM let the model write ``false`` for arguments."""


@pytest.mark.parametrize("case", [c for c in CASES if c.id != BROKEN], ids=lambda case: case.id)
async def test_real_streams(case: Case) -> None:
    stream = opening(case) + run(translation(case), [case.upstream])
    message = await accumulated(stream)
    ours = read(stream)
    assert [block.type for block in message.content] == [block.type for block in ours.blocks]
    expected = json.loads((case.folder / "usage.json").read_bytes())["usage"]
    if expected is not None:
        usage = message.usage
        cached = usage.cache_read_input_tokens or 0
        assert usage.input_tokens + cached == expected["prompt_tokens"]
        assert usage.output_tokens == expected["completion_tokens"]
    assert message.stop_reason in ("end_turn", "tool_use", "max_tokens")
    assert (message.stop_reason == "tool_use") == any(b.type == "tool_use" for b in message.content)


@pytest.mark.row("3.5 a stream")
async def test_arguments_that_are_no_object_raise_in_the_sdk() -> None:
    """docs/dialects.md 3.5, decided for Claude Code: it shows the model its mistake when it gets the
    raw text. The SDK's helper raises, which says the same to a program."""
    [case] = [case for case in CASES if case.id == BROKEN]
    with pytest.raises(ValueError, match="tool parameter JSON"):
        await accumulated(opening(case) + run(translation(case), [case.upstream]))


async def test_thinking_text_and_interleaved_calls() -> None:
    case = CASES[0]

    def tool(index: int, arguments: str, **first: Any) -> bytes:
        function = {"arguments": arguments, **({"name": "f"} if first else {})}
        return frame({"tool_calls": [{"index": index, **first, "function": function}]})

    upstream = [
        frame({"role": "assistant", "reasoning_content": "hm"}),
        frame({"reasoning_content": "m", "content": "so "}),
        frame({"content": "…"}),
        tool(0, '{"x":', id="a"),
        tool(1, '{"y":', id="b"),
        tool(0, "1}"),
        tool(1, "2}"),
        frame({}, "tool_calls", usage={"prompt_tokens": 9, "completion_tokens": 5}),
    ]
    message = await accumulated(opening(case) + run(translation(case), upstream))
    found = [block.model_dump(exclude_none=True) for block in message.content]
    assert found[0] == {"type": "thinking", "thinking": "hmm", "signature": "homeport"}
    assert found[1]["text"] == "so …"
    assert [(b["id"], b["name"], b["input"]) for b in found[2:]] == [
        ("a", "f", {"x": 1}),
        ("b", "f", {"y": 2}),
    ]


async def test_an_error_in_the_stream_is_raised_with_its_type() -> None:
    case = CASES[0]
    upstream = frame({"content": "x"}) + b'data: {"error":{"message":"out of memory"}}\n\n'
    with pytest.raises(anthropic.APIStatusError, match="out of memory") as caught:
        await accumulated(opening(case) + run(translation(case), [upstream]))
    body = caught.value.body
    assert isinstance(body, dict)
    assert body["error"]["type"] == "api_error"
