"""`homeport usage`: what it shows of a database, and what it says where there is none."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from homeport.cli import usage_cmd
from homeport.cli.main import main
from homeport.cli.usage_cmd import bar, short
from homeport.store.base import Aggregate
from homeport.store.sqlite import SqliteStore
from tests.store.records import capture, record


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOMEPORT_HOME", str(tmp_path))
    monkeypatch.delenv("HOMEPORT_CONFIG", raising=False)
    return tmp_path


def fill(home: Path) -> None:
    store = SqliteStore(home / "state" / "usage.db")
    store.open()
    now_us = time.time_ns() // 1000
    used: dict[str, Any] = {"prompt_tokens": 9000, "cached_tokens": 4500, "completion_tokens": 1000}
    store.append(
        [
            record(1, at_us=now_us - 10, model="qwen", **used),
            record(2, at_us=now_us - 20, model="qwen", key="", error="left", **used),
            record(3, at_us=now_us - 30, model="gpt", prompt_tokens=5000, completion_tokens=0),
            record(4, at_us=now_us - 3 * 86_400_000_000, model="old", error="upstream"),
        ]
    )
    store.append_captures([capture(1, request="asked", response="answered", model="qwen")])
    store.close()


def usage(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["usage", *arguments])


def test_a_table_with_bars(home: Path) -> None:
    fill(home)
    result = usage("--since", "1d")
    assert result.exit_code == 0
    title, qwen, gpt = result.stdout.splitlines()
    assert title.split() == [
        *("MODEL", "REQUESTS", "FAILED", "LEFT", "PROMPT", "CACHED", "ANSWER", "FIRST", "TOK/S"),
    ]
    assert qwen.split()[:7] == ["qwen", "2", "-", "1", "18.0k", "50%", "2.0k"]
    assert qwen.split()[-1] == "░" * 13 + "▒" * 12 + "█" * 3
    assert gpt.split()[-1] == "▒" * 7
    assert "cached prompt" in result.stderr


def test_as_json(home: Path) -> None:
    fill(home)
    found = json.loads(usage("--json", "--by", "key").stdout)
    assert [(each["name"], each["requests"], each["failed"]) for each in found] == [
        ("laptop", 3, 1),
        ("", 1, 0),
    ]


def test_json_says_what_was_measured(home: Path) -> None:
    """Not sixteen digits, which are those of a division; and no speed of what came in one burst."""
    store = SqliteStore(home / "state" / "usage.db")
    store.open()
    now_us = time.time_ns() // 1000
    for number, (model, took_s) in enumerate([("slow", 0.7), ("slow", 1.4), ("burst", 0.0003)]):
        times = {"first_token_s": 1 / 3, "duration_s": 1 / 3 + took_s, "waited_s": 1 / 7}
        used = {"completion_tokens": 10, "tokens_per_s": 10 / took_s, "prompt_tokens": 10 - number}
        store.append([record(number, at_us=now_us - number, model=model, **times, **used)])
    store.close()
    slow, burst = json.loads(usage("--json").stdout)
    shown = [(e["tokens_per_s"], e["first_token_s"], e["waited_s"]) for e in (slow, burst)]
    assert shown == [(9.5, 0.333, 0.286), (None, 0.333, 0.143)]
    assert usage().stdout.splitlines()[-1].split()[-2] == "-"


def test_days_are_in_order(home: Path) -> None:
    fill(home)
    days = [each["name"] for each in json.loads(usage("--json", "--by", "day").stdout)]
    assert days == sorted(days)
    assert len(days) >= 2


def test_captures(home: Path) -> None:
    fill(home)
    shown = usage("--captured").stdout
    assert "req_00000001  qwen  s1" in shown
    assert "> asked" in shown
    assert "< answered" in shown
    assert json.loads(usage("--captured", "--session", "s2", "--json").stdout) == []


def test_of_one_session(home: Path) -> None:
    """Not everything, as if nobody had asked."""
    fill(home)
    store = SqliteStore(home / "state" / "usage.db")
    store.open()
    store.append([record(9, at_us=time.time_ns() // 1000, model="mine", session="0199f3")])
    store.close()
    found = json.loads(usage("--session", "0199f3", "--json").stdout)
    assert [(each["name"], each["requests"]) for each in found] == [("mine", 1)]
    nothing = usage("--session", "0199")
    assert (nothing.stdout, nothing.exit_code) == ("", 0)
    assert "no requests of session '0199'" in nothing.stderr


def test_a_mistake_elsewhere_in_the_configuration(home: Path) -> None:
    """Usage needs the store's settings; what else is wrong is told, and is no reason to show none."""
    fill(home)
    (home / "state/usage.db").rename(home / "other.db")
    for stray in (home / "state").iterdir():
        stray.unlink()
    config = home / "config.yaml"
    config.write_text("serve: {port: 1}\nstore: {url: other.db}\nmodels: {m: {ctx: x}}\n")
    found = usage("--json")
    assert found.exit_code == 0
    assert {each["name"] for each in json.loads(found.stdout)} == {"qwen", "gpt", "old"}
    assert f"warning: {config}:1: serve: unknown key" in found.stderr
    assert "2 more" in found.stderr
    assert "homeport config check" in found.stderr


@pytest.mark.parametrize("text", ["store: {ulr: x}", "a: [", "- a", "store: {url: 'http://x'}"])
def test_a_mistake_in_the_store_s_own_settings(home: Path, text: str) -> None:
    """Then nobody knows which database is meant."""
    fill(home)
    (home / "config.yaml").write_text(text)
    found = usage()
    assert (found.exit_code, found.stdout) == (2, "")


def test_nothing_yet(home: Path) -> None:
    result = usage()
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing has been recorded yet" in result.stderr
    assert not (home / "state").exists(), "to look makes nothing"
    assert json.loads(usage("--json").stdout) == []


def test_a_time_that_is_none(home: Path) -> None:
    result = usage("--since", "tomorrow")
    assert result.exit_code == 2
    assert "--since" in result.stderr


def test_a_database_that_is_away(home: Path) -> None:
    (home / "config.yaml").write_text("store: {url: 'postgresql://me:geheim@127.0.0.1:1/x'}")
    result = usage()
    assert result.exit_code == 1
    assert "geheim" not in result.output


def of(prompt: int, cached: int, completion: int) -> Aggregate:
    fields: dict[str, Any] = {"requests": 1, "failed": 0, "left": 0, "waited_s": 0.0, "last_us": 0}
    return Aggregate(
        name="x",
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        first_token_s=None,
        tokens_per_s=None,
        **fields,
    )


@pytest.mark.parametrize("prompt", range(0, 40, 3))
@pytest.mark.parametrize("completion", range(0, 40, 7))
def test_a_bar_never_leaves_its_place(prompt: int, completion: int) -> None:
    most = 40 + completion
    drawn = bar(of(prompt, prompt // 3, completion), most, 10)
    assert len(drawn) <= 10
    assert bool(drawn) == bool(prompt + completion)
    assert "".join(sorted(drawn, key=usage_cmd.BARS.index)) == drawn


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0"), (999, "999"), (1000, "1.0k"), (12_345_678, "12.3M")]
)
def test_short_numbers(count: int, shown: str) -> None:
    assert short(count) == shown
