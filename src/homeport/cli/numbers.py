"""Numbers as flags give them: read as the configuration file reads them, with its words when they are
wrong. click's own types would say neither what to write nor which numbers there are."""

from collections.abc import Callable
from typing import Any, Final

import click

from homeport.config import values
from homeport.config.problems import WrongValueError
from homeport.errors import ConfigError

NOWHERE: Final = values.Place(folder="", env={}, exists=lambda _: False)
"""Numbers mean the same everywhere."""


class Number(click.ParamType[int]):
    """One that ``read`` takes, and that is not less than ``least``."""

    name = "number"

    def __init__(self, read: Callable[[str, values.Place], int], least: int = 0) -> None:
        self._read, self._least = read, least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        flag = param.opts[0] if param is not None else ""
        try:
            number = self._read(str(value), NOWHERE)
        except WrongValueError as wrong:
            raise ConfigError(wrong.message, where=flag, hint=wrong.hint) from None
        if number < self._least:
            hint = f"write a number from {self._least} on"
            raise ConfigError(f"must be at least {self._least}, is {number}", where=flag, hint=hint)
        return number


CONTEXT: Final = Number(values.count, least=256)
COUNT: Final = Number(values.count)
PORT: Final = Number(values.port)
PORT_OR_FREE: Final = Number(values.port_or_free)
