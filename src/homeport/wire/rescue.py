"""Making small models usable: stages between an engine's events and the client's encoder.

Each stage takes one neutral event and returns those that shall go on: ``ThinkSplitter`` moves
``<think>`` text into thinking, ``CallRescue`` turns a tool call that was printed as text into a
call, ``ArgumentRepair`` mends arguments that an engine sends twice over or quotes twice.

What a stage cannot decide yet it holds back, within bounds; a text that turns out to be nothing
goes on unchanged. ``Finish``, ``Failure`` and ``End`` let everything out first, so nothing is lost.
The outcome depends on the text alone, never on how it was cut. Nothing is raised, whatever comes.

The rescue is guarded (docs/dialects.md 3.10): only what the client declared as a tool counts, only
where nothing visible has been sent yet, and only a text that *begins* with a known form. Prose first
means that all of it stays prose.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from homeport.wire.call_forms import END_OF_TURN, FORMS, Form
from homeport.wire.call_python import PythonScan
from homeport.wire.call_text import (
    DeclaredTools,
    Fit,
    Found,
    JsonScan,
    TagScan,
    fit,
    fit_literal,
    object_text,
    skip_space,
)
from homeport.wire.events import (
    End,
    Event,
    Failure,
    Finish,
    Start,
    StopReason,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
)

MAX_HEAD_CHARS: Final = 512
"""Until the tool's name is known. The longest head has about 100 characters, a name at most 128
(OpenAI: 64, Anthropic: 128)."""

MAX_CALL_CHARS: Final = 256 * 1024
"""One call. Files written by a tool call are seldom over 100 KB; a model at 50 tokens a second
needs half an hour for this much."""

MAX_HELD_CHARS: Final = MAX_CALL_CHARS + MAX_HEAD_CHARS + 64
"""All that is ever held back: a call, what stands behind it, and a mark."""


class Stage(Protocol):
    @property
    def is_idle(self) -> bool:
        """Whether any text would go on as it is."""
        ...

    def feed(self, event: Event) -> list[Event]:
        """The events that go on now."""
        ...


class Stages:
    """Several stages, one behind the other."""

    def __init__(self, *stages: Stage) -> None:
        self._stages = stages
        self._is_idle = False

    def __repr__(self) -> str:
        return f"<Stages {' '.join(map(repr, self._stages))}>"

    @property
    def is_idle(self) -> bool:
        return self._is_idle

    def feed(self, event: Event) -> list[Event]:
        return self.feed_all([event])

    def feed_all(self, events: Iterable[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if self._is_idle and type(event) is TextDelta:  # nearly all there is
                out.append(event)
            else:
                out += self._through(event)
        return out

    def let_out(self) -> list[Event]:
        """What is held back, when the answer is about to fail."""
        return [event for event in self.feed(Failure("")) if not isinstance(event, Failure)]

    def _through(self, event: Event) -> list[Event]:
        events = [event]
        for stage in self._stages:
            events = [out for item in events for out in stage.feed(item)]
        self._is_idle = all(stage.is_idle for stage in self._stages)
        return events


# --------------------------------------------------------------------------- thinking


class ThinkTags(NamedTuple):
    """How a model marks its thinking. ``then`` may follow the end and is no text."""

    open: str
    close: str
    then: str = ""


THINK_TAGS: Final = (
    ThinkTags("<think>", "</think>"),  # DeepSeek R1 (2025-01), QwQ, Qwen3, GLM-4.5, MiniMax-M2
    ThinkTags("<thinking>", "</thinking>"),  # fine-tunes on older sets
    ThinkTags("[THINK]", "[/THINK]"),  # Magistral 2507
    ThinkTags("<seed:think>", "</seed:think>"),  # Seed-OSS (2025-08)
    ThinkTags(  # gpt-oss (2025-08), where an engine leaves harmony's marks in
        "<|channel|>analysis<|message|>",
        "<|end|>",
        "<|start|>assistant<|channel|>final<|message|>",
    ),
)


class ThinkSplitter:
    """An answer that begins with ``<think>``: what stands up to the end tag becomes thinking.

    1. At the start: held back while it may still become a tag; white space is nothing yet.
    2. Inside: passed on as thinking, but for what may be the beginning of the end tag.
    3. Behind: white space is dropped.
    4. From then on, in any other answer, and when the engine reports thinking itself: text is text.

    ``starts_inside``: the model's template has opened the tag already, so that only its end comes.
    """

    def __init__(self, *, starts_inside: bool = False) -> None:
        self._starts_inside = starts_inside
        self._state: Literal["start", "inside", "behind", "passing"] = "start"
        self._tags = THINK_TAGS[0]
        self._held = ""
        self._has_thought = False

    def __repr__(self) -> str:
        return f"<ThinkSplitter {self._state} held={len(self._held)}>"

    @property
    def is_idle(self) -> bool:
        return self._state == "passing"

    def feed(self, event: Event) -> list[Event]:
        if self._state == "passing":
            return [event]
        match event:
            case TextDelta(text=text):
                self._held += text
                return self._advance()
            case Start() | UsageReport():
                return [event]
            case _:
                return [*self._let_out(), event]

    def _advance(self) -> list[Event]:
        events: list[Event] = []
        state = None
        while state != self._state:
            state = self._state
            match state:
                case "start":
                    self._at_start()
                case "inside":
                    events += self._inside()
                case "behind":
                    self._behind()
                case "passing":
                    events += self._let_out()
        return events

    def _at_start(self) -> None:  # case 1
        at = skip_space(self._held, 0)
        if at > MAX_HEAD_CHARS:
            self._state = "passing"
            return
        for tags in THINK_TAGS:
            verdict = fit_literal(tags.open, self._held, at)
            if verdict == "yes":
                self._tags, self._held = tags, self._held[at + len(tags.open) :]
                self._state = "inside"
            if verdict != "no":
                return
        self._state = "inside" if self._starts_inside else "passing"

    def _inside(self) -> list[Event]:  # case 2
        if not self._has_thought:
            self._held = self._held[skip_space(self._held, 0) :]
        thought, closed, rest = self._held.partition(self._tags.close)
        if closed:
            self._held, self._state = rest, "behind"
        else:
            keep = _overlap(thought, self._tags.close)
            thought, self._held = thought[: len(thought) - keep], thought[len(thought) - keep :]
        self._has_thought = self._has_thought or bool(thought)
        return [ThinkingDelta(thought)] if thought else []

    def _behind(self) -> None:  # case 3
        self._held = self._held[skip_space(self._held, 0) :]
        if self._tags.then:
            verdict = fit_literal(self._tags.then, self._held, 0)
            if verdict == "more":
                return
            if verdict == "yes":
                self._held = self._held[len(self._tags.then) :]
                self._tags = self._tags._replace(then="")
                self._behind()
                return
        if self._held:
            self._state = "passing"

    def _let_out(self) -> list[Event]:  # case 4
        text, self._held = self._held, ""
        is_thinking = self._state == "inside"
        self._state = "passing"
        if not text:
            return []
        return [ThinkingDelta(text) if is_thinking else TextDelta(text)]


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``mark``."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0


# --------------------------------------------------------------------------- calls as text

STOPPED_BY_ITSELF: Final[frozenset[StopReason]] = frozenset({"end", "tool_use", "stop_sequence"})


class CallRescue:
    """A text that is a tool call in a known form, as the call.

    1. Before anything visible: held back while it may still begin a call of a declared tool. That is
       decided within a few characters; prose passes with its first letter.
    2. A call has begun: held back up to its end. A marked form's call goes on at once, an unmarked
       one's waits until the answer has ended without anything else.
    3. Behind a call: another one, marks that are no text, or text, which ends the rescue.
    4. When the model stopped by itself, forgotten end tags do not count. Otherwise half a call is
       text, as it was.

    The finish reason becomes ``tool_use`` when there was a call and nothing was cut short.
    """

    def __init__(self, tools: Sequence[Tool], forms: tuple[Form, ...] = FORMS) -> None:
        self._tools = DeclaredTools(tools)
        self._forms = forms
        self._is_watching = bool(self._tools)
        self._held = ""
        self._kept = 0
        """Where the text begins that would be let out."""
        self._at = 0
        """Where reading goes on, outside of a call."""
        self._form: Form | None = None
        self._head = Fit("no")
        self._scan: JsonScan | TagScan | PythonScan | None = None
        """Set inside of a call."""
        self._waiting: list[Found] = []
        """Calls of an unmarked form."""
        self._seed = ""
        self.calls = 0
        """How many calls were made of text."""

    def __repr__(self) -> str:
        form = self._form.name if self._form else None
        return f"<CallRescue {form} held={len(self._held)} calls={self.calls}>"

    @property
    def is_idle(self) -> bool:
        return not self._is_watching

    def feed(self, event: Event) -> list[Event]:
        match event:
            case TextDelta(text=text) if self._is_watching:
                held, self._held = self._held, ""
                held += text  # in place, as long as this is the only reference
                self._held = held
                return self._decide(None)
            case Start(id=id_) if id_:
                self._seed = id_
            case ThinkingDelta() if self._held.strip():
                return [*self._let_out(), event]
            case ToolCallStart(call=call, id=id_, name=name):
                return [*self._let_out(), ToolCallStart(call + self.calls, id_, name)]
            case ToolCallDelta(call=call, arguments=arguments) if self.calls:
                return [ToolCallDelta(call + self.calls, arguments)]
            case Finish(reason=reason):
                events = self._decide(reason)
                is_call = self.calls and reason in STOPPED_BY_ITSELF
                return [*events, Finish("tool_use") if is_call else event]
            case Failure() | End():
                return [*self._let_out(), event]
        return [event]

    def _decide(self, reason: StopReason | None) -> list[Event]:
        """``reason``: why the engine stopped; None while more may come."""
        events: list[Event] = []
        while self._is_watching:
            step = self._in_call(reason) if self._scan else self._between(reason)
            if step is None:
                if len(self._held) - self._kept > MAX_HELD_CHARS:
                    step = self._let_out()
                else:
                    break
            events += step
        return events

    def _between(self, reason: StopReason | None) -> list[Event] | None:
        """None: more text is needed. (cases 1 and 3)"""
        at = skip_space(self._held, self._at)
        if at - self._at > MAX_HEAD_CHARS:
            return self._let_out()
        if at == len(self._held):
            return None if reason is None else self._end()
        found = self._first_fit(at, has_ended=reason is not None)
        if found is None:
            return None
        if found.verdict == "yes" and self._form is not None:
            self._head, self._scan = found, self._form.scan(found.body)
            return []
        if self._form is None:
            return self._let_out()
        for mark in (*self._form.after, *END_OF_TURN):
            verdict = fit_literal(mark, self._held, at)
            if verdict == "yes":
                self._at = at + len(mark)
                if self._form.is_marked:
                    self._kept = self._at
                return []
            if verdict == "more" and reason is None:
                return None
        return self._let_out()

    def _first_fit(self, at: int, *, has_ended: bool) -> Fit | None:
        """The first head that fits, which decides the answer's form; None while that is open."""
        for form in (self._form,) if self._form else self._forms:
            for head in form.compiled:
                found = fit(head, self._held, at, self._tools.names)
                end = len(self._held) if found.verdict == "more" else found.end
                if found.verdict == "no" or end - self._at > MAX_HEAD_CHARS:
                    continue
                if found.verdict == "yes":
                    self._form = form
                    return found
                if not has_ended:
                    return None
        return Fit("no")

    def _in_call(self, reason: StopReason | None) -> list[Event] | None:
        """None: more text is needed. (cases 2 and 4)"""
        assert self._scan is not None
        assert self._form is not None
        end = self._scan.end(self._held)
        if end is None:
            if reason is None or len(self._held) - self._kept > MAX_HELD_CHARS:
                return None
            end = self._late_end(reason)
        if end is None or end - self._kept > MAX_CALL_CHARS:
            return self._let_out()
        body = self._held[self._head.body : end]
        found = self._form.read(body, self._head.name, self._tools, self._form.is_marked)
        if found is None:
            return self._let_out()
        self._scan, self._at = None, end
        if not self._form.is_marked:
            self._waiting += found
            return []
        self._kept = end
        return self._calls(found)

    def _late_end(self, reason: StopReason) -> int | None:
        """Where a call ends whose end was not to be seen."""
        assert self._form is not None
        if reason not in STOPPED_BY_ITSELF:
            return None
        close = self._held.rfind(self._form.close, self._head.body) if self._form.close else -1
        if close == -1 and isinstance(self._scan, TagScan | PythonScan):
            return len(self._held)  # its end tags are forgotten, or eaten as stop tokens
        return None if close == -1 else close

    def _end(self) -> list[Event]:
        """The answer has ended behind a call, or was white space only."""
        if self._form is None:
            return self._let_out()
        self._is_watching, self._held = False, ""
        return self._calls(self._waiting)

    def _let_out(self) -> list[Event]:
        """Ends the rescue: what is held back is text."""
        if not self._is_watching:
            return []
        text = self._held[self._kept :]
        self._is_watching, self._held, self._scan = False, "", None
        return [TextDelta(text)] if text else []

    def _calls(self, found: Iterable[Found]) -> list[Event]:
        events: list[Event] = []
        seed = "".join(c for c in self._seed if c.isascii() and c.isalnum())[-32:]
        for name, arguments in found:
            number = self.calls
            events.append(ToolCallStart(number, f"toolu_{seed}t{number}", name))
            events.append(ToolCallDelta(number, arguments))
            self.calls += 1
        return events


# --------------------------------------------------------------------------- arguments


class _Arguments:
    """One call's arguments as an engine sends them.

    1. The first character decides: a quote means a JSON string that should hold the object; that
       is held back to its end.
    2. A second fragment that repeats the first may mean that each repeats all before it. It is held
       back until the next one, or the end, tells: an object may hold a twin of its own beginning.
    3. Cumulative: only what is new goes on.
    4. Plain, which is nearly always: fragments pass as they are, broken or not (docs/dialects.md 3.5).
    """

    def __init__(self) -> None:
        self._state: Literal["first", "quoted", "second", "cumulative", "plain"] = "first"
        self._seen = ""
        self._repeats: list[str] = []

    def take(self, fragment: str) -> str:
        """What goes on now."""
        match self._state:
            case "plain":
                return fragment
            case "first" | "quoted":
                return self._first(fragment)
            case "second":
                return self._second(fragment)
            case "cumulative":
                if fragment.startswith(self._seen):
                    return self._new_part(fragment)
                self._seen += fragment
                return fragment

    def rest(self) -> str:
        """What goes on at the end."""
        if self._state == "quoted":  # case 1
            return object_text(self._seen) or self._seen
        if not self._repeats:
            return ""
        if object_text(self._repeats[-1]) is not None:  # case 2
            return self._new_part(self._repeats[-1])
        return "".join(self._repeats)

    def _first(self, fragment: str) -> str:
        self._seen += fragment
        start = self._seen.lstrip()[:1]
        if not start:  # white space
            self._seen = ""
            return fragment
        if start == '"' and len(self._seen) <= MAX_CALL_CHARS:
            self._state = "quoted"
            return ""
        self._state = "second" if start == "{" else "plain"
        return self._seen

    def _second(self, fragment: str) -> str:
        latest = self._repeats[-1] if self._repeats else self._seen
        if not fragment.startswith(latest) or len(self._repeats) * len(latest) > MAX_CALL_CHARS:
            self._state = "plain"
            held, self._repeats = self._repeats, []
            return "".join([*held, fragment])
        if self._repeats and len(fragment) > len(latest):
            self._state = "cumulative"
            return self._new_part(fragment)
        self._repeats.append(fragment)
        return ""

    def _new_part(self, whole: str) -> str:
        new, self._seen, self._repeats = whole[len(self._seen) :], whole, []
        return new


class ArgumentRepair:
    """Arguments that repeat themselves or are quoted twice, as plain fragments."""

    def __init__(self) -> None:
        self._calls: dict[int, _Arguments] = {}

    @property
    def is_idle(self) -> bool:
        return not self._calls

    def feed(self, event: Event) -> list[Event]:
        match event:
            case ToolCallDelta(call=call, arguments=fragment):
                if (arguments := self._calls.get(call)) is None:
                    return [event]
                out = arguments.take(fragment)
                if out == fragment:
                    return [event]
                return [ToolCallDelta(call, out)] if out else []
            case ToolCallStart(call=call):
                self._calls[call] = _Arguments()
                return [event]
            case Start() | UsageReport():
                return [event]
            case _:
                return [*self._let_out(), event] if self._calls else [event]

    def _let_out(self) -> list[Event]:
        rests = [(call, arguments.rest()) for call, arguments in self._calls.items()]
        self._calls = {}
        return [ToolCallDelta(call, rest) for call, rest in rests if rest]


# --------------------------------------------------------------------------- all of it


def stages(
    tools: Sequence[Tool], *, starts_inside: bool = False, last: Stage | None = None
) -> Stages:
    """What stands between an engine's events and a client that declared ``tools``.

    The order matters: a call may stand behind thinking; what the rescue makes needs no repair.
    ``last`` is one more stage, behind them all.
    """
    mending = (ThinkSplitter(starts_inside=starts_inside), ArgumentRepair(), CallRescue(tools))
    return Stages(*mending, last) if last is not None else Stages(*mending)
