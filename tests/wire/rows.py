"""The rows of docs/dialects.md chapter 3, the tests that show them, and what switches each rule off.

``page_rows`` reads the tables of the page, ``cases`` the tests marked
``@pytest.mark.row("3.1 top_k")``, and ``ROWS`` has for every row one or more mutations: small changes
of the source under which a case of that row must fail. ``test_rows`` compares the three;
``python -m tests.wire.mutate`` runs the mutants.

A row's name is its section and its first cell less the marks of code; where the cell continues the one
above ("… empty"), that one's first word stands in front.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from homeport.engines import llamacpp, mlx, ollama, openai_compatible, sglang, trtllm, vllm
from homeport.server import answer_stream, asking, calls, context_fit, proxy, responses
from homeport.server.mending import Mending
from homeport.wire import (
    anthropic,
    anthropic_answer,
    anthropic_stream,
    anthropic_tools,
    anthropic_upstream,
    messages_relay,
    openai_chat,
    openai_chat_answer,
    openai_chat_neutral,
    openai_chat_stream,
    openai_chat_upstream,
    openai_responses,
    openai_responses_answer,
    openai_responses_stream,
    openai_responses_tools,
    serial_calls,
    sse,
    turns,
)
from tests.wire import engine_rows, text_rows
from tests.wire.mutations import Code, Entry, Mutation, Value, facts

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "dialects.md"
SECTIONS = ("3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7", "3.10", "3.11", "3.12", "3.13", "3.14")

# --------------------------------------------------------------------------- the page


@dataclass(frozen=True)
class PageRow:
    name: str
    is_open: bool
    """Whether the page says that something of it is not done."""


def page_rows() -> list[PageRow]:
    """The rows of the tables. A section without a table is one row, which must say "not done"."""
    text = PAGE.read_text("utf-8")
    return [row for section in SECTIONS for row in _rows_of(section, text)]


def _rows_of(section: str, text: str) -> Iterator[PageRow]:
    found = re.search(rf"^### {re.escape(section)} .*?(?=^##)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/dialects.md has no section {section}"
    lines = [line for line in found[0].splitlines() if line.startswith("|")][2:]
    base = ""
    for line in lines:
        name = line.split("|")[1].strip().replace("`", "")
        if name.startswith("…"):
            name = f"{base} {name}"
        else:
            base = name.split()[0].strip(",:")
        yield PageRow(f"{section} {name}", "**not done" in line.lower())
    if not lines:  # a list: the name of a point goes up to its first arrow, colon, or full stop
        for point in re.findall(r"^- .*(?:\n  .*)*", found[0], re.MULTILINE):
            name = re.split(r" → | = |[:;]|\.(?:\s|$)", point[2:].replace("\n ", ""))[0]
            yield PageRow(f"{section} {re.sub('[`*]', '', name)}", "**not done" in point.lower())


# --------------------------------------------------------------------------- the cases


def cases() -> dict[str, list[str]]:
    """Row → the tests marked with it, as ``path::function``."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text("utf-8")
        if "mark.row(" not in source:
            continue
        for function in ast.walk(ast.parse(source)):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            case = f"{path.relative_to(TESTS.parent).as_posix()}::{function.name}"
            for row in _marks(function):
                found.setdefault(row, []).append(case)
    return found


def _marks(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.row":
                yield from (ast.literal_eval(argument) for argument in node.args)


# --------------------------------------------------------------------------- the rows

A, AA, T, C, S = (
    anthropic,
    anthropic_answer,
    anthropic_tools,
    openai_chat,
    anthropic_stream.AnthropicStream,
)
D, Calls, Call = openai_chat_answer.Decoder, openai_chat_answer._Calls, openai_chat_answer._Call
R, RT, RA = openai_responses, openai_responses_tools, openai_responses_answer
RS = openai_responses_stream.ResponsesStream
BLOCKS, FINISH = anthropic.BLOCKS, openai_chat_answer.FINISH
U, UD, N = anthropic_upstream, anthropic_upstream.Decoder, openai_chat_neutral
CS, MR, Serial = openai_chat_stream, messages_relay, serial_calls.SerialCalls
CU = openai_chat_upstream
STREAM, FOLDS = answer_stream.AnswerStream, "pair_tool_results(in_place(turns))"
DECODED = "_request(_decoder.decode(body), counting=counting, pdf_text=pdf_text)"
USAGE_SUM = vars(U.UsageSum)["neutral"].fget
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
        Code(A._request, "wire.stop_sequences or () if s)", "wire.stop_sequences or ())"),
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
        Entry(BLOCKS, "tool_addition", A._nothing),
        Entry(BLOCKS, "tool_removal", A._nothing),
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
        Entry(A.REFUSED, "container_upload"),
        Entry(A.REFUSED, "browser_state"),
        Entry(BLOCKS, "container_upload", A._nothing),
        Entry(BLOCKS, "browser_state", A._nothing),
    ),
    "3.1 user text": (
        Code(CU._user_message, 'text_of(tuple(parts), "\\n")', 'text_of(tuple(parts), " ")'),
        Code(
            CU._user_message, "if not any(isinstance(part, Image) for part in parts):", "if False:"
        ),
    ),
    "3.1 image, base64": (
        Code(A._image, "f\"data:{source.media_type or 'image/png'};base64,{source.data}\"", '""'),
    ),
    "3.1 image, url": (Code(A._image, "return (Image(source.url),)", "return ()"),),
    "3.1 image, document by file id": (
        Code(A._image, 'why = "', 'if source.type == "file":\n        return ()\n    why = "'),
        Code(A._document, 'raise bad(f"{path}.source", _why_not(source))', 'text = ""'),
    ),
    "3.1 document: text, content": (
        Code(A._document, "(block.title, block.context, text)", "(text,)"),
        Code(A._document, "text = source.data", 'text = ""'),
        Code(A._document, 'text = "\\n".join(', 'text = "".join('),
    ),
    "3.1 document: PDF": (
        Code(A._document, '_text_of_pdf(source, f"{path}.source", pdf_text)', '""'),
        Code(A._text_of_pdf, "return pdf_text(data)", "return no_pdf(data)"),
    ),
    "3.1 document: url": (
        Code(A._document, 'raise bad(f"{path}.source", _why_not(source))', 'text = ""'),
    ),
    "3.1 search_result": (
        Entry(BLOCKS, "search_result", A._nothing),
        Code(A._search_result, "(block.title, where, text)", "(text,)"),
    ),
    "3.1 assistant text": (
        Code(CU._assistant, 'text_of(turn.parts, "")', 'text_of(turn.parts, "\\n")'),
    ),
    "3.1 tool_use": (
        Code(CU._assistant, "if calls:", "if False:"),
        Code(CU._assistant, '"id": part.id', '"id": "x"'),
        Code(
            A._arguments,
            "msgspec.json.format(bytes(raw).decode(), indent=-1)",
            "bytes(raw).decode()",
        ),
        Code(
            A._arguments,
            "msgspec.json.format(bytes(raw).decode(), indent=-1)",
            'msgspec.json.encode(msgspec.json.decode(raw), order="sorted").decode()',
        ),
    ),
    "3.1 tool_use.input as text, __unparsedToolInput, __raw_arguments": (
        Code(A._arguments, "if text.startswith('\"'):", "if False:"),
        Code(A._arguments, "'{\"__unparsedToolInput\":', ", ""),
        Code(A._arguments, ", '{\"__raw_arguments\":'", ", '!'"),
    ),
    "3.1 thinking": (
        Code(CU._assistant, "message[engine.reasoning_key]", 'message["content"]'),
        Code(CU._assistant, 'thinking = "".join(', 'thinking = "\\n".join('),
        Code(A._thinking_part, "if block.thinking", "if False"),
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
        Entry(BLOCKS, "document", A._nothing),
        Entry(BLOCKS, "search_result", A._nothing),
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
        Entry(BLOCKS, "tool_reference", A._nothing),
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
            A._parts,
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
        Code(AA.encode_message, "if thinking:", "if False:"),
    ),
    "3.2 reasoning_content … its signature": (
        Code(AA.encode_message, '"signature": SIGNATURE', '"signature": ""'),
    ),
    "3.2 content, text or parts": (
        Code(AA.encode_message, "if any(text):", "if True:"),
        Code(D._delta, '"".join(part.text or "" for part in text)', "None"),
    ),
    "3.2 refusal": (
        Code(D._delta, "if delta.refusal:", "if False:"),
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
        Code(D._message, "if message.function_call is not None and not calls:", "if False:"),
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
        Code(D._finished, "(choice.stop_reason, choice.matched_stop)", "(choice.stop_reason,)"),
        Code(D._finished, "(choice.stop_reason, choice.matched_stop)", "(choice.matched_stop,)"),
        Code(D._finished, "if isinstance(s, str)", "if s is not None"),
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
        Code(D._delta, "        if text:\n", "        if text is not None:\n"),
    ),
    "3.3 6": (
        Code(D._delta, "events.append(TextDelta(text))", "events.insert(0, TextDelta(text))"),
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
        Code(D._delta, "if (text or thinking) and self._calls:", "if False:"),
        Code(S._delta, "self._leave_calls() + ", ""),
        Code(S._delta, "if self._kind == kind:", "if self._kind is not None:"),
    ),
    "3.3 13": (
        Code(S._close_block, 'if self._kind == "thinking":', "if False:"),
        Value(anthropic, "SIGNATURE", ""),
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
        Code(UD._begun, "call = self._count", "call = index"),
        Code(UD._stopped, "_encode(block.input or {}).decode()", '""'),
    ),
    "3.6 prompt_tokens": (
        Code(USAGE_SUM, " + (cached or 0)", ""),
        Code(USAGE_SUM, " + written", ""),
        Code(
            UD._frame,
            "self._usage.take(frame.usage)\n                return self._finished",
            "return self._finished",
        ),
    ),
    "3.6 pause_turn, stop_sequence and unknown reasons": (
        Entry(CS.FINISH_REASONS, "context_length", "stop"),
        Entry(CS.FINISH_REASONS, "refusal", "stop"),
        Entry(U.FINISH, "max_tokens", "end"),
        Entry(U.FINISH, "pause_turn", "length"),
        Code(
            UD._finished,
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
        Code(UD.feed, 'frame.error is not None or sse.event == "error"', "False"),
        Code(U.failure_of, '"overloaded" if', '"upstream" if'),
        Code(U.failure_of, 'if fault.kind == "context_overflow":', "if False:"),
        Code(UD.finish, "if self._has_finish:", "if True:"),
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
    # ----------------------------------------------------------------- 3.5, 3.10 to 3.12
    **text_rows.ROWS,
    # ----------------------------------------------------------------- 3.13, 3.14
    **engine_rows.ROWS,
}
