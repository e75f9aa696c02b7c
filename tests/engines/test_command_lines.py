"""The command lines, word by word; and that engines know every flag of them.

The flags are compared with tables that were read out of the engines' packages (``flag_tables``).
"""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from homeport.engines.starting import STARTS, command, container_command
from homeport.errors import ConfigError
from homeport.facts import Command, EngineName, Machine, ModelFiles
from homeport.settings import ModelSettings
from tests.engines import flag_tables
from tests.engines.model_files import APPLE, CUDA, PLAIN, folder, gguf, hugging_face, tensorrt

TABLES: dict[EngineName, str] = {
    "llamacpp": "llamacpp-2026",
    "vllm": "vllm-0.32.0",
    "sglang": "sglang-0.5.23",
    "trtllm": "trtllm-2026",
    "mlx": "mlx-lm-0.32.2",
}
QWEN3 = "{% if tools %}<tool_call>{% endif %}</think>"
CODER = "<tool_call>\n<function=x>\n<parameter=y>"
FILE = gguf("/models/m.gguf")
SEEING = gguf("/models/m-Q4_K_M.gguf", "mmproj-F16.gguf")
PARTS = folder("b/m-00001-of-00002.gguf", "b/m-00002-of-00002.gguf")


def model(**settings: object) -> ModelSettings:
    return ModelSettings(id="m", **settings)  # type: ignore[arg-type]  # keywords


def lines(made: Command) -> str:
    return shlex.join(made.argv).replace(shlex.quote(sys.executable), "PYTHON")


CASES: dict[str, tuple[ModelSettings, ModelFiles | None, Machine, str | None, str]] = {
    "llama.cpp, embedded": (
        model(path="/models/m.gguf"),
        FILE,
        PLAIN,
        None,
        "PYTHON -m homeport.runtime.llamacpp_child -m /models/m.gguf --host 127.0.0.1 --port 4711"
        " --alias m -c 65536 -np 2",
    ),
    "llama.cpp, embedded, with eyes": (
        model(path="/models/m-Q4_K_M.gguf", ctx=4096, slots=1),
        SEEING,
        PLAIN,
        None,
        "PYTHON -m homeport.runtime.llamacpp_child -m /models/m-Q4_K_M.gguf"
        " --mmproj /models/mmproj-F16.gguf --host 127.0.0.1 --port 4711 --alias m -c 4096 -np 1",
    ),
    "llama-server": (
        model(path="/models/m.gguf", args=("--no-mmap", "--flash-attn", "on")),
        FILE,
        CUDA,
        "/usr/bin/llama-server",
        "/usr/bin/llama-server -m /models/m.gguf --host 127.0.0.1 --port 4711 --alias m -c 65536"
        " -np 2 --jinja --metrics --slots --no-mmap --flash-attn on",
    ),
    "llama-server, the user's own projector": (
        model(path="/models/m-Q4_K_M.gguf", args=("--mmproj", "/eyes.gguf", "--alias=x")),
        SEEING,
        PLAIN,
        "llama-server",
        "llama-server -m /models/m-Q4_K_M.gguf --host 127.0.0.1 --port 4711 -c 65536"
        " -np 2 --jinja --metrics --slots --mmproj /eyes.gguf --alias=x",
    ),
    "llama-server, a folder of parts": (
        model(path="/models/m", ctx=16384, slots=3),
        PARTS,
        PLAIN,
        "llama-server",
        "llama-server -m /models/m/b/m-00001-of-00002.gguf --host 127.0.0.1 --port 4711 --alias m"
        " -c 49152 -np 3 --jinja --metrics --slots",
    ),
    "llama-server, a later part": (
        model(path="/models/m-00002-of-00002.gguf"),
        gguf("/models/m-00002-of-00002.gguf", "m-00001-of-00002.gguf"),
        PLAIN,
        "llama-server",
        "llama-server -m /models/m-00001-of-00002.gguf --host 127.0.0.1 --port 4711 --alias m"
        " -c 65536 -np 2 --jinja --metrics --slots",
    ),
    "llama-server, from the hub": (
        model(hub="unsloth/Qwen3-8B-GGUF:Q4_K_M"),
        None,
        PLAIN,
        "llama-server",
        "llama-server --hf-repo unsloth/Qwen3-8B-GGUF:Q4_K_M --host 127.0.0.1 --port 4711 --alias m"
        " -c 65536 -np 2 --jinja --metrics --slots",
    ),
    "llama-server, embeddings": (
        model(path="/models/m-Q4_K_M.gguf", embeddings=True, ctx=2048),
        SEEING,
        PLAIN,
        "llama-server",
        "llama-server -m /models/m-Q4_K_M.gguf --host 127.0.0.1 --port 4711 --alias m -c 4096 -np 2"
        " --embeddings -ub 2048 --jinja --metrics --slots",
    ),
    "vLLM": (
        model(path="/models/m"),
        hugging_face(chat_template=QWEN3),
        CUDA,
        "/opt/vllm/bin/vllm",
        "/opt/vllm/bin/vllm serve /models/m --host 127.0.0.1 --port 4711 --served-model-name m"
        " --enable-prompt-tokens-details --enable-auto-tool-choice --tool-call-parser hermes"
        " --reasoning-parser qwen3",
    ),
    "vLLM, all that can be set": (
        model(path="/models/m", ctx=32768, slots=8, sleep=1, args=("--dtype", "half")),
        hugging_face(chat_template=CODER),
        CUDA,
        "vllm",
        "vllm serve /models/m --host 127.0.0.1 --port 4711 --served-model-name m"
        " --max-model-len 32768 --max-num-seqs 8 --enable-sleep-mode"
        " --enable-prompt-tokens-details --enable-auto-tool-choice --tool-call-parser qwen3_coder"
        " --dtype half",
    ),
    "vLLM, the user's parser, in the other spelling": (
        model(
            path="/models/m", args=("--tool_call_parser=pythonic", "--max-model-len", "4k"), ctx=1
        ),
        hugging_face(),
        CUDA,
        "vllm",
        "vllm serve /models/m --host 127.0.0.1 --port 4711 --served-model-name m"
        " --enable-prompt-tokens-details --enable-auto-tool-choice --reasoning-parser qwen3"
        " --tool_call_parser=pythonic --max-model-len 4k",
    ),
    "vLLM, embeddings, by a Python": (
        model(hub="BAAI/bge-m3", embeddings=True),
        None,
        CUDA,
        "/opt/env/bin/python3",
        "/opt/env/bin/python3 -m vllm.entrypoints.cli.main serve BAAI/bge-m3 --host 127.0.0.1"
        " --port 4711 --served-model-name m --runner pooling",
    ),
    "SGLang": (
        model(path="/models/m", engine="sglang", ctx=32768, slots=4),
        hugging_face(),
        CUDA,
        "/opt/sglang/bin/python",
        "/opt/sglang/bin/python -m sglang.launch_server --model-path /models/m --host 127.0.0.1"
        " --port 4711 --served-model-name m --context-length 32768 --max-running-requests 4"
        " --enable-metrics --enable-cache-report --tool-call-parser auto --reasoning-parser auto"
        " --api-key k",
    ),
    "SGLang, by its script": (
        model(path="/models/m", engine="sglang", args=("--tool-call-parser", "qwen25")),
        hugging_face(),
        CUDA,
        "/usr/bin/sglang",
        "/usr/bin/sglang serve --model-path /models/m --host 127.0.0.1 --port 4711"
        " --served-model-name m --enable-metrics --enable-cache-report --reasoning-parser auto"
        " --api-key k --tool-call-parser qwen25",
    ),
    "TensorRT-LLM": (
        model(path="/models/m", engine="trtllm", ctx=32768, slots=4),
        hugging_face(chat_template=QWEN3),
        CUDA,
        "trtllm-serve",
        "trtllm-serve serve /models/m --host 127.0.0.1 --port 4711 --max_seq_len 32768"
        " --max_batch_size 4 --tool_parser qwen3 --reasoning_parser qwen3",
    ),
    "TensorRT-LLM, built engines": (
        model(path="/models/m"),
        tensorrt(),
        CUDA,
        "trtllm-serve",
        "trtllm-serve serve /models/m --host 127.0.0.1 --port 4711 --backend tensorrt",
    ),
    "MLX": (
        model(path="/models/m", slots=4),
        hugging_face(format="mlx"),
        APPLE,
        "mlx_lm.server",
        "mlx_lm.server --model /models/m --host 127.0.0.1 --port 4711 --decode-concurrency 4 "
        "--prompt-concurrency 4 --max-tokens 32768",
    ),
    "MLX, in homeport's own Python": (
        model(hub="mlx-community/Qwen3-8B-4bit"),
        None,
        APPLE,
        sys.executable,
        "PYTHON -m mlx_lm server --model mlx-community/Qwen3-8B-4bit --host 127.0.0.1 --port 4711 "
        "--decode-concurrency 2 --prompt-concurrency 2 --max-tokens 32768",
    ),
    "custom": (
        model(path="/models/m", command=("serve-it", "--on", ":{port}", "{model}"), args=("-x",)),
        None,
        PLAIN,
        None,
        "serve-it --on :4711 /models/m -x",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_command_line(name: str) -> None:
    settings, files, machine, binary, line = CASES[name]
    made = command(settings, files, machine, port=4711, api_key="k", binary=binary)
    assert lines(made) == line


@pytest.mark.parametrize(
    ("engine", "api_key", "env", "known_as"),
    [
        ("llamacpp", "k", {"LLAMA_API_KEY": "k"}, "m"),
        (
            "vllm",
            "k",
            {"VLLM_API_KEY": "k", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"},
            "m",
        ),
        ("sglang", "k", {}, "m"),
        ("trtllm", None, {}, None),
        ("mlx", None, {"HF_HUB_OFFLINE": "1"}, "/models/m"),
    ],
)
def test_key_environment_and_name(
    engine: EngineName, api_key: str | None, env: dict[str, str], known_as: str | None
) -> None:
    settings = model(path="/models/m", engine=engine, env=(("A", "b"),))
    files = folder("m.gguf") if engine == "llamacpp" else hugging_face()
    made = command(settings, files, CUDA, port=1, api_key="k", binary="x")
    assert (made.engine, made.api_key, made.model) == (engine, api_key, known_as)
    assert dict(made.env) == {**env, "A": "b"}
    assert made.ready_path == "/health"
    assert ("k" in made.argv) is (engine == "sglang")  # it has no variable for its key


def test_the_users_environment_wins() -> None:
    settings = model(path="/models/m", engine="mlx", env=(("HF_HUB_OFFLINE", "0"),))
    made = command(settings, hugging_face(), APPLE, port=1, api_key="k", binary="x")
    assert dict(made.env) == {"HF_HUB_OFFLINE": "0"}


def test_mlx_may_download_what_it_was_told_to() -> None:
    made = command(model(hub="mlx-community/x"), None, PLAIN, port=1, api_key="k", binary="x")
    assert made.env == ()
    adapted = model(path="/models/m", engine="mlx", args=("--adapter-path", "/a"))
    made = command(adapted, hugging_face(), PLAIN, port=1, api_key="k", binary="x")
    assert made.model == "default_model"


MLX_CONFIG = {"max_position_embeddings": 40960}


@pytest.mark.parametrize(
    ("config", "ctx", "context"),
    [
        ({}, None, None),
        (MLX_CONFIG, None, 40960),
        (MLX_CONFIG, 8192, 8192),
        ({"text_config": MLX_CONFIG}, None, 40960),
    ],
)
def test_mlx_is_started_by_a_program_of_ours(
    config: dict[str, Any], ctx: int | None, context: int | None
) -> None:
    """In its own Python, with the context that it does not know itself, and a key."""
    settings, files = model(path="/models/m", ctx=ctx), hugging_face(format="mlx", config=config)
    made = command(
        settings, files, PLAIN, port=1, api_key="k", binary="mlx_lm.server", python="/p/python"
    )
    python, child, told, *rest = made.argv
    assert (python, told) == ("/p/python", str(context or 0))
    assert Path(child).is_file()
    assert rest[:2] == ["--model", "/models/m"]
    assert rest[rest.index("--max-tokens") + 1] == str(context or 32768)
    assert (made.api_key, made.context_tokens) == ("k", context)
    assert "k" not in made.argv
    assert dict(made.env)["HOMEPORT_ENGINE_KEY"] == "k"


def test_vllm_sleeps_by_its_development_routes() -> None:
    made = command(
        model(path="/models/m", sleep=2), hugging_face(), CUDA, port=1, api_key="k", binary="x"
    )
    assert dict(made.env)["VLLM_SERVER_DEV_MODE"] == "1"


def test_custom_is_asked_for_its_models_and_given_no_key_of_ours() -> None:
    settings = model(command=("x", "{model}"), api_key="theirs")
    made = command(settings, None, PLAIN, port=1, api_key="ours")
    assert (made.argv, made.api_key, made.ready_path) == (("x", "m"), "theirs", "/v1/models")
    assert command(model(command=("x",)), None, PLAIN, port=1, api_key="ours").api_key is None


# --------------------------------------------------------------------------- containers


def contained(
    settings: ModelSettings,
    files: ModelFiles | None,
    machine: Machine = CUDA,
    hub_cache: str | None = None,
) -> Command:
    return container_command(
        settings, files, machine, port=4711, api_key="k", name="homeport-m", hub_cache=hub_cache
    )


CONTAINERS: dict[str, tuple[ModelSettings, ModelFiles | None, Machine, str]] = {
    "vLLM": (
        model(path="/models/m", env=(("CUDA_VISIBLE_DEVICES", "1"),)),
        hugging_face(),
        CUDA,
        "docker run --rm --init --name homeport-m --label homeport.instance=m --gpus all --ipc=host"
        " --publish 127.0.0.1:4711:4711 --mount type=bind,source=/models/m,target=/model,readonly"
        " --env VLLM_NO_USAGE_STATS --env DO_NOT_TRACK --env VLLM_API_KEY"
        " --env CUDA_VISIBLE_DEVICES --entrypoint vllm vllm/vllm-openai:v0.32.0 serve /model"
        " --host 0.0.0.0 --port 4711 --served-model-name m --enable-prompt-tokens-details"
        " --enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3",
    ),
    "vLLM on a CPU, from the hub": (
        model(hub="Qwen/Qwen3-0.6B", engine="vllm", version="v0.33.0"),
        None,
        PLAIN,
        "docker run --rm --init --name homeport-m --label homeport.instance=m --ipc=host"
        " --publish 127.0.0.1:4711:4711 --volume /home/you/.cache/huggingface:/huggingface"
        " --env VLLM_NO_USAGE_STATS --env DO_NOT_TRACK --env VLLM_API_KEY"
        " --env HF_HOME=/huggingface --env HF_TOKEN --entrypoint vllm"
        " public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.33.0 serve Qwen/Qwen3-0.6B"
        " --host 0.0.0.0 --port 4711 --served-model-name m --enable-prompt-tokens-details"
        " --enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3",
    ),
    "llama.cpp": (
        model(path="/models/m-Q4_K_M.gguf", runner="container", args=("--flash-attn", "on")),
        SEEING,
        CUDA,
        "docker run --rm --init --name homeport-m --label homeport.instance=m --gpus all"
        " --publish 127.0.0.1:4711:4711 --mount type=bind,source=/models,target=/model,readonly"
        " --env LLAMA_API_KEY ghcr.io/ggml-org/llama.cpp:server-cuda-b11549"
        " -m /model/m-Q4_K_M.gguf --mmproj /model/mmproj-F16.gguf --host 0.0.0.0 --port 4711"
        " --alias m -c 65536 -np 2 --jinja --metrics --slots --flash-attn on",
    ),
    "SGLang, an image of the user's own": (
        model(path="/models/m", engine="sglang", image="registry:5000/sglang"),
        hugging_face(),
        CUDA,
        "docker run --rm --init --name homeport-m --label homeport.instance=m --gpus all --ipc=host"
        " --shm-size=32g --ulimit memlock=-1 --ulimit stack=67108864"
        " --publish 127.0.0.1:4711:4711 --mount type=bind,source=/models/m,target=/model,readonly"
        " --entrypoint python3 registry:5000/sglang:v0.5.23 -m sglang.launch_server"
        " --model-path /model --host 0.0.0.0 --port 4711 --served-model-name m --enable-metrics"
        " --enable-cache-report --tool-call-parser auto --reasoning-parser auto --api-key k",
    ),
    "TensorRT-LLM": (
        model(path="/models/m", image="x/trtllm:nightly"),
        tensorrt(),
        CUDA,
        "docker run --rm --init --name homeport-m --label homeport.instance=m --gpus all --ipc=host"
        " --ulimit memlock=-1 --ulimit stack=67108864 --publish 127.0.0.1:4711:4711"
        " --mount type=bind,source=/models/m,target=/model,readonly --entrypoint trtllm-serve"
        " x/trtllm:nightly serve /model --host 0.0.0.0 --port 4711 --backend tensorrt",
    ),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_container(name: str) -> None:
    settings, files, machine, line = CONTAINERS[name]
    made = contained(settings, files, machine, hub_cache="/home/you/.cache/huggingface")
    assert lines(made) == line
    assert made.container == "homeport-m"


def test_a_snapshot_is_mounted_with_the_files_that_it_links_to() -> None:
    path = "/cache/hub/models--org--name/snapshots/0a1b"
    made = contained(model(path=path), replace(hugging_face(), path=path))
    assert "type=bind,source=/cache/hub/models--org--name,target=/model,readonly" in made.argv
    assert "/model/snapshots/0a1b" in made.argv


def test_the_images_are_told() -> None:
    page = (Path(__file__).parents[2] / "docs" / "engines.md").read_text("utf-8")
    for start in STARTS.values():
        if (image := start.image) is not None:
            assert f"`{image.name}:{image.version}`" in page
            assert image.cpu is None or image.cpu[0] in page


def test_labels_and_another_docker() -> None:
    made = container_command(
        model(path="/m.gguf"),
        gguf("/m.gguf"),
        PLAIN,
        port=1,
        api_key="k",
        name="n",
        labels={"homeport.owner": "7"},
        docker="/usr/bin/podman",
    )
    assert made.argv[:2] == ("/usr/bin/podman", "run")
    assert "homeport.owner=7" in made.argv
    assert "ghcr.io/ggml-org/llama.cpp:server-b11549" in made.argv


def test_secrets_are_not_on_the_command_line_nor_is_what_docker_would_obey() -> None:
    env = (("HF_TOKEN", "s3cret"), ("PATH", "/opt/bin"), ("https_proxy", "http://p"))
    made = contained(model(path="/models/m", env=env), hugging_face())
    assert "s3cret" not in " ".join(made.argv)
    assert "PATH=/opt/bin" in made.argv
    assert "https_proxy=http://p" in made.argv
    assert dict(made.env)["HF_TOKEN"] == "s3cret"
    assert {"PATH", "https_proxy"}.isdisjoint(dict(made.env))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (model(path="/models/m", engine="mlx"), "homeport runs mlx as a process only"),
        (model(command=("x",)), "homeport runs custom as a process only"),
        (model(engine="vllm"), "a model without a path"),
    ],
)
def test_what_has_no_container(settings: ModelSettings, words: str) -> None:
    files = hugging_face() if settings.path else None
    with pytest.raises(ConfigError, match=words):
        contained(settings, files)


def test_a_path_that_cannot_be_mounted() -> None:
    files = replace(hugging_face(), path="/models/a,b")
    with pytest.raises(ConfigError, match="comma"):
        contained(model(path=files.path), files)


# --------------------------------------------------------------------------- the engines' own tables


def every_command(engine: EngineName) -> Iterator[Command]:
    """All that our settings can make of an engine's command line, by either runner."""
    forms = {
        "llamacpp": (FILE, SEEING, PARTS, None),
        "trtllm": (tensorrt(), hugging_face(), hugging_face(chat_template=QWEN3), None),
    }
    all_files = forms.get(engine, (hugging_face(), hugging_face(chat_template=CODER), None))
    sleeps = (None, 1) if engine == "vllm" else (None,)
    embeds = (False,) if engine in ("trtllm", "mlx") else (False, True)
    for files, ctx, slots, embeddings, sleep in itertools.product(
        all_files, (None, 8192), (None, 4), embeds, sleeps
    ):
        settings = model(
            path=files.path if files else None,
            hub=None if files else "Qwen/Qwen3-8B-GGUF",
            engine=engine,
            ctx=ctx,
            slots=slots,
            embeddings=embeddings,
            sleep=sleep,
        )
        yield command(settings, files, CUDA, port=1, api_key="k", binary="x")
        if STARTS[engine].image is not None:
            yield contained(settings, files)


def own_words(made: Command, engine: EngineName) -> tuple[str, ...]:
    """Those for the engine, not for Docker."""
    if made.container is None:
        return made.argv
    image = STARTS[engine].image
    assert image is not None
    (start,) = (i for i, word in enumerate(made.argv) if word.startswith(image.name))
    return made.argv[start + 1 + len(image.entry[1:]) :]


@pytest.mark.parametrize("engine", TABLES)
def test_every_flag_is_known_to_the_engine(engine: EngineName) -> None:
    known = flag_tables.table(TABLES[engine])
    seen = set()
    for made in every_command(engine):
        words = own_words(made, engine)
        for word, following in itertools.pairwise((*words, "")):
            if word.startswith("-"):
                assert word in known, f"{engine} has no {word}"
                allowed = known[word]
                assert not allowed or following in allowed, f"{word} {following}"
                seen.add(word)
    assert len(seen) >= 4


def test_the_embedded_engine_knows_all_that_it_is_given() -> None:
    from homeport.runtime.llamacpp_child import _parser

    for files, embeddings in itertools.product((FILE, SEEING, PARTS), (False, True)):
        settings = model(path=files.path, embeddings=embeddings)
        made = command(settings, files, PLAIN, port=1, api_key="k")
        _parser().parse_args(list(made.argv[3:]))  # exits where it does not
