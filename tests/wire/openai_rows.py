"""What switches off the rules of docs/dialects.md 3.6 and 3.7: Chat Completions clients of an upstream
that speaks Anthropic, and Responses clients. ``rows`` says what a row is, and takes these up."""

from __future__ import annotations

from homeport.server import asking, calls, proxy, responses
from homeport.wire import (
    anthropic_upstream,
    anthropic_upstream_answer,
    messages_relay,
    openai_chat_neutral,
    openai_chat_stream,
    openai_chat_upstream,
    openai_responses,
    openai_responses_answer,
    openai_responses_stream,
    openai_responses_tools,
)
from tests.wire.mutations import Code, Entry, Mutation, Value

R, RT, RA = openai_responses, openai_responses_tools, openai_responses_answer
RS, U = openai_responses_stream.ResponsesStream, anthropic_upstream
UA, N, CS = anthropic_upstream_answer, openai_chat_neutral, openai_chat_stream
MR, CU = messages_relay, openai_chat_upstream
FOLDS = "pair_tool_results(in_place(turns))"
USAGE_SUM = vars(UA.UsageSum)["neutral"].fget

ROWS: dict[str, tuple[Mutation, ...]] = {
    # ----------------------------------------------------------------- 3.6
    "3.6 Leading system and developer messages": (
        Code(U.encode, 'text_of(turns[0].parts, "\\n\\n")', 'text_of(turns[0].parts, "\\n")'),
        Code(U.encode, "fold_system_turns(request.turns)", "request.turns"),
        Code(N._turns, "if not turns:", "if False:"),
    ),
    "3.6 Tool messages": (
        Code(U._messages, "if out and out[-1][0] == turn.role:", "if False:"),
        Code(U._messages, 'if role == "user":', "if False:"),
        Code(
            U.encode,
            "pair_tool_results(fold_system_turns(request.turns))",
            "fold_system_turns(request.turns)",
        ),
    ),
    "3.6 Arguments text": (
        Code(U._block, "input_of(part.arguments)", "part.arguments"),
        Code(U._id, '_NO_ID.sub("_", id_)', "id_"),
    ),
    "3.6 Text without any letter in it, and turns without a block, are left out": (
        Code(U._block, " if text.strip() else None", ""),
        Code(U._messages, "if not blocks:", "if False:"),
        Code(U._messages, "_trim_end(out[-1][1])", "pass"),
    ),
    "3.6 image_url": (
        Code(U._image, "if found := _DATA_URL.match(url):", "if found := None:"),
        Code(N._part, "        case _:", '        case _:\n            return Text("")'),
    ),
    "3.6 reasoning_content, reasoning": (
        Code(U._block, "if not engine.replays_thinking:", "if False:"),
        Code(
            N._said,
            "thinking := message.reasoning_content or message.reasoning",
            "thinking := None",
        ),
    ),
    "3.6 max_completion_tokens, max_tokens": (
        Code(N._request, "chat.max_completion_tokens or chat.max_tokens", "chat.max_tokens"),
        Code(U._max_tokens, "        return model.output_tokens\n", "        return 1\n"),
        Code(U._max_tokens, "model.context_tokens // 2", "model.context_tokens"),
        Code(U._max_tokens, "min(asked, model.output_tokens)", "asked"),
        Code(U.encode, 'body["stop_sequences"]', 'body["stop"]'),
        Code(U.encode, "min(request.temperature, 1.0)", "request.temperature"),
    ),
    "3.6 tools": (
        Code(U._schema, 'if "type" not in fields:', "if False:"),
        Code(U._tool, "if tool.strict and engine.strict_tools:", "if False:"),
        Code(N._choice, 'ToolChoice("any")', 'ToolChoice("auto")'),
        Code(U._put_tools, '{"type": "tool", "name": choice.name}', '{"type": "auto"}'),
        Code(U._put_tools, 'said["disable_parallel_tool_use"] = True', "pass"),
    ),
    "3.6 response_format with a schema": (
        Code(U._put_output, "and wanted.schema is not None", "and False"),
        Code(U._put_output, '_EFFORTS.get(request.effort, "high")', "request.effort"),
        Code(N._thinking, 'chat.reasoning_effort == "none" or', ""),
    ),
    "3.6 n above 1, logprobs, audio, functions, custom tools": (
        *(Entry(N.REFUSED, field) for field in ("n", "logprobs", "modalities", "functions")),
        Code(
            N._tool,
            'if tool.type != "function" or tool.function is None:',
            'if tool.function is None:\n        return Tool("x", b"{}")\n    if False:',
        ),
    ),
    "3.6 Fragments are numbered by call, not by block": (
        Code(UA.Decoder._begun, "call = self._count", "call = index"),
        Code(UA.Decoder._stopped, "_encode(block.input or {}).decode()", '""'),
    ),
    "3.6 prompt_tokens": (
        Code(USAGE_SUM, " + (cached or 0)", ""),
        Code(USAGE_SUM, " + written", ""),
        Code(
            UA.Decoder._frame,
            "self._usage.take(frame.usage)\n                return self._finished",
            "return self._finished",
        ),
    ),
    "3.6 pause_turn, stop_sequence and unknown reasons": (
        Entry(CS.FINISH_REASONS, "context_length", "stop"),
        Entry(CS.FINISH_REASONS, "refusal", "stop"),
        Entry(UA.FINISH, "max_tokens", "end"),
        Entry(UA.FINISH, "pause_turn", "length"),
        Code(
            UA.Decoder._finished,
            'FINISH.get(delta.stop_reason, "end")',
            'FINISH.get(delta.stop_reason, "length")',
        ),
        Code(CS.finish_reason_of, '"tool_calls" if called_tools else "stop"', '"stop"'),
        Code(CS.finish_reason_of, '"tool_calls" if called_tools else "stop"', '"tool_calls"'),
    ),
    "3.6 Thinking": (
        Code(CS.encode_completion, 'message["reasoning_content"]', 'message["content"]'),
        Code(CS.ChatStream.feed, '{"reasoning_content": text}', '{"content": text}'),
    ),
    "3.6 An error event, or no stop reason": (
        Code(UA.Decoder.feed, 'frame.error is not None or sse.event == "error"', "False"),
        Code(UA.failure_of, '"overloaded" if', '"upstream" if'),
        Code(UA.failure_of, 'if fault.kind == "context_overflow":', "if False:"),
        Code(UA.Decoder.finish, "if self._has_finish:", "if True:"),
    ),
    "3.6 The model's name": (
        Code(MR.relay_request, 'fields["model"] = Raw(_encode(model.name))', "pass"),
        Code(MR.MessagesRelay._started, 'message["model"] = self._model', "pass"),
        Code(MR.relay_body, 'fields["model"] = Raw(_encode(model))', "pass"),
    ),
    "3.6 The billing line (1.1)": (
        Code(MR.relay_request, "if not engine.reads_billing_line and", "if"),
        Code(MR._drop_billing_line, "if isinstance(system, str) and", "if False and"),
        Code(MR._drop_billing_line, "elif isinstance(first, dict) and", "elif False and"),
    ),
    "3.6 count_tokens": (
        Entry(asking.COUNT_ROUTES, "messages", ("/tokenize", "count")),
        Code(U.counting, " if key not in _NOT_COUNTED", ""),
    ),
    "3.6 What homeport does not know, or refuses elsewhere (3.1)": (
        Code(MR.outlined, "return Request(", "return None and Request("),
        Code(MR.outlined, "bool(outline.stream)", "False"),
        Code(calls.AnthropicCall.engine_body, "if self.refusal is not None:", "if False:"),
        Code(proxy.Proxy._anthropic, "not self._passes(http, call.model)", "False"),
        Code(proxy.Proxy._anthropic, " and not self._passes_unread(http, body)", ""),
    ),
    "3.6 anthropic-beta, anthropic-version": (
        Value(asking, "PASSED", ("anthropic-version",)),
        Value(asking, "PASSED", ("anthropic-beta",)),
        Code(asking.passed_headers, " or call.path != MESSAGES_PATH", ""),
    ),
    # ----------------------------------------------------------------- 3.7
    "3.7 instructions, leading system and developer messages": (
        Code(R.neutral, "if wire.instructions:", "if False:"),
        Entry(R.ROLES, "developer", "user"),
        Code(CU._messages, FOLDS, "pair_tool_results(turns)"),
    ),
    "3.7 input as text": (Code(R.entries_of, '"role":"user"', '"role":"system"'),),
    "3.7 reasoning, message, calls that follow one another": (
        Code(R._Turns.add, "if self.all and self.all[-1][0] == role:", "if False:"),
    ),
    "3.7 function_call_output": (
        Code(R._call_output, "ToolResult(item.call_id,", 'ToolResult("x",'),
        Code(R._call_output, 'tuple(_parts(item.output, f"{path}.output"))', "()"),
    ),
    "3.7 reasoning with content": (Code(R._reasoning, "if text:", "if False:"),),
    "3.7 reasoning with summary only, encrypted, empty": (
        Code(R._reasoning, "if text:", "if True:"),
        Code(R._reasoning, "_parts(item.content,", "_parts(item.content or Raw(b'\"x\"'),"),
    ),
    "3.7 tools": (
        Code(RT._tool, "True if param.strict is None else param.strict", "param.strict"),
        Code(CU._tool, '"function": function}', "**function}"),
    ),
    "3.7 namespace": (
        Code(RT.flat_name, 'f"{namespace}__{name}" if namespace else name', "name"),
        Code(RA.call_item, "if callee.namespace is not None:", "if False:"),
    ),
    "3.7 custom": (
        Code(RT._tool, 'if param.type == "custom":', "if False:"),
        Code(RT._custom_description, "if not isinstance(definition, str):", "if True:"),
        Code(R._custom_call, '{"input":%b}', '{"text":%b}'),
        Code(RA.call_item, 'callee.kind == "custom"', "False"),
    ),
    "3.7 hosted tools": (
        Code(RT.tools_of, 'if param.type not in ("function", "custom"):', "if False:"),
        Code(RT._refuse_hosted, "if types:", "if False:"),
        Code(RT.chosen, "raise _hosted(choice.type)", "return tools, None, None"),
        Code(RT.chosen, "if not tools and wish is None:", "if True:"),
        Code(RT.chosen, "wish is not None and _is_search(choice.type)", "False"),
        Code(RT._allowed, "if not shown and wish is None:", "if True:"),
        Code(RT._allowed, "if not any(map(_is_search, hosted)):", "if False:"),
        Code(RT._hosted, "if _is_search(type_):", "if False:"),
        Code(R.neutral, "and not has_own_search", ""),
        Code(RT.search_wish, "if param.external_web_access is not False else None", ""),
    ),
    "3.7 tool_choice, allowed_tools": (
        Code(RT._allowed, "tuple(tool for tool in tools if tool.name in names)", "tools"),
        Code(RT.chosen, 'return tools, ToolChoice("any")', "return tools, None"),
        Code(RT._allowed, '"any" if shown or wish is not None else "auto"', '"auto"'),
        Code(RT._allowed, 'choice.mode != "required"', "False"),
    ),
    "3.7 text.format, reasoning.effort, max_output_tokens": (
        Code(R.neutral, "response_format=_response_format(wire.text)", "response_format=None"),
        Code(R.neutral, "None if is_off else reasoning.effort", "None"),
        Code(R.neutral, "max_tokens=wire.max_output_tokens", "max_tokens=None"),
        Code(R.neutral, "ThinkingSwitch(False) if is_off else None", "None"),
    ),
    "3.7 truncation, include, prompt_cache_key, client_metadata, unknown fields": (
        Code(
            R.decode,
            "if wire.background:",
            """if set(msgspec.json.decode(body)) - set(ResponsesRequest.__struct_fields__):
        raise _bad("x", "unknown field")
    if wire.background:""",
        ),
        Code(RA._echo, "else value", "else default"),
    ),
    "3.7 previous_response_id, item_reference": (
        Code(
            R.neutral,
            '((history, "previous_response_id"), (entries, "input"))',
            '((entries, "input"),)',
        ),
        Code(R._entry, "find(item.id) if item.id is not None else None", "None"),
        Code(
            responses._history,
            "if stored is None:",
            "if stored is None:\n        return ()\n    if not stored:",
        ),
    ),
    "3.7 store": (
        Code(responses.ResponsesCall._put, "self._wire.store is False", "False"),
        Code(responses.ResponsesCall._put, "self._wire.store is False", "not self._wire.store"),
    ),
    "3.7 background, conversation, prompt": (
        Code(R.decode, "if wire.background:", "if False:"),
        Code(R.decode, 'in ("conversation", "prompt"):', 'in ("conversation",):'),
        Code(R.decode, 'in ("conversation", "prompt"):', 'in ("prompt",):'),
    ),
    "3.7 unknown items and parts": (
        Code(R._put, "if put is None:", "if put is None:\n        return\n    if not put:"),
        Code(R._part, "        case _:", '        case _:\n            return Text("")'),
    ),
    "3.7 answer": (
        *(
            Entry(openai_responses_stream.PREFIXES, kind, "item")
            for kind in ("reasoning", "message", "function", "custom")
        ),
        Code(RA.call_item, '"call_id": call_id', '"call_id": id_'),
    ),
    "3.7 reasoning in the answer": (
        Code(RA.reasoning_item, "[reasoning_part(text)] if text is not None else []", "[]"),
        Code(RA.reasoning_item, '"encrypted_content": None', '"encrypted_content": text'),
    ),
    "3.7 length; content_filter": (
        Entry(openai_responses_stream.INCOMPLETE, "length"),
        Entry(openai_responses_stream.INCOMPLETE, "refusal"),
    ),
    "3.7 error after the start": (
        Code(RS.fail, "start = self.start()", "start = self.start() + self._close()"),
        Code(RS._take, "return self.fail(", "return self._end() or self.fail("),
    ),
    "3.7 overflow": (Entry(RA.ERROR_CODES, "context_overflow"),),
    "3.7 stream": (
        Code(RS.feed, "self._serial.feed(event)", "[event]"),
        Code(RS._end_with, "output=self.output, usage=self.usage", "output=[], usage=self.usage"),
        Code(RS._end_with, "usage=self.usage", "usage=None"),
        Code(
            RS._open,
            'return out if is_call else out + self._emit_part(PART_ADDED, "")',
            "return out",
        ),
    ),
    "3.7 custom tool's input in a stream": (
        Code(RS._delta, 'if self._kind == "custom":', "if False:"),
    ),
    "3.7 silence": (
        Value(openai_responses_stream, "KEEP_ALIVE", b'event: ping\ndata: {"type":"ping"}\n\n'),
        Value(responses.ResponsesCall, "grace_s", 5.0),
    ),
}
