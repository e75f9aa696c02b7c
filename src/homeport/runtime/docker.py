"""The Docker client as a program: one call, bounded in time, and what its failures mean.

``docker run`` reports its own troubles like those of the engine inside: as lines on its output, and an
exit status. 125 is Docker's, 126 and 127 say that the image has no such program; any other status is
the engine's (docs.docker.com, "docker container run", exit status).
"""

import asyncio
import re
from contextlib import suppress
from typing import Final, NamedTuple

BRIEF_S: Final = 10.0
"""For a question to the daemon; it answers in some ten milliseconds."""

NOT_RUNNING: Final = (
    r"Cannot connect to the Docker daemon|error during connect|is the docker daemon running"
)
_TROUBLES: Final = (
    (NOT_RUNNING, "Docker is not running; start it (`docker info` tells whether it answers)"),
    (
        r"permission denied while trying to connect|dial unix \S+: connect: permission denied",
        "Docker does not let this user in; become a member of its group, or use rootless Docker",
    ),
    (
        r"pull access denied|manifest unknown|manifest for \S+ not found|repository does not exist"
        r"|invalid reference format|no matching manifest",
        "there is no such image, or it cannot be had without `docker login`; look at the model's "
        "image and version",
    ),
    (
        r"could not select device driver|nvidia-container-cli",
        "Docker cannot give it the GPU; install the NVIDIA Container Toolkit",
    ),
    (
        r"is already in use by container",
        "a container with this name is there, and is not of a homeport that has ended; remove it "
        "(`docker rm --force NAME`)",
    ),
    (r"port is already allocated|address already in use", "its port is taken"),
    (
        r"Unable to find image|failed to resolve reference|proxyconnect|registry|no such host"
        r"|TLS handshake timeout|i/o timeout|connection refused",
        "its image is not here and could not be pulled; look at the network, or `docker pull` it",
    ),
)
"""What Docker says when it is that which failed, the special before the general; what to do."""


class Said(NamedTuple):
    status: int | None
    """None when it did not end in time."""
    out: str
    err: str


async def run(docker: str, *words: str, within_s: float = BRIEF_S) -> Said:
    """Run one Docker command. Raises ``OSError`` when there is no such program."""
    process = await asyncio.create_subprocess_exec(
        *(docker, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is not for it
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), within_s)
    except TimeoutError:
        return Said(None, "", f"docker {words[0]} did not answer within {within_s:g} s")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return Said(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def how_ended(status: int | None, output: str) -> str:
    """Say what the end of a ``docker run`` means; ``output`` is the end of what it said."""
    match status:
        case 125:
            return f"Docker could not run the container: {trouble(output) or 'status 125'}"
        case 126:
            return "the image's program cannot be executed (status 126)"
        case 127:
            return "the image has no such program (status 127)"
        case _:
            return f"exited with status {status}"


def trouble(output: str) -> str | None:
    """Say in words what Docker's own troubles in this output mean; None where there is none we know."""
    said = (what for sign, what in _TROUBLES if re.search(sign, output, re.IGNORECASE))
    return next(said, None)
