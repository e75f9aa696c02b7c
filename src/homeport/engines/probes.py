"""What a running engine can do, found out by asking: the table of probes, all pure.

A probe is one claim about the engine ("obeys tool_choice required"), the requests that test it and a
judge that reads the replies. ``runtime.check`` sends them; ``engines.records`` makes facts of what was
found.
"""

from typing import Final

from homeport.engines import judges
from homeport.engines import questions as q
from homeport.engines.findings import Ask, Probe
from homeport.facts import UpstreamDialect

PROBES: Final[tuple[Probe, ...]] = (
    Probe(
        "system_inside",
        "system turn in the middle",
        q.systems_inside(),
        judges.system_inside,
    ),
    Probe("tool_choice_auto", "tool_choice auto", (q.calling("auto"),), judges.auto),
    Probe(
        "tool_choice_required",
        "tool_choice required",
        (q.calling("required"),),
        judges.required,
    ),
    Probe("tool_choice_none", "tool_choice none", (q.calling("none"),), judges.none),
    Probe(
        "tool_choice_named",
        "tool_choice naming a tool",
        (
            q.calling(
                {"type": "function", "function": {"name": "get_time"}},
                q.tool(),
                q.tool("get_time"),
            ),
        ),
        judges.named,
    ),
    Probe(
        "parallel_tool_calls",
        "parallel_tool_calls is taken",
        (q.chat(q.WEATHER, tools=(q.tool(),), parallel_tool_calls=False),),
        judges.accepted,
    ),
    Probe(
        "schema",
        "response_format json_schema is obeyed",
        (q.chat(q.WEATHER, response_format=q.SCHEMA, max_tokens=q.CALL),),
        judges.obeyed,
    ),
    Probe(
        "schema_max_length",
        "tools survive a large maxLength",
        q.bounded({"maxLength": 100_000}),
        judges.survives,
    ),
    Probe(
        "schema_min_length",
        "tools survive a large minLength",
        q.bounded({"minLength": 2500}),
        judges.survives,
    ),
    Probe(
        "schema_pattern",
        "tools survive pattern",
        q.bounded({"pattern": "^(?!x)[A-Z]\\w+$"}),
        judges.survives,
    ),
    Probe(
        "schema_bounds",
        "tools survive numeric bounds",
        q.bounded({"exclusiveMinimum": 0.5, "maximum": 1e18}, "number"),
        judges.survives,
    ),
    Probe("image", "image in a user turn", (q.chat(q.SEEN),), judges.sees),
    Probe(
        "image_in_tool",
        "image in a tool result",
        (
            q.chat(q.SEEN),
            q.chat(
                q.WEATHER,
                q.CALLED,
                {**q.RESULT, "content": [q.IMAGE]},
                tools=(q.tool(),),
            ),
        ),
        judges.image_in_tool,
    ),
    Probe(
        "reasoning_content",
        "replayed reasoning_content is read",
        q.replay("reasoning_content"),
        judges.replayed,
    ),
    Probe("reasoning", "replayed reasoning is read", q.replay("reasoning"), judges.replayed),
    Probe(
        "reasoning_effort",
        "reasoning_effort is taken",
        (q.chat(reasoning_effort="low"),),
        judges.accepted,
    ),
    Probe(
        "template_kwargs",
        "chat_template_kwargs is taken",
        (q.chat(chat_template_kwargs={"enable_thinking": False}),),
        judges.accepted,
    ),
    Probe("top_k", "top_k is taken", (q.chat(top_k=20),), judges.accepted),
    Probe(
        "stream_usage",
        "usage in a stream",
        (q.chat(stream=True, stream_options={"include_usage": True}),),
        judges.stream_usage,
    ),
    Probe(
        "count_chat_input_tokens",
        "exact count: /v1/chat/completions/input_tokens",
        (
            q.COUNTED,
            Ask(path="/v1/chat/completions/input_tokens", body=q.COUNTED.body),
        ),
        judges.counted("input_tokens"),
    ),
    Probe(
        "count_tokenize",
        "exact count: /tokenize",
        (q.COUNTED, Ask(path="/tokenize", body=q.COUNTED.body)),
        judges.counted("count"),
    ),
    Probe("stop", "stops at a stop string", (q.chat(stop=[" "]),), judges.stops),
    Probe("stop_told", "tells which stop string", (q.chat(stop=[" "]),), judges.stop_told),
    Probe(
        "abort",
        "a closed connection frees the engine",
        (
            Ask(body={"messages": [q.LONG], "max_tokens": 2000, "stream": True}, leave=True),
            Ask(path="/slots"),
            q.chat(max_tokens=1),
        ),
        judges.freed,
    ),
    Probe(
        "messages",
        "its own /v1/messages has Anthropic's shape",
        (q.chat(), q.messages(), q.messages()),
        judges.is_message,
    ),
    Probe(
        "messages_stream",
        "… streams in its order",
        (q.messages(stream=True),),
        judges.is_message_stream,
    ),
    Probe(
        "messages_tools",
        "… calls a tool that it must call",
        (q.messages_call(), q.messages_call(stream=True)),
        judges.is_tool_use,
    ),
    Probe(
        "messages_stop",
        "… tells which stop sequence",
        (q.messages(stop_sequences=[" "]),),
        judges.tells_stop_sequence,
    ),
    Probe(
        "responses",
        "its own /v1/responses has OpenAI's shape",
        (q.chat(), q.response(), q.response()),
        judges.is_response,
    ),
    Probe(
        "responses_stream",
        "… streams in its order",
        (q.response(stream=True),),
        judges.is_response_stream,
    ),
    Probe(
        "responses_tools",
        "… calls a tool that it must call",
        (q.response_call(), q.response_call(stream=True)),
        judges.is_function_call,
    ),
    Probe(
        "responses_schema",
        "… obeys a schema",
        (
            q.response(
                q.WEATHER["content"],
                text={"format": q.RESPONSE_SCHEMA},
                max_output_tokens=q.CALL,
            ),
        ),
        judges.response_obeys,
    ),
    Probe(
        "responses_reasoning",
        "… takes an effort, reads replayed reasoning",
        (
            q.response(reasoning={"effort": "low"}),
            q.response_with_tool(q.CALLS, q.CALLS_RESULT),
            q.response_with_tool(q.THINKS, q.CALLS, q.CALLS_RESULT),
        ),
        judges.response_thinks,
    ),
    Probe("models", "/v1/models lists models", (Ask(path="/v1/models"),), judges.is_list),
)
"""In the order in which they run; ``abort`` leaves work behind, so what follows it is short."""


def probes_for(dialect: UpstreamDialect) -> tuple[Probe, ...]:
    """Those that an upstream of this dialect can be asked."""
    if dialect == "openai_chat":
        return PROBES
    return tuple(probe for probe in PROBES if probe.feature.startswith(("messages", "models")))
