"""``/v1/models``: what there is, in the shape that the client's own API has.

Which shape, the headers tell: Anthropic's clients always send ``anthropic-version``. Each shape also
carries the context length, under the names that clients of either API look for. Embedding models and
models that are not started yet are listed too; what is unknown of them is null.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from homeport.errors import ClientError
from homeport.facts import ModelFacts
from homeport.routing.catalog import Entry
from homeport.server.directory import Directory
from homeport.server.http import Http

MAX_PAGE = 1000
"""Anthropic's own upper bound of ``limit``; Claude Code asks for exactly that."""


class Models:
    def __init__(self, directory: Directory, started_at_s: int) -> None:
        self._directory, self._started_at_s = directory, started_at_s

    async def list(self, http: Http) -> None:
        entries = [entry for entry in self._directory.catalog.entries if entry.is_listed]
        page, has_more = _page(entries, http)
        if http.dialect == "anthropic":
            body: dict[str, Any] = {
                "data": [self._anthropic(entry) for entry in page],
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
                "has_more": has_more,
            }
        else:
            body = {"object": "list", "data": [self._openai(entry) for entry in page]}
        await http.answer(200, msgspec.json.encode(body))

    async def show(self, http: Http, name: str) -> None:
        """One model, by any name that a request for inference could use but the wildcards' and the
        default's: asking for a model that is not there has to fail."""
        resolution = self._directory.catalog.resolve(name, kind="chat")
        entry = self._directory.catalog.get(resolution.model_id)
        if entry is None or resolution.how in ("wildcard", "default"):
            raise ClientError("not_found", f"there is no model '{name}'", param="model")
        shape = self._anthropic if http.dialect == "anthropic" else self._openai
        await http.answer(200, msgspec.json.encode(shape(entry)))

    def _openai(self, entry: Entry) -> dict[str, Any]:
        facts = self._facts(entry)
        return {
            "id": entry.id,
            "object": "model",
            "created": self._created_at_s(facts),
            "owned_by": "homeport",
            "context_length": facts.context_tokens if facts else None,
            "max_model_len": facts.context_tokens if facts else None,
            "shutdown_date": None,
        }

    def _anthropic(self, entry: Entry) -> dict[str, Any]:
        facts = self._facts(entry)
        created = datetime.fromtimestamp(self._created_at_s(facts), UTC)
        context = facts.context_tokens if facts else None
        return {
            "type": "model",
            "id": entry.id,
            "display_name": entry.id,
            "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lifecycle": "active",
            "max_input_tokens": context,
            "max_tokens": context,
            "capabilities": None,
            "line": None,
            "deprecated_at": None,
            "retires_at": None,
        }

    def _facts(self, entry: Entry) -> ModelFacts | None:
        instance = self._directory.instances.get(entry.id)
        return instance.endpoint.model if instance and instance.endpoint else None

    def _created_at_s(self, facts: ModelFacts | None) -> int:
        return (facts.created_at_s if facts else None) or self._started_at_s


def _page(entries: Sequence[Entry], http: Http) -> tuple[Sequence[Entry], bool]:
    """``after_id``, ``before_id``, ``limit`` (Anthropic's cursors; harmless to OpenAI's clients).

    Returns the page, and whether there is more in the direction of paging.
    """
    limit = _limit(http.query("limit") or str(MAX_PAGE))
    if after := http.query("after_id"):
        entries = entries[_position(entries, after) + 1 :]
    if before := http.query("before_id"):
        entries = entries[: _position(entries, before)]
        return entries[-limit:], len(entries) > limit
    return entries[:limit], len(entries) > limit


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MAX_PAGE:
        return int(text)
    raise ClientError(
        "invalid_request", f"limit: '{text[:20]}' is no number from 1 to {MAX_PAGE}", param="limit"
    )


def _position(entries: Sequence[Entry], model_id: str) -> int:
    for i, entry in enumerate(entries):
        if entry.id == model_id:
            return i
    raise ClientError("not_found", f"there is no model '{model_id}'", param="model")
