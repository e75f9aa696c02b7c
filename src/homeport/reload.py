"""Reads the configuration anew while requests run.

Everything wrong with it is told and changes nothing. Else the roster takes up the models, and what is
left goes to those who read it with the next request: keys, names of hosts, limits, the web search, the
scheduler's policy. What is looked at only once, the address first of all, is named.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec.structs import replace

from homeport.config.changes import NEEDS_RESTART, changed_keys
from homeport.config.rules import bind_problem
from homeport.errors import ConfigError
from homeport.roster import Roster, policy_of
from homeport.runtime.fleet import Fleet
from homeport.server.admin import Reloaded, ReloadError
from homeport.server.asgi import Gateway
from homeport.server.news import News
from homeport.settings import Settings
from homeport.upstream import Client


class Narrator(Protocol):
    def reloaded(self, done: Reloaded) -> None: ...

    def reload_failed(self, errors: tuple[ConfigError, ...]) -> None: ...


class Reloader:
    """Holds the settings in effect."""

    def __init__(
        self,
        settings: Settings,
        *,
        reread: Callable[[], Settings],
        prepared: Callable[[Settings], Awaitable[Settings]],
        budget_bytes: int,
        roster: Roster,
        fleet: Fleet,
        gateway: Gateway,
        client: Client,
        narrator: Narrator,
        news: News,
    ) -> None:
        """``reread`` reads files, and raises ``ConfigError``; ``prepared`` finds out what the settings
        leave open, as at the start. ``budget_bytes`` is the measured one."""
        self.settings = settings
        self._reread, self._prepared, self._budget_bytes = reread, prepared, budget_bytes
        self._roster, self._fleet, self._gateway, self._client = roster, fleet, gateway, client
        self._narrator, self._news = narrator, news
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> Reloaded:
        """Raises ``ReloadError``."""
        async with self._one_at_a_time:
            try:
                settings = await self._read()
            except ConfigError as error:
                errors = getattr(error, "errors", (error,))
                self._narrator.reload_failed(errors)
                raise ReloadError(errors) from None
            done = self._take_up(settings)
        self._narrator.reloaded(done)
        self._news.reloaded(done.added, done.changed, done.removed)
        return done

    async def _read(self) -> Settings:
        settings = await asyncio.to_thread(self._reread)
        here = self.settings.server
        # Without a key beyond this machine: it is the address in use that counts.
        if problem := bind_problem(replace(settings.server, host=here.host)):
            raise problem
        return await self._prepared(settings)

    def _take_up(self, settings: Settings) -> Reloaded:
        before, here = self.settings, self.settings.server
        keys = changed_keys(before, settings)
        server = replace(settings.server, host=here.host, port=here.port)
        self.settings = settings = replace(settings, server=server)
        change = self._roster.apply(settings)
        self._fleet.set_policy(policy_of(settings.lifecycle, self._budget_bytes))
        self._gateway.configure(
            server, settings.web_search, settings.small_models, needs_key=settings.needs_key
        )
        self._client.set_timeouts(
            connect_timeout_s=server.limits.connect_timeout_s,
            idle_timeout_s=server.limits.idle_timeout_s,
        )
        return Reloaded(
            added=change.added,
            changed=change.changed,
            adjusted=change.adjusted,
            removed=change.removed,
            settings=tuple(key for key in keys if key not in NEEDS_RESTART),
            needs_restart=tuple(key for key in keys if key in NEEDS_RESTART),
        )
