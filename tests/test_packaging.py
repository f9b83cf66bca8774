"""The sdist and the description for PyPI, and the site of the documentation."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from kit.matrix import Row

ROOT = Path(__file__).parent.parent
REPOSITORY = "https://github.com/ego4dfs/ego4dfs/blob/main/"
PARTS = (".ci", "docs", "ego4dfs", "scripts", "tests")


def run(*command: object, cwd: Path) -> str:
    line = [sys.executable, *map(str, command)]
    done = subprocess.run(line, check=False, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """Return an sdist of a copy of the sources, so that nothing is written beside these."""
    sources = tmp_path_factory.mktemp("sources")
    for part in PARTS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, sources / part, ignore=ignored)
    for file in (one for one in ROOT.iterdir() if one.is_file() and one.name != ".gitignore"):
        shutil.copy(file, sources)
    run("-m", "build", "--sdist", "--no-isolation", "--outdir", sources / "dist", cwd=sources)
    (made,) = (sources / "dist").iterdir()
    return made


def test_the_sdist_holds_all_sources_and_its_tests_can_be_collected(sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path)  # noqa: S202 - our own
    (unpacked,) = tmp_path.iterdir()
    for part in PARTS:
        sources = {p.relative_to(ROOT) for p in (ROOT / part).rglob("*") if p.is_file()}
        held = {p.relative_to(unpacked) for p in (unpacked / part).rglob("*") if p.is_file()}
        assert {p for p in sources if p.suffix != ".pyc"} == held
    module = "tests/test_packaging.py"
    collected = run("-m", "pytest", "-q", "--collect-only", module, cwd=unpacked)
    assert "test_the_description_is_one_that_pypi_can_show" in collected


def test_the_description_is_one_that_pypi_can_show(sdist):
    assert "PASSED" in run("-m", "twine", "check", "--strict", sdist, cwd=sdist.parent)


def test_the_wheel_has_pages_and_installs_man_pages_where_man_looks(sdist, tmp_path):
    """`man` looks for share/man beside the bin/ that a command of PATH is in."""
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, cwd=sdist.parents[1])
    (wheel,) = tmp_path.iterdir()
    names = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    pages = {name.name for name in names if name.match("*.data/data/share/man/man1/*.1")}
    assert pages == {path.name for path in (ROOT / "docs" / "man").iterdir()}
    static = {path.relative_to(ROOT) for path in (ROOT / "ego4dfs/browse/static").iterdir()}
    assert static
    assert static <= names


def test_links_of_the_readme_work_on_pypi():
    """They are absolute; those into this repository lead to files that are in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text()):
        assert target.startswith("https://"), target
        if target.startswith(REPOSITORY):
            path = target.removeprefix(REPOSITORY).partition("#")[0]
            assert (ROOT / path).is_file(), target


def test_a_broken_link_fails_the_build_of_the_site(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Home\n\n[a](gone.md) [b](index.md#gone)\n")
    config = tmp_path / "mkdocs.yml"
    ours = f"INHERIT: {ROOT}/scripts/site/mkdocs.yml\nhooks: []\n"
    config.write_text(f"{ours}docs_dir: docs\nsite_dir: site\n")
    command = [ROOT / "scripts/docs", "-f", config]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "gone.md" in done.stderr
    assert "index.md#gone" in done.stderr


@pytest.mark.parametrize(
    ("tests", "is_good"),
    [
        ("", True),  # not on this machine
        ("156 passed in 71.74s (0:01:11); 58 passed, 1 warning in 12.73s", True),
        ("155 passed, 1 error in 312.68s; 58 passed in 19.86s", False),
        ("156 passed in 71.74s; 1 failed, 57 passed in 12.73s", False),
        ("156 passed in 71.74s; 57 passed, 1 skipped in 12.73s", False),
        ("ended by a signal, 11; 58 passed in 1.00s", False),
    ],
)
def test_a_row_of_the_matrix_is_good_if_all_tests_passed(tests, is_good):
    assert Row("3.10.13", "highest", "40 ms", tests).is_good is is_good
