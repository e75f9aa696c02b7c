"""What a request asks of a dialect, feature by feature.

An engine's own ``/v1/messages`` may be right in some of it and wrong elsewhere. The engine's record
(``EngineFacts.native_messages``) names what is right; a request that asks for nothing else may pass
through as it is.
"""

from homeport.facts import Feature
from homeport.wire.events import Image, Request, Thinking, ToolResult


def features_of(request: Request) -> frozenset[Feature]:
    """The features that ``request`` uses; plain text turns are none."""
    used: set[Feature] = set()
    if request.stream:
        used.add("stream")
    if any(turn.role == "system" for turn in request.turns[1:]):
        used.add("system_inside")
    if request.tools:
        used.add("tools")
    if request.tool_choice is not None and request.tool_choice.mode != "auto":
        used.add("tool_choice")
    if request.parallel_tool_calls is False:
        used.add("tool_choice")
    if request.response_format is not None:
        used.add("schema")
    if request.stop:
        used.add("stop_sequences")
    if request.thinking is not None or request.effort is not None:
        used.add("thinking")
    if request.turns and request.turns[-1].role == "assistant":
        used.add("prefill")
    for turn in request.turns:
        for part in turn.parts:
            match part:
                case Image():
                    used.add("images")
                case Thinking():
                    used.add("thinking")
                case ToolResult(content=content, is_error=is_error):
                    used.add("tools")
                    if is_error:
                        used.add("tool_errors")
                    if any(isinstance(inner, Image) for inner in content):
                        used.add("tool_images")
                case _:
                    pass
    return frozenset(used)
