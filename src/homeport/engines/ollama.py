"""Ollama: facts of its OpenAI side, from its documentation (autumn 2026; not run yet)."""

from homeport.facts import EngineFacts

FACTS = EngineFacts(
    engine="ollama",
    reasoning_key="reasoning",
    named_tool_choice=False,
    tool_choice=False,  # ignored
    parallel_tool_calls=False,
    strict_tools=False,
    schema_bounds=False,  # llama.cpp's grammars inside
    template_kwargs=False,
    extensions=frozenset(),  # top_k and the like only on its own API
)
