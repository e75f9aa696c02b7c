"""An answer as an engine sends it that has a `/v1/responses` of its own. Pure."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping

from tests.support.fake_engine.completion import Completion, pieces, sse
from tests.support.fake_engine.script import Answer, Json


def chat_of(body: Mapping[str, Json]) -> dict[str, Json]:
    """A Responses request as the chat that it means: for `When`, the rules, and its tokens."""
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
    head = [{"role": "system", "content": body["instructions"]}] if "instructions" in body else []
    messages = [*head, *map(message_of, items)]
    return {**body, "messages": messages}


def message_of(item: Mapping[str, Json]) -> Json:
    match item.get("type", "message"):
        case "message":
            return {"role": item["role"], "content": item["content"]}
        case "function_call_output":
            return {"role": "tool", "content": item["output"]}
        case _:
            return {"role": "assistant", "content": "", **item}


class Response:
    """One answer to one Responses request: as vLLM sends it (`right`), which is right, or as llama.cpp
    does: events without numbers and places, a response without what it only echoes."""

    def __init__(
        self, answer: Answer, body: Mapping[str, Json], model: str, *, right: bool
    ) -> None:
        self._answer, self._right = answer, right
        self._usage = Completion(answer, chat_of(body), model).usage()["usage"]
        self._frame: dict[str, Json] = {
            "id": "resp_" + secrets.token_hex(8),
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
        }
        if right:
            names = ("tools", "tool_choice", "parallel_tool_calls", "instructions", "store")
            self._frame |= {name: body[name] for name in names if name in body}

    def whole(self) -> Json:
        usage, detail = self._usage, self._usage["prompt_tokens_details"]
        told = {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
            "input_tokens_details": detail,
        }
        is_cut = self._answer.finish_reason == "length"
        end: dict[str, Json] = {"status": "incomplete" if is_cut else "completed", "usage": told}
        if is_cut:
            end["incomplete_details"] = {"reason": "max_output_tokens"}
        return {**self._frame, "output": [item for item, _, _ in self._items()], **end}

    def _items(self) -> list[tuple[Json, str, str]]:
        """Each with the name of its text's events, and the text."""
        answer, own = self._answer, self._frame["id"].removeprefix("resp_")
        items: list[tuple[Json, str, str]] = []
        item: dict[str, Json]
        part: dict[str, Json]
        if answer.reasoning:
            part = {"type": "reasoning_text", "text": answer.reasoning}
            item = {"id": f"rs_{own}", "type": "reasoning", "summary": [], "content": [part]}
            items.append((item, "reasoning_text", answer.reasoning))
        if answer.text:
            part = {"type": "output_text", "text": answer.text, "annotations": []}
            item = {"id": f"msg_{own}", "type": "message", "role": "assistant"}
            item["content"] = [{**part, "logprobs": []}]
            items.append((item, "output_text", answer.text))
        for n, call in enumerate(answer.tool_calls):
            item = {"id": f"fc_{own}{n}", "type": "function_call", "name": call.name}
            item |= {"call_id": call.id or f"call_{own}{n}", "arguments": call.arguments}
            items.append((item, "function_call_arguments", call.arguments))
        return [({**item, "status": "completed"}, name, text) for item, name, text in items]

    def events(self) -> Iterator[bytes]:
        started: Json = {**self._frame, "status": "in_progress", "output": []}
        told: list[Json] = [
            {"type": f"response.{name}", "response": started} for name in ("created", "in_progress")
        ]
        for index, item in enumerate(self._items()):
            told += self._item_events(index, *item)
        told.append({"type": "response.completed", "response": self.whole()})
        for number, event in enumerate(told):
            if self._right:
                event = {**event, "sequence_number": number}
            else:
                event = {key: event[key] for key in event if key != "output_index"}
            yield f"event: {event['type']}\n".encode() + sse(event)

    def _item_events(self, index: int, item: Json, name: str, text: str) -> Iterator[Json]:
        is_call = item["type"] == "function_call"
        empty: Json = {"arguments": ""} if is_call else {"content": []}
        place = {"item_id": item["id"], "output_index": index}
        part_place = place if is_call else {**place, "content_index": 0}
        added = {**item, **empty, "status": "in_progress"}
        yield {"type": "response.output_item.added", "output_index": index, "item": added}
        if not is_call:
            part = item["content"][0]
            yield {
                "type": "response.content_part.added",
                **part_place,
                "part": {**part, "text": ""},
            }
        for piece in pieces(text, self._answer.fragment_chars):
            yield {"type": f"response.{name}.delta", **part_place, "delta": piece}
        key = "arguments" if is_call else "text"
        yield {"type": f"response.{name}.done", **part_place, key: text}
        if not is_call:
            yield {"type": "response.content_part.done", **part_place, "part": part}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
