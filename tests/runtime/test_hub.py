"""Models from a hub on loopback: what is asked, what lands in the cache, what is said when it fails.

Each pull is a process of its own, as for a user: huggingface_hub reads its environment when imported.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from homeport.errors import ConfigError
from homeport.runtime.hub import PLAIN_HTTP_BYTES, cache_folder, local_path
from tests.support.fake_hub import COMMIT, TOKEN, FakeHub, Repo, git_oid, sha256
from tests.support.gateway import free_port

PROGRAM = """
import json, sys, msgspec
from homeport.errors import ConfigError
from homeport.runtime import hub
from homeport.runtime.hub import pull
from homeport.runtime.hub_faults import PullError

def say(event):
    print(json.dumps({"event": type(event).__name__, **msgspec.to_builtins(event)}), flush=True)

hub.PLAIN_HTTP_BYTES = int(sys.argv[2])
try:
    print(json.dumps({"event": "path", "path": str(pull(sys.argv[1], say, pauses_s=(0.0,) * 3))}))
except (PullError, ConfigError) as error:
    print(json.dumps({"event": "error", "message": error.message, "hint": error.hint}))
"""
PULL_TIMEOUT_S = 60

WEIGHTS = random.Random(1).randbytes(700_000)
OTHER_WEIGHTS = random.Random(2).randbytes(300_000)
PROJECTOR = random.Random(3).randbytes(20_000)
CONFIG, TOKENIZER = b'{"model_type": "it"}', b'{"tokens": []}'

GGUFS = {
    "README.md": b"read",
    "it-Q4_K_M.gguf": WEIGHTS,
    "it-Q8_0.gguf": OTHER_WEIGHTS,
    "mmproj-it-f16.gguf": PROJECTOR,
}
FOLDER = {
    "config.json": CONFIG,
    "model-00001-of-00002.safetensors": WEIGHTS,
    "model-00002-of-00002.safetensors": OTHER_WEIGHTS,
    "pytorch_model.bin": PROJECTOR,
    "tokenizer.json": TOKENIZER,
}


class Pulled:
    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events

    def last(self, name: str) -> dict[str, Any]:
        assert self.events[-1]["event"] == name, self.events[-1]
        return self.events[-1]

    def all(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    @property
    def path(self) -> Path:
        return Path(self.last("path")["path"])

    @property
    def error(self) -> dict[str, Any]:
        return self.last("error")


Pull = Callable[..., Pulled]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_")) or name.endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "hub"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(org__ggufs=GGUFS, org__folder=FOLDER) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def pull(cache: Path) -> Pull:
    def run(model: str, plain_bytes: int = PLAIN_HTTP_BYTES, **env: str) -> Pulled:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, model, str(plain_bytes)],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=PULL_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", "nobody else talks"
        return Pulled([json.loads(line) for line in done.stdout.splitlines()])

    return run


# --- what is loaded ---------------------------------------------------------------------------


def test_one_gguf_with_its_projector(hub: FakeHub, pull: Pull, cache: Path) -> None:
    path = pull("org/ggufs").path
    snapshot = cache / "models--org--ggufs" / "snapshots" / COMMIT
    assert path == snapshot / "it-Q4_K_M.gguf"
    assert path.read_bytes() == WEIGHTS
    assert (snapshot / "mmproj-it-f16.gguf").read_bytes() == PROJECTOR
    assert sorted(p.name for p in snapshot.iterdir()) == ["it-Q4_K_M.gguf", "mmproj-it-f16.gguf"]
    assert local_path("org/ggufs") == local_path("org/ggufs:q4_k_m") == path
    assert local_path("org/ggufs:Q8_0") is None


def test_the_cache_is_laid_out_for_everybody(hub: FakeHub, pull: Pull, cache: Path) -> None:
    """huggingface_hub finds it there without a network, and loads nothing again."""
    path = pull("org/folder").path
    blobs = {blob.name for blob in (cache / "models--org--folder" / "blobs").iterdir()}
    assert sha256(WEIGHTS) in blobs
    assert git_oid(CONFIG) in blobs
    program = "from huggingface_hub import snapshot_download as s; print(s('org/folder'))"
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    found = subprocess.check_output([sys.executable, "-c", program], env=env, text=True)
    assert found.strip() == str(path)


def test_a_folder_without_a_second_format(hub: FakeHub, pull: Pull) -> None:
    path = pull("org/folder").path
    assert sorted(p.name for p in path.iterdir()) == sorted(set(FOLDER) - {"pytorch_model.bin"})
    assert local_path("org/folder") == path
    assert [a.path.rpartition("/")[2] for a in hub.loads()] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_nothing_is_loaded_twice(hub: FakeHub, pull: Pull) -> None:
    first = pull("org/folder").path
    asked = len(hub.asked)
    again = pull("org/folder")
    assert again.path == first
    assert again.all("Chosen")[0]["missing_bytes"] == 0
    assert [a.path for a in hub.asked[asked:]] == ["/api/models/org/folder?blobs=true"]


def test_what_is_too_large_for_plain_http_is_left_to_the_library(hub: FakeHub, pull: Pull) -> None:
    """By plain HTTP too, here: this hub has no Xet."""
    pulled = pull("org/ggufs", plain_bytes=len(PROJECTOR))
    assert pulled.path.read_bytes() == WEIGHTS
    assert [event["file"] for event in pulled.all("Loading")][-1] == "it-Q4_K_M.gguf"
    assert len(pulled.all("Loading")) <= 3, "the library does not tell how far it is"


def test_progress_adds_up(hub: FakeHub, pull: Pull) -> None:
    events = pull("org/folder").all("Loading")
    done = [event["done_bytes"] for event in events]
    assert done == sorted(done)
    total = len(WEIGHTS) + len(OTHER_WEIGHTS) + len(CONFIG) + len(TOKENIZER)
    assert done[-1] == total == events[-1]["total_bytes"]


def test_a_new_commit_shares_what_has_not_changed(hub: FakeHub, pull: Pull, cache: Path) -> None:
    old = pull("org/folder").path
    repo = hub.repos["org/folder"]
    repo.commit = "b" * 40
    repo.files = {**FOLDER, "tokenizer.json": b'{"tokens": [1]}'}
    loads = len(hub.loads())
    new = pull("org/folder").path
    assert len(hub.loads()) == loads, "the weights are the same"
    assert (new.name, local_path("org/folder")) == ("b" * 40, new)
    assert (old / "tokenizer.json").read_bytes() == TOKENIZER


# --- going on ---------------------------------------------------------------------------------


def test_a_cut_connection_goes_on_where_it_stopped(hub: FakeHub, pull: Pull) -> None:
    hub.cuts = [20_000, 250_000, 0, 300_000]  # the projector whole; then the weights
    pulled = pull("org/ggufs")
    assert pulled.path.read_bytes() == WEIGHTS
    assert [a.range for a in hub.loads("Q4_K_M.gguf")] == [
        "",
        "bytes=250000-",
        "bytes=250000-",
        "bytes=550000-",
    ]
    assert len(pulled.all("Retrying")) == 3


def test_the_next_pull_goes_on_where_the_last_one_gave_up(
    hub: FakeHub, pull: Pull, cache: Path
) -> None:
    hub.cuts = [len(PROJECTOR), 250_000, 0, 0, 0]
    first = pull("org/ggufs")
    assert "stopped at 250 kB of 700 kB" in first.error["message"]
    assert "run the same again" in first.error["hint"]
    assert local_path("org/ggufs") is None
    hub.asked.clear()
    second = pull("org/ggufs")
    assert second.path.read_bytes() == WEIGHTS
    assert second.all("Chosen")[0]["missing_bytes"] == len(WEIGHTS) - 250_000
    assert [a.range for a in hub.loads()] == ["bytes=250000-"]
    assert not list(cache.rglob("*.incomplete"))


def test_a_hub_without_ranges_sends_all_again(hub: FakeHub, pull: Pull) -> None:
    hub.knows_ranges = False
    hub.cuts = [len(PROJECTOR), 250_000]
    assert pull("org/ggufs").path.read_bytes() == WEIGHTS


def test_damaged_weights_are_not_kept(hub: FakeHub, pull: Pull, cache: Path) -> None:
    hub.wrong_byte = True
    assert "arrived damaged" in pull("org/ggufs:Q8_0").error["message"]
    assert not list(cache.rglob("*.gguf"))
    assert not list(cache.rglob("*.incomplete"))
    hub.wrong_byte = False
    assert pull("org/ggufs:Q8_0").path.read_bytes() == OTHER_WEIGHTS


def test_two_pulls_do_not_write_into_one_file(hub: FakeHub, pull: Pull, cache: Path) -> None:
    blobs = cache / "models--org--ggufs" / "blobs"
    blobs.mkdir(parents=True)
    with (blobs / f"{sha256(PROJECTOR)}.homeport.incomplete").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        message = pull("org/ggufs").error["message"]
    assert message == "another process is loading mmproj-it-f16.gguf"


# --- what a hub says when it says no ------------------------------------------------------------


def test_a_gated_model(hub: FakeHub, pull: Pull) -> None:
    hub.repos["org/gated"] = Repo(GGUFS, is_gated=True)
    error = pull("org/gated").error
    assert error["message"] == "org/gated is gated: its owner decides who may load it"
    assert f"accept its terms at {hub.url}/org/gated" in error["hint"]
    assert "HF_TOKEN" in error["hint"]


def test_the_token_opens_it_and_stays_with_the_hub(hub: FakeHub, pull: Pull) -> None:
    hub.repos["org/gated"] = Repo(GGUFS, is_gated=True)
    assert pull("org/gated", HF_TOKEN=TOKEN).path.read_bytes() == WEIGHTS
    to_hub = [a for a in hub.asked if a not in hub.loads()]
    assert {a.authorization for a in to_hub} == {f"Bearer {TOKEN}"}
    assert {a.authorization for a in hub.loads()} == {""}


@pytest.mark.parametrize(
    ("token", "hint"), [("", "set HF_TOKEN"), (TOKEN, "of an account that may")]
)
def test_no_such_model(token: str, hint: str, hub: FakeHub, pull: Pull) -> None:
    error = pull("org/none", **({"HF_TOKEN": token} if token else {})).error
    assert error["message"] == f"there is no org/none at {hub.url}, or you may not see it"
    assert hint in error["hint"]


def test_a_wrong_choice(hub: FakeHub, pull: Pull) -> None:
    error = pull("org/ggufs:Q5_K_M").error
    assert error["message"] == "there is no GGUF called Q5_K_M"
    assert "org/ggufs:Q4_K_M    700 kB" in error["hint"]


def test_something_else_answers(hub: FakeHub, pull: Pull) -> None:
    hub.is_login_page = True
    assert "does not answer as a Hugging Face hub" in pull("org/ggufs").error["message"]


def test_what_does_not_fit_on_the_disk_is_not_begun(hub: FakeHub, pull: Pull) -> None:
    hub.repos["org/ggufs"].said_bytes = {"it-Q8_0.gguf": 10**18}
    error = pull("org/ggufs:Q8_0").error
    assert error["message"].startswith("it needs 1000000.0 TB, and there are ")
    assert "HF_HOME" in error["hint"]
    assert hub.loads() == []


# --- without a network ------------------------------------------------------------------------


def test_nobody_listens(cache: Path, pull: Pull) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    error = pull("org/ggufs", HF_ENDPOINT=url).error
    assert error["message"].startswith(f"cannot reach {url}: ")
    assert "HTTPS_PROXY" in error["hint"]


def test_offline(cache: Path, pull: Pull) -> None:
    error = pull("org/ggufs", HF_HUB_OFFLINE="1").error
    assert error["message"] == f"HF_HUB_OFFLINE is set, and org/ggufs is not in {cache}"
    assert "unset HF_HUB_OFFLINE" in error["hint"]


def test_what_is_there_is_good_enough_without_a_network(hub: FakeHub, pull: Pull) -> None:
    path = pull("org/ggufs").path
    for env in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"}):
        pulled = pull("org/ggufs", **env)
        assert pulled.path == path
        assert len(pulled.all("FromCache")) == 1


# --- the cache alone --------------------------------------------------------------------------


def snapshot(cache: Path, commit: str, *names: str, repo: str = "models--org--it") -> Path:
    folder = cache / repo / "snapshots" / commit
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_an_empty_cache_has_nothing(cache: Path) -> None:
    assert local_path("org/it") is None


def test_what_is_no_id(cache: Path) -> None:
    with pytest.raises(ConfigError):
        local_path("/some/file.gguf")


def test_a_snapshot_with_a_missing_shard_is_not_there(cache: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    folder = snapshot(cache, COMMIT, "config.json", shards[0])
    assert local_path("org/it") is None
    (folder / shards[1]).symlink_to("../../blobs/gone")
    assert local_path("org/it") is None
    (folder / shards[1]).unlink()
    snapshot(cache, COMMIT, shards[1])
    assert local_path("org/it") == folder


def test_the_current_snapshot_comes_first(cache: Path) -> None:
    current = snapshot(cache, "a" * 40, "model.safetensors")
    latest = snapshot(cache, "b" * 40, "model.safetensors")
    os.utime(current, (1, 1))
    assert local_path("org/it") == latest
    refs = cache / "models--org--it" / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    assert local_path("org/it") == current


def test_a_choice_is_found_in_an_older_snapshot(cache: Path) -> None:
    old = snapshot(cache, "a" * 40, "it-Q4_K_M.gguf")
    snapshot(cache, "b" * 40, "it-Q8_0.gguf")
    os.utime(old, (1, 1))
    assert local_path("org/it:Q4_K_M") == old / "it-Q4_K_M.gguf"


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"HF_HOME": "/hf"},
        {"HF_HOME": "/hf", "HF_HUB_CACHE": "~/cache"},
        {"HUGGINGFACE_HUB_CACHE": "/old", "XDG_CACHE_HOME": "/xdg"},
        {"XDG_CACHE_HOME": "/xdg"},
        {"HF_HUB_CACHE": "$HF_HOME/deep", "HF_HOME": "/hf"},
    ],
    ids=str,
)
def test_the_cache_is_where_huggingface_hub_has_it(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.delenv("HF_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    program = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    theirs = subprocess.check_output([sys.executable, "-c", program], text=True).strip()
    assert str(cache_folder(os.environ)) == theirs


def test_the_library_is_imported_by_pull_alone() -> None:
    program = (
        "import sys, homeport.app, homeport.cli.serve_cmd, homeport.cli.pull_cmd\n"
        "from homeport.runtime.hub import local_path\n"
        "local_path('org/it')\n"
        "print([n for n in sys.modules if n.startswith(('huggingface_hub', 'httpx2'))])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"
