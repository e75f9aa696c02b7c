"""Which files an engine loads, by their names."""

import pytest

from homeport.engines import weights
from homeport.facts import ModelFiles


def folder(**sizes: int) -> ModelFiles:
    names = tuple((name.replace("__", "."), size) for name, size in sizes.items())
    return ModelFiles(path="/models/m", is_folder=True, names=names)


def beside(path: str, *names: tuple[str, int]) -> ModelFiles:
    return ModelFiles(path=path, names=names)


def test_a_file_is_itself_and_neighbours_are_not_loaded() -> None:
    files = beside("/m/a.gguf", ("a.gguf", 10), ("b.gguf", 100))
    assert weights.gguf(files) == "a.gguf"
    assert weights.gguf_bytes(files) == 10


def test_all_parts_of_a_split_model() -> None:
    names = tuple((f"m-0000{n}-of-00003.gguf", n) for n in (1, 2, 3))
    other = (("m-00001-of-00002.gguf", 50), ("other-00001-of-00003.gguf", 50))
    files = beside("/m/m-00001-of-00003.gguf", *names, *other)
    assert weights.parts("m-00001-of-00003.gguf", files) == tuple(name for name, _ in names)
    assert weights.gguf_bytes(files) == 6


def test_the_largest_projector_beside_it_is_loaded_too() -> None:
    files = beside(
        "/m/a.gguf", ("a.gguf", 10), ("mmproj-F16.gguf", 3), ("a-mmproj-F32.gguf", 6), ("x.txt", 9)
    )
    assert weights.projector(files) == "a-mmproj-F32.gguf"
    assert weights.gguf_bytes(files) == 16
    assert weights.gguf_bytes(files, with_projector=False) == 10


def test_a_folder_of_ggufs_begins_with_its_first_model() -> None:
    files = folder(b__gguf=20, a__gguf=10)
    assert weights.gguf(files) == "a.gguf"
    assert weights.gguf_bytes(files) == 10


@pytest.mark.parametrize(
    ("model", "projector", "others"),
    [
        ("Qwen2.5-VL-7B-Q4_K_M.gguf", "mmproj-F16.gguf", ()),
        ("Qwen2.5-VL-7B-Q4_K_M.gguf", "mmproj-F16.gguf", ("Qwen2.5-VL-7B-UD-Q8_K_XL.gguf",)),
        ("Qwen2.5-VL-7B-Q4_K_M.gguf", "mmproj-Qwen2.5-VL-7B-f16.gguf", ("gemma-3-4b.gguf",)),
        ("gemma-3-4b-it-IQ4_XS.gguf", "gemma-3-4b-it-mmproj-bf16.gguf", ("llama-8b-Q8_0.gguf",)),
        ("llava-v1.5-7b-Q4_K.gguf", "mmproj-model-f16.gguf", ()),
        ("m-Q8_0-00001-of-00002.gguf", "mmproj.gguf", ("m-Q8_0-00002-of-00002.gguf",)),
    ],
)
def test_a_projector_bears_its_models_name_or_none(
    model: str, projector: str, others: tuple[str, ...]
) -> None:
    names = ((name, 1) for name in (model, projector, *others))
    assert weights.projector(beside(f"/m/{model}", *names)) == projector


@pytest.mark.parametrize(
    ("model", "projector", "others"),
    [
        ("llama-8b-Q8_0.gguf", "mmproj-Qwen2.5-VL-7B-f16.gguf", ()),
        ("llama-8b-Q8_0.gguf", "mmproj-F16.gguf", ("Qwen2.5-VL-7B-Q4_K_M.gguf",)),
    ],
)
def test_a_projector_of_another_model_is_left_alone(
    model: str, projector: str, others: tuple[str, ...]
) -> None:
    names = ((name, 1) for name in (model, projector, *others))
    assert weights.projector(beside(f"/m/{model}", *names)) is None


def test_a_projector_of_another_folder_is_not_its_own() -> None:
    files = ModelFiles(
        path="/m", is_folder=True, names=(("a/x.gguf", 10), ("b/mmproj.gguf", 3), ("b/y.gguf", 1))
    )
    assert weights.gguf(files) == "a/x.gguf"
    assert weights.projector(files) is None


@pytest.mark.parametrize(
    ("files", "size"),
    [
        (folder(a__safetensors=10, b__safetensors=5, a__bin=15, config__json=1), 15),
        (folder(pytorch_model__bin=7, config__json=1), 7),
        (folder(rank0__engine=9, config__json=1), 9),
        (folder(config__json=1), 0),
    ],
)
def test_weights_that_are_there_twice_are_counted_once(files: ModelFiles, size: int) -> None:
    assert weights.folder_bytes(files) == size


def test_without_a_gguf_there_is_none() -> None:
    assert weights.gguf(beside("/m/a.safetensors", ("a.safetensors", 1))) is None
    assert weights.gguf_bytes(folder(config__json=1)) == 0
    assert weights.projector(folder(config__json=1)) is None
