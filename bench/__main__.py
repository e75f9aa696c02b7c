"""``python -m bench``: run the suites and print the table. See ``--help`` and README.md."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import contestants, count, record, report, suites, switch
from bench.contestants import Kind, SkippedError
from bench.processes import BenchError
from bench.suites import Bench, Effort

#: In this order: memory comes after the load.
SUITES = ("startup", "request", "stream", "latency", "memory", "count", "switch", "record")
RESULTS = Path(__file__).with_name("results")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    effort = suites.QUICK if options.quick else Effort()
    needs_kinds = not set(options.only) <= {"count", "switch", "record"}
    kinds, skipped = _kinds(with_litellm=not options.no_litellm) if needs_kinds else ([], [])
    try:
        samples = _measure(kinds, effort, options.only)
    except BenchError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    text = report.as_text(samples, skipped)
    value = json.dumps(report.as_value(samples, skipped), indent=2, ensure_ascii=False)
    print(value if options.json else text)
    if options.save:
        _save(text, value)
    missed = [verdict for verdict in report.verdicts(samples) if not verdict.is_met]
    return 2 if missed and options.strict else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=suites.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="fewer rounds: about a minute")
    parser.add_argument("--no-litellm", action="store_true", help="leave LiteLLM out")
    parser.add_argument(
        "--only", type=_suites, default=SUITES, metavar="SUITE,...", help=", ".join(SUITES)
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--save", action="store_true", help="keep both in bench/results/")
    parser.add_argument("--strict", action="store_true", help="exit 2 if a target is missed")
    return parser


def _suites(text: str) -> tuple[str, ...]:
    asked = text.split(",")
    if unknown := [name for name in asked if name not in SUITES]:
        raise argparse.ArgumentTypeError(f"no such suite: {', '.join(unknown)}")
    return tuple(name for name in SUITES if name in asked)


def _kinds(*, with_litellm: bool) -> tuple[list[Kind], list[str]]:
    """Who takes part, and who does not and why."""
    makers: list[Callable[[], Kind]] = [contestants.nginx, contestants.homeport]
    if with_litellm:
        makers.append(contestants.litellm)
    kinds, skipped = [], []
    for make in makers:
        try:
            kinds.append(make())
        except SkippedError as reason:
            suites.talk(f"skipped: {reason}")
            skipped.append(str(reason))
    return kinds, skipped


def _measure(kinds: Sequence[Kind], effort: Effort, only: Sequence[str]) -> suites.Samples:
    steps: dict[str, Callable[[Bench], None]] = {
        "request": suites.measure_requests,
        "stream": suites.measure_streams,
        "latency": suites.measure_latency,
        "memory": suites.measure_memory,
    }
    samples: suites.Samples = {}
    if "startup" in only:
        samples.update(suites.measure_startup(kinds, effort))
    if any(name in steps for name in only):
        with suites.prepared(kinds, effort) as bench:
            for name in only:
                if name in steps:
                    steps[name](bench)
            samples.update(bench.samples)
    if "count" in only:
        samples.update(count.measure(effort))
    if "switch" in only:
        samples.update(switch.measure(effort))
    if "record" in only:
        samples.update(record.measure(effort))
    return samples


def _save(text: str, value: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H%MZ")
    for suffix, content in (("txt", text), ("json", value)):
        (RESULTS / f"{stamp}.{suffix}").write_text(content + "\n")


if __name__ == "__main__":
    sys.exit(main())
