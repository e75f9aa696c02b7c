"""LiteLLM's configuration files, read: what they become, what is told, what is wrong."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from homeport.config import litellm_keys, load
from homeport.config.litellm_compat import Notice, is_litellm
from homeport.config.problems import CollectedConfigError
from homeport.settings import ApiKey, Route, Settings

Reader = Callable[..., tuple[Settings, list[Notice]]]


@pytest.fixture
def read_litellm(tmp_path: Path) -> Reader:
    def read(
        text: str, env: Mapping[str, str] | None = None, **files: str
    ) -> tuple[Settings, list[Notice]]:
        file = tmp_path / "config.yaml"
        file.write_text(text, "utf-8")
        for name, other in files.items():
            (tmp_path / f"{name}.yaml").write_text(other, "utf-8")
        notices: list[Notice] = []
        return load.read(file, env or {}, tell=notices.append), notices

    return read


def one(params: str, name: str = "m", more: str = "") -> str:
    return f"model_list:\n  - model_name: '{name}'\n    litellm_params: {{{params}}}\n{more}"


LOCAL = "api_base: 'http://h:1/v1'"


# --------------------------------------------------------------------------- one deployment


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (f"model: openai/a, {LOCAL}", {"upstream": "http://h:1/v1", "upstream_model": "a"}),
        (f"model: openai/org/a, {LOCAL}", {"upstream_model": "org/a"}),
        (f"model: org/a, custom_llm_provider: openai, {LOCAL}", {"upstream_model": "org/a"}),
        (f"model: openai/a, custom_llm_provider: openai, {LOCAL}", {"upstream_model": "a"}),
        ("model: hosted_vllm/a, api_base: 'http://h:1'", {"upstream": "http://h:1/v1"}),
        ("model: hosted_vllm/a, base_url: 'http://h:1/v1/'", {"upstream": "http://h:1/v1"}),
        ("model: ollama_chat/a", {"upstream": "http://localhost:11434/v1", "engine": "ollama"}),
        ("model: anthropic/claude-x", {"dialect": "anthropic"}),
        ("model: claude-x", {"dialect": "anthropic", "upstream_model": "claude-x"}),
        ("model: gpt-4o", {"upstream": "https://api.openai.com/v1"}),
        ("model: groq/llama", {"upstream": "https://api.groq.com/openai/v1"}),
        (f"model: openai/a, {LOCAL}, api_key: k", {"api_key": "k"}),
        (f"model: openai/a, {LOCAL}, timeout: 7", {"timeout_s": 7.0}),
        (f"model: openai/a, {LOCAL}, stream_timeout: 8", {"timeout_s": 8.0}),
        (
            f"model: openai/a, {LOCAL}, max_tokens: 9, temperature: 0.5",
            {"request_defaults": (("max_tokens", 9), ("temperature", 0.5))},
        ),
        (
            f"model: openai/a, {LOCAL}, headers: {{A: 1, B: 2}}, extra_headers: {{B: 3}}",
            {"headers": (("A", "1"), ("B", "3"))},
        ),
    ],
)
def test_a_deployment(read_litellm: Reader, params: str, expected: dict[str, Any]) -> None:
    found, notices = read_litellm(one(params))
    (model,) = found.models
    assert model.id == "m"
    assert {name: getattr(model, name) for name in expected} == expected
    assert not notices
    assert found.strict_models
    assert not found.discover


def test_what_is_known_of_it(read_litellm: Reader) -> None:
    info = "    model_info: {mode: embedding, max_input_tokens: 512, anything: [else]}\n"
    found, notices = read_litellm(one(f"model: openai/a, {LOCAL}", more=info))
    assert (found.models[0].embeddings, found.models[0].ctx) == (True, 512)
    assert not notices


def test_keys_come_from_the_environment(read_litellm: Reader) -> None:
    found, _ = read_litellm(one(f"model: openai/a, {LOCAL}, api_key: os.environ/K"), {"K": "v"})
    assert found.models[0].api_key == "v"
    found, _ = read_litellm(one("model: gpt-4o"), {"OPENAI_API_KEY": "v"})
    assert found.models[0].api_key == "v"


def test_a_providers_key_goes_to_no_other_address(read_litellm: Reader) -> None:
    found, _ = read_litellm(one(f"model: openai/a, {LOCAL}"), {"OPENAI_API_KEY": "v"})
    assert found.models[0].api_key is None


def test_a_key_that_is_not_set_is_told(read_litellm: Reader) -> None:
    found, notices = read_litellm(one(f"model: openai/a, {LOCAL}, api_key: os.environ/K"))
    assert found.models[0].api_key is None
    assert [(n.key, n.message) for n in notices] == [
        ("model_list.0.litellm_params.api_key", "K is not set: asked without a key")
    ]


def test_any_value_may_stand_in_the_environment(read_litellm: Reader) -> None:
    text = one("model: os.environ/M, api_base: os.environ/B, timeout: os.environ/T")
    found, _ = read_litellm(text, {"M": "openai/a", "B": "http://h:1", "T": "3"})
    model = found.models[0]
    assert (model.upstream, model.upstream_model, model.timeout_s) == ("http://h:1/v1", "a", 3.0)


def test_the_file_sets_variables_itself(read_litellm: Reader) -> None:
    text = one(f"model: openai/a, {LOCAL}, api_key: os.environ/K")
    found, _ = read_litellm(text + "environment_variables: {K: mine}\n", {"K": "theirs"})
    assert found.models[0].api_key == "mine"


@pytest.mark.parametrize(
    ("settings", "timeout_s"),
    [
        ("litellm_settings: {request_timeout: 60}", 60.0),
        ("router_settings: {timeout: 30}", 30.0),
        ("litellm_settings: {request_timeout: 60}\nrouter_settings: {timeout: 30}", 30.0),
    ],
)
def test_timeouts_for_all(read_litellm: Reader, settings: str, timeout_s: float) -> None:
    found, _ = read_litellm(one(f"model: openai/a, {LOCAL}", more=settings))
    assert found.models[0].timeout_s == timeout_s


# --------------------------------------------------------------------------- names


def test_a_pattern_becomes_an_alias(read_litellm: Reader) -> None:
    found, _ = read_litellm(one(f"model: openai/org/a, {LOCAL}", name="gpt-*"))
    assert [m.id for m in found.models] == ["org/a"]
    assert found.aliases == (("gpt-*", "org/a"),)


def test_a_pattern_on_both_sides(read_litellm: Reader) -> None:
    found, _ = read_litellm(one("model: groq/*", name="groq/*"))
    assert [(m.id, m.upstream_model, m.listed) for m in found.models] == [("groq", "*", False)]
    assert found.aliases == (("groq/*", "groq"),)


def test_one_server_by_two_names_is_one_model(read_litellm: Reader) -> None:
    text = one(f"model: openai/a, {LOCAL}") + one(f"model: openai/a, {LOCAL}", name="n")[12:]
    found, _ = read_litellm(text)
    assert [m.id for m in found.models] == ["m"]
    assert found.aliases == (("n", "m"),)


def test_names_do_not_clash(read_litellm: Reader) -> None:
    text = one(f"model: openai/a, {LOCAL}", name="x-*")
    text += one("model: openai/b, api_base: 'http://i:1'", name="a")[12:]
    found, _ = read_litellm(text)
    assert [(m.id, m.upstream_model) for m in found.models] == [("a-2", "a"), ("a", "b")]
    assert found.aliases == (("x-*", "a-2"),)


def test_other_names_of_groups(read_litellm: Reader) -> None:
    more = "router_settings: {model_group_alias: {n: m, o: {model: m, hidden: true}}}"
    found, notices = read_litellm(one(f"model: openai/a, {LOCAL}", more=more))
    assert found.aliases == (("n", "m"), ("o", "m"))
    assert not notices


# --------------------------------------------------------------------------- routes

TWO = """\
model_list:
  - model_name: m
    litellm_params: {model: openai/a, api_base: "http://a:1", rpm: 10}
  - model_name: m
    litellm_params: {model: openai/a, api_base: "http://b:1", rpm: 30}
    model_info: {id: other}
  - model_name: spare
    litellm_params: {model: openai/s, api_base: "http://c:1"}
"""


def test_deployments_of_one_name_are_a_route(read_litellm: Reader) -> None:
    found, _ = read_litellm(TWO)
    assert found.routes == (Route(id="m", models=(("m#1", 10.0), ("other", 30.0))),)
    assert [(m.id, m.listed) for m in found.models] == [
        ("spare", True),
        ("m#1", False),
        ("other", False),
    ]


def test_ids_of_deployments_clash_with_nothing(read_litellm: Reader) -> None:
    text = """\
model_list:
  - {model_name: m, litellm_params: {model: openai/a, api_base: "http://a"}, model_info: {id: m}}
  - {model_name: m, litellm_params: {model: openai/a, api_base: "http://b"}, model_info: {id: x}}
  - {model_name: m, litellm_params: {model: openai/a, api_base: "http://c"}, model_info: {id: x}}
  - {model_name: p-*, litellm_params: {model: openai/x, api_base: "http://d"}}
"""
    found, _ = read_litellm(text)
    assert [model.id for model in found.models] == ["x", "m-2", "x-2", "x-3"]
    assert [name for name, _ in found.routes[0].models] == ["m-2", "x-2", "x-3"]


@pytest.mark.parametrize(
    "settings",
    [
        "litellm_settings: {num_retries: 5, fallbacks: [{m: [spare]}]}",
        "router_settings: {num_retries: 5, fallbacks: [{m: spare}]}",
        "litellm_settings: {num_retries: 1}\n"
        "router_settings: {num_retries: 5, fallbacks: [{'*': [m, spare]}]}",
        "router_settings: {num_retries: 5, default_fallbacks: [m, spare]}",
    ],
)
def test_retries_and_fallbacks(read_litellm: Reader, settings: str) -> None:
    found, _ = read_litellm(TWO + settings)
    route = next(route for route in found.routes if route.id == "m")
    assert (route.retries, route.fallbacks) == (5, ("spare",))


def test_a_single_deployment_with_fallbacks_is_a_route(read_litellm: Reader) -> None:
    found, _ = read_litellm(TWO + "router_settings: {cooldown_time: 9, fallbacks: [{spare: [m]}]}")
    assert found.routes[-1] == Route(
        id="spare", models=(("spare#1", 1.0),), fallbacks=("m",), cooldown_s=9.0
    )


# --------------------------------------------------------------------------- who may come in


def test_the_master_key_is_everybodys(read_litellm: Reader) -> None:
    text = one(f"model: openai/a, {LOCAL}", more="general_settings: {master_key: sk-1}")
    server = read_litellm(text)[0].server
    assert server.master_key == "sk-1"
    sha256 = hashlib.sha256(b"sk-1").hexdigest()
    assert server.keys == (ApiKey(name="master_key", sha256=sha256),)


def test_the_master_key_may_stand_in_the_environment(read_litellm: Reader) -> None:
    text = one(f"model: openai/a, {LOCAL}")
    server = read_litellm(text, {"LITELLM_MASTER_KEY": "sk-2"})[0].server
    assert server.master_key == "sk-2"
    assert len(server.keys) == 1
    assert read_litellm(text)[0].server.keys == ()


# --------------------------------------------------------------------------- only LiteLLM


@pytest.mark.parametrize(
    ("params", "name", "why"),
    [
        ("model: bedrock/x.y", "bedrock/x.y", "only LiteLLM reaches bedrock"),
        ("model: azure/d, api_base: 'https://a.example'", "azure/d", "only LiteLLM reaches azure"),
        ("model: gemini-3-pro", "vertex_ai/gemini-3-pro", "only LiteLLM reaches vertex_ai"),
        ("model: x, custom_llm_provider: mine", "mine/x", "does not know the provider 'mine'"),
        ("model: openai/x, api_base: 'https://h/beta'", "openai/x", "addresses that end in /v1"),
        ("model: vllm/x", "vllm/x", "only LiteLLM reaches vllm"),
    ],
)
def test_what_only_litellm_reaches(read_litellm: Reader, params: str, name: str, why: str) -> None:
    found, notices = read_litellm(one(params))
    (model,) = found.models
    assert (model.via, model.upstream_model, model.upstream) == ("litellm", name, None)
    assert not model.is_ours
    assert [why in notice.message for notice in notices] == [True]


def test_litellm_is_told_all_that_is_written(read_litellm: Reader) -> None:
    params = (
        "model: bedrock/x, aws_region_name: eu, api_key: os.environ/K, max_tokens: 9, tags: [a]"
    )
    found, notices = read_litellm(one(params))
    assert found.models[0].litellm_params == (
        ("aws_region_name", "eu"),
        ("api_key", "os.environ/K"),
        ("max_tokens", "9"),
        ("tags", '["a"]'),
    )
    assert len(notices) == 1


def test_modes_that_homeport_has_not(read_litellm: Reader) -> None:
    more = "    model_info: {mode: image_generation}\n"
    found, notices = read_litellm(one("model: openai/x", more=more))
    assert found.models[0].via == "litellm"
    assert "no mode 'image_generation'" in notices[0].message


# --------------------------------------------------------------------------- what is told


def test_what_has_no_effect_is_one_list(read_litellm: Reader, tmp_path: Path) -> None:
    more = """\
litellm_settings:
  success_callback: [langfuse]
  num_retris: 3
router_settings:
  redis_host: x
general_settings:
  database_url: postgresql://x
guardrails: []
"""
    _, notices = read_litellm(one(f"model: openai/a, {LOCAL}, mock_response: hi", more=more))
    at = f"{tmp_path}/config.yaml:"
    assert [str(notice).removeprefix(at) for notice in notices] == [
        "3: model_list.0.litellm_params.mock_response: has no effect: a model is asked",
        "5: litellm_settings.success_callback: has no effect: nobody is told; homeport has its own "
        "log and /metrics",
        "6: litellm_settings.num_retris: is not known to homeport, and has no effect; did you mean "
        "'num_retries'?",
        "8: router_settings.redis_host: has no effect: one homeport shares nothing with another",
        "10: general_settings.database_url: has no effect: homeport keeps no users, teams or budgets "
        "of LiteLLM's",
        "11: guardrails: has no effect: needs LiteLLM itself",
    ]


@pytest.mark.parametrize("section", litellm_keys.NOT_SERVED)
def test_no_key_is_both_understood_and_without_effect(section: str) -> None:
    tables = {
        "": litellm_keys.ROOT,
        "litellm_params": litellm_keys.PARAMS,
        "litellm_settings": litellm_keys.LITELLM_SETTINGS,
        "router_settings": litellm_keys.ROUTER_SETTINGS,
        "general_settings": litellm_keys.GENERAL_SETTINGS,
    }
    assert not set(litellm_keys.NOT_SERVED[section]) & set(tables[section].names())


# --------------------------------------------------------------------------- files


def test_included_files(read_litellm: Reader) -> None:
    more = "include: [b.yaml]\nlitellm_settings: {num_retries: 1}"
    text = one(f"model: openai/a, {LOCAL}", more=more)
    b = one("model: openai/b, api_base: 'http://i:1'", "n", "include: c.yaml\n")
    c = "include: config.yaml\nlitellm_settings: {fallbacks: [{m: [n]}]}\n"
    found, _ = read_litellm(text, b=b, c=c)
    assert [m.id for m in found.models] == ["n", "m#1"]
    (route,) = found.routes
    assert (route.fallbacks, route.retries) == (("n",), 2)  # the later section takes the place


def test_merge_keys(read_litellm: Reader) -> None:
    text = """\
x-common: &common {api_base: "http://h:1", api_key: k, timeout: 3}
model_list:
  - model_name: m
    litellm_params: {<<: *common, model: openai/a, timeout: 5}
"""
    (model,) = read_litellm(text)[0].models
    assert (model.upstream, model.api_key, model.timeout_s) == ("http://h:1/v1", "k", 5.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model_list: []", True),
        ('{"model_list": []}', True),
        ("litellm_settings: {}", True),
        ("models: {}\nrouter_settings: {}", False),
        ("# model_list:\nmodels: {}", False),
        ("model_list: [", False),
        ("- model_list", False),
        ("", False),
    ],
)
def test_whose_file_it_is(text: str, expected: bool) -> None:
    assert is_litellm(text.encode()) is expected


def test_start_scripts_name_it_by_a_variable() -> None:
    env = {"AUTO_INFER_LITELLM_CONFIG": "/l.yaml"}
    assert load.config_file(None, env) == (Path("/l.yaml"), True)
    assert load.config_file(None, env | {"HOMEPORT_CONFIG": "/h.yaml"})[0] == Path("/h.yaml")


# --------------------------------------------------------------------------- broken ones

BROKEN = [
    ("model_list:\n", 1, "model_list", "names no model"),
    ("general_settings: {}\n", 1, "model_list", "names no model"),
    ("model_list: []\nmodels: {}\n", 2, "models", "is a key of homeport's own"),
    ("model_list: {a: 1}\n", 1, "model_list", "must be a list"),
    ("model_list:\n  - model_name: m\n", 2, "model_list.0", "'litellm_params' is missing"),
    ("model_list:\n  - litellm_params: {model: openai/a}\n", 2, "model_list.0", "'model_name' is"),
    (one(LOCAL), 3, "model_list.0.litellm_params", "'model' is missing"),
    (one(f"model: a, {LOCAL}"), 3, "model_list.0.litellm_params.model", "no provider that LiteLLM"),
    (one("model: org/a"), 3, "model_list.0.litellm_params.model", "no provider that LiteLLM"),
    (one("model: hosted_vllm/a"), 3, "model_list.0.litellm_params.model", "needs an api_base"),
    (
        one("model: openai/a, api_base: h"),
        3,
        "model_list.0.litellm_params.api_base",
        "is not an http:// or https:// address",
    ),
    (
        one("model: openai/a, api_base: os.environ/B"),
        3,
        "model_list.0.litellm_params.api_base",
        "B is not set",
    ),
    (
        one("model: bedrock/a", more="guardrails: !new {}"),
        2,
        "model_list.0",
        "cannot be handed to LiteLLM",
    ),
    (
        one(f"model: openai/a, {LOCAL}, timeout: soon"),
        3,
        "model_list.0.litellm_params.timeout",
        "must be a number of seconds",
    ),
    (
        one(f"model: openai/a, {LOCAL}, headers: {{'a b': c}}"),
        3,
        'model_list.0.litellm_params.headers."a b"',
        "is not the name of a header",
    ),
    (
        one(f"model: openai/a, {LOCAL}, max_tokens: Many!"),
        3,
        "model_list.0.litellm_params.max_tokens",
        "must be a number",
    ),
    (
        one(f"model: openai/a, {LOCAL}", more="litellm_settings: {fallbacks: [{m: [n]}]}"),
        4,
        "litellm_settings.fallbacks",
        "there is no model 'n' in model_list",
    ),
    (
        one(f"model: openai/a, {LOCAL}", more="router_settings: {model_group_alias: {x: n}}"),
        4,
        "router_settings.model_group_alias.x",
        "there is no model 'n' in model_list",
    ),
    (
        one(f"model: openai/a, {LOCAL}", more="include: none.yaml"),
        4,
        "include.0",
        "'none.yaml' there is no such file",
    ),
    (
        one(f"model: openai/a, {LOCAL}", more="litellm_settings: {num_retries: -1}"),
        4,
        "litellm_settings.num_retries",
        "must be at least 1, is -1",
    ),
]


@pytest.mark.parametrize(("text", "line", "key", "message"), BROKEN)
def test_broken(read_litellm: Reader, text: str, line: int, key: str, message: str) -> None:
    with pytest.raises(CollectedConfigError) as caught:
        read_litellm(text)
    (error,) = caught.value.errors
    assert (error.where.rpartition(":")[2], error.key) == (str(line), key)
    assert message in error.message
    assert error.hint


def test_everything_wrong_is_told_at_once(read_litellm: Reader) -> None:
    text = one("model: a, api_base: h") + "general_settings: {master_key: [1]}\n"
    with pytest.raises(CollectedConfigError) as caught:
        read_litellm(text)
    assert [error.key.rpartition(".")[2] for error in caught.value.errors] == [
        *("api_base", "model", "master_key")
    ]
