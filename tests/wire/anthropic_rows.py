"""What switches off the rules of docs/dialects.md 3.1: requests of Anthropic clients. ``rows`` says
what a row is, and takes these up."""

from __future__ import annotations

from homeport.server import asking, context_fit, proxy
from homeport.wire import (
    anthropic,
    anthropic_answer,
    anthropic_blocks,
    anthropic_tools,
    openai_chat_upstream,
    turns,
)
from tests.wire.mutations import Code, Entry, Mutation, Value

A, AA, T, AB = anthropic, anthropic_answer, anthropic_tools, anthropic_blocks
BLOCKS = AB.BLOCKS
CU = openai_chat_upstream
FOLDS = "pair_tool_results(in_place(turns))"
DECODED = "_request(_decoder.decode(body), counting=counting, pdf_text=pdf_text)"
IS_SERVERS = vars(T.ToolParam)["is_servers"].fget

STRICT = Code(
    A.decode,
    f"return {DECODED}",
    f"""wire = {DECODED}
        if set(msgspec.json.decode(body)) - set(MessagesRequest.__struct_fields__):
            raise bad("x", "unknown field")
        return wire""",
)
"""Unknown fields refused."""


def forwarded(field: str) -> Code:
    """A field that is Anthropic's own business, sent to the engine."""
    return Code(CU.encode, "return _encode(body)", f'return _encode({{**body, "{field}": {{}}}})')


ROWS: dict[str, tuple[Mutation, ...]] = {
    # ----------------------------------------------------------------- 3.1
    "3.1 model": (Code(CU.encode, '"model": model.name', '"model": request.model'),),
    "3.1 max_tokens": (
        Code(CU._max_tokens_fit, "asked < model.context_tokens", "True"),
        Code(CU._max_tokens_fit, "engine.max_tokens_over_context", "False"),
        Code(context_fit.fitted, "_asked(body) <= left", "True"),
        Code(context_fit.fitted, "endpoint.engine.max_tokens_over_context", "True"),
    ),
    "3.1 max_tokens: 0": (
        Code(CU.encode, "max(1, request.max_tokens or 1)", "request.max_tokens"),
        Code(AA.prewarmed, "                pass", "                kept.append(event)"),
        Code(AA.prewarmed, "usage.prompt_tokens, 0,", "usage.prompt_tokens, 1,"),
    ),
    "3.1 stop_sequences": (
        Code(A._request, "filter(None, wire.stop_sequences or ())", "wire.stop_sequences or ()"),
        Code(CU.encode, 'body["stop"] = list(request.stop)', "pass"),
    ),
    "3.1 temperature, top_p": (
        Code(CU.encode, '("temperature", "top_p")', '("temperature",)'),
        Code(CU.encode, '("temperature", "top_p")', '("top_p",)'),
    ),
    "3.1 top_k": (
        Code(CU.encode, ' and "top_k" in engine.extensions', ""),
        Code(CU.encode, 'body["top_k"] = request.top_k', "pass"),
    ),
    "3.1 metadata, service_tier, speed, container, diagnostics, betas": tuple(
        forwarded(field)
        for field in ("metadata", "service_tier", "speed", "container", "diagnostics", "betas")
    ),
    "3.1 context_management": (forwarded("context_management"),),
    "3.1 cache_control": (
        forwarded("cache_control"),
        Code(CU._part, '"text": text}', '"text": text, "cache_control": {}}'),
        Code(CU._tool, '{"type": "function",', '{"cache_control": {}, "type": "function",'),
    ),
    "3.1 output_config.effort": (
        Code(CU._effort, '"xhigh": xhigh, "max": top', '"xhigh": "xhigh", "max": "max"'),
        Code(CU._effort, ".get(asked,", ".get('high',"),
        Code(
            CU._put_thinking,
            "request.effort is not None and engine.reasoning_effort",
            "request.effort",
        ),
    ),
    "3.1 output_config.format": (
        Code(A._response_format, "return ResponseFormat(schema)", "return None"),
        Code(CU._response_format, '"strict": True', '"strict": False'),
    ),
    "3.1 output_config.format … engine ignores it": (
        Code(CU.refuse_schema, 'if "schema" in engine.ignores:', "if False:"),
    ),
    "3.1 thinking: enabled": (
        Code(A._thinking, "return ThinkingSwitch(True, budget)", "return None"),
        Code(A._thinking, "ThinkingSwitch(True, budget)", "ThinkingSwitch(True)"),
        Code(
            CU._put_thinking,
            " and engine.thinking_budget_key is not None:\n        body[engine.thinking_budget_key]",
            ":\n        body[engine.thinking_budget_key or 'thinking_budget_tokens']",
        ),
    ),
    "3.1 thinking: disabled": (
        Code(A._thinking, "return ThinkingSwitch(False)", "return None"),
        Code(CU._put_thinking, 'body["reasoning_effort"] = "none"', "pass"),
        Code(CU._put_thinking, "if engine.template_kwargs:", "if True:"),
    ),
    "3.1 thinking: adaptive, others": (
        Code(A._thinking, "return None", "return thinking and ThinkingSwitch(True)"),
    ),
    "3.1 thinking.display": (
        Code(
            A.decode,
            f"return {DECODED}",
            f"""body = body.replace(b'"enabled"', b'"x"') if b'"display"' in body else body
        return {DECODED}""",
        ),
    ),
    "3.1 system": (
        Code(CU._messages, 'text_of(turn.parts, "\\n\\n")', 'text_of(turn.parts, "\\n")'),
        Code(A._system, ".startswith(BILLING_MARK)", '.startswith("\\0")'),
        Code(A._system, "if blocks and (blocks[0].text", "if blocks and (blocks[-1].text"),
    ),
    '3.1 role: "system" inside': (
        Code(CU._messages, FOLDS, "pair_tool_results(turns)"),
        Code(CU._messages, "keep_system_turns if engine.system_inside else ", ""),
        Code(turns.keep_system_turns, 'turn.role == "system" and unanswered', "False"),
        Code(
            turns.keep_system_turns,
            "out += waiting\n            waiting = []\n            un",
            "un",
        ),
        Code(A._turns, 'turns.append(Turn("system", ()))', "pass"),
        Code(turns._with_notes, "(*notes, *parts) if in_front", "(*parts, *notes) if in_front"),
        Value(turns, "FOLDED", "{}"),
    ),
    "3.1 its output_config.effort": (
        Code(A._request, "effort = message.output_config.effort", "pass"),
        Code(A._request, "in wire.messages:", "in reversed(wire.messages):"),
    ),
    "3.1 tool_addition, tool_removal": (
        Code(A._changes_in, 'case "tool_addition" | "tool_removal":', 'case "":'),
        Code(T.tools_of, "shown.pop(change.name, None)\n        elif", "pass\n        elif"),
        Code(
            T.tools_of,
            "shown[change.name] = known[change.name]",
            "shown = {change.name: known[change.name], **shown}",
        ),
        Entry(BLOCKS, "tool_addition", AB._nothing),
        Entry(BLOCKS, "tool_removal", AB._nothing),
    ),
    "3.1 tool_addition … of an mcp_* tool": (
        Code(T.change_of, '("mcp_tool_reference", "mcp_toolset_reference")', "()"),
        Code(T.change_of, "if param.is_servers:", "if False:"),
    ),
    "3.1 system turn with clear_at: next_user_message": (
        Code(A._turns, 'message.clear_at == "next_user_message"', "False"),
        Code(A._turns, " and i < last_user", ""),
        Code(A._changes_only, "if isinstance(content, list) else []", "if False else []"),
    ),
    "3.1 compaction": (
        Code(A._compacted, "range(len(messages) - 1, -1, -1)", "()"),
        Code(A._turns, "if summary:", "if False:"),
    ),
    "3.1 fallback": (Entry(BLOCKS, "fallback"),),
    "3.1 container_upload, browser_state": (
        Entry(AB.REFUSED, "container_upload"),
        Entry(AB.REFUSED, "browser_state"),
        Entry(BLOCKS, "container_upload", AB._nothing),
        Entry(BLOCKS, "browser_state", AB._nothing),
    ),
    "3.1 user text": (
        Code(CU._user_message, 'text_of(tuple(parts), "\\n")', 'text_of(tuple(parts), " ")'),
        Code(
            CU._user_message, "if not any(isinstance(part, Image) for part in parts):", "if False:"
        ),
    ),
    "3.1 image, base64": (
        Code(AB._image, "f\"data:{source.media_type or 'image/png'};base64,{source.data}\"", '""'),
    ),
    "3.1 image, url": (Code(AB._image, "return (Image(source.url),)", "return ()"),),
    "3.1 image, document by file id": (
        Code(AB._image, 'why = "', 'if source.type == "file":\n        return ()\n    why = "'),
        Code(AB._document, 'raise bad(f"{path}.source", _why_not(source))', 'text = ""'),
    ),
    "3.1 document: text, content": (
        Code(AB._document, "(block.title, block.context, text)", "(text,)"),
        Code(AB._document, "text = source.data", 'text = ""'),
        Code(AB._document, 'text = "\\n".join(', 'text = "".join('),
    ),
    "3.1 document: PDF": (
        Code(AB._document, '_text_of_pdf(source, f"{path}.source", pdf_text)', '""'),
        Code(AB._text_of_pdf, "return pdf_text(data)", "return no_pdf(data)"),
    ),
    "3.1 document: url": (
        Code(AB._document, 'raise bad(f"{path}.source", _why_not(source))', 'text = ""'),
    ),
    "3.1 search_result": (
        Entry(BLOCKS, "search_result", AB._nothing),
        Code(AB._search_result, "(block.title, where, text)", "(text,)"),
    ),
    "3.1 assistant text": (
        Code(CU._assistant, 'text_of(turn.parts, "")', 'text_of(turn.parts, "\\n")'),
    ),
    "3.1 tool_use": (
        Code(CU._assistant, "if calls:", "if False:"),
        Code(CU._assistant, '"id": part.id', '"id": "x"'),
        Code(
            AB._arguments,
            "msgspec.json.format(bytes(raw).decode(), indent=-1)",
            "bytes(raw).decode()",
        ),
        Code(
            AB._arguments,
            "msgspec.json.format(bytes(raw).decode(), indent=-1)",
            'msgspec.json.encode(msgspec.json.decode(raw), order="sorted").decode()',
        ),
    ),
    "3.1 tool_use.input as text, __unparsedToolInput, __raw_arguments": (
        Code(AB._arguments, "if text.startswith('\"'):", "if False:"),
        Code(AB._arguments, "'{\"__unparsedToolInput\":', ", ""),
        Code(AB._arguments, ", '{\"__raw_arguments\":'", ", '!'"),
    ),
    "3.1 thinking": (
        Code(CU._assistant, "message[engine.reasoning_key]", 'message["content"]'),
        Code(CU._assistant, 'thinking = "".join(', 'thinking = "\\n".join('),
        Code(AB._thinking_part, "if block.thinking", "if False"),
    ),
    "3.1 redacted_thinking": (Entry(BLOCKS, "redacted_thinking"),),
    "3.1 empty assistant turn": (
        Code(CU._assistant, 'text_of(turn.parts, "")}', 'text_of(turn.parts, "") or None}'),
        Code(
            A._turns, 'if parts or (message.role != "system"', 'if parts or (message.role == "user"'
        ),
    ),
    "3.1 tool_result, text": (
        Code(CU._tool_message, '"\\n".join(lines)', '"".join(lines)'),
        Code(CU._tool_message, '"tool_call_id": result.call_id', '"tool_call_id": "x"'),
    ),
    "3.1 tool_result … with an image": (
        Code(CU._user, "if not engine.image_in_tool:", "if False:"),
        Code(CU._user, "if not engine.image_in_tool:", "if True:"),
        Code(CU._tool_message, "else IMAGE_BELOW", 'else ""'),
        Code(CU._tool_message, "if engine.image_in_tool and", "if False and"),
    ),
    "3.1 tool_result … document, search_result": (
        Entry(BLOCKS, "document", AB._nothing),
        Entry(BLOCKS, "search_result", AB._nothing),
    ),
    "3.1 tool_result … empty": (
        Code(
            CU._user,
            "out.append(_tool_message(part, engine))",
            "out.extend([_tool_message(part, engine)] if part.content else [])",
        ),
    ),
    "3.1 is_error: true": (
        Code(CU._tool_message, "if result.is_error and", "if False and"),
        Code(CU._tool_message, 'not text.lower().startswith("error")', "True"),
    ),
    "3.1 tool_reference": (
        Entry(BLOCKS, "tool_reference", AB._nothing),
        Code(A._references_in, "return (b.tool_name for", "return () and (b.tool_name for"),
    ),
    "3.1 mixed user turn": (
        Code(
            CU._user,
            "if gathered:\n                    out.append",
            "if False:\n                    out.append",
        ),
    ),
    "3.1 result without call, call without result": (
        Code(CU._messages, FOLDS, "in_place(turns)"),
        Code(turns._answered, "elif part.call_id in missing:", "elif missing and False:"),
        Code(turns._stub_missing, "if not missing:", "if True:"),
    ),
    "3.1 server_tool_use and its results": (
        Entry(BLOCKS, "server_tool_use"),
        Entry(BLOCKS, "web_search_tool_result"),
    ),
    "3.1 tools, custom": (
        Code(CU._tool, "if tool.description is not None:", "if False:"),
        Code(CU._tool, "tool.strict is not None and engine.strict_tools", "False"),
        Code(CU._tool, " and engine.strict_tools", ""),
        Code(CU.schema_for, "if engine.schema_bounds:", "if True:"),
        Code(
            T._custom,
            "Tool(param.name, schema,",
            "Tool(param.name, msgspec.json.encode(msgspec.json.decode(schema), order='sorted'),",
        ),
    ),
    "3.1 tools, typed, run by the client: bash_…, text_editor_…, memory_…": (
        Code(
            T.tool_of,
            "Tool(param.name or known.name, known.schema, known.description)",
            'Tool(param.name or known.name, b\'{"type":"object"}\', known.description)',
        ),
        Code(T.tool_of, "known.schema, known.description)", 'known.schema, "")'),
        Code(T.tool_of, "param.name or known.name", 'param.name or "tool"'),
    ),
    "3.1 tools … computer_…, browser_…": (
        Code(
            T.tool_of,
            'raise bad(f"{path}.type"',
            "return Tool('x', b'{}')\n    raise bad(f\"{path}.type\"",
        ),
        Value(T, "NO_SCREEN", ("none_",)),
    ),
    "3.1 tools, run by Anthropic": (
        Code(IS_SERVERS, "self.type.startswith(SERVER_TOOLS)", "False"),
        Code(T.tools_of, "if dropped and not shown", "if False"),
    ),
    "3.1 defer_loading": (
        Code(T.tools_of, "if shows_all or not param.defer_loading:", "if True:"),
        Code(T.tools_of, "if shows_all or", "if"),
        Code(
            T.tools_of,
            "shown[change.name] = known[change.name]",
            "shown = {change.name: known[change.name], **shown}",
        ),
    ),
    "3.1 tool_choice auto, any, none": (
        Code(
            CU._put_tools,
            "if engine.tool_choice:",
            "if engine.tool_choice and request.tool_choice:",
        ),
        Entry(CU._CHOICES, "any", "any"),
        Entry(CU._CHOICES, "none", "auto"),
    ),
    "3.1 tool_choice … none, engine ignores tool_choice": (
        Code(CU._put_tools, 'if choice.mode == "none" and not engine.tool_choice:', "if False:"),
    ),
    "3.1 tool_choice … any, tool, engine ignores tool_choice": (
        Code(CU._put_tools, 'if choice.mode in ("any", "named"):', "if False:"),
        Code(CU.refuse_choice, 'if "tool_choice" in engine.ignores:', "if False:"),
    ),
    "3.1 tool_choice … tool": (
        Code(
            CU._put_tools,
            'if choice.mode == "named" and not engine.named_tool_choice:',
            "if False:",
        ),
        Code(CU._put_tools, 'choice = ToolChoice("any")', 'choice = ToolChoice("auto")'),
        Code(CU._put_tools, '"function": {"name": choice.name}', '"function": {}'),
        Code(CU._put_tools, 'if choice.mode == "named" and not any(', "if False and not any("),
    ),
    "3.1 disable_parallel_tool_use": (
        Code(A._request, "False if choice and choice.disable_parallel_tool_use else None", "None"),
        Code(CU._put_tools, " and engine.parallel_tool_calls", ""),
        Code(AA.encode_message, "if not (single_call and calls)", "if True"),
    ),
    "3.1 last turn is the assistant's": (
        Code(CU.encode, "body.update(engine.prefill)", "pass"),
        Code(
            CU.encode,
            'if _ends_in_prefill(body["messages"]):',
            'if _ends_in_prefill(body["messages"]) or True:',
        ),
        Code(CU._ends_in_prefill, '["content"].rstrip()', '["content"]'),
        Code(CU._ends_in_prefill, "while len(messages) > 1 and", "while False and"),
    ),
    "3.1 unknown block type": (
        Code(
            AB.parts_of,
            "if read is None:",
            "if read is None:\n            continue\n        if not read:",
        ),
    ),
    "3.1 unknown field": (STRICT,),
    "3.1 count_tokens": (
        Code(proxy.Proxy._exact_count, "if endpoint.engine.token_count is None:", "if False:"),
        Code(A._request, "wire.max_tokens is None and not counting", "wire.max_tokens is None"),
        Entry(asking.COUNT_ROUTES, "tokenize", ("/v1/messages/count_tokens", "input_tokens")),
        Entry(
            asking.COUNT_ROUTES,
            "chat_input_tokens",
            ("/v1/messages/count_tokens", "input_tokens"),
        ),
    ),
}
