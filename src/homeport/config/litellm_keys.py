"""The keys of LiteLLM's ``config.yaml`` that are understood, and what becomes of the others.

The tables have the form of our own (``config.schema``), so that the same reader walks them; a row's
``doc`` says what homeport makes of the key. ``NOT_SERVED`` has the keys that LiteLLM users have in
their files and homeport does otherwise, or not at all. docs/litellm.md has both, by a test.

Names and meanings: LiteLLM 1.109.1, docs.litellm.ai/docs/proxy/config_settings (autumn 2026). Any
text may be ``os.environ/NAME`` there; a variable that is not set makes the key unset.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from homeport.config import values
from homeport.config.kinds import HEADER, Key, ListOf, MapOf, Scalar, Section
from homeport.config.values import Place

_VARIABLE: Final = re.compile(r"os\.environ/(\w+)")

Reader = Callable[[str, Place], object]


class Unset(str):
    """Stands for a variable that is not set; the text is its name."""


def _read(says: str, reader: Reader) -> Scalar:
    """A value that may stand in the environment."""

    def read(value: str, place: Place) -> object:
        found = _VARIABLE.fullmatch(value.strip())
        if found is None:
            return reader(value, place)
        text = place.env.get(found[1])
        return Unset(found[1]) if not text else reader(text, place)

    return Scalar(says, read)


def model_name(value: str, place: Place) -> str:
    """A name or a pattern. LiteLLM asks for no more than some text."""
    values.text(value, place)
    return values.alias_pattern(value, place)


TEXT: Final = _read("text", values.text)
NAME: Final = _read("model", model_name)
URL: Final = _read("http:// or https:// address", values.base_url)
SECRET: Final = _read("text", values.key)
COUNT: Final = _read("whole number", values.count)
TIMES: Final = _read("whole number", values.times)
NUMBER: Final = _read("number", values.number)
SECONDS: Final = _read("seconds", values.seconds)
SECONDS_OR_ZERO: Final = _read("seconds", values.seconds_or_zero)
BOOLEAN: Final = _read("true or false", values.boolean)
HEADER_VALUE: Final = SECRET
FALLBACKS: Final = ListOf(MapOf(NAME, ListOf(NAME, one_ok=True)))

REQUEST_VALUE: Final = _read("number or word", values.request_value)

PARAMS: Final = Section(
    (
        Key(
            name="model",
            kind=TEXT,
            required=True,
            doc="The provider's prefix and its name for the model. A `*` is filled with what the `*` "
            "of `model_name` stood for.",
        ),
        Key(
            name="custom_llm_provider",
            kind=TEXT,
            doc="The provider, in place of a prefix.",
        ),
        Key(
            name="api_base",
            kind=URL,
            also="base_url",
            doc="The upstream. Without a path, `/v1` is added.",
        ),
        Key(
            name="api_key",
            kind=SECRET,
            doc="The upstream's key; without one that of the provider's variable (`OPENAI_API_KEY`).",
        ),
        Key(
            name="headers",
            kind=MapOf(HEADER, HEADER_VALUE),
            doc="More headers for the upstream.",
        ),
        Key(name="extra_headers", kind=MapOf(HEADER, HEADER_VALUE), doc="The same."),
        *(
            Key(name=name, kind=REQUEST_VALUE, doc="For requests that do not say it.")
            for name in values.REQUEST_FIELDS
        ),
        Key(
            name="timeout",
            kind=SECONDS,
            doc="Longest silence of the upstream inside one answer. (LiteLLM: the whole answer, where "
            "it is not streamed.)",
        ),
        Key(
            name="stream_timeout",
            kind=SECONDS,
            doc="The same, where there is no `timeout`.",
        ),
        Key(
            name="weight",
            kind=NUMBER,
            doc="The deployment's share of its model's requests.",
        ),
        Key(name="rpm", kind=NUMBER, doc="The same, where there is no `weight`; no limit."),
        Key(name="tpm", kind=NUMBER, doc="The same, where there is no `rpm`; no limit."),
        Key(
            name="drop_params",
            kind=BOOLEAN,
            doc="Always so: what an engine is known not to take is left out; everything else goes to "
            "it as it came.",
        ),
    )
)

MODEL_INFO: Final = Section(
    (
        Key(name="id", kind=TEXT, doc="What the deployment is called in `x-homeport-deployment`."),
        Key(
            name="mode",
            kind=TEXT,
            doc="`embedding` makes an embedding model; `chat`, `completion` and `responses` the usual "
            "one. Others (images, audio, …) only LiteLLM serves.",
        ),
        Key(
            name="max_input_tokens",
            kind=COUNT,
            doc="The context, where the upstream does not tell it.",
        ),
    )
)
"""The rest of it is a note to LiteLLM's own screens, or to nobody."""

DEPLOYMENT: Final = Section(
    (
        Key(
            name="model_name",
            kind=NAME,
            required=True,
            doc="The name that clients ask for, or a pattern. Several entries of one name are one "
            "model with several deployments.",
        ),
        Key(name="litellm_params", kind=PARAMS, required=True, doc="The deployment."),
        Key(name="model_info", kind=MODEL_INFO, doc="What is known of it."),
    )
)

_RELIABILITY: Final = (
    Key(
        name="num_retries",
        kind=TIMES,
        default="2",
        doc="So many other deployments of the model are asked, one after the other, where one fails "
        "before the first byte of an answer. (LiteLLM may ask the same one again.)",
    ),
    Key(
        name="fallbacks",
        kind=FALLBACKS,
        doc="Models that are asked where all that failed, in their order; `*` stands for every model.",
    ),
    Key(
        name="default_fallbacks",
        kind=ListOf(NAME, one_ok=True),
        doc="The same, for every model.",
    ),
)

LITELLM_SETTINGS: Final = Section(
    (
        *_RELIABILITY,
        Key(name="drop_params", kind=BOOLEAN, doc="As for a deployment."),
        Key(
            name="request_timeout",
            kind=SECONDS,
            default="homeport's own (`server.limits.idle_timeout_s`)",
            doc="`timeout` of the deployments that have none.",
        ),
    )
)

ROUTER_SETTINGS: Final = Section(
    (
        *_RELIABILITY,
        Key(name="timeout", kind=SECONDS, doc="As `request_timeout`, and before it."),
        Key(
            name="cooldown_time",
            kind=SECONDS_OR_ZERO,
            default="5",
            doc="A deployment that failed is left alone for so long, while there is another.",
        ),
        Key(
            name="routing_strategy",
            kind=TEXT,
            doc="Whatever it says: a conversation stays with its deployment, whose cache is warm; "
            "others go to the least busy one, by weight.",
        ),
        Key(
            name="model_group_alias",
            kind=MapOf(
                NAME,
                Section(
                    (
                        Key(name="model", kind=NAME, required=True, doc="The model."),
                        Key(name="hidden", kind=BOOLEAN, doc="Aliases are never listed."),
                    ),
                    short="model",
                ),
            ),
            doc="More names of models.",
        ),
    )
)

GENERAL_SETTINGS: Final = Section(
    (
        Key(
            name="master_key",
            kind=SECRET,
            default="`LITELLM_MASTER_KEY` of the environment",
            doc="The key that every request needs; it opens `/admin` as well.",
        ),
    )
)

ROOT: Final = Section(
    (
        Key(
            name="model_list",
            kind=ListOf(DEPLOYMENT, numbered=True),
            doc="The deployments.",
        ),
        Key(name="litellm_settings", kind=LITELLM_SETTINGS, doc="For all deployments."),
        Key(name="router_settings", kind=ROUTER_SETTINGS, doc="Which deployment is asked."),
        Key(name="general_settings", kind=GENERAL_SETTINGS, doc="Who may come in."),
        Key(
            name="environment_variables",
            kind=MapOf(Scalar("variable", values.variable_name), TEXT),
            doc="Stand before those of the environment, where `os.environ/NAME` is read.",
        ),
        Key(
            name="include",
            kind=ListOf(TEXT, one_ok=True),
            doc="Files beside this one: their lists are added, everything else of theirs wins.",
        ),
    )
)

_LOGS: Final = "nobody is told; homeport has its own log and /metrics"
_CACHE: Final = "answers are not cached; the engines' prompt caches are kept warm"
_DATABASE: Final = "homeport keeps no users, teams or budgets of LiteLLM's"
_ONLY_THERE: Final = "needs LiteLLM itself"

NOT_SERVED: Final[Mapping[str, Mapping[str, str]]] = {
    "": {
        "mcp_servers": _ONLY_THERE,
        "guardrails": _ONLY_THERE,
        "credential_list": "write the key to each deployment, as os.environ/NAME",
        "vector_store_registry": _ONLY_THERE,
    },
    "litellm_params": {
        "max_retries": "num_retries decides",
        "organization": "write it as a header: OpenAI-Organization",
        "api_version": "Azure's; such models are LiteLLM's",
        "input_cost_per_token": "costs are not counted",
        "output_cost_per_token": "costs are not counted",
        "max_budget": "costs are not counted",
        "tags": "requests are not routed by tags",
        "order": "fallbacks have an order; deployments of one name have weights",
        "max_parallel_requests": "homeport sends what comes; the engine queues",
        "mock_response": "a model is asked",
        "additional_drop_params": "what an engine is known not to take is left out",
        "extra_body": "of it, name the fields that requests may have beside model",
        "use_in_pass_through": "there are no pass-through routes",
    },
    "litellm_settings": {
        "callbacks": _LOGS,
        "success_callback": _LOGS,
        "failure_callback": _LOGS,
        "service_callbacks": _LOGS,
        "set_verbose": "see --log-level",
        "json_logs": "see --log-level",
        "telemetry": "homeport sends none",
        "turn_off_message_logging": "messages are never logged",
        "cache": _CACHE,
        "cache_params": _CACHE,
        "context_window_fallbacks": "the client is told that its prompt is too long",
        "content_policy_fallbacks": "the answer is the client's to judge",
        "allowed_fails": "one failure is enough, where there is another deployment",
        "modify_params": "what each engine needs is done always",
        "use_chat_completions_url_for_anthropic_messages": "always so",
        "max_budget": "costs are not counted",
        "ssl_verify": "certificates are always verified",
    },
    "router_settings": {
        "allowed_fails": "one failure is enough, where there is another deployment",
        "allowed_fails_policy": "one failure is enough, where there is another deployment",
        "retry_policy": "num_retries holds for every kind of failure that another may not have",
        "retry_after": "the next deployment is asked at once",
        "context_window_fallbacks": "the client is told that its prompt is too long",
        "content_policy_fallbacks": "the answer is the client's to judge",
        "routing_strategy_args": "see routing_strategy",
        "enable_pre_call_checks": "what cannot fit is always refused",
        "redis_host": "one homeport shares nothing with another",
        "redis_port": "one homeport shares nothing with another",
        "redis_password": "one homeport shares nothing with another",
        "redis_url": "one homeport shares nothing with another",
        "stream_timeout": "write it to the deployments",
        "max_fallbacks": "each model has its own list, and lists are not followed further",
    },
    "general_settings": {
        "database_url": _DATABASE,
        "store_model_in_db": _DATABASE,
        "store_prompts_in_spend_logs": _DATABASE,
        "disable_spend_logs": _DATABASE,
        "proxy_batch_write_at": _DATABASE,
        "alerting": _LOGS,
        "alert_types": _LOGS,
        "background_health_checks": "a server that is down is asked again by itself",
        "health_check_interval": "a server that is down is asked again by itself",
        "max_parallel_requests": "homeport takes what comes",
        "global_max_parallel_requests": "homeport takes what comes",
        "custom_auth": _ONLY_THERE,
        "completion_model": "name it by --default-model",
        "infer_model_from_keys": "models are those of model_list",
        "max_request_size_mb": "see server.limits.body_bytes in homeport's own file",
        "pass_through_endpoints": "there are no pass-through routes",
    },
}
"""By section: what happens in place of what a key says. Keys that stand neither here nor above are
named as unknown."""
