"""The homeport that runs, packed as a wheel: what the gateway's image is built from.

So the container has the very code that the command line has, edited or not, and nothing of homeport is
fetched. Equal files give equal bytes (times are fixed, names sorted), which lets Docker take the layer
from its cache. The format is that of the binary distribution format (PyPA specifications, wheel 1.0).
"""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path
from typing import Final

import homeport

_METADATA: Final = ("METADATA", "entry_points.txt")
_WHEEL: Final = (
    b"Wheel-Version: 1.0\nGenerator: homeport\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
)
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)
"""The first time that a ZIP archive can say."""


def packed() -> tuple[str, bytes]:
    """Return the wheel's file name and its content. Raises ``PackageNotFoundError`` where homeport is
    not installed but only lies on the path."""
    name = f"homeport-{homeport.__version__}"
    archive = io.BytesIO()
    record: list[str] = []
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as wheel:

        def add(path: str, data: bytes) -> None:
            wheel.writestr(zipfile.ZipInfo(path, _LONG_AGO), data, zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(data)}")

        for path, data in _package():
            add(path, data)
        info = f"{name}.dist-info"
        for path, data in _metadata():
            add(f"{info}/{path}", data)
        listed = "\n".join((*record, f"{info}/RECORD,,", ""))
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD", _LONG_AGO), listed)
    return f"{name}-py3-none-any.whl", archive.getvalue()


def _package() -> Iterator[tuple[str, bytes]]:
    root = Path(homeport.__file__).parent
    for file in sorted(root.rglob("*")):
        if file.is_file() and file.suffix != ".pyc":
            yield (Path("homeport") / file.relative_to(root)).as_posix(), file.read_bytes()


def _metadata() -> Iterator[tuple[str, bytes]]:
    installed = Distribution.from_name("homeport")
    for name in _METADATA:
        if text := installed.read_text(name):
            yield name, text.encode()
    yield "WHEEL", _WHEEL
