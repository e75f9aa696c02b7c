"""LiteLLM in the stack: the configuration that it reads, and what its image is built from.

The file lies beside ``config.yaml`` and says what LiteLLM is told where homeport starts it
(``engines.litellm_proxy``). It is written where there is none, and again when ``config.yaml`` says
something else; but only while it is as it was written: its first line holds the sum of the others. Once
somebody has changed it, or has put one of his own there, it is never touched.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from typing import Final

import msgspec
import yaml

from homeport import litellm
from homeport.config import load
from homeport.engines import litellm_proxy
from homeport.engines.litellm_proxy import Plan
from homeport.errors import StackError
from homeport.stack import staged
from homeport.stack.layout import Layout

SERVICE: Final = "litellm"
URL: Final = "http://litellm:4444"
"""Where the gateway finds it."""
USER: Final = 10001
"""Whom the image runs as where nobody else is named."""

_SUM: Final = re.compile(r"# Written by homeport: ([0-9a-f]{64})\n")
_HEAD: Final = """\
# LiteLLM's configuration, made from config.yaml. `homeport proxy restart` brings it up to date.
# Once you have changed anything here, the file is yours and stays as it is.
"""


def image_files() -> dict[str, bytes]:
    """What the image needs of homeport, by its path below ``services/``."""
    return {
        "litellm/requirements.txt": litellm.LOCK.read_bytes(),
        "litellm/callback.py": litellm.CALLBACK.read_bytes(),
    }


def text(plan: Plan) -> str:
    """The file."""
    variables = {litellm_proxy.LISTED: msgspec.json.encode(plan.listed).decode()}
    config = {**litellm_proxy.config(plan), "environment_variables": variables}
    body = _HEAD + str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100))
    return f"# Written by homeport: {_digest(body)}\n{body}"


def is_ours(found: str) -> bool:
    """Whether a file is as it was written."""
    match = _SUM.match(found)
    return match is not None and _digest(found[match.end() :]) == match[1]


def news(layout: Layout, env: Mapping[str, str]) -> str | None:
    """What the file should say and does not; None where it is up to date, or the user's. ``env`` is
    what this run has beside ``.env``. Raises ``ConfigError`` for ``config.yaml``, ``StackError`` for a
    file that cannot be read."""
    try:
        found = layout.litellm_config.read_text("utf-8", "replace")
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise _trouble(layout, "read", error) from None
    if found is not None and not is_ours(found):
        return None
    variables = {**layout.variables(), **env, "HOMEPORT_CONFIG": str(layout.home)}
    plan = litellm_proxy.plan_for(load.settings(None, variables, exists=_in_containers))
    if plan is None:  # .env says that the gateway shall know nothing of it
        raise StackError(
            f"the gateway is not told of LiteLLM, and there is no {layout.litellm_config}",
            hint=f"set HOMEPORT_LITELLM_URL={URL} in {layout.env_file}, or write that file yourself",
        )
    wanted = text(plan)
    return None if wanted == found else wanted


def _in_containers(path: str) -> bool:
    """Files of models are where the gateway's container sees them; it tells what is not there."""
    return True


def write(layout: Layout, wanted: str) -> None:
    """For its readers alone: parameters of models may hold what nobody else should read. Raises
    ``StackError``."""
    owner = _reader(layout.variables()) if os.getuid() == 0 else None
    try:
        staged.write(layout.litellm_config, wanted.encode(), owner=owner)
    except OSError as error:
        raise _trouble(layout, "written", error) from None


def removed(layout: Layout) -> tuple[str, ...]:
    """What of it was removed: a file that is ours. Raises ``StackError``."""
    file = layout.litellm_config
    try:
        if not is_ours(file.read_text("utf-8", "replace")):
            return ()
        file.unlink()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _trouble(layout, "removed", error) from None
    return (file.name,)


def _reader(values: Mapping[str, str]) -> tuple[int, int]:
    """Whom the container runs as."""
    uid, gid = (values.get(name, "") for name in ("HOMEPORT_UID", "HOMEPORT_GID"))
    return int(uid) if uid.isdigit() else USER, int(gid) if gid.isdigit() else USER


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _trouble(layout: Layout, what: str, error: OSError) -> StackError:
    return StackError(
        f"{layout.litellm_config} cannot be {what}: {error.strerror}",
        hint="look at the owner of the file and its folder",
    )
