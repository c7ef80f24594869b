"""``python -m benchmarks``: run suites, print the table, write it to benchmarks/results/.

It ends with 0 also where a goal was not met: on a busy machine that says nothing of the code. It ends with 1, and writes
nothing, when a measured run did not do its work.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time

from benchmarks import machine, reporting
from benchmarks.measuring import Effort, Outcome, WrongResult, run
from benchmarks.suites import SUITES

RESULTS = Path(__file__).parent / "results"
DISTRIBUTIONS = ("cnstra", "msgspec")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; gives the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    if options.list:
        sys.stdout.write("".join(f"{name}: {suite.says}\n" for name, suite in SUITES.items()))
        return 0
    rounds = options.rounds or (3 if options.quick else 15)
    effort = Effort(
        rounds=rounds,
        scale=options.scale or (0.25 if options.quick else 1.0),
        is_quick=bool(options.quick),
        has_peers=not options.without_peers,
    )
    suites = list(dict.fromkeys(options.suite or SUITES))
    try:
        report = _measured(suites, effort, _name(options, suites), " ".join(["python -m benchmarks", *given]))
    except WrongResult as error:
        sys.stderr.write(f"benchmarks: {error}; nothing was written\n")
        return 1
    written = reporting.write(report, options.results)
    sys.stdout.write(reporting.as_json(report) if options.json else reporting.as_text(report))
    sys.stderr.write(f"\nwritten: {' '.join(map(str, written))}\n")
    return 0


def _measured(suites: Sequence[str], effort: Effort, name: str, command: str) -> reporting.Report:
    began, load_before, pace_before = machine.now(), machine.load(), machine.pace()
    clock, cpu = perf_counter(), process_time()
    outcomes: dict[str, list[Outcome]] = {}
    for suite in suites:
        outcomes[suite] = []
        for race in SUITES[suite].races(effort):
            sys.stderr.write(f"{suite}: {race.name}\n")
            outcomes[suite].append(run(race, effort.rounds))
    return reporting.Report(
        name=name,
        command=command,
        effort=effort,
        machine=machine.this_machine(DISTRIBUTIONS),
        began=began,
        ended=machine.now(),
        load_before=load_before,
        load_after=machine.load(),
        pace_before=pace_before,
        pace_after=machine.pace(),
        share_of_a_core=(process_time() - cpu) / (perf_counter() - clock),
        outcomes=outcomes,
    )


def _name(options: argparse.Namespace, suites: Sequence[str]) -> str:
    if options.name:
        return str(options.name)
    major, minor, _ = platform.python_version_tuple()
    what = "all" if set(suites) == set(SUITES) and len(suites) > 1 else "+".join(suites)
    return f"{what}-python{major}.{minor}{'-quick' if options.quick else ''}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure CNStra's speed, beside the bare limits of its parts."
    )
    add = parser.add_argument
    add("--suite", action="append", choices=sorted(SUITES), help="run this suite; may be repeated (default: all)")
    add("--quick", action="store_true", help="a quarter of the work, in 3 rounds, of what is compared with others")
    add("--without-peers", action="store_true", help="run no other engines beside, and make no environments for them")
    add("--rounds", type=_count, metavar="N", help="rounds that count (default: 15, or 3 with --quick)")
    add(
        "--scale", type=_factor, metavar="FACTOR", help="factor on each size of work (default: 1, or 0.25 with --quick)"
    )
    add("--json", action="store_true", help="print the JSON document instead of the table")
    add("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where to write (default: benchmarks/results)")
    add("--name", type=_file_name, help="name of the files (default: made of the suites and Python's version)")
    add("--list", action="store_true", help="say which suites there are, and run none")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("is at least 1")
    return count


def _factor(text: str) -> float:
    factor = float(text)
    if not 0 < factor < float("inf"):
        raise argparse.ArgumentTypeError("is a factor above 0")
    return factor


def _file_name(text: str) -> str:
    if not text or Path(text).name != text:
        raise argparse.ArgumentTypeError("is the name of a file, without a folder")
    return text


if __name__ == "__main__":
    sys.exit(main())
