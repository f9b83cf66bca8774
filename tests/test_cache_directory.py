"""The layout of the cache directory: private, tagged, one directory per format."""

from __future__ import annotations

import os
import pwd
import stat

import pytest

from ego4dfs.cache import FORMAT, prepare_directory, source_directory
from ego4dfs.errors import CacheError
from kit.cache import block_file, open_cache, put


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


def test_a_directory_of_the_user_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    inner = prepare_directory(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert (inner.name, stat.S_IMODE(inner.stat().st_mode)) == (FORMAT, 0o700)


def test_a_directory_of_another_format_is_unchanged(tmp_path):
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


def test_in_a_directory_with_other_contents_the_cache_has_a_subdirectory(tmp_path):
    """A tag beside the user's files would leave them out of backups; `v1` may be a release."""
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "v1" / "full_scale").mkdir(parents=True)
    (tmp_path / "v1").chmod(0o755)
    inner = prepare_directory(tmp_path)
    assert inner == tmp_path / "ego4dfs" / FORMAT == prepare_directory(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ego4dfs", "thesis.tex", "v1"]
    assert (tmp_path / "ego4dfs" / "CACHEDIR.TAG").exists()
    assert stat.S_IMODE((tmp_path / "v1").stat().st_mode) == 0o755


@pytest.mark.parametrize("left", ["CACHEDIR.TAG", "v1"])
def test_a_cache_stays_where_it_is_when_other_files_are_added(tmp_path, left):
    cache_dir = tmp_path / "cache"
    inner = prepare_directory(cache_dir)
    (inner / "blocks").mkdir()
    if left == "CACHEDIR.TAG":
        (cache_dir / "notes").write_text("")
    else:
        (cache_dir / "CACHEDIR.TAG").unlink()
    assert prepare_directory(cache_dir) == inner


def test_the_root_of_an_empty_disk_is_marked_as_ours(tmp_path):
    (tmp_path / "lost+found").mkdir()
    assert prepare_directory(tmp_path) == tmp_path / FORMAT
    assert (tmp_path / "CACHEDIR.TAG").exists()


@pytest.mark.fault(
    area="disk",
    fault="a symbolic link, or another user's directory, in place of a cache directory",
    face="all",
    sees="one line that names it; nothing is read or written there",
    deadline="at once",
)
@pytest.mark.parametrize("place", ["v1", "v1/blocks"])
def test_a_link_in_the_place_of_our_directory_is_refused(tmp_path, place):
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    cache_dir = tmp_path / "cache"
    prepare_directory(cache_dir)
    if place == "v1":
        (cache_dir / place).rmdir()
    (cache_dir / place).symlink_to(victim)
    with pytest.raises(CacheError, match="is a symbolic link") as caught:
        open_cache(cache_dir)
    assert "--cache-dir" in caught.value.hint
    assert (stat.S_IMODE(victim.stat().st_mode), list(victim.iterdir())) == (0o755, [])


@pytest.mark.parametrize("place", ["v1", "v1/blocks"])
@pytest.mark.parametrize(("uid", "user"), [(1, pwd.getpwuid(1).pw_name), (10**8, "user 100000000")])
def test_a_directory_of_another_user_is_refused(tmp_path, monkeypatch, place, uid, user):
    open_cache(tmp_path).close()
    inode = (tmp_path / place).stat().st_ino
    real = os.lstat

    def of_another(path, **options):
        found = real(path, **options)
        if found.st_ino != inode:
            return found
        return os.stat_result([*found[:4], uid, *found[5:10]])

    monkeypatch.setattr(os, "lstat", of_another)
    with pytest.raises(CacheError, match=f"belongs to {user}, not to you"):
        open_cache(tmp_path)


def test_a_directory_on_a_read_only_filesystem_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda _path, mode: not mode & os.W_OK)
    with pytest.raises(CacheError, match="not readable and writable by you"):
        open_cache(tmp_path)


def test_our_own_directories_become_usable_again_from_any_mode(tmp_path):
    cache = open_cache(tmp_path)
    put(cache, 1)
    cache.close()
    for path in (tmp_path / "v1" / "blocks", tmp_path / "v1"):
        path.chmod(0)
    open_cache(tmp_path).close()
    assert stat.S_IMODE((tmp_path / "v1" / "blocks").stat().st_mode) == 0o700
