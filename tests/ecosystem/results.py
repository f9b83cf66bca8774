"""The measured results of the cases, in results.csv: `python -m ecosystem.results REPORT`.

REPORT is the JUnit report of a run of test_libraries.py. Results of cases that did not run stay.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from xml.etree.ElementTree import parse

from ecosystem.cases import CASES, FACES, most

RESULTS = Path(__file__).parent / "results.csv"
Results = dict[tuple[str, str], str]


def recorded() -> Results:
    """Return the results by case and face: MiB that were fetched, or the name of an error."""
    if not RESULTS.exists():
        return {}
    with RESULTS.open(newline="") as file:
        return {(row["case"], row["face"]): row["result"] for row in csv.DictReader(file)}


def expected_keys() -> list[tuple[str, str]]:
    """Return the cases and faces that have a result, in the order of the table."""
    return [(case.id, face) for case in CASES for face in FACES if most(case, face) is not None]


def record(report: Path) -> None:
    """Take over the results of tests that passed."""
    results = recorded()
    for test in parse(report).iter("testcase"):  # noqa: S314 - our own
        found = {one.get("name"): one.get("value") for one in test.iter("property")}
        if found and test.find("failure") is None and test.find("error") is None:
            result = str(found["raised"]).partition(":")[0] or str(found["fetched_mib"])
            results[str(found["case"]), str(found["face"])] = result
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("case", "face", "result"))
        writer.writerows((*key, results[key]) for key in expected_keys() if key in results)


if __name__ == "__main__":
    record(Path(sys.argv[1]))
