"""Mutations of the packages that decide what is right, by mutmut: `python -m kit.mutation`.

mutmut changes one operator, constant or argument at a time, in a copy of this tree, and runs the
tests that reach the changed function. A change that no test notices survives, and is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

from kit.tests_of import ROOT, SOURCES, sources, tests

_SKIPPED = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__", "mutants")
_KILLED = ("killed", "timeout", "segfault", "caught by type check")
_ALIVE = ("survived", "no tests")
_MUTMUT = [sys.executable, "-m", "mutmut"]
_NO_NAME = "-"


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("package", nargs="*", choices=[*SOURCES, []], metavar="PACKAGE")
    parser.add_argument("--only", default="*", help="names of mutants, as a glob pattern")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants, at random")
    parser.add_argument("--seed", type=int, default=1, help="of the sample; the default is 1")
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
        # Tests that mount run most of the code in other processes, and start them slowly.
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-n0", "-x", "-q", "-m", "not fuse"],
        "pytest_add_cli_args_test_selection": [str(p.relative_to(ROOT)) for p in tests(package)],
        "also_copy": ["README.md", "LICENSE", "docs", "scripts"],
        "process_isolation": "forkserver",  # imports the tests once, not once for each mutant
        "timeout_constant": 10.0,  # seconds; a mutant that waits without end takes twice as long
        "timeout_multiplier": 2.0,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    with (tree / "pyproject.toml").open("a") as file:
        file.write("\n[tool.mutmut]\n" + "\n".join(lines) + "\n")
    only, what = [given.only] if given.only != "*" else [], package
    if given.sample:
        _run(tree, given, _NO_NAME)
        names = sorted(name for name in _results(tree) if fnmatch(name, given.only))
        only = random.Random(given.seed).sample(names, min(given.sample, len(names)))
        what = f"{package}, a random sample of {len(only)} of {len(names)} mutants"
    _run(tree, given, *only)
    _print(what, tree, _results(tree))


def _run(tree: Path, given: argparse.Namespace, *names: str) -> None:
    """Run mutants; if none has the name, mutmut makes the mutants and measures the tests only."""
    run = [*_MUTMUT, "run", "--max-children", str(given.jobs), *names]
    quiet = subprocess.DEVNULL
    errors = quiet if _NO_NAME in names else None  # the assertion that a mutant has the name
    with subprocess.Popen(run, cwd=tree, stdout=quiet, stderr=errors) as running:
        try:
            running.wait(given.minutes and 60 * given.minutes)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)


def _results(tree: Path) -> dict[str, str]:
    """Return the result of each mutant by its name."""
    output = [*_MUTMUT, "results", "--all", "true"]
    text = subprocess.run(output, cwd=tree, check=True, capture_output=True, text=True).stdout
    return dict(line.strip().rsplit(": ", 1) for line in text.split("\n") if ": " in line)


def _print(what: str, tree: Path, results: dict[str, str]) -> None:
    """Print the survivors and the score."""
    texts = 0
    for name in sorted(name for name, result in results.items() if result in _ALIVE):
        show = [*_MUTMUT, "show", name]
        shown = subprocess.run(show, cwd=tree, check=False, capture_output=True, text=True).stdout
        if _is_text_only(shown):
            texts += 1
        else:
            print(shown)
    counts = Counter(results.values())
    killed, alive = (sum(counts[word] for word in words) for words in (_KILLED, _ALIVE))
    share, asserted = (100 * killed / max(1, killed + n) for n in (alive, alive - texts))
    rest = ", ".join(f"{count} {word}" for word, count in counts.items() if word not in _KILLED)
    print(f"{what}: {killed} of {killed + alive} killed: {share:.1f} %;", end=" ")
    print(
        f"without {texts} survivors that change only a text: {asserted:.1f} % ({rest})", flush=True
    )


def _is_text_only(shown: str) -> bool:
    """Return whether a diff changes only a log line, or the letter case or the ends of a text.

    Such a text is that of a message, which tests do not repeat, or SQL, whose keywords and names
    have no case.
    """
    changes = {
        line[1:].replace("XX", "").lower().strip()
        for line in shown.split("\n")
        if line[:1] in "+-" and line[:3] not in ("+++", "---") and line
    }
    return len(changes) == 1 or any(line.startswith("log.") for line in changes)


if __name__ == "__main__":
    sys.exit(main())
