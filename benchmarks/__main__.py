# SPDX-License-Identifier: Apache-2.0
"""``./dev bench``: a run and its report, or a comparison of two."""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument(
        "--short",
        action="store_true",
        help="only show that all of it works, in some minutes",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where results go (default: benchmarks/results, short ones "
        "build/bench/short)",
    )
    parser.add_argument(
        "--part",
        choices=("large", "wide", "single", "pair"),
        help="measure anew what this virtual machine does, and leave the "
        "rest of results.json as it is; single is Neutron's agents, and takes "
        "three quarters of an hour; pair is VFs that are made, and takes half "
        "an hour",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="do not measure, only write the report of results.json anew",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("BEFORE", "AFTER"),
        help="show what differs between two results.json",
    )
    given = parser.parse_args()

    # Only now, for --help is for those who have not installed it all, too.
    from benchmarks import compare, report
    from benchmarks.results import Results

    if given.compare:
        before, after = (Results.read(path) for path in given.compare)
        print(compare.text(before, after))
        return 0
    out: Path = given.out or (
        HERE.parent / "build/bench/short" if given.short else HERE / "results"
    )
    out.mkdir(parents=True, exist_ok=True)
    if not given.report:
        from benchmarks import run

        results = run.run(given.short, given.part)
        if given.part:
            part, results = results, Results()
            if (out / "results.json").exists():
                results = Results.read(out / "results.json")
            results.put(given.part, part)
        results.write(out / "results.json")
    results = Results.read(out / "results.json")
    report.write(results, out)
    print(f"bench: {out / 'report.md'}", file=sys.stderr)
    return 1 if "incomplete" in results.machine else 0


if __name__ == "__main__":
    sys.exit(main())
