"""Branch coverage of the packages that decide what is right: `python -m kit.branch_coverage`.

Prints each branch and line that the tests of its package do not reach in this process. Code that
cannot be reached has a comment with the reason: `pragma: no cover -- REASON`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from kit.tests_of import ROOT, SOURCES, sources, tests


def main() -> int:
    """Run as a command; exit with 1 if anything is not reached, or if a test fails."""
    parser = argparse.ArgumentParser(prog="scripts/coverage", description=__doc__)
    parser.add_argument("package", nargs="*", choices=[*SOURCES, []], metavar="PACKAGE")
    given = parser.parse_args()
    results = [_measure(package) for package in given.package or SOURCES]
    return max(results)


def _measure(package: str) -> int:
    """Run the tests of a package, and print what they do not reach."""
    with tempfile.TemporaryDirectory() as directory:
        data, report = Path(directory, "data"), Path(directory, "report.json")
        coverage = [sys.executable, "-m", "coverage"]
        modules = ",".join(map(str, sources(package)))
        run = [*coverage, "run", "--branch", f"--data-file={data}", f"--include={modules}", "-m"]
        run += ["pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *map(str, tests(package))]
        status = subprocess.run(run, cwd=ROOT, check=False).returncode
        made = [*coverage, "json", f"--data-file={data}", "-o", str(report), "-q"]
        subprocess.run(made, cwd=ROOT, check=True)
        return _print(package, json.loads(report.read_text())) or status


def _print(package: str, report: dict) -> int:
    missed = 0
    for name, file in sorted(report["files"].items()):
        lines = (ROOT / name).read_text().split("\n")
        gone = set(file["missing_lines"])
        branches = [pair for pair in file["missing_branches"] if pair[0] not in gone]
        for start, stop in branches:
            print(f"{name}:{start} -> {stop if stop > 0 else 'exit'}: {lines[start - 1].strip()}")
        entered = {stop for _, stop in branches}
        for line in sorted(gone - entered):
            print(f"{name}:{line}: {lines[line - 1].strip()}")
        missed += len(branches) + len(gone - entered)
    totals = report["totals"]
    reached, branches = totals["covered_branches"], totals["num_branches"]
    share = totals["percent_covered"]
    print(f"{package}: {reached} of {branches} branches, {share:.1f} % of lines and branches")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
