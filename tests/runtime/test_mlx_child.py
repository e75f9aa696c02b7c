"""The program around `mlx_lm.server`, without MLX: what it decides, and that it steps back from an
mlx_lm that it does not know. `tests/e2e/test_mlx.py` has the real one."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from homeport.runtime import mlx_child
from homeport.runtime.mlx_child import chosen, overflow, parts_of
from homeport.wire import faults

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
NAMED = {"type": "function", "function": {"name": "g"}}
UNKNOWN = """
import sys
class APIHandler: {handler}
class ResponseGenerator: {generator}
def main():
    print(*sys.argv[1:])
"""
HANDLER = "do_GET = do_POST = handle_completion = handle_chat_completions = None"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, (TOOLS, False)),
        ("auto", (TOOLS, False)),
        ("none", ([], False)),
        ("required", (TOOLS, True)),
        (NAMED, (TOOLS[1:], True)),
    ],
)
def test_which_tools_are_shown_and_whether_one_must_be_called(choice: Any, expected: Any) -> None:
    assert chosen(TOOLS, choice) == expected


def test_nothing_must_be_called_where_there_is_nothing() -> None:
    assert chosen([], "required") == ([], False)


@pytest.mark.parametrize(
    "choice", ["sometimes", {}, {"type": "function", "function": {"name": "h"}}, 5]
)
def test_what_is_no_choice_is_refused(choice: Any) -> None:
    with pytest.raises(ValueError, match="no tool is meant"):
        chosen(TOOLS, choice)


def test_its_overflow_is_understood() -> None:
    told = overflow(9000, 4096)
    fault = faults.overflow_in(str(told["message"]), told)
    assert fault is not None
    assert (fault.kind, fault.tokens) == ("context_overflow", (9000, 4096))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([1, 2], ([1, 2], [], "")),  # 0.29
        (([1, 2], [[1], [2]], ["user", "assistant"], "normal"), ([1, 2], [[1], [2]], "normal")),
        (([1, 2], [[1, 2]], ["x"], "tool", None), ([1, 2], [[1, 2]], "tool")),  # 0.32
        (([1, 2], "something else"), ([1, 2], [], "")),
    ],
)
def test_what_becomes_of_a_prompt_in_any_version(found: Any, expected: Any) -> None:
    assert parts_of(found) == expected


@pytest.mark.parametrize(
    ("handler", "generator"),
    [
        ("pass", "pass"),
        (HANDLER, "_tokenize = None"),
        ("do_GET = do_POST = None", "_tokenize = None"),
    ],
)
def test_a_server_that_it_does_not_know_is_started_as_it_is(
    tmp_path: Path, handler: str, generator: str
) -> None:
    package = tmp_path / "mlx_lm"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "server.py").write_text(UNKNOWN.format(handler=handler, generator=generator))
    ran = subprocess.run(
        [sys.executable, mlx_child.__file__, "4096", "--model", "m", "--port", "1"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.startswith("--model m --port 1")
    assert "homeport does not know this mlx_lm" in ran.stderr


def test_it_needs_nothing_of_homeport_and_no_new_python() -> None:
    """It runs in MLX's own environment, whatever Python that has."""
    tree = ast.parse(Path(mlx_child.__file__).read_text("utf-8"), feature_version=(3, 9))
    imported = {
        name.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names
        )
    }
    assert imported <= sys.stdlib_module_names
