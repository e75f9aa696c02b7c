"""Which engine a model is for, and what is said where it is none."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from homeport.engines.starting import command, engine_for
from homeport.errors import ConfigError
from homeport.facts import EngineName, Machine, ModelFiles
from homeport.settings import ModelSettings
from tests.engines.model_files import APPLE, CUDA, PLAIN, folder, gguf, hugging_face, tensorrt

MLX_CONFIG = {"model_type": "qwen3", "quantization": {"group_size": 64, "bits": 4}}
HF_QUANTISED = {"model_type": "qwen3", "quantization_config": {"quant_method": "awq", "bits": 4}}
OLLAMA = "/home/you/.ollama/models/blobs/sha256-0a"


def at(path: str | None, **settings: object) -> ModelSettings:
    return ModelSettings(id="m", path=path, **settings)  # type: ignore[arg-type]  # keywords


@pytest.mark.parametrize(
    ("files", "machine", "engine"),
    [
        (gguf("/models/m.gguf"), PLAIN, "llamacpp"),
        (gguf("/models/m.gguf"), CUDA, "llamacpp"),
        (gguf(OLLAMA), PLAIN, "llamacpp"),
        (folder("m-Q4_K_M.gguf"), CUDA, "llamacpp"),
        (folder("Q4_K_M/m-00001-of-00002.gguf", "Q4_K_M/m-00002-of-00002.gguf"), PLAIN, "llamacpp"),
        (folder("config.json", "m.gguf", "model.safetensors"), CUDA, "llamacpp"),
        (hugging_face(), CUDA, "vllm"),
        (hugging_face(config=HF_QUANTISED), CUDA, "vllm"),
        (hugging_face(), APPLE, "mlx"),
        (hugging_face(format="mlx"), CUDA, "mlx"),
        (hugging_face(format="mlx"), PLAIN, "mlx"),
        (hugging_face(format=None, config=MLX_CONFIG), PLAIN, "mlx"),
        (tensorrt(), CUDA, "trtllm"),
    ],
)
def test_files_tell_the_engine(files: ModelFiles, machine: Machine, engine: EngineName) -> None:
    assert engine_for(at(files.path), files, machine) == engine


@pytest.mark.parametrize(
    ("hub", "machine", "engine"),
    [
        ("mlx-community/Qwen3-8B-4bit", CUDA, "mlx"),
        ("someone/Qwen3-8B-MLX-4bit", PLAIN, "mlx"),
        ("unsloth/Qwen3-8B-GGUF", CUDA, "llamacpp"),
        ("unsloth/Qwen3-8B-GGUF:Q4_K_M", PLAIN, "llamacpp"),
        ("someone/qwen3-8b:Q8_0", PLAIN, "llamacpp"),
        ("Qwen/Qwen3-8B", CUDA, "vllm"),
        ("Qwen/Qwen3-8B", APPLE, "mlx"),
    ],
)
def test_a_model_on_the_hub_is_judged_by_its_name(
    hub: str, machine: Machine, engine: EngineName
) -> None:
    assert engine_for(at(None, hub=hub), None, machine) == engine


def test_what_the_user_says_goes() -> None:
    files = gguf("/models/m.gguf")
    assert engine_for(at(files.path, engine="sglang"), files, PLAIN) == "sglang"
    assert engine_for(at(files.path, command=("my-server",)), files, PLAIN) == "custom"
    assert engine_for(at(None, hub="Qwen/Qwen3-8B", engine="vllm"), None, PLAIN) == "vllm"


@pytest.mark.parametrize(
    ("model", "files", "words"),
    [
        (at(None), None, r"models\.m\.path: a model without a path"),
        (at("/m.bin"), gguf("/m.bin"), ""),
        (at("/models/m"), folder(), r"/models/m: models\.m\.path: .*the folder is empty"),
        (
            at("/models/m"),
            folder("a.txt", "b.txt"),
            r"found: a\.txt, b\.txt\).*\n  hint: a model is",
        ),
        (at("/models/m"), folder("mmproj-F16.gguf"), "found: mmproj-F16.gguf"),
        (at("/models/m"), folder("a", "b", "c", "d", "e", "f"), "a, b, c, d and 2 more"),
        (at("/models/m"), hugging_face(), "no CUDA device was found\n  hint: take a GGUF"),
        (at(None, hub="Qwen/Qwen3-8B"), None, r"models\.m\.hub: .*no CUDA device"),
        (at(None, engine="ollama"), None, r"models\.m\.engine: homeport does not start ollama"),
        (at(None, engine="custom"), None, "'custom' needs a 'command'"),
    ],
)
def test_what_nothing_here_can_start(
    model: ModelSettings, files: ModelFiles | None, words: str
) -> None:
    if not words:  # the head decides, not the name
        assert files is not None
        assert engine_for(model, files, PLAIN) == "llamacpp"
        return
    with pytest.raises(ConfigError, match=words):
        engine_for(model, files, PLAIN)


TYPO = ModelSettings(id="models/typo", hub="models/typo")


def test_what_was_meant_as_a_file_and_was_taken_for_a_hub_id() -> None:
    """``--model models/typo``: said first, before what such a model would need."""
    first = r"^models\.models/typo\.hub: there is no file or folder 'models/typo' here, and as a"
    with pytest.raises(ConfigError, match=first) as raised:
        engine_for(TYPO, None, PLAIN)
    assert "not in the cache (the hub was not asked); by its name" in raised.value.message
    assert raised.value.hint.startswith("check the spelling, if it is a file; ")
    with pytest.raises(ConfigError, match="no file or folder 'models/typo' here") as raised:
        command(TYPO, None, CUDA, port=1, api_key="k")
    assert raised.value.message.endswith("; vllm was not found")
    gguf = ModelSettings(id="models/typo-GGUF", hub="models/typo-GGUF")
    with pytest.raises(ConfigError, match="no file or folder 'models/typo-GGUF' here") as raised:
        command(gguf, None, PLAIN, port=1, api_key="k")
    assert raised.value.hint.endswith("homeport pull models/typo-GGUF")


def test_a_hub_key_is_no_typo_of_a_file() -> None:
    with pytest.raises(
        ConfigError, match=r"^models\.m\.hub: 'org/it' is not in the cache"
    ) as raised:
        engine_for(at(None, hub="org/it"), None, PLAIN)
    assert raised.value.hint.startswith("a file or folder goes under path; ")


@pytest.mark.parametrize(
    ("installed", "says"),
    [
        ((), "ORG/NAME-GGUF)"),
        (("trtllm",), "ORG/NAME-GGUF)"),
        (("vllm",), "installed: 'engine: vllm', if it is its CPU build"),
        (("vllm", "mlx"), "if it is its CPU build, or 'engine: mlx'"),
    ],
)
def test_only_engines_are_named_that_are_there(
    installed: tuple[EngineName, ...], says: str
) -> None:
    machine = replace(PLAIN, engines=installed)
    for model, files in ((TYPO, None), (at("/models/m"), hugging_face())):
        with pytest.raises(ConfigError) as raised:
            engine_for(model, files, machine)
        assert raised.value.hint.endswith(says)


def test_a_file_that_is_no_gguf() -> None:
    files = ModelFiles(path="/m.bin", names=(("m.bin", 1),), head=b"PK\x03\x04")
    for model in (at("/m.bin"), at("/m.bin", engine="llamacpp")):
        with pytest.raises(ConfigError, match=r"/m\.bin: not a GGUF model file"):
            command(model, files, PLAIN, port=1, api_key="k")


def test_llamacpp_by_name_for_a_folder_without_a_gguf() -> None:
    with pytest.raises(ConfigError, match=r"no GGUF model \(found: config\.json, model\.safe"):
        command(at("/models/m", engine="llamacpp"), hugging_face(), PLAIN, port=1, api_key="k")


@pytest.mark.parametrize(
    ("engine", "script", "container"),
    [
        ("vllm", "vllm", True),
        ("sglang", "sglang", True),
        ("trtllm", "trtllm-serve", True),
        ("mlx", "mlx_lm.server", False),
    ],
)
def test_an_engine_that_is_not_installed(engine: EngineName, script: str, container: bool) -> None:
    with pytest.raises(ConfigError, match=rf"models\.m\.engine: {script} was not found") as raised:
        command(at("/models/m", engine=engine), hugging_face(), CUDA, port=1, api_key="k")
    assert "install" in raised.value.hint
    assert ("runner: container" in raised.value.hint) is container


@pytest.mark.parametrize(("count", "end"), [(5, "4.gguf"), (6, "4.gguf and 1 more")])
def test_of_many_models_in_a_folder_some_are_named(count: int, end: str) -> None:
    files = folder(*(f"{number}.gguf" for number in range(count)))
    with pytest.raises(ConfigError) as raised:
        command(at("/models/m"), files, PLAIN, port=1, api_key="k")
    says = f"this folder has {count} models: 0.gguf, 1.gguf, 2.gguf, 3.gguf, {end}"
    assert raised.value.message == says


def test_a_folder_of_several_models_is_a_question() -> None:
    files = folder("a-Q4_K_M.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf")
    words = r"2 models: a-Q4_K_M\.gguf, b-00001-of-00002\.gguf\n  hint: write the path of one"
    with pytest.raises(ConfigError, match=words):
        command(at("/models/m"), files, PLAIN, port=1, api_key="k")


def test_a_part_that_is_missing() -> None:
    files = gguf("/m/m-00001-of-00003.gguf", "m-00003-of-00003.gguf")
    with pytest.raises(ConfigError, match="2 of the 3 files of this model are there"):
        command(at(files.path), files, PLAIN, port=1, api_key="k")


@pytest.mark.parametrize("engine", ["trtllm", "mlx"])
def test_engines_without_embeddings(engine: EngineName) -> None:
    model = at("/models/m", engine=engine, embeddings=True)
    with pytest.raises(ConfigError, match=r"models\.m\.embeddings: .*no embeddings"):
        command(model, hugging_face(), CUDA, port=1, api_key="k", binary="x")
