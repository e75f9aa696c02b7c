"""The exception tree: every failure says whose fault it is.

* ``ConfigError``: the user's files, flags or environment. Shown in the terminal, never on the wire.
* ``StackError``: what the machine has, Docker or another program, keeps a command from its work.
* ``RequestFault``: something went wrong with one request. ``kind`` is neutral; ``wire.faults`` turns
  it into the caller's dialect (status, type word, body). Its subclasses say who is to blame:
  ``ClientError`` (the request is wrong: do not retry unchanged), ``UpstreamError`` (an engine or
  provider failed: a retry may help), ``InternalError`` (we are wrong: please report).

Nothing here knows HTTP bodies, dialects or terminals.
"""

from typing import Literal

FaultKind = Literal[
    "invalid_request",  # 400: the body is wrong
    "context_overflow",  # 400: the prompt does not fit the model
    "output_overflow",  # 400: prompt and asked-for output together do not fit
    "authentication",  # 401
    "permission",  # 403
    "not_found",  # 404: route or model
    "method_not_allowed",  # 405
    "too_large",  # 413
    "rate_limit",  # 429
    "internal",  # 500
    "upstream",  # 502: the engine answered nonsense or broke off
    "unavailable",  # 503: the engine is down or failed to start
    "overloaded",  # 503/529: queue full
    "timeout",  # 504
]


class HomeportError(Exception):
    """Base of everything we raise on purpose."""


class ConfigError(HomeportError):
    """A setting is wrong.

    ``where`` is ``FILE:LINE`` or the flag's name, ``key`` the dotted key path, ``hint`` the next step.
    """

    def __init__(self, message: str, *, where: str = "", key: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message, self.where, self.key, self.hint = message, where, key, hint

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.where, self.key, self.message) if part)
        return f"{head}\n  hint: {self.hint}" if self.hint else head


class StackError(HomeportError):
    """The stack, or the homeport in the background, cannot be had now.

    ``hint`` is the next step; ``said`` are last lines of the program that failed, as it wrote them.
    """

    def __init__(self, message: str, *, hint: str = "", said: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message, self.hint, self.said = message, hint, said

    def __str__(self) -> str:
        quoted = "".join(f"\n  {line}" for line in self.said)
        return self.message + quoted + (f"\n  hint: {self.hint}" if self.hint else "")


class RequestFault(HomeportError):  # noqa: N818  (the subclasses are the errors)
    """One request failed; ``wire.faults`` says it in the caller's dialect.

    ``param`` names the offending field (dotted, list positions as numbers), ``retry_after_s`` asks
    the client to wait, ``tokens`` is ``(prompt, limit)`` for overflows where both are known,
    ``output_tokens`` what was asked for on top; ``status`` is the engine's own HTTP status where that
    says more than the kind's usual one.
    """

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        tokens: tuple[int, int] | None = None,
        output_tokens: int | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind, self.message, self.param = kind, message, param
        self.retry_after_s, self.tokens, self.output_tokens = retry_after_s, tokens, output_tokens
        self.status = status

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind!r}, {self.message!r})"


class ClientError(RequestFault):
    """The request is wrong."""


class UpstreamError(RequestFault):
    """An engine or provider failed."""


class InternalError(RequestFault):
    """We failed."""
