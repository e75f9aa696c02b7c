"""The command line of llama.cpp, embedded and as a system binary."""

import sys

import pytest

from homeport.engines import llamacpp, starting
from homeport.errors import ConfigError
from homeport.facts import Command, Machine, ModelFiles
from homeport.settings import ModelSettings

MODEL = ModelSettings(id="m", path="models/m.gguf", engine="llamacpp")


def command(
    model: ModelSettings, *, port: int, api_key: str | None = None, binary: str | None = None
) -> Command:
    return starting.command(model, None, Machine(), port=port, api_key=api_key, binary=binary)


def value_of(made: Command, flag: str) -> str:
    return made.argv[made.argv.index(flag) + 1]


def test_embedded() -> None:
    made = command(MODEL, port=4711, api_key="k")
    assert made.argv[:3] == (sys.executable, "-m", "homeport.runtime.llamacpp_child")
    assert made.argv[3:5] == ("-m", "models/m.gguf")
    assert value_of(made, "--port") == "4711"
    assert value_of(made, "--host") == "127.0.0.1"
    assert value_of(made, "--alias") == "m"


def test_context_is_asked_for_per_slot() -> None:
    made = command(MODEL, port=1)
    assert value_of(made, "-np") == str(llamacpp.SLOTS)
    assert value_of(made, "-c") == str(llamacpp.DEFAULT_CTX * llamacpp.SLOTS)
    asked = ModelSettings(id="m", path="m.gguf", engine="llamacpp", ctx=4096)
    assert value_of(command(asked, port=1), "-c") == str(4096 * llamacpp.SLOTS)


def test_binary_gets_the_switches_that_are_off_by_default_and_then_the_users_args() -> None:
    model = ModelSettings(
        id="m", path="m.gguf", engine="llamacpp", args=("--mmproj", "v.gguf"), binary="llama-server"
    )
    argv = command(model, port=1, binary="llama-server").argv
    assert argv[0] == "llama-server"
    assert {"--jinja", "--metrics", "--slots"} <= set(argv)
    assert argv[-2:] == ("--mmproj", "v.gguf")  # last, so that they win


def test_the_key_is_not_on_the_command_line() -> None:
    made = command(MODEL, port=1, api_key="s3cret")
    assert ("LLAMA_API_KEY", "s3cret") in made.env
    assert "s3cret" not in " ".join(made.argv)
    assert "s3cret" not in repr(made)


def test_environment_of_the_model() -> None:
    model = ModelSettings(
        id="m", path="m.gguf", engine="llamacpp", env=(("CUDA_VISIBLE_DEVICES", "1"),)
    )
    assert command(model, port=1).env == (("CUDA_VISIBLE_DEVICES", "1"),)


def test_embedding_model() -> None:
    model = ModelSettings(id="m", path="m.gguf", engine="llamacpp", embeddings=True)
    made = command(model, port=1)
    assert "--embeddings" in made.argv
    assert value_of(made, "-ub") == str(llamacpp.EMBEDDING_BATCH)


def test_args_without_a_binary_are_refused() -> None:
    model = ModelSettings(id="m", path="m.gguf", engine="llamacpp", args=("--foo",))
    with pytest.raises(ConfigError, match="hint: set binary"):
        command(model, port=1)


def test_a_model_without_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="path"):
        command(ModelSettings(id="m", upstream="http://h/v1"), port=1)


@pytest.mark.parametrize(
    ("size", "least", "says"),
    [
        (3_000_000, 4_200_000, "m.gguf is cut off: 3.0 of at least 4.2 MB"),
        (800_000, 4_200_000, "m.gguf is cut off: 800 kB of at least 4.2 MB"),
        (4_199_999, 4_200_000, "m.gguf is cut off: 4199999 of at least 4200000 bytes"),
    ],
)
def test_a_file_that_is_cut_off_is_not_started(size: int, least: int, says: str) -> None:
    files = ModelFiles(
        path="/models/m.gguf",
        names=(("m.gguf", size),),
        head=b"GGUF",
        least_bytes=(("m.gguf", least),),
    )
    with pytest.raises(ConfigError, match=says) as raised:
        starting.command(MODEL, files, Machine(), port=1, api_key=None)
    assert "download it again" in raised.value.hint


def test_a_projector_that_is_cut_off_matters_only_where_it_is_loaded() -> None:
    files = ModelFiles(
        path="/models/m.gguf",
        names=(("m.gguf", 9), ("mmproj-m.gguf", 1)),
        head=b"GGUF",
        least_bytes=(("m.gguf", 9), ("mmproj-m.gguf", 2)),
    )
    with pytest.raises(ConfigError, match=r"mmproj-m\.gguf is cut off: 1 of at least 2 B"):
        starting.command(MODEL, files, Machine(), port=1, api_key=None)
    embeds = ModelSettings(id="m", path="models/m.gguf", engine="llamacpp", embeddings=True)
    assert starting.command(embeds, files, Machine(), port=1, api_key=None)
