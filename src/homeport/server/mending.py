"""What is done about an engine's answer on its way to a client that is translated for.

Calls that were printed as text become calls (``wire.rescue``). A call that is none is asked for once
more, where the user wants that (``wire.correction``). Searches of the web, and of tools that the model
was not shown, are run here between two answers of the engine, of which the client sees one.

``Mending`` holds what one request needs for that, from round to round: what the engine shall be asked
now, what earlier rounds have said, and what they took. It moves no bytes; ``calls`` does, for each
dialect.
"""

from homeport.errors import UpstreamError
from homeport.facts import Endpoint
from homeport.server.http import new_id
from homeport.server.web_search import WebSearcher
from homeport.wire import slimming, web_search
from homeport.wire.correction import CallCheck, corrected
from homeport.wire.events import (
    Event,
    Failure,
    Request,
    SearchWish,
    TextDelta,
    ToolCallStart,
    Usage,
    WebSearch,
)
from homeport.wire.rounds import RoundUsage
from homeport.wire.stages import Stages, stages
from homeport.wire.upstream_dialects import SPOKEN
from homeport.wire.web_search import SearchCalls


class Mending:
    """What is done about an engine's answer to ``request`` on its way to a translated client."""

    def __init__(self, request: Request, searcher: WebSearcher | None = None) -> None:
        wish = request.web_search
        if any(tool.name == web_search.NAME for tool in request.tools):
            wish = None  # the client has one of its own
        self._searcher = searcher if wish is not None else None
        self._wish = wish or SearchWish()
        self.request = request if self._searcher is None else web_search.offered(request)
        """What the engine shall be asked."""
        self.shown: list[Event] = []
        """What earlier answers of the engine said, and the searches between them."""
        self._search_calls: SearchCalls | None = None
        self._searches = self._rounds = 0
        self._spent: tuple[Usage, ...] = ()
        """What the engine's earlier answers took."""
        self._usage = RoundUsage(())
        self._found: tuple[str, ...] = ()
        """Tools that the model has asked for, where it is not shown all."""
        self._is_slimmed = False
        choice = request.tool_choice
        self._tools = self.request.tools if choice is None or choice.mode != "none" else ()
        self._check: CallCheck | None = None
        self._has_asked_again = False

    def stages(self, endpoint: Endpoint) -> Stages | None:
        """None where there is nothing to do."""
        self._is_slimmed = self.slims(endpoint)
        mending = self._rescue(endpoint)
        names = [web_search.NAME] if self._searcher is not None else []
        if self._is_slimmed:
            names.append(slimming.FIND.name)
        self._usage = RoundUsage(self._spent)
        if not names:
            has_rounds = self._check is not None or self._spent
            return Stages(self._usage, *([mending] if mending else [])) if has_rounds else mending
        # One more round than there are searches: it tells the model that there are no more.
        searches = self._searcher is not None
        limit = web_search.MAX_SEARCHES + 1 if searches else slimming.MAX_ROUNDS
        self._search_calls = SearchCalls(names, may_go_on=self._rounds < limit)
        return Stages(self._usage, *([mending] if mending else []), self._search_calls)

    def slims(self, endpoint: Endpoint) -> bool:
        return slimming.is_slimmed(self.request, endpoint.max_tools)

    def asked(self, endpoint: Endpoint) -> Request:
        """What the engine is asked: the request, with fewer tools where the user wants that."""
        if endpoint.max_tools is None or not self.slims(endpoint):
            return self.request
        return slimming.slimmed(self.request, endpoint.max_tools, self._found)

    def _rescue(self, endpoint: Endpoint) -> Stages | None:
        if not endpoint.rescue:
            return None
        may_ask_again = endpoint.rescue_retry and self._tools and not self._has_asked_again
        self._check = CallCheck() if may_ask_again else None
        tools = self._tools
        if tools and self._is_slimmed:
            tools = (*tools, slimming.FIND)  # it may be called as text, too
        return stages(tools, starts_inside=endpoint.starts_thinking, last=self._check)

    def events_of(self, body: bytes, endpoint: Endpoint) -> list[Event]:
        """A whole answer of the engine's. Raises ``UpstreamError``, also for a failure inside it."""
        events = self.whole(SPOKEN[endpoint.dialect].decode_body(body), endpoint)
        for event in events:
            if isinstance(event, Failure):
                raise UpstreamError(event.kind, event.message, tokens=event.tokens)
        return events

    def whole(self, events: list[Event], endpoint: Endpoint) -> list[Event]:
        if not self._tools and not endpoint.starts_thinking and _is_plain(events):
            return events
        between = self.stages(endpoint)
        return events if between is None else between.feed_all(events)

    @property
    def is_broken(self) -> bool:
        """Whether the answer was meant as a call and is none, or calls the gateway: there is none to
        send yet."""
        if self._search_calls is not None and self._search_calls.goes_on:
            return True
        return self._check is not None and self._check.broken is not None

    @property
    def searches(self) -> bool:
        return self._searcher is not None

    async def go_on(self) -> list[Event]:
        """Runs what the model asked of the gateway, searches and the search for tools; the request is
        the next one to ask then. What the client is told of it. Only where ``is_broken``."""
        if self._usage.usage is not None:
            self._spent += (self._usage.usage,)
        check, found = self._check, self._search_calls
        self._check = self._search_calls = None
        told = await self._searched(found) if found is not None and found.goes_on else []
        if check is not None and check.broken is not None:
            self.request, self._has_asked_again = corrected(self.request, check.broken), True
        return told

    async def _searched(self, found: SearchCalls) -> list[Event]:
        limit = min(self._wish.max_uses or web_search.MAX_SEARCHES, web_search.MAX_SEARCHES)
        calls, told = found.calls, list[WebSearch]()
        results: list[WebSearch | str] = []
        for call in calls:
            if call.name == slimming.FIND.name and self._is_slimmed:
                names = slimming.find(self.request, call)
                self._found += names
                results.append(slimming.told(names))
                continue
            assert self._searcher is not None
            self._searches += 1
            id_ = new_id("srvtoolu_")
            if self._searches > limit:
                query = web_search.query_of(call)
                told.append(WebSearch(id_, query, error="max_uses_exceeded"))
            else:
                told.append(await self._searcher.search(call, id_, self._wish))
            results.append(told[-1])
        self._rounds += 1
        self.shown += [*found.said, *told]
        self.request = web_search.continued(
            self.request, found.said, calls, results, is_last=self._searches >= limit
        )
        return list(told)


def _is_plain(events: list[Event]) -> bool:
    """No call, and no text that could begin with a mark: all of ``THINK_TAGS`` begin so."""
    for event in events:
        kind = type(event)
        if kind is ToolCallStart:
            return False
        if isinstance(event, TextDelta) and event.text.lstrip().startswith(("<", "[")):
            return False
    return True
