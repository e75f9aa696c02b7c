"""A profile over the configuration: what becomes of both, and which file is to blame."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from homeport.config import load, profiles
from homeport.config.flags import Overrides
from homeport.config.kinds import Section
from homeport.config.problems import CollectedConfigError
from homeport.config.schema import ROOT
from homeport.errors import ConfigError
from homeport.settings import ModelSettings, Settings

BASE = """\
server: {port: 8000, limits: {max_tokens: 100, connect_timeout_s: 2}}
models:
  a:
    path: a.gguf
    alias: [x, y]
    ctx: 4096
    args: [-v]
    env: {A: 1, B: 2}
  b: {path: b.gguf}
routes:
  both: {models: {a: 1, b: 1}, retries: 1}
aliases:
  claude-*: a
  "*-mini": b
default_model: a
small_models: [tiny, "*-nano"]
"""

With = Callable[..., Settings]
Wrong = Callable[..., list[tuple[str, str, str, str]]]


@pytest.fixture
def home(folder: Path) -> Path:
    """Our folder, with two model files in it and beside the profiles."""
    (folder / "profiles").mkdir()
    for name in ("a.gguf", "c.gguf"):
        (folder / "profiles" / name).touch()
    return folder


@pytest.fixture
def with_profile(home: Path) -> With:
    """The settings of ``base`` with this text over them, as the profile ``p``."""

    def with_profile(
        text: str, base: str | None = BASE, flags: Overrides = load.NO_FLAGS, **env: str
    ) -> Settings:
        if base is not None:
            (home / "config.yaml").write_text(base)
        (home / "profiles" / "p.yaml").write_text(text)
        env = {"HOMEPORT_HOME": str(home), "HOME": str(home), **env}
        return load.settings(None, env, flags, profile="p")

    return with_profile


@pytest.fixture
def wrong(home: Path, with_profile: With) -> Wrong:
    """All errors: the place below the folder, key, message, hint."""

    def wrong(text: str, base: str | None = BASE) -> list[tuple[str, str, str, str]]:
        with pytest.raises(CollectedConfigError) as caught:
            with_profile(text, base)
        return [
            (e.where.removeprefix(f"{home}/"), e.key, e.message, e.hint)
            for e in caught.value.errors
        ]

    return wrong


def model(settings: Settings, name: str) -> ModelSettings:
    return {model.id: model for model in settings.models}[name]


# --- what becomes of both -----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "description: nothing\n", "models:\nserver:\n"])
def test_a_profile_that_says_nothing_changes_nothing(text: str, with_profile: With) -> None:
    (plain, profiled) = (with_profile(""), with_profile(text))
    assert plain == profiled
    assert [m.id for m in plain.models] == ["a", "b"]


def test_values_and_lists_take_the_place_of_others(with_profile: With) -> None:
    found = with_profile(
        "default_model: b\nsmall_models: [other]\nserver: {limits: {max_tokens: 7}}\n"
        "strict_models: true\n"
    )
    assert (found.default_model, found.small_models) == ("b", ("other",))
    assert found.strict_models
    limits = found.server.limits
    assert (limits.max_tokens, limits.connect_timeout_s, found.server.port) == (7, 2, 8000)


def test_a_model_is_changed_key_by_key(with_profile: With, home: Path) -> None:
    found = with_profile("models: {a: {ctx: 8192, alias: z, args: [-q], env: {B: 3, C: 4}}}")
    assert model(found, "a") == ModelSettings(
        id="a",
        path=str(home / "a.gguf"),
        aliases=("z",),
        ctx=8192,
        args=("-q",),
        env=(("C", "4"), ("A", "1"), ("B", "3")),
    )
    assert [m.id for m in found.models] == ["a", "b"], "changing one moves none"


def test_new_names_come_first(with_profile: With, home: Path) -> None:
    found = with_profile(
        "models: {c: {path: c.gguf}}\naliases: {'*-maxi': c, 'claude-*': c}",
        base=BASE.replace("default_model: a\n", ""),
    )
    assert [m.id for m in found.models] == ["c", "a", "b"]
    assert model(found, "c").path == str(home / "profiles" / "c.gguf"), "beside the profile"
    assert found.aliases == (("*-maxi", "c"), ("claude-*", "c"), ("*-mini", "b"))


def test_another_source_takes_the_place_of_the_first(with_profile: With, home: Path) -> None:
    """And what goes only with that one goes with it: ``args`` mean nothing to an upstream."""
    assert model(with_profile("models: {a: {hub: org/name}}"), "a") == ModelSettings(
        id="a",
        hub="org/name",
        aliases=("x", "y"),
        ctx=4096,
        args=("-v",),
        env=(("A", "1"), ("B", "2")),
    )
    assert model(with_profile("models: {a: {upstream: http://h}}"), "a") == ModelSettings(
        id="a", upstream="http://h/v1", aliases=("x", "y"), ctx=4096
    )


def test_an_upstream_becomes_a_model_of_ours(with_profile: With, home: Path) -> None:
    base = "models: {r: {upstream: http://h, api_key: k, upstream_model: m, headers: {A: b}}}"
    assert with_profile("models: {r: {path: c.gguf}}", base).models == (
        ModelSettings(id="r", path=str(home / "profiles" / "c.gguf")),
    )


def test_a_route_s_models_and_the_search_are_one_value(with_profile: With) -> None:
    found = with_profile(
        "routes: {both: {models: {b: 2}}}\nweb_search: {searxng: http://s}",
        base=BASE + "web_search: {tavily: {api_key: k}}\n",
    )
    (route,) = found.routes
    assert (route.models, route.retries) == ((("b", 2.0),), 1)
    assert found.web_search.tavily is None
    assert found.web_search.searxng == "http://s"


def test_engine_defaults_by_either_spelling(with_profile: With) -> None:
    found = with_profile(
        "defaults: {backends: {llama: {ctx: 1024}}}",
        base="defaults: {backends: {llamacpp: {slots: 3, ctx: 512}}}\nmodels: {a: {path: a.gguf}}",
    )
    ((name, common),) = found.defaults.backends
    assert (name, common.slots, common.ctx) == ("llamacpp", 3, 1024)


def test_groups_and_lifecycle(with_profile: With) -> None:
    found = with_profile(
        "lifecycle: {max_queue: 5, groups: {big: {together: on}, new: }}",
        base="lifecycle: {min_dwell: 9, groups: {big: {apart_from: small}, small: }}",
    ).lifecycle
    assert (found.max_queue, found.min_dwell_s) == (5, 9)
    assert [(g.name, g.together, g.apart_from) for g in found.groups] == [
        ("new", False, ()),
        ("big", True, ("small",)),
        ("small", False, ()),
    ]


def test_a_profile_may_be_all_there_is(with_profile: With) -> None:
    found = with_profile("models: {c: {path: c.gguf}}\ndefault_model: c", base=None)
    assert [m.id for m in found.models] == ["c"]


def test_flags_and_environment_win_over_a_profile(with_profile: With) -> None:
    text = "default_model: b\nserver: {limits: {max_tokens: 7}}"
    flags = Overrides(default_model="a")
    found = with_profile(text, flags=flags, MAX_TOKENS="8")
    assert (found.default_model, found.server.limits.max_tokens) == ("a", 8)


def test_rules_hold_for_the_outcome_alone(with_profile: With) -> None:
    """``default_model`` names a model that only the profile has, and the other way round."""
    found = with_profile(
        "models: {c: {path: c.gguf}}\naliases: {claude-opus-*: b}",
        base=BASE.replace("default_model: a", "default_model: c"),
    )
    assert found.default_model == "c"


# --- who is to blame ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "key", "message", "hint"),
    [
        ("\nserver:\n  prot: 1\n", "profiles/p.yaml:3", "server.prot", "unknown", "port"),
        ("models:\n  a: {ctx: 0}\n", "profiles/p.yaml:2", "models.a.ctx", "at least 1", ""),
        ("models:\n  c:\n    ctx: 1\n", "profiles/p.yaml:2", "models.c", "has no 'path'", ""),
        ("\naliases:\n  o: c\n", "profiles/p.yaml:3", "aliases.o", "no model 'c'", "known: a, b"),
        ("aliases:\n  b: a\n", "profiles/p.yaml:2", "aliases.b", "is the id of model 'b'", ""),
        ("models:\n  b: {alias: [q, x]}", "profiles/p.yaml:2", "models.b.aliases.1", "'x' is", ""),
        ("default_model: n", "profiles/p.yaml:1", "default_model", "no model 'n'", "known"),
        ("models:\n  a:\n    slots: 1\n    path: gone.gguf", "profiles/p.yaml:4", "models.a.path",
         "no file", "profiles/gone.gguf"),
        ("models:\n  b:\n    upstream: http://h\n    slots: 1", "profiles/p.yaml:4",
         "models.b.slots", "goes only with", "delete"),
        ("- a", "profiles/p.yaml:1", "", "must be a mapping", ""),
        ("models: {a: {path: a.gguf, upstream: http://h}}", "profiles/p.yaml:1", "models.a",
         "has both 'path' and 'upstream'", ""),
    ],
)  # fmt: skip
def test_the_profile_is_named_with_its_line(
    text: str, where: str, key: str, message: str, hint: str, wrong: Wrong
) -> None:
    (found,) = wrong(text)
    assert found[:2] == (where, key)
    assert message in found[2]
    assert hint in found[3]


def test_the_configuration_is_named_for_what_it_says(wrong: Wrong) -> None:
    """A profile may break what stands in the other file."""
    text = "models:\n  a: {upstream: http://h, alias: [b]}\nroutes:\n  both: {models: {a: 1, n: 1}}"
    base = BASE.replace("default_model: a", "default_model: q")
    assert [(where, key) for where, key, *_ in wrong(text, base)] == [
        ("config.yaml:15", "default_model"),
        ("profiles/p.yaml:2", "models.a.aliases.0"),
        ("profiles/p.yaml:4", "routes.both.models.n"),
    ]


def test_everything_wrong_with_both_is_told_at_once(wrong: Wrong) -> None:
    found = wrong("server: {limits: {max_tokens: x}}", base="server: {port: x}")
    assert [where for where, *_ in found] == ["config.yaml:1", "profiles/p.yaml:1"]


@pytest.mark.parametrize("path", profiles.REFUSED, ids=".".join)
def test_what_no_profile_says(path: tuple[str, ...], wrong: Wrong, home: Path) -> None:
    key: Section = ROOT
    for step in path:
        found = key.key(step)
        assert found is not None
        value = found.example or found.default
        if isinstance(found.kind, Section):
            key = found.kind
    value = {"keys": "[]", "store": "off", "master_key": "k", "metrics_token": "t"}.get(step, value)
    text = f"{path[0]}:\n  {path[1]}: {value}" if len(path) == 2 else f"{step}: {value}"
    ((where, shown, message, hint),) = wrong(text)
    assert (where, shown) == (f"profiles/p.yaml:{len(path)}", ".".join(path))
    assert "the same with every profile" in message
    assert hint == f"write it into {home / 'config.yaml'}"


def test_not_over_litellm_s_file(home: Path, with_profile: With) -> None:
    file = home / "litellm.yaml"
    file.write_text("model_list: [{model_name: m, litellm_params: {model: openai/m}}]")
    with pytest.raises(ConfigError, match=r"the one in use is LiteLLM's") as caught:
        with_profile("", HOMEPORT_CONFIG=str(file))
    assert caught.value.where == str(home / "profiles" / "p.yaml")
    assert not load.takes_profiles(file)
    assert load.takes_profiles(home / "config.yaml")


# --- which profile ------------------------------------------------------------------------------


def chosen(name: str | None, env: Mapping[str, str]) -> str | None:
    file = load.profile_file(name, env)
    return file.stem if file else None


def test_a_flag_before_the_environment(home: Path) -> None:
    for name in ("one", "two"):
        (home / "profiles" / f"{name}.yaml").touch()
    env = {"HOMEPORT_CONFIG": str(home)}
    both = env | {"HOMEPORT_PROFILE": "two"}
    assert chosen(None, env) is None
    assert chosen("one", env) == chosen("one", both) == "one"
    assert chosen(None, both) == chosen("", both) == "two"
    assert chosen(None, env | {"HOMEPORT_PROFILE": ""}) is None


def test_the_ones_that_there_are(home: Path) -> None:
    for name in ("b.yaml", "a.yaml", ".hidden.yaml", "notes.txt", "no name.yaml", "old.yml"):
        (home / "profiles" / name).touch()
    assert list(load.profile_files({"HOMEPORT_HOME": str(home)})) == ["a", "b"]
    assert load.profile_files({"HOMEPORT_HOME": str(home / "none")}) == {}


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("codng", "there is no profile 'codng'", "did you mean 'coding'? There are: chat, coding"),
        ("zzz", "there is no profile 'zzz'", "there are: chat, coding (in"),
        ("../coding", "'../coding' is no name of a profile", "letters"),
        ("/etc/passwd", "is no name of a profile", "letters"),
        ("-x", "is no name of a profile", "letters"),
    ],
)
def test_one_that_there_is_not(name: str, message: str, hint: str, home: Path) -> None:
    for known in ("coding", "chat"):
        (home / "profiles" / f"{known}.yaml").touch()
    env = {"HOMEPORT_HOME": str(home)}
    for flag, variables, where in (
        (name, env, "--profile"),
        (None, env | {"HOMEPORT_PROFILE": name}, "HOMEPORT_PROFILE"),
    ):
        with pytest.raises(ConfigError) as caught:
            load.settings(None, variables, profile=flag)
        assert caught.value.where == where
        assert message in caught.value.message
        assert hint in caught.value.hint


def test_where_there_are_none(home: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load.settings(None, {"HOMEPORT_HOME": str(home)}, profile="x")
    assert "there are none" in caught.value.hint
    assert "homeport profiles new x" in caught.value.hint


def test_a_description_is_read_whatever_else_is_wrong(home: Path) -> None:
    file = home / "profiles" / "p.yaml"
    file.write_text("description: for work\nmodels: {a: {ctx: x}}\nnonsense: 1\n")
    assert load.description(file, {}) == "for work"
    assert load.description(home / "gone", {}) == ""


def test_the_table_of_what_a_profile_may_have() -> None:
    assert {key.name for key in ROOT.keys} - {key.name for key in profiles.PROFILE.keys} == {
        "store"
    }
    for path in profiles.REFUSED:
        top = profiles.PROFILE.key(path[0])
        assert top is None or (isinstance(top.kind, Section) and top.kind.key(path[1]) is None)
