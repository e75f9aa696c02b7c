"""What switches off the rules of docs/dialects.md 3.2 to 3.4: answers for Anthropic clients, their
stream, and what engines need. ``rows`` says what a row is, and takes these up."""

from __future__ import annotations

from homeport.engines import llamacpp, mlx, ollama, openai_compatible, sglang, trtllm, vllm
from homeport.server import answer_stream, context_fit, proxy
from homeport.server.mending import Mending
from homeport.wire import (
    anthropic_answer,
    anthropic_stream,
    openai_chat,
    openai_chat_answer,
    openai_chat_upstream,
    serial_calls,
    sse,
)
from tests.wire.mutations import Code, Entry, Mutation, Value, facts

AA, C, S = anthropic_answer, openai_chat, anthropic_stream.AnthropicStream
D, Calls = openai_chat_answer.Decoder, openai_chat_answer._Calls
Call, FINISH = openai_chat_answer._Call, openai_chat_answer.FINISH
Serial, CU = serial_calls.SerialCalls, openai_chat_upstream
STREAM = answer_stream.AnswerStream

ROWS: dict[str, tuple[Mutation, ...]] = {
    # ----------------------------------------------------------------- 3.2
    "3.2 id": (Code(AA.encode_message, '"id": message_id', '"id": "chatcmpl-9"'),),
    "3.2 model": (Code(AA.encode_message, '"model": model', '"model": "theirs"'),),
    "3.2 reasoning_content, reasoning": (
        Code(D._delta, "delta.reasoning_content or delta.reasoning", "delta.reasoning_content"),
        Code(D._delta, "delta.reasoning_content or delta.reasoning", "delta.reasoning"),
        Code(
            D._delta,
            "delta.reasoning_content or delta.reasoning",
            '(delta.reasoning_content or "") + (delta.reasoning or "")',
        ),
        Code(D._message, "message.reasoning_content or message.reasoning", "message.reasoning"),
        Code(D._message, " or message.reasoning", ""),
        Code(AA.encode_message, "if thinking:", "if False:"),
    ),
    "3.2 reasoning_content … its signature": (
        Code(AA.encode_message, '"signature": SIGNATURE', '"signature": ""'),
    ),
    "3.2 content, text or parts": (
        Code(AA.encode_message, "if any(text):", "if True:"),
        Code(D._said, '"".join(part.text or "" for part in text)', "None"),
    ),
    "3.2 refusal": (
        Code(D._said, "if refusal:", "if False:"),
        Code(D._finished, 'reason == "end" and self._has_refusal', "False"),
    ),
    "3.2 tool_calls": (
        Code(AA.encode_message, "in calls.values():", "in ():"),
        Code(AA.encode_message, '"name": start.name', '"name": "x"'),
    ),
    "3.2 arguments that are no JSON object": (
        Code(AA.input_of, 'return {"__raw_arguments": arguments}', "return {}"),
        Code(AA.input_of, 'else {"__raw_arguments": arguments}', "else {}"),
    ),
    '3.2 arguments "", null': (Code(AA.input_of, "if not arguments.strip():", "if False:"),),
    "3.2 arguments as an object": (
        Code(
            openai_chat_answer._arguments,
            "msgspec.json.encode(function.arguments).decode()",
            '""',
        ),
    ),
    "3.2 function_call": (
        Code(D._message, "elif message.function_call is not None:", "elif False:"),
        Code(D._delta, "if delta.function_call is not None:", "if False:"),
    ),
    "3.2 a call's id": (
        Code(Calls._unused, "while unused in self._used_ids:", "while False:"),
        Code(Call.announce, "self.id or self.spare_id", "self.spare_id"),
        Code(Call.announce, "self.id or self.spare_id", 'self.id or ""'),
    ),
    "3.2 stop, eos": (
        Entry(FINISH, "stop", "length"),
        Entry(FINISH, "eos", "length"),
        Code(D._finished, 'if reason == "end" and hit:', "if False:"),
        Code(D._finished, "else choice.matched_stop", "else None"),
        Code(D._finished, "choice.stop_reason if isinstance(choice.stop_reason, str) else ", ""),
        Code(D._finished, "if not isinstance(hit, str):", "if hit is None:"),
        Code(AA.stop_reason_of, "if called_tools:", "if False:"),
    ),
    "3.2 tool_calls, function_call": (
        Code(AA.stop_reason_of, 'elif reason == "tool_use":', "elif False:"),
        Entry(FINISH, "tool_calls", "length"),
        Entry(FINISH, "function_call", "length"),
    ),
    "3.2 length": (
        Entry(AA.STOP_REASONS, "length", "end_turn"),
        Code(AA.stop_reason_of, 'reason = "context_length"', "pass"),
        Code(AA.stop_reason_of, " and _total(usage) >= context_tokens", ""),
    ),
    "3.2 content_filter": (
        Entry(FINISH, "content_filter", "end"),
        Entry(AA.STOP_REASONS, "refusal", "end_turn"),
    ),
    "3.2 abort, error": (Entry(FINISH, "abort", "end"), Entry(FINISH, "error", "end")),
    "3.2 other reasons": (
        Code(
            D._finished,
            'choice.finish_reason or "", "end")',
            'choice.finish_reason or "", "length")',
        ),
    ),
    "3.2 nothing at all": (
        Code(AA.encode_message, '"content": content,', '"content": content or None,'),
    ),
    "3.2 prompt_tokens, cached_tokens": (
        Code(AA._counts, "usage.prompt_tokens - cached", "usage.prompt_tokens"),
        Code(AA._counts, '"cache_read_input_tokens": cached', '"cache_read_input_tokens": 0'),
        Code(
            AA._counts,
            "min(usage.cached_tokens or 0, usage.prompt_tokens)",
            "usage.cached_tokens or 0",
        ),
    ),
    "3.2 cache writes": (
        Code(
            AA._counts,
            '"cache_creation_input_tokens": 0',
            '"cache_creation_input_tokens": usage.prompt_tokens - cached',
        ),
    ),
    "3.2 reasoning_tokens": (
        Code(AA.usage_of, 'None if thinking is None else {"thinking_tokens": thinking}', "None"),
    ),
    "3.2 no usage": (
        Code(S._end, "Usage(self._estimate, self._deltas)", "Usage(0, 0)"),
        Code(AA.encode_message, "Usage(0, 0)", "Usage(1, 1)"),
    ),
    "3.2 further choices, logprobs, timings": (
        Code(D._chunk, "chunk.choices[0]", "chunk.choices[-1]"),
        Code(AA.encode_message, '"role": "assistant",', '"role": "assistant", "timings": {},'),
    ),
    # ----------------------------------------------------------------- 3.3
    "3.3 1": (
        Code(S.start, "message_usage_of(Usage(prompt_tokens, 0))", "message_usage_of(Usage(0, 0))"),
        Code(
            STREAM._open, "self._call.opening(tokens or estimate)", "self._call.opening(estimate)"
        ),
        Code(
            STREAM._open,
            "self._call.opening(tokens or estimate)",
            "self._call.opening(tokens or 0)",
        ),
        Code(
            STREAM._exchange,
            "await self._open(endpoint, count, body)\n                    while",
            "while",
        ),
        Code(S._end, "self.usage or Usage", "Usage"),
    ),
    "3.3 2": (
        Value(anthropic_stream, "PING", b": ping\n\n"),
        Code(S.ping, 'PING if (self._state, "ping") in NEXT else b""', 'b""'),
    ),
    "3.3 3": (
        Code(S._open_block, "self._index += 1", "self._index += 2"),
        Code(S._delta, "self._close_block() + ", ""),
    ),
    "3.3 4": (
        Code(S._delta, "if self._kind == kind:", "if self._kind is not None:"),
        Code(S.start, 'if self._state != "new":', "if False:"),
    ),
    "3.3 5": (
        Code(S._delta, "if not text:", "if False:"),
        Code(D._said, "        if text:\n", "        if text is not None:\n"),
    ),
    "3.3 6": (
        Code(D._said, "events.append(TextDelta(text))", "events.insert(0, TextDelta(text))"),
        Code(
            D._delta,
            "events += self._calls.take(fragment)",
            "events[:0] = self._calls.take(fragment)",
        ),
    ),
    "3.3 7": (
        Code(Calls._known, "if fragment.index is not None:", "if False:"),
        Code(Serial.feed, "return self._advance()", "return self.leave()"),
        Code(Serial._delta, "[delta, *self._advance()] if self._held else [delta]", "[delta]"),
        Code(Serial._delta, "return [Failure(", "return [] and [Failure("),
        Code(Serial._delta, " or not delta.arguments.strip()", ""),
        Code(Serial._open_next, "next(iter(self._held))", "list(self._held)[-1]"),
    ),
    "3.3 8": (
        Code(Calls._known, "return None  # case 2", "return known"),
        Code(Calls._known, "if known.is_announced and", "if False and"),
        Code(Calls._known, "elif fragment.id:", "elif False:"),
        Code(Calls._known, "known = self._all[-1]", "pass"),
    ),
    "3.3 9": (
        Code(Calls._new, "toolu_{self.seed}{number}", "toolu_{number}"),
        Code(Call.announce, "self.id or self.spare_id", 'self.id or ""'),
        Code(Call.take, "if name and name != self.name:", "if name:"),
        Code(Call.take, "if self.held and self.name else []", "if self.name else []"),
        Code(D._end, "if self._calls.has_nameless and", "if False and"),
    ),
    "3.3 10": (
        Code(S._open_call, '"input":{},', '"input":{"x":1},'),
        Code(Serial._open_next, '"".join(held.fragments)', '""'),
        Code(Call.announce, "if self.held:", "if False:"),
        Code(
            openai_chat_answer._arguments,
            "msgspec.json.encode(function.arguments).decode()",
            '""',
        ),
    ),
    "3.3 11": (
        Code(Calls.take_whole, "_arguments(function)[call.length :]", '""'),
        Code(Calls.take_whole, "[call.length :]", ""),
        Code(D._message, "None if self._has_text else message.content", "message.content"),
    ),
    "3.3 12": (
        Code(D._said, "if (text or thinking) and self._calls:", "if False:"),
        Code(S._delta, "self._leave_calls() + ", ""),
        Code(S._delta, "if self._kind == kind:", "if self._kind is not None:"),
    ),
    "3.3 13": (
        Code(S._close_block, 'if self._kind == "thinking":', "if False:"),
        Value(anthropic_answer, "SIGNATURE", ""),
    ),
    "3.3 14": (
        Code(S.feed, "self._finish = event", "return self._end()"),
        Code(D._finished, "self._finish = reason", "self._finish, self._is_over = reason, True"),
    ),
    "3.3 15": (
        Code(CU.encode, "if request.stream and engine.stream_usage:", "if False:"),
        Code(C.relay_request, "if request.stream and engine.stream_usage", "if False"),
        Code(S.feed, "self.usage = usage", "self.usage = self.usage or usage"),
    ),
    "3.3 16": (
        Code(
            D.finish,
            'return [Failure("the engine broke off',
            'return [Finish("end"), End()] or [Failure("',
        ),
        Code(D.finish, "if self._finish is not None:", "if False:"),
        Code(D._end, "if self._finish is None:", "if False:"),
    ),
    "3.3 17": (
        Code(D.feed, "if chunk.error is not None or", "if"),
        Code(D.feed, 'chunk.object == "error" or', ""),
        Code(D.feed, 'if sse.event == "error":', "if False:"),
        Code(S.fail, 'self._close_block() if self._state == "in_block" else b""', 'b""'),
        Code(S.feed, "return self.fail(_fault(event))", "return self._end()"),
        Code(D._failure, 'if fault.kind == "context_overflow":', "if False:"),
    ),
    "3.3 18": (
        Code(
            STREAM._exchange,
            "            if exchange.status != 200:",
            "            await self._open(endpoint, count, body)\n"
            "            if exchange.status != 200:",
        ),
        Code(STREAM._open, "tokens > limit", "tokens > 2 * limit"),
        Code(context_fit.fitted, "if prompt_tokens > limit:", "if False:"),
        Code(context_fit.refuse_impossible, "if least > limit:", "if False:"),
    ),
    "3.3 19": (
        Code(STREAM._exchange, "            exchange.close()", "            pass"),
        Code(proxy.Proxy._asked, "                exchange.close()", "                pass"),
    ),
    "3.3 20": (
        Code(sse.Splitter.feed, 'if b"\\r" in buffer:', "if False:"),
        Code(sse.Splitter.feed, 'b"\\r" if buffer.endswith(b"\\r") else b""', 'b""'),
        Code(sse.parse_block, '.removeprefix(b"\\xef\\xbb\\xbf")', ""),
        Code(sse.parse_block, 'b"\\n".join(data)', 'b"".join(data)'),
        Code(sse.Parser.finish, "[event] if event is not None else []", "[]"),
        Code(sse.Splitter.feed, "if len(self._buffer) > self._limit:", "if False:"),
        Code(sse.Splitter.__init__, "self._limit = max_event_bytes", "self._limit = 64 * 1024"),
    ),
    "3.3 21": (
        Code(AA.encode_message, "if not (single_call and calls)", "if True"),
        Code(Serial.feed, "if self._single_call and", "if False and"),
    ),
    "3.3 22": (
        Code(
            S._emit,
            'b"event: %b\\ndata: %b\\n\\n" % (event.encode(), data)',
            'b"data: %b\\n\\n" % data',
        ),
        Value(anthropic_stream, "PING", b'data: {"type":"ping"}\n\n'),
    ),
    # ----------------------------------------------------------------- 3.4
    "3.4 llama.cpp": (
        facts(llamacpp, reasoning_key="reasoning"),
        facts(llamacpp, thinking_budget_key=None),
        facts(llamacpp, template_kwargs=False),
        facts(llamacpp, reasoning_effort=False),
    ),
    "3.4 vLLM from 0.33": (
        facts(vllm, reasoning_key="reasoning_content"),
        facts(vllm, thinking_budget_key=None),
        facts(vllm, template_kwargs=False),
        facts(vllm, reasoning_effort=False),
        Code(D._delta, "delta.reasoning_content or delta.reasoning", "delta.reasoning_content"),
    ),
    "3.4 SGLang": (
        facts(sglang, reasoning_key="reasoning"),
        facts(sglang, template_kwargs=False),
        facts(sglang, thinking_budget_key="thinking_budget_tokens"),
    ),
    "3.4 TensorRT-LLM": (
        facts(trtllm, reasoning_key="reasoning"),
        facts(trtllm, template_kwargs=True),
        facts(trtllm, reasoning_effort=False),
    ),
    "3.4 Ollama": (
        facts(ollama, reasoning_key="reasoning_content"),
        facts(ollama, template_kwargs=True),
        facts(ollama, reasoning_effort=False),
    ),
    "3.4 mlx-lm": (
        facts(mlx, reasoning_key="reasoning_content"),
        facts(mlx, template_kwargs=False),
        facts(mlx, reasoning_effort=True),
    ),
    "3.4 others (unchecked)": (
        facts(openai_compatible, reasoning_key="reasoning"),
        facts(openai_compatible, template_kwargs=True),
        Code(D._delta, "delta.reasoning_content or delta.reasoning", "delta.reasoning"),
        Code(Mending._rescue, "return stages(", "return None and stages("),
    ),
}
