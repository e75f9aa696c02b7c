"""What switches off the rules of docs/dialects.md 3.13 and 3.14: passthrough of Responses, and the
usage of answers for which the engine was asked more than once. ``rows`` says what a row is."""

from __future__ import annotations

from homeport.server import metrics, responses
from homeport.wire import (
    anthropic_answer,
    anthropic_stream,
    openai_chat_stream,
    openai_responses_answer,
    responses_relay,
    rounds,
)
from tests.wire.mutations import Code, Mutation

AA, RR, Relay = anthropic_answer, responses_relay, responses_relay.ResponsesRelay
Call, Restoring = responses.ResponsesCall, responses_relay._Restoring

ROWS: dict[str, tuple[Mutation, ...]] = {
    # ----------------------------------------------------------------- 3.13
    "3.13 what a request asks for": (
        Code(Call._may_pass, "needed is not None and needed <= right", "needed is not None"),
        Code(Call._may_pass, "right is None or", "right is None and"),
        Code(RR.needs, "features_of(request)", "()"),
        Code(RR.needs, 'used.add("thinking")', "pass"),
    ),
    "3.13 a second system or developer message": (
        Code(RR.needs, 'used.add("system_inside")', "pass"),
        Code(RR.needs, "heads[0 if wire.instructions else 1 :]", "heads[1:]"),
    ),
    "3.13 previous_response_id, item_reference": (
        Code(RR.needs, "wire.previous_response_id is not None or", ""),
        Code(RR.needs, "or any(entry.is_reference for entry in entries)", ""),
    ),
    "3.13 tools that are no functions, their items, allowed_tools": (
        Code(RR.needs, 'tool.type != "function"', "False"),
        Code(RR.needs, 'choice.type != "function" or', ""),
        Code(RR.needs, "not all(map(_is_plain, items))", "False"),
        Code(RR._is_plain, "item.namespace is None and", ""),
    ),
    "3.13 searches, more tools than max_tools": (
        Code(Call._may_pass, "or self._mending.slims(endpoint)", ""),
    ),
    "3.13 a stream that is open already": (Code(Call._may_pass, "or self._is_opened", ""),),
    "3.13 the number of a prompt's tokens": (Code(Call._may_pass, "or self._counting", ""),),
    "3.13 model, store": (
        Code(RR.relay_request, 'fields["model"] = Raw(_encode(model.name))', "pass"),
        Code(RR.relay_request, 'fields["store"] = Raw(b"false")', "pass"),
        Code(
            Restoring.fields, 'self._model, self._echo["store"]', 'fields["model"], Raw(b"false")'
        ),
    ),
    "3.13 the answer": (
        Code(Call._keep_native, "answer.id", '"resp_other"'),
        Code(Relay._ended, "self._keep(whole)", "pass"),
    ),
    "3.13 the … what is missing": (
        Code(Restoring.fields, "if not _is_given(fields.get(key)):", "if False:"),
        Code(Restoring.fields, 'fields.setdefault(key, Raw(b"null"))', "pass"),
        Code(Restoring.whole, "if usage is not None:", "if False:"),
        Code(Restoring.whole, 'Raw(b"%d" % self._clock())', 'Raw(b"null")'),
        Code(Relay._event, 'fields.setdefault("logprobs", Raw(b"[]"))', "pass"),
        Code(
            Relay._event,
            "return sse.encode(_encode(fields), name)",
            "return sse.encode(_encode(fields))",
        ),
    ),
    "3.13 the … cut": (Code(Relay._ended, "if is_cut(response)", "if False"),),
    "3.13 error, response.failed, no end": (
        Code(Relay.finish, "return out + self.fail(fault)", "return out"),
        Code(Relay._event, 'name == "error" or', ""),
        Code(Relay._response, 'name == "response.failed" or', ""),
        Code(RR.fault_in, 'details.get("code") == "context_length_exceeded"', "False"),
        Code(Relay.fail, '"sequence_number": self._number + 1', '"sequence_number": 0'),
    ),
    "3.13 silence": (
        Code(Call.opening, "if self._is_native:", "if False:"),
        Code(Call.sign_of_life, "KEEP_ALIVE if self._is_native else", ""),
    ),
    # ----------------------------------------------------------------- 3.14
    "3.14 Anthropic's counts": (
        Code(AA.usage_of, "total = summed(usage)", "total = usage"),
        Code(rounds.RoundUsage.feed, "earlier=self._earlier", "earlier=()"),
    ),
    "3.14 Anthropic's iterations": (
        Code(AA.usage_of, "if usage.earlier:", "if False:"),
        Code(AA.usage_of, "for one in rounds(usage)", "for one in rounds(usage)[:-1]"),
    ),
    "3.14 Anthropic's server_tool_use": (
        Code(AA.searched, "+ (search.error is None)", "+ 1"),
        Code(AA.encode_message, "requests = searched(requests, event)", "pass"),
        Code(
            anthropic_stream.AnthropicStream._search,
            "self._searches = searched(self._searches, search)",
            "pass",
        ),
    ),
    "3.14 stop reasons": (
        Code(
            AA.stop_reason_of,
            "if usage and context_tokens and _total(usage) >= context_tokens:",
            "if usage and context_tokens and _total(summed(usage)) >= context_tokens:",
        ),
    ),
    "3.14 OpenAI's input_tokens, cached_tokens": (
        Code(rounds.as_one, "prompt_tokens=usage.prompt_tokens,", ""),
        Code(rounds.as_one, "max(0, usage.prompt_tokens - read)", "usage.cached_tokens"),
        Code(openai_responses_answer.usage_of, "usage = as_one(usage)", "pass"),
        Code(openai_chat_stream.usage_of, "usage = as_one(usage)", "pass"),
    ),
    "3.14 OpenAI's output_tokens": (
        Code(rounds.as_one, "msgspec.structs.replace(total,", "msgspec.structs.replace(usage,"),
    ),
    "3.14 metrics": (Code(metrics._Series.count, "usage = summed(usage)", "pass"),),
}
