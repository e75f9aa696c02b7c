"""Which model a request means: the numbered cases of ``homeport.routing.catalog``, and what holds
for every catalog."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.errors import ClientError
from homeport.routing import catalog as module
from homeport.routing.catalog import MAX_NAME, Catalog, Entry, RequestKind, Resolution, Wildcard

CATALOG = Catalog(
    [
        Entry(id="qwen3-8b", aliases=("qwen", "Coder")),
        Entry(id="meta/llama-3"),
        Entry(id="other/llama-3"),
        Entry(id="Org/Big-Model.gguf"),
        Entry(id="nomic", aliases=("embed",), is_embedding=True),
    ],
    aliases=[
        ("fast", "qwen"),
        ("gone", "unplugged"),
        ("claude-*", "qwen3-8b"),
        ("claude-opus-*", "Org/Big-Model.gguf"),
        ("gpt-*-mini", "qwen3-8b"),
        ("gpt-*", "meta/llama-3"),
        ("text-embedding-*", "nomic"),
        ("lost-*", "unplugged"),
    ],
    default="qwen3-8b",
)


@pytest.mark.parametrize(
    ("name", "model_id", "how"),
    [
        # 1. exact
        ("qwen3-8b", "qwen3-8b", "exact"),
        ("nomic", "nomic", "exact"),
        # 2. alias: a model's own, a configured one that leads to an alias
        ("qwen", "qwen3-8b", "alias"),
        ("fast", "qwen3-8b", "alias"),
        # 3. normalised: provider, org, path, suffix, case
        ("openai/qwen3-8b", "qwen3-8b", "normalised"),
        ("QWEN", "qwen3-8b", "normalised"),
        ("coder", "qwen3-8b", "normalised"),
        ("big-model", "Org/Big-Model.gguf", "normalised"),
        ("/srv/models/Big-Model.GGUF", "Org/Big-Model.gguf", "normalised"),
        ("C:\\models\\qwen3-8b.gguf", "qwen3-8b", "normalised"),
        ("openai/meta/llama-3", "meta/llama-3", "normalised"),
        ("META/LLAMA-3", "meta/llama-3", "normalised"),
        (" qwen ", "qwen3-8b", "normalised"),
        # 4. wildcard: longest literal prefix, then file order, letter case aside
        ("claude-haiku-5", "qwen3-8b", "wildcard"),
        ("claude-opus-5", "Org/Big-Model.gguf", "wildcard"),
        ("Claude-Opus-5", "Org/Big-Model.gguf", "wildcard"),
        ("gpt-5-mini", "qwen3-8b", "wildcard"),
        ("gpt-5", "meta/llama-3", "wildcard"),
        # 5. default
        ("mistral", "qwen3-8b", "default"),
        ("/", "qwen3-8b", "default"),
        ("", "qwen3-8b", "default"),
        ("  ", "qwen3-8b", "default"),
        (None, "qwen3-8b", "default"),
    ],
)
def test_cases_for_chat(name: str | None, model_id: str, how: str) -> None:
    found = CATALOG.resolve(name, kind="chat")
    assert (found.model_id, found.how) == (model_id, how)
    assert CATALOG.resolve(name, kind="chat") == found  # the remembered answer


def _fault(catalog: Catalog, name: str | None, kind: RequestKind = "chat") -> ClientError:
    with pytest.raises(ClientError) as caught:
        catalog.resolve(name, kind=kind)
    assert (caught.value.kind, caught.value.param) == ("not_found", "model")
    return caught.value


# ------------------------------------------------------------------------ case 6


def test_an_ambiguous_name_is_404_and_names_the_candidates() -> None:
    assert _fault(CATALOG, "llama-3").message == (
        "model 'llama-3' is ambiguous: it could be 'meta/llama-3' and 'other/llama-3'"
    )


def test_a_wildcard_decides_over_an_ambiguous_name() -> None:
    catalog = Catalog(
        [Entry(id="a/x"), Entry(id="b/x"), Entry(id="y")], aliases=[("x*", "y")], default="y"
    )
    assert catalog.resolve("x", kind="chat") == Resolution("y", "wildcard", ("",))


def test_a_whole_name_beats_the_tail_of_another() -> None:
    catalog = Catalog([Entry(id="meta/x"), Entry(id="x")])
    assert catalog.resolve("openai/X", kind="chat").model_id == "x"


def test_strict_models_is_404_with_a_near_match() -> None:
    strict = Catalog([Entry(id="qwen3-8b")], default="qwen3-8b", strict_models=True)
    assert "did you mean 'qwen3-8b'?" in _fault(strict, "qwen3-9b").message
    assert strict.resolve("", kind="chat").how == "default"  # nothing else was asked for
    assert strict.resolve("openai/qwen3-8b", kind="chat").how == "normalised"


def test_without_a_default_an_unknown_name_is_404_with_what_there_is() -> None:
    catalog = Catalog([Entry(id=f"model-{n:02}") for n in range(12)])
    message = _fault(catalog, "zzz").message
    assert message.startswith("model 'zzz' is not known here; models here: 'model-00', 'model-01'")
    assert message.endswith("'model-07' and 4 more")
    assert _fault(catalog, None).message.startswith("no model is named; models here: ")


def test_an_empty_catalog_says_so() -> None:
    message = "model 'x' is not known here; no model is served"
    assert _fault(Catalog(), "x").message == message


@pytest.mark.parametrize(("name", "by"), [("gone", ""), ("lost-1", " (by 'lost-*')")])
def test_an_alias_of_a_model_that_is_not_served_is_404(name: str, by: str) -> None:
    message = f"model '{name}' stands for 'unplugged'{by}, which is not served now"
    assert _fault(CATALOG, name).message == message


def test_a_default_that_is_not_served_is_404() -> None:
    catalog = Catalog([Entry(id="a")], default="b")
    assert catalog.default is None
    assert "stands for 'b', which is not served now" in _fault(catalog, "x").message


def test_a_dangling_alias_is_not_taken_over_by_a_model_s_own() -> None:
    catalog = Catalog([Entry(id="a", aliases=("x",))], aliases=[("x", "b")])
    assert "'b'" in _fault(catalog, "x").message


def test_an_overlong_name_is_404_and_not_repeated() -> None:
    message = _fault(CATALOG, "x" * (MAX_NAME + 1)).message
    assert message == f"the model name is {MAX_NAME + 1} characters long; {MAX_NAME} is the longest"


def test_long_names_are_cut_in_messages() -> None:
    message = _fault(Catalog([Entry(id="a")]), "x" * 500).message
    assert "'" + "x" * 77 + "...'" in message
    assert len(message) < 200


# ------------------------------------------------------------------------ embeddings


def test_embeddings_get_an_embedding_model_by_wildcard_and_default() -> None:
    found = CATALOG.resolve("text-embedding-3-small", kind="embeddings")
    assert found == Resolution("nomic", "wildcard", ("3-small",))
    only = Catalog([Entry(id="nomic", is_embedding=True)], default="nomic")
    assert only.resolve("x", kind="embeddings") == Resolution("nomic", "default")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ada", "model 'ada' is not known here, and the default ('qwen3-8b') is a chat model"),
        ("", "no model is named, and the default ('qwen3-8b') is a chat model"),
        (
            "gpt-5",
            "model 'gpt-5' is not known here, and its wildcard 'gpt-*' ('meta/llama-3') "
            "is a chat model",
        ),
    ],
)
def test_embeddings_never_fall_to_a_chat_model(name: str, why: str) -> None:
    message = _fault(CATALOG, name, "embeddings").message
    assert message == f"{why}; embedding models here: 'nomic'"


def test_chat_never_falls_to_an_embedding_model() -> None:
    message = _fault(CATALOG, "text-embedding-3-small").message
    assert "is an embedding model; chat models here: " in message
    only = Catalog([Entry(id="nomic", is_embedding=True)], default="nomic")
    assert _fault(only, "x").message.endswith("is an embedding model; no chat model is served")


def test_a_model_named_outright_is_obeyed_whatever_the_kind() -> None:
    assert CATALOG.resolve("qwen", kind="embeddings").model_id == "qwen3-8b"
    assert CATALOG.resolve("NOMIC", kind="chat").model_id == "nomic"


def test_kinds_are_remembered_apart() -> None:
    assert CATALOG.resolve("apart", kind="chat").how == "default"
    _fault(CATALOG, "apart", "embeddings")


# ------------------------------------------------------------------------ where models come from

SOURCES = Catalog(
    [
        Entry(id="fast", aliases=("quick",), sources=("/srv/m/Qwen3-8B-Q4_K_M.gguf",)),
        Entry(id="mlx", sources=("mlx-community/Coder-3B-8bit",)),
        Entry(id="gguf", sources=("org/Big-GGUF:Q4_K_M", "org/Big-GGUF")),
        Entry(id="named", sources=("/srv/n/fast.gguf",)),
        Entry(id="coder-3b-8bit", sources=("/srv/n/other.gguf",)),
        Entry(id="one", sources=("/a/model.gguf",)),
        Entry(id="two", sources=("/b/model.gguf",)),
    ],
    aliases=[("qwen3-*", "mlx")],
    default="mlx",
)


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        ("/srv/m/Qwen3-8B-Q4_K_M.gguf", "fast"),
        ("Qwen3-8B-Q4_K_M.gguf", "fast"),
        ("qwen3-8b-q4_k_m", "fast"),  # before a pattern, since it is that model's own
        ("openai/Qwen3-8B-Q4_K_M", "fast"),
        ("openai/quick", "fast"),
        ("mlx-community/Coder-3B-8bit", "mlx"),
        ("openai/mlx-community/coder-3b-8bit", "mlx"),
        ("org/Big-GGUF:Q4_K_M", "gguf"),
        ("big-gguf:q4_k_m", "gguf"),
        ("openai/org/big-gguf", "gguf"),
        ("Coder-3B-8bit", "coder-3b-8bit"),  # an id beats the tail of a source
        ("/srv/n/fast.gguf", "named"),  # the longest form decides
        ("/elsewhere/fast.gguf", "fast"),
        ("a/model", "one"),
        ("/b/model.gguf", "two"),
    ],
)
def test_a_model_is_found_by_where_it_comes_from(name: str, model_id: str) -> None:
    assert SOURCES.resolve(name, kind="chat") == Resolution(model_id, "normalised")


def test_two_models_of_one_file_name_are_ambiguous() -> None:
    assert "it could be 'one' and 'two'" in _fault(SOURCES, "model.gguf").message


# ------------------------------------------------------------------------ completions

EDITOR = Catalog(
    [
        Entry(id="big"),
        Entry(id="small", aliases=("tab",)),
        Entry(id="nomic", is_embedding=True),
    ],
    aliases=[("gpt-*", "big")],
    default="big",
    autocomplete="tab",
)


@pytest.mark.parametrize(
    ("name", "kind", "model_id", "how"),
    [
        ("unknown", "completions", "small", "default"),
        (None, "completions", "small", "default"),
        ("unknown", "chat", "big", "default"),
        (None, "chat", "big", "default"),
        ("big", "completions", "big", "exact"),
        ("openai/big", "completions", "big", "normalised"),
        ("gpt-5", "completions", "big", "wildcard"),  # the user has said so
    ],
)
def test_completions_fall_to_the_autocomplete_model(
    name: str | None, kind: RequestKind, model_id: str, how: str
) -> None:
    found = EDITOR.resolve(name, kind=kind)
    assert (found.model_id, found.how) == (model_id, how)


def test_completions_without_an_autocomplete_model_fall_to_the_default() -> None:
    assert CATALOG.resolve("unknown", kind="completions") == Resolution("qwen3-8b", "default")


def test_an_autocomplete_model_serves_where_there_is_no_default() -> None:
    only = Catalog([Entry(id="small")], autocomplete="small")
    assert only.resolve("", kind="completions") == Resolution("small", "default")
    _fault(only, "", "chat")


def test_a_strict_catalog_does_not_guess_for_completions_either() -> None:
    strict = Catalog([Entry(id="s")], autocomplete="s", strict_models=True)
    _fault(strict, "unknown", "completions")
    assert strict.resolve(None, kind="completions").model_id == "s"


def test_an_autocomplete_model_that_is_not_served_is_404() -> None:
    catalog = Catalog([Entry(id="a")], default="a", autocomplete="b")
    assert "stands for 'b', which is not served now" in _fault(catalog, "x", "completions").message


def test_completions_never_fall_to_an_embedding_model() -> None:
    only = Catalog([Entry(id="nomic", is_embedding=True)], autocomplete="nomic")
    assert "is an embedding model" in _fault(only, "x", "completions").message


# ------------------------------------------------------------------------ clashes and bounds


def test_clashing_names_go_to_the_first_and_ids_before_aliases() -> None:
    catalog = Catalog(
        [Entry(id="a", aliases=("x", "b")), Entry(id="b", aliases=("x",)), Entry(id="a")],
        aliases=[("x", "b"), ("x", "a")],
    )
    assert [e.id for e in catalog.entries] == ["a", "b"]
    assert catalog.resolve("b", kind="chat") == Resolution("b", "exact")
    assert catalog.resolve("x", kind="chat").model_id == "b"  # configured before a model's own


def test_remembered_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED", 3)
    catalog = Catalog([Entry(id="a")], default="a")
    for n in range(10):
        assert catalog.resolve(f"unknown-{n}", kind="chat").how == "default"
        assert len(catalog._cache) <= 3


def test_ids_and_aliases_are_neither_searched_nor_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hot path: one look-up in a dict made beforehand, which hands out the same value."""
    catalog = Catalog([Entry(id="a", aliases=("b",))])
    monkeypatch.setattr(Catalog, "_search", None)
    assert catalog.resolve("a", kind="chat") is catalog.resolve("a", kind="embeddings")
    assert catalog.resolve("b", kind="chat").how == "alias"
    assert not catalog._cache


def test_entries_and_repr() -> None:
    entry = CATALOG.get("nomic")
    assert entry is not None
    assert entry.is_embedding
    assert CATALOG.get("qwen") is None
    assert CATALOG.default == "qwen3-8b"
    expected = "Catalog(models=5, names=9, wildcards=6, default='qwen3-8b', "
    expected += "autocomplete=None, strict=False)"
    assert repr(CATALOG) == expected


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "", True),
        ("*", "anything", True),
        ("a*", "a", True),
        ("a*a", "a", False),  # head and tail may not share a character
        ("a*a", "aa", True),
        ("a*b*c", "axxbxxc", True),
        ("a*b*c", "acb", False),
        ("*-mini", "gpt-MINI", True),
        ("a**c", "abc", True),
        ("a*bc*c", "abc", False),
    ],
)
def test_wildcard_matching(pattern: str, name: str, fits: bool) -> None:
    assert Wildcard(pattern, "x").matches(name) is fits


# ------------------------------------------------------------------------ properties

words = st.text("abAB-/.1", min_size=1, max_size=6)
entries = st.lists(
    st.builds(
        lambda i, aliases, emb: Entry(id=i, aliases=tuple(aliases), is_embedding=emb),
        words,
        st.lists(words, max_size=2),
        st.booleans(),
    ),
    max_size=5,
)
patterns = st.lists(st.tuples(st.text("abA-*", min_size=1, max_size=5), words), max_size=5)
kinds: st.SearchStrategy[RequestKind] = st.sampled_from(["chat", "completions", "embeddings"])


def _outcome(catalog: Catalog, name: str, kind: RequestKind) -> Resolution | str:
    try:
        return catalog.resolve(name, kind=kind)
    except ClientError as error:
        return error.message


@given(entries, patterns, st.none() | words, st.booleans(), st.lists(words, max_size=5), kinds)
def test_resolution_is_deterministic(
    models: list[Entry],
    pairs: list[tuple[str, str]],
    default: str | None,
    strict: bool,
    names: list[str],
    kind: RequestKind,
) -> None:
    """The same question has the same answer, asked again, of a twin, and after other questions;
    an answer is a model of the catalog."""
    one, twin = (
        Catalog(models, aliases=pairs, default=default, strict_models=strict) for _ in range(2)
    )
    first = [_outcome(one, name, kind) for name in names]
    assert [_outcome(one, name, kind) for name in names] == first
    assert [_outcome(twin, name, kind) for name in reversed(names)] == first[::-1]
    for found in first:
        assert isinstance(found, str) or one.get(found.model_id) is not None


@given(entries, patterns, kinds)
def test_every_id_and_alias_resolves_to_itself(
    models: list[Entry], pairs: list[tuple[str, str]], kind: RequestKind
) -> None:
    ids = {m.id for m in models}
    taken = ids | {pattern for pattern, _ in pairs}
    catalog = Catalog(models, aliases=pairs)
    for model in catalog.entries:
        assert catalog.resolve(model.id, kind=kind) == Resolution(model.id, "exact")
        for alias in set(model.aliases) - taken:
            owner = next(m.id for m in catalog.entries if alias in m.aliases)
            assert catalog.resolve(alias, kind=kind) == Resolution(owner, "alias")


@given(st.lists(st.text("ab", max_size=5), min_size=1, max_size=6, unique=True), st.text("ab"))
def test_the_longest_prefix_wins(prefixes: list[str], name: str) -> None:
    models = [Entry(id=f"for:{prefix}") for prefix in prefixes]
    catalog = Catalog(models, aliases=[(f"{p}*", f"for:{p}") for p in prefixes])
    fitting = [p for p in prefixes if name.startswith(p)]
    if not name or not fitting:
        assert isinstance(_outcome(catalog, name, "chat"), str)
    else:
        longest = max(fitting, key=len)
        expected = Resolution(f"for:{longest}", "wildcard", (name[len(longest) :],))
        assert catalog.resolve(name, kind="chat") == expected


@given(st.data())
def test_the_order_of_unrelated_entries_does_not_matter(data: st.DataObject) -> None:
    """Entries whose names do not clash, and patterns with prefixes of different length."""
    ids = data.draw(st.lists(words, max_size=6, unique=True))
    prefixes = data.draw(st.lists(st.text("ab", max_size=4), max_size=4, unique_by=len))
    models = [Entry(id=i, is_embedding=data.draw(st.booleans())) for i in ids]
    pairs = [(f"{p}*", data.draw(st.sampled_from([*ids, "none"]))) for p in prefixes]
    straight = Catalog(models, aliases=pairs)
    shuffled = Catalog(
        data.draw(st.permutations(models)), aliases=data.draw(st.permutations(pairs))
    )
    name, kind = data.draw(words), data.draw(kinds)
    assert _outcome(straight, name, kind) == _outcome(shuffled, name, kind)


@given(st.text("ab*", max_size=6).filter(lambda p: "*" in p), st.text("abc", max_size=8))
def test_wildcards_match_as_a_regular_expression_would(pattern: str, name: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
    assert Wildcard(pattern, "x").matches(name) is expected


@given(st.lists(st.text("aB-", max_size=3), min_size=2, max_size=4), st.text("aB-", max_size=8))
def test_what_the_stars_stood_for_makes_the_name_again(parts: list[str], name: str) -> None:
    wildcard = Wildcard("*".join(parts), "")
    stars = wildcard.stars(name)
    assert (stars is not None) == wildcard.matches(name)
    if stars is not None:
        assert len(stars) == wildcard.pattern.count("*")
        filled = parts[0] + "".join(s + p for s, p in zip(stars, parts[1:], strict=True))
        assert filled.casefold() == name.casefold()


@pytest.mark.parametrize(
    ("pattern", "name", "stars"),
    [
        ("openai/*", "OpenAI/GPT-5", ("GPT-5",)),
        ("*", "x", ("x",)),
        ("a*b*c", "a1b2b3c", ("1", "2b3")),
        ("*-mini", "-mini", ("",)),
        ("x*", "y", None),
        ("*", "Straße", ("strasse",)),
    ],
)
def test_stars(pattern: str, name: str, stars: tuple[str, ...] | None) -> None:
    assert Wildcard(pattern, "").stars(name) == stars
