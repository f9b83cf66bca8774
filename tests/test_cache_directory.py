"""Where the cache lives: private, marked, one directory per format."""

from __future__ import annotations

import stat

import pytest
from cachekit import block_file, open_cache, put

from ego4dfs.cache import FORMAT, prepare_directory, source_directory
from ego4dfs.errors import CacheError


def test_everything_is_private_and_marked_as_a_cache(tmp_path):
    directory = tmp_path / "deep" / "cache"
    cache = open_cache(directory)
    put(cache, 1)
    for path in (directory, directory / FORMAT, directory / FORMAT / "blocks"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(block_file(directory, 1).parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(block_file(directory, 1).stat().st_mode) == 0o600
    tag = (directory / "CACHEDIR.TAG").read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55")
    cache.close()


def test_a_directory_of_the_users_keeps_its_own_mode(tmp_path):
    tmp_path.chmod(0o755)
    inner = prepare_directory(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert (inner.name, stat.S_IMODE(inner.stat().st_mode)) == (FORMAT, 0o700)


def test_another_format_is_left_alone(tmp_path):
    (tmp_path / "v0" / "blocks").mkdir(parents=True)
    (tmp_path / "v0" / "blocks" / "cache.db").write_text("of another time")
    cache = open_cache(tmp_path)
    put(cache, 1)
    cache.close()
    assert (tmp_path / "v0" / "blocks" / "cache.db").read_text() == "of another time"


def test_each_source_has_a_directory_of_its_own(tmp_path):
    inner = prepare_directory(tmp_path)
    one, other = (source_directory(inner, source) for source in ("s3.amazonaws.com", "file:///x"))
    assert one != other
    assert one == source_directory(inner, "s3.amazonaws.com")
    assert (other / "source.txt").read_text() == "file:///x\n"


@pytest.mark.parametrize("path", ["file", "file/below", "/proc/ego4dfs", "/sys/ego4dfs/x"])
def test_a_directory_that_cannot_be_used_is_an_error_that_names_it(tmp_path, path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError) as caught:
        prepare_directory(tmp_path / path)
    assert str(tmp_path / path) in str(caught.value)
    assert "--cache-dir" in caught.value.hint


def test_a_directory_of_a_source_that_cannot_be_made_is_the_same_error(tmp_path):
    inner = prepare_directory(tmp_path)
    (inner / "sources").write_text("in the way")
    with pytest.raises(CacheError, match="not a directory") as caught:
        source_directory(inner, "s3.amazonaws.com")
    assert str(inner / "sources") in str(caught.value)
    assert "--cache-dir" in caught.value.hint
