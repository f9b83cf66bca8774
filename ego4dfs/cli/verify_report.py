"""The report of `ego4dfs verify`: the files that are not right, the counts, and the exit code."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from ego4dfs.cli.output import ExitCode, print_json, say, table
from ego4dfs.cli.prefetch_printer import share_document, share_line
from ego4dfs.prefetch import Share
from ego4dfs.verify import BROKEN, FINE, Finding, Verdict


def broken(findings: Sequence[Finding]) -> int:
    """Count the damaged and missing files."""
    return sum(finding.verdict in BROKEN for finding in findings)


def report(
    findings: Sequence[Finding], done: Mapping[str, int], share: Share | None, *, as_json: bool
) -> int:
    """Print the problems and the counts, and return the exit code."""
    counts = Counter(finding.verdict for finding in findings)
    problems = [finding for finding in findings if finding.verdict not in FINE]
    if as_json:
        print_json(
            {
                "files": {verdict.value: counts[verdict] for verdict in Verdict},
                **done,
                "problems": [
                    {"path": f.path, "verdict": f.verdict.value, "reason": f.reason}
                    for f in problems
                ],
                **share_document(share),
            }
        )
    else:
        if problems:
            table([(f.verdict.value, f.path, f.reason) for f in problems], ("state", "file", "why"))
        parts = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
        line = share_line(share) + (", ".join(parts) or "no files")
        say("; ".join([line, *(f"{count} {what}" for what, count in done.items() if count)]))
    return ExitCode.FAILURE if broken(findings) else ExitCode.OK


def say_unknown(datasets: Sequence[str]) -> None:
    """Report the datasets of which no prefetch has said which files are wanted."""
    for name in datasets:
        say(
            f"ego4dfs: {name}: only existing files were checked, because no prefetch of this"
            " release has selected this dataset",
            f"  hint: to check for missing files, select the dataset: --datasets {name}",
            file=sys.stderr,
        )
