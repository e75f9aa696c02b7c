"""OpenAI Responses, the tools of a request: which of them the model sees, and under which names.

Here tools have namespaces and some take free text; engines know functions with flat names. A
``Callee`` says what a flat name stands for, for the way back. Tools that OpenAI's servers would run are
skipped, as long as the client leaves the choice to the model: Codex offers ``web_search`` with every
request. That one alone may be run here, by whoever searches for the gateway.
"""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from homeport.errors import ClientError
from homeport.wire.events import SearchWish, Tool, ToolChoice
from homeport.wire.faults import BAD_BODY

Raw = msgspec.Raw
ABSENT = Raw()
"""msgspec hands a value over as raw bytes only where the type is ``Raw`` alone, so absence is an
empty ``Raw``, and ``null`` counts as absent."""


class ToolParam(msgspec.Struct):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: Raw = ABSENT
    strict: bool | None = None
    format: Raw = ABSENT
    tools: "list[ToolParam] | None" = None
    external_web_access: bool | None = None


class ToolChoiceParam(msgspec.Struct):
    type: str
    name: str | None = None
    namespace: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list["ToolChoiceParam"] | None = None


def bad(path: str, message: str) -> ClientError:
    return ClientError("invalid_request", f"{path}: {message}", param=path)


def is_given(raw: Raw) -> bool:
    return bytes(raw) not in (b"", b"null")


class Callee(msgspec.Struct, frozen=True):
    """What a flat tool name stands for on the client's side."""

    kind: Literal["function", "custom"]
    name: str
    namespace: str | None = None


def flat_name(namespace: str | None, name: str) -> str:
    return f"{namespace}__{name}" if namespace else name


def tools_of(
    groups: Iterable[tuple[Iterable[ToolParam], str]],
) -> tuple[tuple[Tool, ...], dict[str, Callee], list[str]]:
    """The tools that the model sees, what their names stand for, and the types skipped. Each group
    comes with its path.
    """
    tools: dict[str, Tool] = {}
    callees: dict[str, Callee] = {}
    hosted: list[str] = []
    for params, path in groups:
        for i, (param, namespace) in enumerate(_flattened(params)):
            if param.type not in ("function", "custom"):
                hosted.append(param.type)
                continue
            tool, callee = _tool(param, namespace, f"{path}.{i}")
            if callees.setdefault(tool.name, callee) != callee:
                raise bad(f"{path}.{i}.name", f"two different tools are called '{tool.name}'")
            tools.setdefault(tool.name, tool)
    return tuple(tools.values()), callees, hosted


def search_wish(params: Iterable[ToolParam]) -> SearchWish | None:
    """Of the real web only: OpenAI's cache of it (``external_web_access: false``) nobody has here."""
    for param in params:
        if _is_search(param.type):
            return SearchWish() if param.external_web_access is not False else None
    return None


def _is_search(type_: str) -> bool:
    return type_.startswith("web_search")


def _flattened(params: Iterable[ToolParam]) -> Iterable[tuple[ToolParam, str | None]]:
    for param in params:
        if param.type == "namespace":
            for inner in param.tools or ():
                yield inner, param.name
        else:
            yield param, None


def _tool(param: ToolParam, namespace: str | None, path: str) -> tuple[Tool, Callee]:
    if not param.name:
        raise bad(f"{path}.name", "Field required")
    name = flat_name(namespace, param.name)
    if param.type == "custom":
        tool = Tool(name, CUSTOM_SCHEMA, _custom_description(param))
        return tool, Callee("custom", param.name, namespace)
    schema = bytes(param.parameters) if is_given(param.parameters) else NO_PARAMETERS
    if not schema.startswith(b"{"):
        raise bad(f"{path}.parameters", "Expected `object`")
    # Here a tool is strict unless it says otherwise; in Chat Completions it is the other way round.
    strict = True if param.strict is None else param.strict
    return Tool(name, schema, param.description, strict), Callee("function", param.name, namespace)


SEARCH_NAME = "web_search"
"""The function that a model is shown in place of the hosted tool (``web_search.TOOL``)."""

NO_PARAMETERS = b'{"type":"object","properties":{}}'
CUSTOM_SCHEMA = (
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],'
    b'"additionalProperties":false}'
)
"""A custom tool takes free text; engines know functions only."""


def _custom_description(param: ToolParam) -> str | None:
    """The grammar cannot be enforced, but the model can be told of it."""
    if not is_given(param.format):
        return param.description
    try:
        format_ = msgspec.json.decode(param.format, type=dict[str, Any])
    except BAD_BODY:
        return param.description
    definition = format_.get("definition")
    if not isinstance(definition, str):
        return param.description
    rule = f"The input must follow this {format_.get('syntax', 'lark')} grammar:\n{definition}"
    return f"{param.description}\n\n{rule}" if param.description else rule


def chosen(
    choice: str | ToolChoiceParam | None,
    tools: tuple[Tool, ...],
    hosted: list[str],
    wish: SearchWish | None,
) -> tuple[tuple[Tool, ...], ToolChoice | None, SearchWish | None]:
    """The tools left, the neutral choice, and the search left; ``wish`` is None where nobody searches.

    1. ``auto``, ``none``: hosted tools are skipped in silence. 2. ``required``: so they are as long as
    something else can be called. 3. One tool by name. 4. A list of allowed tools: only those are shown,
    and only their hosted ones count. 5. A search, which somebody runs. 6. Another hosted tool by type:
    refused.
    """
    match choice:
        case None:
            return tools, None, wish
        case "auto" | "none":  # case 1
            return tools, ToolChoice(choice), wish
        case "required":  # case 2
            if not tools and wish is None:
                _refuse_hosted(hosted)
            return tools, ToolChoice("any"), wish
        case str():
            raise bad("tool_choice", f"'{choice}' is none of auto, none, required")
        case ToolChoiceParam(type="function" | "custom"):  # case 3
            if not choice.name:
                raise bad("tool_choice.name", "Field required")
            return tools, ToolChoice("named", flat_name(choice.namespace, choice.name)), wish
        case ToolChoiceParam(type="allowed_tools"):  # case 4
            return _allowed(choice, tools, wish)
        case _ if wish is not None and _is_search(choice.type):  # case 5
            return tools, ToolChoice("named", SEARCH_NAME), wish
        case _:  # case 6
            raise _hosted(choice.type)


def _allowed(
    choice: ToolChoiceParam, tools: tuple[Tool, ...], wish: SearchWish | None
) -> tuple[tuple[Tool, ...], ToolChoice, SearchWish | None]:
    allowed = choice.tools or []
    hosted = [a.type for a in allowed if a.type not in ("function", "custom")]
    names = {flat_name(a.namespace, a.name) for a in allowed if a.name}
    shown = tuple(tool for tool in tools if tool.name in names)
    if not any(map(_is_search, hosted)):
        wish = None
    if choice.mode != "required":
        return shown, ToolChoice("auto"), wish
    if not shown and wish is None:
        _refuse_hosted(hosted)
    return shown, ToolChoice("any" if shown or wish is not None else "auto"), wish


def _refuse_hosted(types: list[str]) -> None:
    if types:
        raise _hosted(types[0])


def _hosted(type_: str) -> ClientError:
    why = "is run by OpenAI's servers and not available here"
    if _is_search(type_):
        why = "must be called, and nobody here searches the web for it"
    return bad("tool_choice", f"the tool '{type_}' {why}; with 'auto' the model goes on without it")
