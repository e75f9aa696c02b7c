"""Our settings as LiteLLM's configuration, and back."""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace

from homeport.config import load
from homeport.config.litellm_compat import settings as read_litellm
from homeport.config.values import Place
from homeport.engines.litellm import LOCAL_PREFIX, MASTER_KEY, exported
from homeport.routing.catalog import Wildcard
from homeport.settings import ApiKey, ModelSettings, Route, ServerSettings, Settings

REMOTE = ModelSettings(id="far", upstream="http://h:1/v1", upstream_model="inner", api_key="geheim")


def entries(*models: ModelSettings, claude: bool = False, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = exported(
        Settings(models=models, strict_models=True, **more), claude=claude
    ).config["model_list"]
    return found


def params(*models: ModelSettings, **more: Any) -> dict[str, Any]:
    (entry,) = entries(*models, **more)
    found: dict[str, Any] = entry["litellm_params"]
    return found


def test_a_local_server_is_asked_for_chat_whichever_api_comes() -> None:
    assert params(REMOTE) == {
        "model": f"{LOCAL_PREFIX}/inner",
        "api_base": "http://h:1/v1",
        "api_key": "os.environ/FAR_API_KEY",
    }


def test_operators_keep_their_prefix() -> None:
    openai = ModelSettings(id="o", upstream="https://api.openai.com/v1", api_key="k")
    assert params(openai) == {"model": "openai/o", "api_key": "os.environ/OPENAI_API_KEY"}
    groq = ModelSettings(id="g", upstream="https://api.groq.com/openai/v1", upstream_model="x")
    assert params(groq) == {"model": "groq/x"}
    claude = ModelSettings(id="c", upstream="https://api.anthropic.com/v1", dialect="anthropic")
    assert params(claude) == {"model": "anthropic/c"}


def test_one_that_speaks_messages_only() -> None:
    model = ModelSettings(id="m", upstream="http://h:1/v1", dialect="anthropic")
    assert params(model) == {"model": "anthropic/m", "api_base": "http://h:1"}


def test_an_engine_of_ours_is_asked_through_homeport() -> None:
    model = ModelSettings(id="m", path="/m.gguf")
    assert params(model) == {"model": "hosted_vllm/m", "api_base": "http://127.0.0.1:11899/v1"}
    keys = ServerSettings(host="0.0.0.0", port=1, keys=(ApiKey(name="a", sha256="0" * 64),))
    assert params(model, server=keys) == {
        "model": "hosted_vllm/m",
        "api_base": "http://127.0.0.1:1/v1",
        "api_key": "os.environ/HOMEPORT_API_KEY",
    }


def test_what_only_litellm_reaches_is_as_it_was() -> None:
    model = ModelSettings(
        id="m",
        via="litellm",
        upstream_model="bedrock/x",
        litellm_params=(("aws_region_name", "eu"), ("api_key", "geheim"), ("tags", '["a"]')),
    )
    assert params(model) == {
        "model": "bedrock/x",
        "aws_region_name": "eu",
        "api_key": "os.environ/M_API_KEY",
        "tags": ["a"],
    }


def test_every_name_is_there() -> None:
    model = ModelSettings(id="a", upstream="http://h:1/v1", aliases=("b",))
    found = entries(model, aliases=(("c", "a"), ("d-*", "b")), claude=True)
    assert [entry["model_name"] for entry in found] == ["a", "b", "c", "d-*", "claude-*"]


def test_unknown_names_go_to_the_default_model() -> None:
    found = exported(Settings(models=(REMOTE,))).config["model_list"]
    assert [entry["model_name"] for entry in found] == ["far", "*"]


def test_no_key_stands_in_it() -> None:
    model = replace(REMOTE, headers=(("X-Auth-Token", "geheim"), ("X-Team", "blue")))
    found = exported(Settings(models=(model,), server=ServerSettings(master_key="geheim")))
    assert "geheim" not in yaml.safe_dump(found.config)
    assert "geheim" not in repr(found)
    assert found.variables == {
        "FAR_API_KEY": "geheim",
        "FAR_X_AUTH_TOKEN": "geheim",
        MASTER_KEY: "geheim",
    }
    assert found.config["general_settings"] == {"master_key": f"os.environ/{MASTER_KEY}"}


def test_variables_of_different_keys_differ() -> None:
    models = (
        ModelSettings(id="a.b", upstream="http://h:1/v1", api_key="one"),
        ModelSettings(id="a-b", upstream="http://h:2/v1", api_key="two"),
        ModelSettings(id="a_b", upstream="http://h:3/v1", api_key="one"),
    )
    keys = [entry["litellm_params"]["api_key"] for entry in entries(*models)]
    assert keys == ["os.environ/A_B_API_KEY", "os.environ/A_B_API_KEY_2", "os.environ/A_B_API_KEY"]


# --------------------------------------------------------------------------- round trips

names = st.sampled_from(["a", "b", "org/c", "gpt-*", "claude-*", "x-*-y", "*"])
locals_ = st.sampled_from(["openai/m", "hosted_vllm/m", "hosted_vllm/n", "openai/org/m"])
clouds = st.sampled_from(
    ["openai/gpt-x", "anthropic/claude-x", "groq/l", "ollama_chat/q", "bedrock/b.c", "azure/d"]
)
extras = st.fixed_dictionaries(
    {},
    optional={
        "api_key": st.sampled_from(["k1", "k2"]),
        "max_tokens": st.integers(1, 9),
        "temperature": st.sampled_from([0.5, 1.0]),
        "timeout": st.sampled_from([5, 60.5]),
        "headers": st.dictionaries(st.sampled_from(["X-A", "X-Token"]), st.just("v"), min_size=1),
        "rpm": st.integers(1, 5),
    },
)


@st.composite
def deployments(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        where = {
            "model": draw(locals_),
            "api_base": draw(st.sampled_from(["http://h:1", "http://i/v1"])),
        }
    else:
        where = {"model": draw(clouds)}
    entry: dict[str, Any] = {"model_name": draw(names), "litellm_params": {**where, **draw(extras)}}
    if draw(st.booleans()):
        mode = draw(st.sampled_from(["chat", "embedding"]))
        entry["model_info"] = {"mode": mode, "max_input_tokens": draw(st.integers(1, 9))}
    return entry


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    found = draw(st.lists(deployments(), min_size=1, max_size=6))
    plain = sorted({entry["model_name"] for entry in found if "*" not in entry["model_name"]})
    config: dict[str, Any] = {"model_list": found}
    has_fallbacks: bool = draw(st.booleans())
    if plain and has_fallbacks:
        pairs = st.dictionaries(
            st.sampled_from(plain), st.lists(st.sampled_from(plain), max_size=2)
        )
        fallbacks = [{name: others} for name, others in draw(pairs).items()]
        config["router_settings"] = {"num_retries": draw(st.integers(0, 3)), "fallbacks": fallbacks}
    if draw(st.booleans()):
        config["general_settings"] = {"master_key": "sk-1"}
    return config


def read(config: dict[str, Any], env: dict[str, str]) -> Settings:
    place = Place(folder="/", env=env, exists=bool)
    data = yaml.safe_dump(config, sort_keys=False).encode()
    return read_litellm("/config.yaml", data, place, lambda name: b"")


def meaning(settings: Settings) -> dict[str, Any]:
    """What each name leads to: shares, deployments, fallbacks; ids that nobody asks for left out."""
    models = {model.id: model for model in settings.models}
    routes = {route.id: route for route in settings.routes}

    def shape(model: ModelSettings) -> Any:
        params = dict(model.litellm_params)
        if str(params.get("api_key", "")).startswith("os.environ/"):
            params["api_key"] = "(a key)"
        params = {name: text for name, text in params.items() if name != "headers"}
        headers = tuple(sorted(model.headers))
        defaults = tuple(sorted(model.request_defaults))
        return replace(
            model,
            id="",
            listed=True,
            headers=headers,
            request_defaults=defaults,
            litellm_params=tuple(sorted(params)),
        )

    def behind(name: str) -> Any:
        route = routes.get(name)
        if route is None:
            return [(1.0, shape(models[name]))], (), None
        total = sum(weight for _, weight in route.models)
        shares: dict[Any, float] = {}
        for member, weight in route.models:
            key = shape(models[member])
            shares[key] = round(shares.get(key, 0.0) + weight / total, 6)
        members = sorted(((w, k) for k, w in shares.items()), key=repr)
        if len(members) == 1 and not route.fallbacks:
            return [(1.0, members[0][1])], (), None
        return members, route.fallbacks, route.retries

    asked = {**{name: name for name in (*models, *routes)}, **dict(settings.aliases)}
    listed = {m.id for m in settings.models if m.listed} | {
        r.id for r in settings.routes if r.listed
    }
    return {
        name: behind(to)
        for name, to in asked.items()
        if "*" in name or name in listed or name in dict(settings.aliases)
    }


@hypothesis_settings(deadline=None)
@given(configs())
def test_in_out_in_keeps_the_meaning(config: dict[str, Any]) -> None:
    first = read(config, {})
    out = exported(first)
    second = read(out.config, out.variables)
    before, after = meaning(first), meaning(second)
    for name, what in before.items():
        if name in after or "*" in name:
            assert after[name] == what
        else:  # an id that only a pattern led to
            assert any(Wildcard(p, "").matches(name) for p in after if "*" in p)


@hypothesis_settings(deadline=None)
@given(configs())
def test_what_is_written_is_written_again_in_the_same_way(config: dict[str, Any]) -> None:
    once = exported(read(config, {}))
    twice = exported(read(once.config, once.variables))
    assert exported(read(twice.config, twice.variables)).config == twice.config


def test_our_own_file_comes_back(tmp_path: Path) -> None:
    text = """\
models:
  left: {upstream: "http://h:1/v1", upstream_model: m, listed: false}
  right: {upstream: "http://i:1/v1", upstream_model: m, listed: false, timeout: 9}
  spare: {upstream: "http://j:1/v1", upstream_model: s, request_defaults: {temperature: 0.5}}
routes:
  both: {models: {left: 2, right: 1}, fallbacks: spare, retries: 1, cooldown: 9}
strict_models: true
"""
    file = tmp_path / "config.yaml"
    file.write_text(text, "utf-8")
    out = exported(load.read(file, {}))
    back = read(out.config, out.variables)
    assert back.routes == (
        Route(
            id="both",
            models=(("left", 2.0), ("right", 1.0)),
            fallbacks=("spare",),
            retries=1,
            cooldown_s=9.0,
        ),
    )
    assert {m.id: (m.upstream, m.timeout_s, m.request_defaults) for m in back.models} == {
        "left": ("http://h:1/v1", None, ()),
        "right": ("http://i:1/v1", 9.0, ()),
        "spare": ("http://j:1/v1", None, (("temperature", 0.5),)),
    }
