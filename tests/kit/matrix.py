"""`scripts/matrix`: the packages, and a short set of tests on several versions of Python."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
OLDEST = "3.10"  # alone has wheels of all the oldest dependencies, with 3.11
# Arguments of pytest: each dependency is used, and both transports and versions of libfuse.
FILES = ("filesystem", "mount_contract", "ego4d_tables", "window_file", "clip_exact")
RUNS = (
    tuple(f"tests/test_{name}.py" for name in FILES),
    ("tests/test_mount_contract.py", "--transport", "s3fs", "--libfuse", "2"),
)
_COUNTS = re.compile(r"\d+ passed(, \d+ warnings?)? in .*")
"""What pytest prints last if nothing failed and nothing was left out."""
# In an empty directory, so that the installed package is imported.
IMPORT = """
import sys, time
start = time.perf_counter()
import ego4dfs
taken = time.perf_counter() - start
heavy = {"numpy", "pandas", "s3fs", "obstore", "av", "torch", "fsspec"} & set(sys.modules)
assert not heavy, f"import ego4dfs imports {heavy}"
print(f"{taken * 1000:.0f} ms")
"""


@dataclass(frozen=True, slots=True)
class Row:
    """What one Python showed; a failure is the last line that was printed."""

    python: str
    dependencies: str
    imported: str = ""
    tests: str = ""

    @property
    def is_good(self) -> bool:
        """Whether everything passed, or the Python is not on this machine."""
        if not self.tests:
            return True
        passed = (_COUNTS.fullmatch(part) for part in self.tests.split("; "))
        return self.imported.endswith(" ms") and all(passed)


def find_python(version: str) -> str | None:
    """Return the program of a version on PATH or of pyenv, if it runs."""
    found = [shutil.which(f"python{version}")]
    found += map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")))
    for program in filter(None, found):
        done = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
        if done.returncode == 0 and f" {version}." in done.stdout:
            return program
    return None


def build(directory: Path) -> Path:
    """Make sdist and wheel of a copy of the sources, check their descriptions; return the wheel."""
    sources = directory / "sources"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build")
    shutil.copytree(ROOT, sources, ignore=ignored)
    shutil.copytree(ROOT / ".ci", sources / ".ci")
    _run(sys.executable, "-m", "build", "--no-isolation", str(sources))
    made = sorted((sources / "dist").iterdir())
    checked = _run(sys.executable, "-m", "twine", "check", "--strict", *map(str, made))
    print("\n".join(line for line in checked.splitlines() if line.startswith("Checking")))
    return next(path for path in made if path.suffix == ".whl")


def try_python(python: str, wheel: Path, resolution: str, venv: Path) -> Row:
    """Install the wheel with its dependencies, import it without warnings, and run the tests."""
    uv = [sys.executable, "-m", "uv"]
    row = Row(_run(python, "--version").split()[1], resolution)
    program = str(venv / "bin/python")
    _run(*uv, "venv", "--quiet", "--python", python, str(venv))
    install = [*uv, "pip", "install", "--quiet", "--python", program]
    wanted = [f"{wheel}[demo,testing,video]", "pytest-timeout>=2.3"]
    done = _try(*install, "--resolution", resolution, *wanted)
    if done.returncode:
        return Row(row.python, resolution, tests=f"not installed: {_last_line(done.stderr)}")
    imported = _try(program, "-W", "error", "-c", IMPORT, cwd=venv)
    tests = [_test(program, *arguments) for arguments in RUNS]
    return Row(
        *(row.python, resolution),
        imported=_last_line(imported.stderr or imported.stdout),
        tests="; ".join(tests),
    )


def _test(program: str, *arguments: str) -> str:
    done = _try(program, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
    if done.returncode:
        print(done.stdout, done.stderr, flush=True)
    return (
        f"ended by a signal, {-done.returncode}" if done.returncode < 0 else _last_line(done.stdout)
    )


def _try(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)


def _run(*command: str) -> str:
    done = _try(*command)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing printed"])[-1].strip("= ")[:100]


def main(versions: Sequence[str]) -> int:
    """Return 1 if something failed."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        wheel = build(directory)
        for version in versions or PYTHONS:
            python = find_python(version)
            if python is None:
                rows.append(Row(version, "not on this machine"))
                continue
            for resolution in ("lowest-direct", "highest") if version == OLDEST else ("highest",):
                rows.append(try_python(python, wheel, resolution, directory / "venv"))
                shutil.rmtree(directory / "venv")
    table = Table("Python", "dependencies", "import ego4dfs", "tests")
    for row in rows:
        table.add_row(row.python, row.dependencies, row.imported, row.tests)
    Console(width=120).print(table)
    return int(not all(row.is_good for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
