"""House rules that no linter knows, checked over the files of this repository (``make check``).

* No host name of a package registry and no path of one machine: the tree has to build anywhere, from
  any mirror. Lock files hold hashes and no addresses for the same reason.
* Every locked requirement has its hashes, so that an install is the same bytes everywhere.
* No file is called ``utils.py``: a helper without a home has no name yet.
* What a comment cites can be read: ``docs/dialects.md``, not the notes that it was made of.
* In the package only ``cli/output.py`` prints; two programs that run as processes of their own may
  say on stderr why they end.

Prints ``tree ok``, or one ``file:line: problem`` for each violation and exits with 1. Files that git
does not know yet are read too (ignored ones are not), so that a rule is met before the commit.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Put together from parts, because this file is read like all others.
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("download", "pytorch", "org"),
    )
)
HOST = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in REGISTRIES), re.IGNORECASE)
MACHINE_PATH = re.compile(r"(?<![\w.$~}/-])/(?:work|root|home|Users)/(?!(?:you|user|me)\b)[\w.-]+")
EXAMPLE_HOMES = "/home/you, /home/user, /home/me"  # what documentation and tests may write

# Notes from before there was docs/dialects.md, which has their section numbers: the name of a file,
# or a name and a section.
MAPPING, PAIN = "con" + "tract", "pa" + "ins"
NOTE = re.compile(
    rf"\b(?:{MAPPING}|{PAIN}|{'back' + 'ends'})\.md\b|\b{PAIN} \d+"
    rf"|\b{MAPPING}(?:'s)?,?(?: section| alone)?,? \(?\d\.\d+",
    re.IGNORECASE,
)

PRINTERS = frozenset(
    {
        "src/homeport/cli/output.py",
        "src/homeport/runtime/shim.py",  # its stderr is the engine's output, which we show
        "src/homeport/runtime/llamacpp_child.py",  # likewise
        "src/homeport/runtime/mlx_child.py",  # likewise
        "src/homeport/litellm/child.py",  # likewise
        "src/homeport/litellm/callback.py",  # likewise
    }
)

LOCKS = ("requirements/", "src/homeport/litellm/")

UNTRACKED = re.compile(r"(?:^|/)(?:\.[\w-]+|node_modules|__pycache__|dist|build|[\w-]+\.egg-info)/")
ADDRESS = re.compile(r"://|^\s*--(?:index-url|extra-index-url|find-links|trusted-host)|^\s*-[if] ")


def main() -> int:
    problems = [problem for path in _files() for problem in _problems(path)]
    for problem in problems:
        print(problem)  # noqa: T201
    if problems:
        print(f"{len(problems)} violations of the house rules; scripts/check_tree.py explains them")  # noqa: T201
        return 1
    print("tree ok")  # noqa: T201
    return 0


def _files() -> Iterator[str]:
    """Paths from the root, with forward slashes: what git lists, or all of an unpacked archive."""
    if (ROOT / ".git").exists():
        git = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
        options = ["--cached", "--others", "--exclude-standard"]
        result = subprocess.run(
            [*git, *options], cwd=ROOT, capture_output=True, text=True, check=True
        )
        paths = set(result.stdout.split("\0")) - {""}
    else:
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        paths = {path.as_posix() for path in found if not UNTRACKED.search(path.as_posix() + "/")}
    yield from sorted(path for path in paths if (ROOT / path).is_file())


def _problems(path: str) -> Iterator[str]:
    if path.endswith("/utils.py") or path == "utils.py":
        yield f"{path}:1: call a file by what is in it, not utils.py"
    data = (ROOT / path).read_bytes()
    if b"\0" in data:
        return
    text = data.decode("utf-8", "replace")
    yield from _places(path, text)
    if path.startswith(LOCKS) and path.endswith(".txt"):
        yield from _requirements(path, text)
    if path.endswith("package-lock.json"):
        yield from _package_lock(path, text)
    if path.startswith("src/") and path.endswith(".py") and path not in PRINTERS:
        yield from _prints(path, text)


def _places(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        if found := HOST.search(line):
            yield f"{path}:{number}: host of a package registry: {found[0]}"
        if found := MACHINE_PATH.search(line):
            yield f"{path}:{number}: path of one machine: {found[0]}; write {EXAMPLE_HOMES}"
        if found := NOTE.search(line):
            yield f"{path}:{number}: readers do not have '{found[0]}'; cite docs/dialects.md"


def _requirements(path: str, text: str) -> Iterator[str]:
    """One requirement is a line that begins in the first column, and the hashes that follow it."""
    name, at, hashes = "", 0, 0
    for number, line in enumerate([*text.splitlines(), "end"], start=1):
        if ADDRESS.search(line):
            yield f"{path}:{number}: an address in a lock file"
        if not line or line.startswith((" ", "#", "-")):
            hashes += "--hash=sha256:" in line
            continue
        if name and not hashes:
            yield f"{path}:{at}: {name} has no hash"
        if line != "end" and "==" not in line:
            yield f"{path}:{number}: {line} is not pinned with =="
        name, at, hashes = line.partition("==")[0], number, line.count("--hash=sha256:")


def _package_lock(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        if '"resolved"' in line:
            yield f"{path}:{number}: an address in a lock file ('resolved')"
    for name, package in json.loads(text).get("packages", {}).items():
        if name and "integrity" not in package:
            yield f"{path}:1: {name} has no integrity"


def _prints(path: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text, path)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("print", "click.echo", "click.secho") or called.startswith(
            ("sys.stdout.write", "sys.stderr.write")
        ):
            yield f"{path}:{node.lineno}: {called}: only cli/output.py talks to the terminal"


if __name__ == "__main__":
    sys.exit(main())
