"""Mutations of the packages that decide what is right, by mutmut: `python -m kit.mutation`.

mutmut changes one operator, constant or argument at a time, in a copy of this tree, and runs the
tests that reach the changed function. A change that no test notices survives, and is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from kit.tests_of import ROOT, SOURCES, sources, tests

_SKIPPED = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__", "mutants")
_KILLED = ("killed", "timeout", "segfault", "caught by type check")
_MUTMUT = [sys.executable, "-m", "mutmut"]


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("package", nargs="*", choices=[*SOURCES, []], metavar="PACKAGE")
    parser.add_argument("--only", default="*", help="names of mutants, as a glob pattern")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, help="end each package after so long")
    given = parser.parse_args()
    for package in given.package or SOURCES:
        with tempfile.TemporaryDirectory(prefix="mutate-") as directory:
            _mutate(package, Path(directory, "tree"), given)
    return 0


def _mutate(package: str, tree: Path, given: argparse.Namespace) -> None:
    """Run all mutants of a package in a copy, and print the score and the survivors."""
    shutil.copytree(ROOT, tree, ignore=_SKIPPED, symlinks=True)
    settings = {
        "source_paths": ["ego4dfs"],
        "only_mutate": [str(path.relative_to(ROOT)) for path in sources(package)],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-n", "0", "-x", "-q"],
        "pytest_add_cli_args_test_selection": [str(p.relative_to(ROOT)) for p in tests(package)],
        "also_copy": ["README.md", "LICENSE", "docs", "scripts"],
        "timeout_constant": 10.0,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    with (tree / "pyproject.toml").open("a") as file:
        file.write("\n[tool.mutmut]\n" + "\n".join(lines) + "\n")
    only = [given.only] if given.only != "*" else []
    run = [*_MUTMUT, "run", "--max-children", str(given.jobs), *only]
    with subprocess.Popen(run, cwd=tree, stdout=subprocess.DEVNULL) as running:
        try:
            running.wait(given.minutes and 60 * given.minutes)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)
    output = [*_MUTMUT, "results", "--all", "true"]
    text = subprocess.run(output, cwd=tree, check=True, capture_output=True, text=True).stdout
    results = dict(line.strip().rsplit(": ", 1) for line in text.split("\n") if ": " in line)
    texts = 0
    for name in sorted(name for name, result in results.items() if result == "survived"):
        show = [*_MUTMUT, "show", name]
        shown = subprocess.run(show, cwd=tree, check=False, capture_output=True, text=True).stdout
        if _is_text_only(shown):
            texts += 1
        else:
            print(shown)
    counts = Counter(results.values())
    killed, survived = sum(counts[word] for word in _KILLED), counts["survived"]
    share, asserted = (100 * killed / max(1, killed + n) for n in (survived, survived - texts))
    rest = ", ".join(f"{count} {word}" for word, count in counts.items() if word not in _KILLED)
    print(f"{package}: {killed} of {killed + survived} killed: {share:.1f} %;", end=" ")
    print(
        f"without {texts} survivors that change only a text: {asserted:.1f} % ({rest})", flush=True
    )


def _is_text_only(shown: str) -> bool:
    """Return whether a diff changes only the letter case or the ends of a text.

    Such a text is that of a message or a log line, which tests do not repeat, or SQL, whose
    keywords and names have no case.
    """
    changes = {
        line[1:].replace("XX", "").lower()
        for line in shown.split("\n")
        if line[:1] in "+-" and line[:3] not in ("+++", "---") and line
    }
    return len(changes) == 1


if __name__ == "__main__":
    sys.exit(main())
