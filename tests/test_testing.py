"""ego4dfs.testing, used by a small project outside this repository: the examples of its guide."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.first_pass

GUIDE = Path(__file__).parent.parent / "docs" / "guides" / "testing.md"
STORE, TEST_OF_STORE, TEST_OF_FACE, MACHINE = range(4)


def example(number: int) -> str:
    return re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)[number]


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a directory, with ego4dfs installed and nothing of this repository."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    command = [sys.executable, *arguments]
    env = {**kept, "HOME": str(directory)}
    return subprocess.run(
        command, check=False, cwd=directory, env=env, capture_output=True, text=True
    )


def outcome(directory: Path, test: str) -> tuple[str, list[str]]:
    """Run the tests of a project; return the last line of pytest, and the tests that failed."""
    (directory / "pytest.ini").write_text("[pytest]\n")
    done = run(directory, "-m", "pytest", "-q", "-p", "no:cacheprovider", test)
    failed = re.findall(r"^FAILED \S+::(\w+)", done.stdout, re.MULTILINE)
    assert done.returncode == bool(failed), done.stdout + done.stderr
    return done.stdout.splitlines()[-1], failed


def without_etag_check() -> str:
    """Return the store of the guide with a bug: it serves any version."""
    check = "        if etag and etag != facts.etag:\n"
    assert check in example(STORE)
    return example(STORE).replace(check, "        if False:\n")


def write_store(directory: Path, source: str) -> None:
    (directory / "sqlite_store.py").write_text(source)
    (directory / "test_sqlite_store.py").write_text(example(TEST_OF_STORE))


def test_a_store_of_another_project_passes_the_contract(tmp_path):
    write_store(tmp_path, example(STORE))
    line, failed = outcome(tmp_path, "test_sqlite_store.py")
    assert failed == []
    assert re.match(r"\d\d passed", line)


def test_a_store_that_ignores_the_etag_fails_the_contract(tmp_path):
    write_store(tmp_path, without_etag_check())
    _, failed = outcome(tmp_path, "test_sqlite_store.py")
    assert failed == [
        "test_a_pinned_range_from_the_end_is_of_the_pinned_version",
        "test_a_pinned_read_of_a_replaced_object_is_an_error",
        "test_a_stream_of_a_replaced_object_is_an_error",
    ]


def test_a_face_of_another_project_passes_the_contract(tmp_path):
    (tmp_path / "test_face.py").write_text(example(TEST_OF_FACE))
    line, failed = outcome(tmp_path, "test_face.py")
    assert failed == []
    assert re.match(r"\d\d passed", line)


def write_machine(directory: Path, store: str) -> None:
    write_store(directory, store)
    (directory / "test_machine.py").write_text(example(MACHINE))


def test_the_state_machine_runs_over_a_store_of_another_project(tmp_path):
    write_machine(tmp_path, example(STORE))
    line, failed = outcome(tmp_path, "test_machine.py")
    assert failed == []
    assert line.startswith("1 passed")


@pytest.mark.parametrize("missing", ["hypothesis", "pytest"])
def test_without_the_extra_the_import_says_what_to_install(tmp_path, missing):
    code = f"import sys; sys.modules[{missing!r}] = None; import ego4dfs.testing"
    done = run(tmp_path, "-c", code)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: ego4dfs.testing needs {missing}: pip install 'ego4dfs[testing]'"
    )
