"""Which files of a repository make up a model: listings as publishers have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.engines.hub_files import Choice, HubFile, chosen, hub_id, in_words, quantisation
from homeport.errors import ConfigError

SIZE = 1000


def of(*names: str, id: str = "org/it") -> Choice:  # noqa: A002
    return chosen(hub_id(id), [HubFile(name, SIZE) for name in names])


def names(choice: Choice) -> list[str]:
    return [file.name for file in choice.files]


# --- ids --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "repo", "choice"),
    [
        ("org/name", "org/name", None),
        ("mlx-community/Qwen2.5-Coder-3B-8bit", "mlx-community/Qwen2.5-Coder-3B-8bit", None),
        ("org/name:Q4_K_M", "org/name", "Q4_K_M"),
        ("org/name:folder/a-file.gguf", "org/name", "folder/a-file.gguf"),
    ],
)
def test_an_id(text: str, repo: str, choice: str | None) -> None:
    assert (hub_id(text).repo, hub_id(text).choice) == (repo, choice)
    assert str(hub_id(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "name", "a/b/c", "org/name:", "org/../name", "org/na me", "/etc/passwd", "a/b:../c"],
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ConfigError, match="not a model on the Hugging Face hub"):
        hub_id(text)


# --- quantisations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "label"),
    [
        ("qwen2.5-coder-3b-instruct-q4_k_m", "Q4_K_M"),
        ("Llama-3.2-1B-Instruct.Q5_K_S", "Q5_K_S"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("Model.i1-IQ3_XXS", "IQ3_XXS"),
        ("gemma-3-4b-it-Q8_0", "Q8_0"),
        ("gpt-oss-20b-mxfp4", "MXFP4"),
        ("Model-TQ1_0", "TQ1_0"),
        ("Model-BF16", "BF16"),
        ("model-f16", "F16"),
        ("Model-Q4_0_4_4", "Q4_0_4_4"),
        ("Qwen3-8B", ""),
        ("Q4-model-Q8_0", "Q8_0"),
        ("SmolLM2", ""),
    ],
)
def test_quantisation_by_the_name(stem: str, label: str) -> None:
    assert quantisation(stem) == label


# --- GGUF -------------------------------------------------------------------------------------

SEVERAL = ("README.md", "it-Q2_K.gguf", "it-Q4_K_M.gguf", "it-Q8_0.gguf")


def test_the_usual_one_with_a_note() -> None:
    choice = of(*SEVERAL)
    assert (names(choice), choice.main) == (["it-Q4_K_M.gguf"], "it-Q4_K_M.gguf")
    assert choice.note == "took Q4_K_M; there are also Q2_K, Q8_0 (org/it:NAME)"


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("Q8_0", "it-Q8_0.gguf"),
        ("q8_0", "it-Q8_0.gguf"),
        ("it-Q2_K", "it-Q2_K.gguf"),
        ("it-Q2_K.gguf", "it-Q2_K.gguf"),
    ],
)
def test_the_one_that_is_named(wanted: str, name: str) -> None:
    choice = of(*SEVERAL, id=f"org/it:{wanted}")
    assert (choice.main, choice.note) == (name, "")


def test_the_short_name_of_a_dynamic_one() -> None:
    assert of("it-UD-Q4_K_XL.gguf", "it-Q8_0.gguf", id="org/it:Q4_K_XL").main.endswith("XL.gguf")


def test_the_only_one_whatever_it_is() -> None:
    assert of("it.gguf", "README.md").main == "it.gguf"
    assert of("it-Q2_K.gguf").note == ""


def test_a_wrong_choice_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match="no GGUF called Q5_K_M") as raised:
        of(*SEVERAL, id="org/it:Q5_K_M")
    assert raised.value.where == "org/it"
    for line in ("org/it:Q2_K ", "org/it:Q4_K_M ", "org/it:Q8_0 "):
        assert line in raised.value.hint


def test_an_ambiguous_choice_lists_names_that_are_not() -> None:
    with pytest.raises(ConfigError, match="2 GGUF models called Q4_K_M") as raised:
        of("base-Q4_K_M.gguf", "chat-Q4_K_M.gguf", "chat-Q8_0.gguf", id="org/it:Q4_K_M")
    assert "org/it:base-Q4_K_M " in raised.value.hint
    assert "org/it:chat-Q4_K_M " in raised.value.hint
    assert "Q8_0" not in raised.value.hint
    assert of("base-Q4_K_M.gguf", "chat-Q4_K_M.gguf", id="org/it:chat-Q4_K_M").main.startswith("c")


def test_the_same_name_in_two_folders() -> None:
    files = ("a/it-Q8_0.gguf", "b/it-Q8_0.gguf")
    with pytest.raises(ConfigError) as raised:
        of(*files)
    assert "org/it:b/it-Q8_0.gguf " in raised.value.hint
    assert of(*files, id="org/it:b/it-Q8_0.gguf").main == "b/it-Q8_0.gguf"


def test_nothing_usual_is_a_question() -> None:
    with pytest.raises(ConfigError, match="which of its GGUF models"):
        of("it-Q2_K.gguf", "it-Q3_K_S.gguf")


def test_all_parts_of_a_split_one() -> None:
    parts = [f"Q4_K_M/it-Q4_K_M-{i:05}-of-00003.gguf" for i in (1, 2, 3)]
    choice = of("it-Q8_0.gguf", *reversed(parts))
    assert (names(choice), choice.main) == (parts, parts[0])


def test_a_part_is_missing() -> None:
    with pytest.raises(ConfigError):
        of("it-Q4_K_M-00001-of-00002.gguf", id="org/it:Q4_K_M")
    assert of("it-Q4_K_M-00001-of-00002.gguf", "it-Q2_K.gguf").main == "it-Q2_K.gguf"


def test_the_projector_comes_along() -> None:
    projectors = ("mmproj-it-BF16.gguf", "mmproj-it-F32.gguf", "mmproj-it-f16.gguf")
    choice = of("it-Q4_K_M.gguf", "imatrix.gguf", *projectors)
    assert names(choice) == ["mmproj-it-f16.gguf", "it-Q4_K_M.gguf"]
    assert choice.main == "it-Q4_K_M.gguf"


def test_the_projector_of_the_same_folder() -> None:
    files = ("big/big-Q8_0.gguf", "big/mmproj.gguf", "small/small-Q8_0.gguf", "small/mmproj.gguf")
    assert names(of(*files, id="org/it:small-Q8_0"))[0] == "small/mmproj.gguf"


# --- folders ----------------------------------------------------------------------------------


def test_a_folder_without_its_other_formats() -> None:
    weights = [f"model-{i:05}-of-00002.safetensors" for i in (1, 2)]
    small = ["LICENSE", "config.json", "model.safetensors.index.json", "tokenizer.json"]
    others = [
        ".gitattributes",
        "pytorch_model.bin",
        "consolidated.safetensors",
        "flax_model.msgpack",
        "tf_model.h5",
        "onnx/model.onnx",
        "original/consolidated.00.pth",
        "picture.png",
        "training_args.bin",
    ]
    choice = of(*others, *reversed(weights), *small)
    assert names(choice) == small + weights, "weights come last"
    assert choice.main == ""


def test_parts_of_a_folder_that_are_no_copies() -> None:
    files = ("1_Pooling/config.json", "2_Dense/model.safetensors", "model.safetensors")
    assert sorted(names(of(*files))) == sorted(files)


def test_a_folder_whose_only_weights_are_old_ones() -> None:
    assert names(of("config.json", "pytorch_model.bin")) == ["config.json", "pytorch_model.bin"]
    assert names(of("params.json", "consolidated.safetensors"))[-1] == "consolidated.safetensors"


def test_a_folder_with_ggufs_beside() -> None:
    files = ("config.json", "model.safetensors", "it-Q4_K_M.gguf")
    assert names(of(*files)) == ["config.json", "model.safetensors"]
    assert "org/it:Q4_K_M" in of(*files).note
    assert names(of(*files, id="org/it:Q4_K_M")) == ["it-Q4_K_M.gguf"]


def test_a_shard_is_missing() -> None:
    with pytest.raises(ConfigError, match="no weights"):
        of("config.json", "model-00001-of-00002.safetensors")


@pytest.mark.parametrize("files", [(), ("README.md",), ("model.onnx",), ("mmproj-F16.gguf",)])
def test_no_model_at_all(files: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="no weights"):
        of(*files)


def test_no_gguf_to_choose_from() -> None:
    with pytest.raises(ConfigError, match="no GGUF to choose from") as raised:
        of("config.json", "model.safetensors", id="org/it:Q4_K_M")
    assert raised.value.hint == "the whole model: org/it"


NAMES = st.text(st.sampled_from("aQ48_KM-./0123fgu"), min_size=1, max_size=20)


@given(st.lists(NAMES.map(lambda n: n + ".gguf") | NAMES), st.sampled_from(["", ":Q4_K_M", ":a"]))
def test_any_listing_is_a_choice_of_its_files_or_our_error(listed: list[str], word: str) -> None:
    files = [HubFile(name, SIZE) for name in dict.fromkeys(listed)]
    try:
        choice = chosen(hub_id("org/it" + word), files)
    except ConfigError:
        return
    assert choice.files
    assert set(choice.files) <= set(files)
    assert len(set(choice.files)) == len(choice.files)
    assert not choice.main or choice.main in names(choice)
    assert chosen(hub_id("org/it" + word), choice.files).main == choice.main, "found again"


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_400, "99.4 kB"),
        (123_456_789, "123 MB"),
        (999_999_999, "1.0 GB"),
        (3_000_000_000_000, "3.0 TB"),
    ],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words
