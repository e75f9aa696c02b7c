"""Histories of the scheduler as text: what happens, and what it does about it.

    budget 10                       the policy: budget, dwell, return, group NAME [together] [apart X Y]
    model a need 6 ttl 30           a model: need, group, pinned, ttl, queue, wait

    0   request 1 a | start a       at 0 s request 1 asks for a, which is started for it
    3   ready a     | grant 1
    5   leave 1     |
        wake 35                     the next time at which something is due
    35  tick        | stop a idle
        a is stopping, holds 6      the snapshot; also: in flight N, queued N

Whatever is written nowhere must not happen: each effect stands in its line, and a time at which the
scheduler asked to be woken cannot be passed over. The judge watches all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from homeport.lifecycle.scheduler import Effect, Grant, Policy, Refuse, Start, Stop, Terms
from homeport.settings import Group
from tests.lifecycle.judge import Judge

WORDS = {"need": "need_bytes", "ttl": "ttl_s", "queue": "max_queue", "wait": "max_wait_s"}
SHOWN = {"holds": "reserved_bytes", "in flight": "in_flight", "queued": "queued"}


def tell(history: str) -> Judge:
    """Let the history happen; return the judge as it is at the end."""
    lines = [line.strip() for line in history.strip().splitlines() if line.strip()]
    head = [
        line.split() for line in lines if line.split()[0] in ("budget", "dwell", "return", "group")
    ]
    judge = Judge(policy_of(head))
    for line in lines:
        words = line.split()
        if words[0] == "model":
            assert judge.add(words[1], terms_of(words[2:])) == []
        elif words[0] == "wake":
            wake = judge.scheduler.next_wake(judge.now)
            assert f"{wake:g}" == words[1] if wake is not None else words[1] == "never", line
        elif words[1] == "is":
            assert_shows(judge, line)
        elif words not in head:
            time, event = line.split("|")[0].split(maxsplit=1)
            pass_time(judge, float(time), line)
            effects = happen(judge, event.split())
            assert [say(effect) for effect in effects] == expected(line), line
    return judge


def policy_of(head: Sequence[list[str]]) -> Policy:
    values = {words[0]: float(words[1]) for words in head if words[0] != "group"}
    budget = values.get("budget")
    return Policy(
        budget_bytes=None if budget is None else int(budget),
        min_dwell_s=values.get("dwell", 0.0),
        return_to_default_s=values.get("return"),
        groups=tuple(group_of(words[1:]) for words in head if words[0] == "group"),
    )


def group_of(words: list[str]) -> Group:
    apart = words.index("apart") if "apart" in words else len(words)
    together = "together" in words
    return Group(name=words[0], together=together, apart_from=tuple(words[apart + 1 :]))


def terms_of(words: list[str]) -> Terms:
    values: dict[str, object] = {}
    rest = iter(words)
    for word in rest:
        if word == "pinned":
            values["pinned"] = True
        elif word == "group":
            values["group"] = next(rest)
        else:
            values[WORDS[word]] = int(next(rest))
    return Terms(**values)  # type: ignore[arg-type]


def pass_time(judge: Judge, until: float, line: str) -> None:
    wake = judge.scheduler.next_wake(judge.now)
    assert wake is None or wake >= until, f"something is due at {wake:g}, before: {line}"
    judge.now = until


def happen(judge: Judge, event: list[str]) -> list[Effect]:
    retry_s = float(event[event.index("retry") + 1]) if "retry" in event else None
    limit = int(event[event.index("limit") + 1]) if "limit" in event else None
    match event:
        case ["request" | "count" as kind, ticket, model]:
            return judge.request(int(ticket), model, takes_slot=kind == "request")
        case ["leave", ticket]:
            return judge.leave(int(ticket))
        case ["load", model]:
            return judge.load(model)
        case ["unload", model]:
            return judge.unload(model)
        case ["retire", model]:
            return judge.retire(model)
        case ["add", model, *terms]:
            return judge.add(model, terms_of(terms))
        case ["ready", model, *_]:
            return judge.ready(model, limit=limit)
        case ["measured", model, used]:
            return judge.measured(model, int(used))
        case ["crash", model, *_]:  # of one that was ready
            return judge.down(model, retry_s=retry_s, was_ready=True)
        case ["fail", model, *_]:  # to start
            return judge.down(model, retry_s=retry_s, was_ready=False)
        case ["stopped", model]:
            return judge.stopped(model)
        case ["default", model]:
            return judge.set_default(None if model == "none" else model)
        case ["policy", *words]:
            pairs = [words[i : i + 2] for i in range(0, len(words), 2)]
            return judge.set_policy(policy_of(pairs))
        case ["tick"]:
            return judge.tick()
    raise AssertionError(f"no such event: {event}")


def say(effect: Effect) -> str:
    match effect:
        case Grant(ticket):
            return f"grant {ticket}"
        case Refuse(ticket, reason, None):
            return f"refuse {ticket} {reason}"
        case Refuse(ticket, reason, retry_s):
            return f"refuse {ticket} {reason} retry {retry_s:g}"
        case Start(model):
            return f"start {model}"
        case Stop(model, why):
            return f"stop {model} {why}"


def expected(line: str) -> list[str]:
    _, _, effects = line.partition("|")
    return [effect.strip() for effect in effects.split(",") if effect.strip()]


def assert_shows(judge: Judge, line: str) -> None:
    """``a is ready, in flight 2``; what is not said is not asked."""
    subject, *rest = line.split(", ")
    model, _, state = subject.split()
    if state == "forgotten":
        assert model not in judge.scheduler.snapshot(), line
        return
    shown = judge.scheduler.snapshot()[model]
    assert shown.state == state, line
    for claim in rest:
        words, number = claim.rsplit(maxsplit=1)
        assert getattr(shown, SHOWN[words]) == int(number), line
