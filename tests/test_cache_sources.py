"""The directories of sources in the cache: unreadable, damaged, or of another user."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from ego4dfs.cache import CacheReport, prepare_directory, source_directory, source_names
from ego4dfs.cli.output import ExitCode
from kit.cache import NO_FILES, block_file, key_of, open_cache, put, replace
from kit.cli import complaint
from kit.namespaces import Namespace
from kit.own_process import descriptors_below

pytestmark = pytest.mark.first_pass

SOURCE = "http://127.0.0.1:9"


@pytest.mark.parametrize("kind", ["nothing", "a directory", "a FIFO", "a dangling link", "binary"])
def test_a_source_whose_name_cannot_be_read_is_used_and_listed(tmp_path, kind):
    """Its name is for people; it is written again if that is possible."""
    inner = prepare_directory(tmp_path)
    directory = source_directory(inner, SOURCE)
    replace(directory / "source.txt", kind)
    unknown = f"{directory.name} (its name cannot be read)"
    assert source_names(inner) == [unknown]
    assert source_directory(inner, SOURCE) == directory
    assert source_names(inner) == [unknown if kind == "a directory" else SOURCE]


def test_cache_info_shows_the_other_facts_then(options, cli):
    inner = prepare_directory(Path(options["cache_dir"]))
    replace(source_directory(inner, SOURCE) / "source.txt", "a FIFO")
    assert "its name cannot be read" in cli("cache", "info").stdout


@pytest.mark.fault(
    area="disk",
    fault="a FIFO, a socket, a link or a directory in the place of a cached file",
    face="all",
    sees="it is fetched again",
    deadline="at once",
)
@pytest.mark.parametrize("kind", NO_FILES)
def test_a_block_that_is_no_file_does_not_count(tmp_path, kind):
    cache = open_cache(tmp_path)
    put(cache, 1, 2)
    for number in (1, 2):
        replace(block_file(tmp_path, number), kind)
    descriptors = descriptors_below(tmp_path)
    buffer = bytearray(1)
    assert not cache.read_into(key_of(1), 0, memoryview(buffer))
    assert cache.admin.verify().damaged == 1  # the other one is removed already
    assert descriptors_below(tmp_path) == descriptors
    assert cache.admin.verify() == CacheReport(sound=0, damaged=0, lost=0, stray=0)
    put(cache, 1, 2)
    assert cache.admin.verify().sound == 2
    cache.close()


def test_a_fifo_that_another_process_has_open_is_no_block(tmp_path):
    cache = open_cache(tmp_path)
    put(cache, 1)
    replace(block_file(tmp_path, 1), "a FIFO")
    writer = os.open(block_file(tmp_path, 1), os.O_RDWR)
    assert cache.admin.verify().damaged == 1
    os.close(writer)
    cache.close()


# Places in the directory of sources, and the mode that makes each unusable.
PLACES = [
    ("sources", "000"),
    ("sources/*/manifests", "000"),
    ("sources/*/manifests", "500"),
    ("sources/*/facts.sqlite", "000"),
]


@pytest.fixture(scope="module")
def person(tmp_path_factory, mirror):
    """Run commands as an ordinary user: root may read everything."""
    home = tmp_path_factory.mktemp("person") / "home"
    shutil.copytree(mirror, home / "mirror")
    (home / "mirror").chmod(0o755)
    namespace = Namespace(home)
    values = {"SOURCE": home / "mirror", "VERSION": "v2", "CACHE_DIR": home / "cache"}
    env = {f"EGO4DFS_{name}": str(value) for name, value in values.items()}

    def run(*command):
        return namespace.run(*command, env={**os.environ, **env, "HOME": str(home)})

    yield run
    namespace.close()


def without_times(listing: str) -> str:
    """Leave out times: that of a directory is the start of the command."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "", listing)


@pytest.mark.fault(
    area="disk",
    fault="a directory or file of the cache without permissions",
    face="all",
    sees="it works, with a warning, or the error names a command that helps",
    deadline="at once",
)
@pytest.mark.parametrize(("place", "mode"), PLACES)
def test_what_an_error_advises_helps(person, place, mode):
    listing = ("ego4dfs", "ls", "-l", "--datasets", "clips")
    want = without_times(person(*listing).stdout)
    person("sh", "-c", f"chmod {mode} $EGO4DFS_CACHE_DIR/v1/{place}")
    first = person(*listing)
    if first.returncode:
        assert "ego4dfs cache clear --all" in complaint(first)
        doctor = person("ego4dfs", "doctor", "--datasets", "clips")
        assert "ego4dfs cache clear --all" in doctor.stdout
        assert (doctor.returncode, doctor.stderr) == (ExitCode.FAILURE, "")
    else:
        assert without_times(first.stdout) == want
    cleared = person("ego4dfs", "cache", "clear", "--all")
    assert (cleared.returncode, cleared.stderr) == (ExitCode.OK, "")
    again = person(*listing)
    assert (again.returncode, without_times(again.stdout)) == (ExitCode.OK, want)
    assert again.stderr == ""


def test_clear_follows_no_link_out_of_the_cache(options, cli, tmp_path):
    """It makes directories accessible before it removes them, but only those of the cache."""
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.chmod(0o755)
    sources = prepare_directory(Path(options["cache_dir"])) / "sources"
    (sources / "below" / "unreadable").mkdir(parents=True, mode=0o000)
    for link in (sources / "link", sources / "below" / "link"):
        link.symlink_to(outside)
    cli("cache", "clear", "--all")
    assert not sources.exists()
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755


def test_the_doctor_reports_a_file_in_the_place_of_the_sources(options, cli):
    inner = prepare_directory(Path(options["cache_dir"]))
    (inner / "sources").write_text("in the way")
    done = cli("doctor", "--datasets", "clips", check=False)
    assert (done.returncode, done.stderr) == (ExitCode.FAILURE, "")
    rows = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert rows["clips"].startswith("ok")
    assert "sources: not a directory" in done.stdout
