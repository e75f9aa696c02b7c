"""Conversation surgery: what chat templates demand of a turn list, done without moving bytes.

A prompt's head must not change from one request to the next, or the engine's KV cache is lost.
So nothing here is ever hoisted to the front: a system turn in the middle stays where it stands, as a
turn of its own where the template is known to take it and folded into its neighbour elsewhere, and a
missing tool result is filled in where it belongs.
"""

from homeport.wire.events import Part, Text, ToolCall, ToolResult, Turn

FOLDED = "<system>\n{}\n</system>"
"""How an instruction looks inside a user turn. Fixed for ever: changing it voids cached prefixes."""

NO_RESULT = "[no result: the call was not answered]"


def text_of(parts: tuple[Part, ...], joiner: str) -> str:
    """The text parts, joined; empty ones do not count."""
    if len(parts) == 1 and isinstance(one := parts[0], Text):
        return one.text
    return joiner.join(part.text for part in parts if isinstance(part, Text) and part.text)


def fold_system_turns(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Folds every system turn but the leading one into a neighbouring user turn.

    1. After a user turn: appended to it; if that turn ends in a tool result, inside the result
       (a user turn after tool results makes some templates drop the reasoning before them).
    2. After an assistant turn, before a user turn: put in front of the user's text, or into the
       last tool result, never between a call and its result.
    3. Between two assistant turns, and at the very end: a user turn of its own.
    """
    if "system" not in [turn.role for turn in turns[1:]]:
        return turns
    out: list[Turn] = list(turns[:1])
    waiting: list[Text] = []
    for turn in turns[1:]:
        if turn.role == "system":
            text = text_of(turn.parts, "\n\n")
            if text:
                waiting.append(Text(FOLDED.format(text)))
            if waiting and out[-1].role == "user":  # case 1
                out[-1] = _with_notes(out[-1], waiting)
                waiting = []
            continue
        if waiting and turn.role == "user":  # case 2
            turn = _with_notes(turn, waiting, in_front=True)
            waiting = []
        elif waiting:  # case 3
            out.append(Turn("user", tuple(waiting)))
            waiting = []
        out.append(turn)
    if waiting:  # case 3
        out.append(Turn("user", tuple(waiting)))
    return tuple(out)


def keep_system_turns(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Every system turn as a turn of its own where it stands, for templates that take it there.

    But never between a call and its result, which no template takes: there it waits until the results
    are through, and at most until the assistant speaks again (a call may stay unanswered).
    """
    out: list[Turn] = []
    waiting: list[Turn] = []
    unanswered: set[str] = set()
    for turn in turns:
        if turn.role == "system" and unanswered:
            waiting.append(turn)
            continue
        if turn.role == "assistant":
            out += waiting
            waiting = []
            unanswered = {part.id for part in turn.parts if isinstance(part, ToolCall)}
        elif unanswered:
            unanswered -= {part.call_id for part in turn.parts if isinstance(part, ToolResult)}
        out.append(turn)
        if not unanswered:
            out += waiting
            waiting = []
    return (*out, *waiting)


def _with_notes(turn: Turn, notes: list[Text], *, in_front: bool = False) -> Turn:
    parts = list(turn.parts)
    last_result = max(
        (i for i, part in enumerate(parts) if isinstance(part, ToolResult)), default=None
    )
    if last_result is not None and (in_front or last_result == len(parts) - 1):
        result = parts[last_result]
        assert isinstance(result, ToolResult)
        parts[last_result] = ToolResult(result.call_id, (*result.content, *notes), result.is_error)
        return Turn(turn.role, tuple(parts))
    return Turn(turn.role, (*notes, *parts) if in_front else (*parts, *notes))


def pair_tool_results(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Makes every tool call answered and every tool result belong to a call.

    Anthropic refuses such histories; local templates mostly render nonsense. Clients produce them
    when a turn was interrupted, so: a missing result is stubbed, an orphan becomes user text. The
    user turns after an assistant turn count as one: some clients send one turn for each result.
    """
    out: list[Turn] = []
    unanswered: list[str] = []
    for turn in turns:
        if turn.role == "user":
            turn, unanswered = _answered(turn, unanswered)
        else:
            _stub_missing(out, unanswered)
            unanswered = [part.id for part in turn.parts if isinstance(part, ToolCall)]
        out.append(turn)
    _stub_missing(out, unanswered)
    return tuple(out)


def _answered(turn: Turn, unanswered: list[str]) -> tuple[Turn, list[str]]:
    """The turn with its orphans as text, and the calls that it leaves unanswered."""
    if ToolResult not in map(type, turn.parts):
        return turn, unanswered
    missing = list(unanswered)
    parts: list[Part] = []
    for part in turn.parts:
        if not isinstance(part, ToolResult):
            parts.append(part)
        elif part.call_id in missing:
            missing.remove(part.call_id)
            parts.append(part)
        else:
            parts.extend(part.content or (Text("[an empty tool result]"),))
    return (turn if tuple(parts) == turn.parts else Turn(turn.role, tuple(parts))), missing


def _stub_missing(out: list[Turn], missing: list[str]) -> None:
    """Puts stubs behind the last result after the last assistant turn of ``out``; without a result,
    in front of the user's text."""
    if not missing:
        return
    stubs = [ToolResult(call_id, (Text(NO_RESULT),), is_error=True) for call_id in missing]
    run = len(out)
    while run > 0 and out[run - 1].role == "user":
        run -= 1
    if run == len(out):
        out.append(Turn("user", tuple(stubs)))
        return
    at, after = run, 0
    for i in range(run, len(out)):
        for j, part in enumerate(out[i].parts):
            if isinstance(part, ToolResult):
                at, after = i, j + 1
    parts = out[at].parts
    out[at] = Turn("user", (*parts[:after], *stubs, *parts[after:]))
