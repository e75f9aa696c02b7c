"""The same requests three ways, on one real llama.cpp with the demo model:

- **homeport**: its own port;
- **beside**: LiteLLM as `--with-litellm` starts it;
- **alone**: LiteLLM as it comes, by the configuration that its users write (`hosted_vllm/NAME` and an
  `api_base`), which translates Messages by itself. Its engine is homeport's Chat Completions, which are
  llama.cpp's passed through.

A case says what the dialect wants (docs/dialects.md, and the vendors' references), asks, and returns
what is wrong with the answer; nothing where it is right. `python -m tests.support.side_by_side`
prints the page; the test compares it with the one in docs/.
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeport.demo import demo_model_path
from homeport.engines.llamacpp import DEFAULT_CTX
from homeport.litellm import VERSION
from tests.support import anthropic_grammar
from tests.support.litellm_beside import Beside
from tests.support.litellm_proxy import MASTER_KEY, LiteLLM

PAGE = Path(__file__).resolve().parents[2] / "docs" / "litellm-side-by-side.md"
MODEL = "native"
CHAT, MESSAGES, COUNT = "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"
HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
GPT_TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": CITY}}]
CLAUDE_TOOLS = [{"name": "get_weather", "input_schema": CITY}]
PIXEL = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
LONG = [{"role": "user", "content": "word " * (DEFAULT_CTX + 100)}]
TIMEOUT_S = 60

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Reply:
    status: int
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        data = [line[5:].strip() for line in self.raw.split(b"\n") if line.startswith(b"data:")]
        return [json.loads(each) for each in data if each != b"[DONE]"]


class Way:
    """One of the three."""

    def __init__(self, name: str, url: str, key: str = "local") -> None:
        self.name, self._url, self._key = name, url, key

    def ask(self, path: str, **fields: Any) -> Reply:
        limit = {} if path == COUNT else {"max_tokens": 96, "temperature": 0}
        body = {"model": MODEL, **limit, **fields}
        body = {name: value for name, value in body.items() if value is not None}
        headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
        headers |= {"authorization": f"Bearer {self._key}", "x-api-key": self._key}
        request = urllib.request.Request(self._url + path, json.dumps(body).encode(), headers)
        try:
            with _opener.open(request, timeout=TIMEOUT_S) as answer:
                return Reply(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read())


Check = Callable[[Way], str | None]
"""What is wrong; None where nothing is."""


@dataclass(frozen=True)
class Case:
    name: str
    wanted: str
    check: Check

    def run(self, way: Way) -> str | None:
        try:
            return self.check(way)
        except KeyError as error:
            return f"lacks `{error.args[0]}`"
        except (IndexError, TypeError, ValueError) as error:
            return f"not the shape of the dialect ({type(error).__name__}: {error})"


CASES: list[Case] = []


def case(name: str, wanted: str) -> Callable[[Check], Check]:
    def note(check: Check) -> Check:
        CASES.append(Case(name, wanted, check))
        return check

    return note


def refused(reply: Reply) -> str | None:
    return None if reply.status == 400 else f"{reply.status} in place of 400"


def short(value: object) -> str:
    text = " ".join(json.dumps(value, ensure_ascii=False).split())
    return f"`{text if len(text) <= 90 else text[:87] + '...'}`".replace("|", "\\|")


# --- Chat Completions ---------------------------------------------------------------------------


@case("Chat: a whole answer", "text, `stop`, and usage that adds up")
def _(way: Way) -> str | None:
    answer = way.ask(CHAT, messages=HELLO).body
    choice, usage = answer["choices"][0], answer["usage"]
    if not choice["message"]["content"] or choice["finish_reason"] != "stop":
        return short(choice)
    if usage["prompt_tokens"] + usage["completion_tokens"] != usage["total_tokens"]:
        return short(usage)
    return None if answer["model"] == MODEL else f"the model is called {short(answer['model'])}"


@case("Chat: a stream", "a role first, one `finish_reason`, `[DONE]` at the end")
def _(way: Way) -> str | None:
    reply = way.ask(CHAT, messages=HELLO, stream=True)
    choices = [c["choices"][0] for c in reply.chunks if c["choices"]]
    if choices[0]["delta"].get("role") != "assistant":
        return "no role in the first chunk"
    if sum(c.get("finish_reason") is not None for c in choices) != 1:
        return "not one finish_reason"
    return None if reply.raw.rstrip().endswith(b"data: [DONE]") else "no [DONE]"


@case("Chat: usage in a stream, if asked for", "a last chunk with usage and no choices")
def _(way: Way) -> str | None:
    options = {"include_usage": True}
    chunks = way.ask(CHAT, messages=HELLO, stream=True, stream_options=options).chunks
    if not chunks[-1].get("usage"):
        return "no usage in the last chunk"
    return "the last chunk has choices" if chunks[-1]["choices"] else None


@case("Chat: usage in a stream, if not asked for", "none")
def _(way: Way) -> str | None:
    found = [c for c in way.ask(CHAT, messages=HELLO, stream=True).chunks if c.get("usage")]
    return "usage all the same" if found else None


@case("Chat: a tool call", "`tool_calls`, arguments as JSON text")
def _(way: Way) -> str | None:
    choice = way.ask(CHAT, messages=WEATHER, tools=GPT_TOOLS).body["choices"][0]
    [call] = choice["message"]["tool_calls"]
    if json.loads(call["function"]["arguments"]) != {"city": "Paris"} or not call["id"]:
        return short(call)
    return None if choice["finish_reason"] == "tool_calls" else short(choice["finish_reason"])


@case("Chat: a tool call in a stream", "the same, in fragments that belong together")
def _(way: Way) -> str | None:
    chunks = way.ask(CHAT, messages=WEATHER, tools=GPT_TOOLS, stream=True).chunks
    choices = [c["choices"][0] for c in chunks if c["choices"]]
    calls = [call for c in choices for call in c["delta"].get("tool_calls") or ()]
    text = "".join(call["function"].get("arguments") or "" for call in calls)
    if json.loads(text) != {"city": "Paris"} or {call["index"] for call in calls} != {0}:
        return short(text)
    return None if choices[-1]["finish_reason"] == "tool_calls" else short(choices[-1])


@case("Chat: `tool_choice: none`", "no call")
def _(way: Way) -> str | None:
    reply = way.ask(CHAT, messages=WEATHER, tools=GPT_TOOLS, tool_choice="none")
    message = reply.body["choices"][0]["message"]
    return "called" if message.get("tool_calls") else None


@case("Chat: `tool_choice` names a function", "a call of it")
def _(way: Way) -> str | None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    reply = way.ask(CHAT, messages=HELLO, tools=GPT_TOOLS, tool_choice=named)
    calls = reply.body["choices"][0]["message"].get("tool_calls") or []
    names = [call["function"]["name"] for call in calls]
    return None if names == ["get_weather"] else f"called {short(names)}"


@case("Chat: `stop`", "the text ends before it, `stop`")
def _(way: Way) -> str | None:
    choice = way.ask(CHAT, messages=HELLO, stop=["help"]).body["choices"][0]
    content = choice["message"]["content"]
    return None if content and "help" not in content else short(content)


@case("Chat: `max_tokens: 2`", "`length`")
def _(way: Way) -> str | None:
    reason = way.ask(CHAT, messages=HELLO, max_tokens=2).body["choices"][0]["finish_reason"]
    return None if reason == "length" else short(reason)


@case("Chat: cached tokens", "`prompt_tokens_details.cached_tokens`, not 0 the second time")
def _(way: Way) -> str | None:
    way.ask(CHAT, messages=HELLO)
    usage = way.ask(CHAT, messages=HELLO).body["usage"]
    found = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return None if found else short(usage)


@case("Chat: a JSON schema", "an answer that obeys it")
def _(way: Way) -> str | None:
    schema = {"name": "c", "strict": True, "schema": {**CITY, "additionalProperties": False}}
    form = {"type": "json_schema", "json_schema": schema}
    choice = way.ask(CHAT, messages=WEATHER, response_format=form).body["choices"][0]
    content = choice["message"]["content"]
    return None if set(json.loads(content)) == {"city"} else short(content)


@case("Chat: an image, and the model is blind", "400")
def _(way: Way) -> str | None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{PIXEL}"}}
    return refused(way.ask(CHAT, messages=[{"role": "user", "content": [image]}]))


@case("Chat: a prompt that is too long", "400, `context_length_exceeded`")
def _(way: Way) -> str | None:
    reply = way.ask(CHAT, messages=LONG)
    code = reply.body["error"].get("code")
    if reply.status != 400:
        return f"{reply.status} in place of 400"
    return None if code == "context_length_exceeded" else f"the code is {short(code)}"


@case("Chat: no messages", "400; `message`, `type`, `param`, `code`")
def _(way: Way) -> str | None:
    reply = way.ask(CHAT)
    if reply.status != 400:
        return f"{reply.status} in place of 400"
    missing = {"message", "type", "param", "code"} - set(reply.body["error"])
    return f"lacks {', '.join(sorted(missing))}" if missing else None


# --- Messages -----------------------------------------------------------------------------------


@case("Messages: a whole answer", "`message` with an id `msg_…`, `end_turn`, usage")
def _(way: Way) -> str | None:
    answer = way.ask(MESSAGES, messages=HELLO).body
    if not answer["id"].startswith("msg_"):
        return f"the id is {short(answer['id'][:9] + '…')}"
    if answer["type"] != "message" or answer["stop_reason"] != "end_turn":
        return short(answer)
    return None if answer["usage"]["input_tokens"] >= 0 else short(answer["usage"])


@case("Messages: a stream", "the grammar of its events (docs/dialects.md 1.9)")
def _(way: Way) -> str | None:
    return grammar(way.ask(MESSAGES, messages=HELLO, stream=True))


def grammar(reply: Reply) -> str | None:
    try:
        anthropic_grammar.read(reply.raw)
    except AssertionError as error:
        return str(error).splitlines()[0][:140].replace("|", "\\|")
    return None


@case("Messages: usage in a stream", "the prompt's size in `message_start`")
def _(way: Way) -> str | None:
    start = way.ask(MESSAGES, messages=HELLO, stream=True).chunks[0]
    usage = start["message"]["usage"]
    return None if read_tokens(usage) else "0 tokens"


@case("Messages: cached tokens", "`cache_read_input_tokens`, and `input_tokens` without them")
def _(way: Way) -> str | None:
    before, usage = (way.ask(MESSAGES, messages=HELLO).body["usage"] for _ in range(2))
    if not usage.get("cache_read_input_tokens"):
        return short(usage)
    whole, again = read_tokens(before), read_tokens(usage)
    return None if whole == again else f"{again} in place of {whole} together"


def read_tokens(usage: dict[str, Any]) -> int:
    """The whole prompt."""
    return int(usage["input_tokens"]) + int(usage.get("cache_read_input_tokens") or 0)


@case("Messages: system blocks with `cache_control`", "taken")
def _(way: Way) -> str | None:
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    reply = way.ask(MESSAGES, messages=HELLO, system=system)
    return None if reply.status == 200 else f"{reply.status}: {short(reply.body)}"


@case("Messages: a system turn in mid-conversation", "taken")
def _(way: Way) -> str | None:
    turns = [*HELLO, {"role": "system", "content": "Be brief."}, *HELLO]
    reply = way.ask(MESSAGES, messages=turns)
    return None if reply.status == 200 else f"{reply.status}: {short(reply.body)}"


@case("Messages: a tool call", "`tool_use` with an object as input")
def _(way: Way) -> str | None:
    answer = way.ask(MESSAGES, messages=WEATHER, tools=CLAUDE_TOOLS).body
    calls = [block for block in answer["content"] if block["type"] == "tool_use"]
    if [call["input"] for call in calls] != [{"city": "Paris"}]:
        return short(answer["content"])
    return None if answer["stop_reason"] == "tool_use" else short(answer["stop_reason"])


@case("Messages: a tool call in a stream", "the grammar of its events")
def _(way: Way) -> str | None:
    reply = way.ask(MESSAGES, messages=WEATHER, tools=CLAUDE_TOOLS, stream=True)
    if b'"tool_use"' not in reply.raw:
        return "no call"
    return grammar(reply)


@case("Messages: `tool_choice: any`", "a call")
def _(way: Way) -> str | None:
    return called(way, {"type": "any"})


@case("Messages: `tool_choice` names a tool", "a call of it")
def _(way: Way) -> str | None:
    return called(way, {"type": "tool", "name": "get_weather"})


@case("Messages: one call at a time", "`disable_parallel_tool_use` is taken")
def _(way: Way) -> str | None:
    return called(way, {"type": "any", "disable_parallel_tool_use": True})


def called(way: Way, choice: dict[str, Any]) -> str | None:
    reply = way.ask(MESSAGES, messages=HELLO, tools=CLAUDE_TOOLS, tool_choice=choice)
    if reply.status != 200:
        return f"{reply.status}: {short(reply.body)}"
    found = [block["type"] for block in reply.body["content"]]
    return None if "tool_use" in found else f"blocks {short(found)}"


@case("Messages: `tool_choice: none`", "no call")
def _(way: Way) -> str | None:
    asked = {"tools": CLAUDE_TOOLS, "tool_choice": {"type": "none"}}
    reply = way.ask(MESSAGES, messages=WEATHER, **asked)
    if reply.status != 200:
        return f"{reply.status}: {short(reply.body)}"
    found = [block["type"] for block in reply.body["content"]]
    return "called" if "tool_use" in found else None


@case("Messages: a failed tool", "a `tool_result` with `is_error` and blocks is taken")
def _(way: Way) -> str | None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True}
    result["content"] = [{"type": "text", "text": "no such city"}]
    turns = [*WEATHER, {"role": "assistant", "content": [call]}]
    reply = way.ask(
        MESSAGES, messages=[*turns, {"role": "user", "content": [result]}], tools=CLAUDE_TOOLS
    )
    return None if reply.status == 200 else f"{reply.status}: {short(reply.body)}"


@case("Messages: thinking asked for", "taken, whatever the model can")
def _(way: Way) -> str | None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    reply = way.ask(MESSAGES, messages=HELLO, thinking=thinking, max_tokens=2048, temperature=None)
    return None if reply.status == 200 else f"{reply.status}: {short(reply.body)}"


@case("Messages: thinking from another turn", "a `thinking` block is taken back")
def _(way: Way) -> str | None:
    said = [{"type": "thinking", "thinking": "Hm.", "signature": ""}]
    said.append({"type": "text", "text": "Hello!"})
    turns = [*HELLO, {"role": "assistant", "content": said}, *HELLO]
    reply = way.ask(MESSAGES, messages=turns)
    return None if reply.status == 200 else f"{reply.status}: {short(reply.body)}"


@case("Messages: an empty text block", "taken")
def _(way: Way) -> str | None:
    empty = {"role": "assistant", "content": [{"type": "text", "text": ""}]}
    reply = way.ask(MESSAGES, messages=[*HELLO, empty, *HELLO])
    return None if reply.status == 200 else f"{reply.status}: {short(reply.body)}"


@case("Messages: `stop_sequences`", "`stop_sequence`, and which one it was")
def _(way: Way) -> str | None:
    answer = way.ask(MESSAGES, messages=HELLO, stop_sequences=["help"]).body
    said = (answer["stop_reason"], answer["stop_sequence"])
    return None if said == ("stop_sequence", "help") else f"{short(said[0])}, {short(said[1])}"


@case("Messages: `max_tokens: 2`", "`max_tokens`")
def _(way: Way) -> str | None:
    reason = way.ask(MESSAGES, messages=HELLO, max_tokens=2).body["stop_reason"]
    return None if reason == "max_tokens" else short(reason)


@case("Messages: an image, and the model is blind", "400, `Could not process image`")
def _(way: Way) -> str | None:
    source = {"type": "base64", "media_type": "image/gif", "data": PIXEL}
    image = {"role": "user", "content": [{"type": "image", "source": source}]}
    return worded(way.ask(MESSAGES, messages=[image]), "Could not process image")


@case("Messages: a prompt that is too long", "400, `prompt is too long: N tokens > M maximum`")
def _(way: Way) -> str | None:
    return worded(way.ask(MESSAGES, messages=LONG), "prompt is too long: ")


def worded(reply: Reply, words: str) -> str | None:
    if reply.status != 400:
        return f"{reply.status} in place of 400"
    error = reply.body["error"]
    if reply.body.get("type") != "error" or error["type"] != "invalid_request_error":
        return f"the error is {short({k: v for k, v in error.items() if k != 'message'})}"
    return None if words in error["message"] else f"says {short(error['message'])}"


@case("Messages: no `max_tokens`", "400 in Anthropic's envelope")
def _(way: Way) -> str | None:
    return worded(way.ask(MESSAGES, messages=HELLO, max_tokens=None), "")


@case("Messages: `count_tokens`", "as many as the model really reads")
def _(way: Way) -> str | None:
    reply = way.ask(COUNT, messages=WEATHER, tools=CLAUDE_TOOLS)
    if reply.status != 200:
        return f"{reply.status}"
    usage = way.ask(MESSAGES, messages=WEATHER, tools=CLAUDE_TOOLS).body["usage"]
    read = read_tokens(usage)
    counted = reply.body["input_tokens"]
    return None if counted == read else f"{counted}, and {read} were read"


# --- the page -----------------------------------------------------------------------------------


@contextmanager
def ways(folder: Path) -> Iterator[tuple[Way, Way, Way]]:
    """All three, ready."""
    beside, alone = folder / "beside", folder / "alone"
    beside.mkdir()
    alone.mkdir()
    with Beside(beside, f'models: {{native: {{path: "{demo_model_path()}"}}}}\n') as started:
        url = started.gateway.base_url
        config = {
            "model_list": [
                {
                    "model_name": MODEL,
                    "litellm_params": {
                        "model": f"hosted_vllm/{MODEL}",
                        "api_base": f"{url}/v1",
                        "api_key": "none",
                    },
                }
            ],
            "litellm_settings": {"drop_params": True},
        }
        with LiteLLM(alone, json.dumps(config), {"NO_PROXY": "127.0.0.1"}) as proxy:
            yield (
                Way("homeport", url),
                Way("beside", started.base_url),
                Way("alone", proxy.base_url, MASTER_KEY),
            )


HEAD = f"""\
# LiteLLM side by side

The same requests to the same llama.cpp (the demo model), three ways: at homeport's port; at the port
of LiteLLM {VERSION} as [`--with-litellm`](litellm.md#litellm-beside-homeport) starts it; and through
the same LiteLLM by itself, with the entry that `homeport config export litellm` writes
(`hosted_vllm/`) and its usual settings. "right" is what the dialect wants; anything else is what came
instead.

LiteLLM beside homeport hands Messages on as they are, so that most of that column is homeport's own
work. Which stop sequence it was no one can know: llama.cpp's Chat Completions do not tell, nor that it
was one. That a client which leaves ends the generation is tested apart
(`tests/e2e/test_litellm.py`), at homeport's port and at LiteLLM's beside it; LiteLLM alone was seen to
compute a whole answer to its end.

This page is made by `make side-by-side` and compared by `make test-litellm`.

| Request | By the dialect | homeport | LiteLLM beside | LiteLLM alone |
|---|---|---|---|---|
"""


def page(found: list[tuple[Case, list[str | None]]]) -> str:
    rows = [
        f"| {case.name} | {case.wanted} | " + " | ".join(wrong or "right" for wrong in each) + " |"
        for case, each in found
    ]
    rights = [sum(each[i] is None for _, each in found) for i in range(3)]
    total = " | ".join(f"{right} of {len(found)}" for right in rights)
    return HEAD + "\n".join([*rows, f"| **right** | | {total} |"]) + "\n"


def results(three: tuple[Way, Way, Way]) -> list[tuple[Case, list[str | None]]]:
    return [(each, [each.run(way) for way in three]) for each in CASES]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ways(Path(folder)) as three:
        sys.stdout.write(page(results(three)))


if __name__ == "__main__":
    main()
