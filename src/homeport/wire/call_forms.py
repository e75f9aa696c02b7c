"""How models print tool calls as text: one row of ``FORMS`` for each way.

An engine parses its model's tool calls only when it knows the template, was started with the right
flag, and the model keeps to the form; otherwise the call arrives as text. A row says how such a
text begins (``heads``, patterns of ``call_text``), how a call ends, and how its body is read. The
facts come from the models' chat templates and cards; names and dates stand beside the rows. When a
recognised text becomes a call is ``rescue``'s business.
"""

from dataclasses import dataclass, field
from typing import Final

from homeport.wire.call_python import PythonScan, python_calls
from homeport.wire.call_text import (
    Head,
    JsonScan,
    Read,
    Tags,
    TagScan,
    compile_head,
    json_arguments,
    json_calls,
)


@dataclass(frozen=True)
class Form:
    """One way to print a call. ``is_marked`` forms cannot be mistaken for prose or data: their calls
    count even when text follows. The others count only where they are the whole answer."""

    name: str
    models: str
    heads: tuple[str, ...]
    read: Read
    close: str = ""
    """For tags: what ends the list of parameters. For JSON: what cuts a broken object short."""
    parameter_close: str = ""
    """For tags only."""
    after: tuple[str, ...] = ()
    """Marks that may stand after a call and are no text."""
    is_marked: bool = True
    compiled: tuple[Head, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        heads = tuple(head for pattern in self.heads for head in compile_head(pattern))
        object.__setattr__(self, "compiled", heads)

    def scan(self, start: int) -> JsonScan | TagScan | PythonScan:
        if self.read is python_calls:
            return PythonScan(start, self.close)
        if self.parameter_close:
            return TagScan(start, self.close, self.parameter_close)
        return JsonScan(start, self.close)


_NAMED = '{~«"type"~:~"function"~,~»«"function"~:~{~»"name"~:~"@"'
"""An object that names its tool first, as all but Hermes' own prompt have it; OpenAI's shape too."""
_OBJECT = "^" + _NAMED
_LIST = "^«[~»" + _NAMED

END_OF_TURN: Final = (
    "<|im_end|>",  # ChatML: Qwen, Hermes
    "<|eot_id|>",  # Llama 3
    "<|eom_id|>",
    "<|eot|>",  # Llama 4
    "<|eom|>",
    "<|end|>",  # Phi, gpt-oss
    "<|call|>",  # gpt-oss
    "</s>",  # Mistral
    "<｜end▁of▁sentence｜>",  # DeepSeek
)
"""What leaks behind a call when an engine prints special tokens; it is no text in any form."""

_QWEN_TAGS = Tags("<parameter=", ">", "", "</parameter>")
_GLM_TAGS = Tags("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
_INVOKE_TAGS = Tags('<parameter name="', '"', ">", "</parameter>")
_DSML_TAGS = Tags('<｜DSML｜parameter name="', '"', ">", "</｜DSML｜parameter>")

FORMS: Final[tuple[Form, ...]] = (
    Form(
        "hermes",
        "Hermes 2 Pro (2024-03), Qwen2.5 (2024-09), Qwen3 (2025-04), Granite 3.1 (2024-12: a list)",
        (f"<tool_call>~{_LIST}", '<tool_call>~^{~"arguments"~:'),  # Hermes' prompt: arguments first
        json_calls,
        close="</tool_call>",
        after=("</tool_call>",),
    ),
    Form(
        "qwen_tools",
        "Qwen2.5-Coder (2024-11): takes the tag around the declarations for the one around a call",
        (f"<tools>~{_LIST}",),
        json_calls,
        close="</tools>",
        after=("</tools>",),
    ),
    Form(
        "function_call",
        "InternLM, Phi and fine-tunes on older sets (2024): the OpenAI word as a tag",
        (f"<function_call>~{_LIST}",),
        json_calls,
        close="</function_call>",
        after=("</function_call>",),
    ),
    Form(
        "qwen3_coder",
        "Qwen3-Coder (2025-07), Nemotron 3 (2025-12), Qwen3.5 (2026-02); often without the outer tag",
        ("«<tool_call>~»<function=@>~^<parameter=", "«<tool_call>~»<function=@>~^</function>"),
        _QWEN_TAGS.arguments,
        close="</function>",
        parameter_close="</parameter>",
        after=("</function>", "</tool_call>"),
    ),
    Form(
        "function_tag",
        "Llama 3.1 (2024-07, its card's custom form), Functionary v3.1 (2024-08)",
        ("<function=@>~^{",),
        json_arguments,
        close="</function>",
        after=("</function>",),
    ),
    Form(
        "functionary",
        "Functionary v3.2 (2024-08)",
        (">>>@\n~^{",),
        json_arguments,
        close="",
    ),
    Form(
        "glm",
        "GLM-4.5 (2025-07), GLM-4.6 (2025-09), GLM-4.7 (2025-12)",
        ("<tool_call>~@~^<arg_key>", "<tool_call>~@~^</tool_call>"),
        _GLM_TAGS.arguments,
        close="</tool_call>",
        parameter_close="</arg_value>",
        after=("</tool_call>",),
    ),
    Form(
        "invoke",
        "MiniMax-M2 (2025-10); Kimi-K2 and others that learned it from Claude's transcripts",
        tuple(
            f'{wrapper}<invoke name="@">~^{first}'
            for wrapper in ("«<minimax:tool_call>~»", "<function_calls>~", "<tool_call>~")
            for first in ("<parameter", "</invoke>")
        ),
        _INVOKE_TAGS.arguments,
        close="</invoke>",
        parameter_close="</parameter>",
        after=("</invoke>", "</minimax:tool_call>", "</function_calls>", "</tool_call>"),
    ),
    Form(
        "dsml",
        "DeepSeek V3.2 (2025-12: function_calls), V4 (2026: tool_calls)",
        tuple(
            f'«<｜DSML｜{wrapper}>~»<｜DSML｜invoke name="@">~^{first}'
            for wrapper in ("function_calls", "tool_calls")
            for first in ("<｜DSML｜parameter", "</｜DSML｜invoke>")
        ),
        _DSML_TAGS.arguments,
        close="</｜DSML｜invoke>",
        parameter_close="</｜DSML｜parameter>",
        after=("</｜DSML｜invoke>", "</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"),
    ),
    Form(
        "mistral",
        "Mistral 7B v0.3 (2024-05) to Small 3.1 (2025-03): one list",
        (f"[TOOL_CALLS]~{_LIST}",),
        json_calls,
        after=("[/TOOL_CALLS]",),
    ),
    Form(
        "mistral_args",
        "Magistral (2025-06), Small 3.2 (2025-06), Devstral 2 (2025-12): a mark for each call",
        ("[TOOL_CALLS]~@~«[CALL_ID]~#~»«[ARGS]~»^{",),
        json_arguments,
    ),
    Form(
        "deepseek_v3",
        "DeepSeek V3 (2024-12), R1-0528 (2025-05): a fence inside the marks",
        ("«<｜tool▁calls▁begin｜>~»<｜tool▁call▁begin｜>~function~<｜tool▁sep｜>~@~```json~^{",),
        json_arguments,
        close="<｜tool▁call▁end｜>",
        after=("```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
    ),
    Form(
        "deepseek_v31",
        "DeepSeek V3.1 (2025-08)",
        ("«<｜tool▁calls▁begin｜>~»<｜tool▁call▁begin｜>~@~<｜tool▁sep｜>~^{",),
        json_arguments,
        close="<｜tool▁call▁end｜>",
        after=("<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
    ),
    Form(
        "kimi",
        "Kimi-K2 (2025-07), K2-Thinking (2025-11)",
        (
            "«<|tool_calls_section_begin|>~»<|tool_call_begin|>~«functions.»@:#~"
            "<|tool_call_argument_begin|>~^{",
        ),
        json_arguments,
        close="<|tool_call_end|>",
        after=("<|tool_call_end|>", "<|tool_calls_section_end|>"),
    ),
    Form(
        "harmony",
        "gpt-oss (2025-08); the last head is what is left of it without special tokens (MLX, 2026-05)",
        (
            "«<|start|>assistant»<|channel|>commentary~to=functions.@~"
            "«<|constrain|>»«json~»<|message|>~^{",
            "«<|start|>assistant»~to=functions.@<|channel|>commentary~"
            "«<|constrain|>»«json~»<|message|>~^{",
            "commentary~to=functions.@~«json~»^{",
        ),
        json_arguments,
        close="<|call|>",
    ),
    Form(
        "python_tag",
        "Llama 3.1 and 3.2 (2024-07, 2024-09)",
        (f"<|python_tag|>~{_OBJECT}",),
        json_calls,
        after=(";", "<|python_tag|>"),
    ),
    Form(
        "python_list",
        "Llama 4 (2025-04), LFM2 (2025-07) and LFM2.5; Olmo 3 (2025-11), without the brackets",
        (
            "<|python_start|>~^[~@(",  # vllm#16214: Llama 4 prints the token now and then
            "<|tool_call_start|>~^[~@(",
            "<function_calls>~^@(",
        ),
        python_calls,
        close="</function_calls>",
        after=("<|python_end|>", "<|tool_call_end|>", "</function_calls>"),
    ),
    Form(
        "tool_call_token",
        "Granite 3.2 and 3.3 (2025-02), Phi-4-mini (2025-02)",
        (f"<|tool_call|>~{_LIST}", f"functools~{_LIST}"),
        json_calls,
        close="<|/tool_call|>",
        after=("<|/tool_call|>", "</|tool_call|>"),
    ),
    Form(
        "cohere",
        "Command R7B (2024-12), Command A (2025-03)",
        ('<|START_ACTION|>~^[~{~«"tool_call_id"~:~"#"~,~»"tool_name"~:~"@"',),
        json_calls,
        close="<|END_ACTION|>",
        after=("<|END_ACTION|>",),
    ),
    Form(
        "bare_python_list",
        "Llama 3.2 and 4, by Meta's own prompts and vLLM's pythonic templates; ToolACE (2024-09)",
        ("^[~@(",),
        python_calls,
        is_marked=False,
    ),
    Form(
        "fence",
        "Qwen2.5-Coder (2024-11), Gemma 2 and 3, and small models in general",
        tuple(f"```{word}~{_LIST}" for word in ("«json»", "tool_call", "tool_code")),
        json_calls,
        after=("```",),
        is_marked=False,
    ),
    Form(
        "bare",
        "Llama 3.1 and 3.2 (parameters), Qwen2.5-Coder (arguments), small models in general",
        (_LIST,),
        json_calls,
        after=(";", ","),
        is_marked=False,
    ),
)
