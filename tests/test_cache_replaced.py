"""A cache directory that is removed, renamed or changed under a mount: its limit still holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ego4dfs.cache import BlockCache, blockfile
from ego4dfs.metrics import Metrics
from kit.cache import UNIT, block_file, bytes_of, got, key_of, open_cache, put, remove_in_use

LIMIT = 40 * (UNIT + 4096)


def take_away(cache_dir: Path, how: str) -> None:
    if how == "removed":
        remove_in_use(cache_dir)
    elif how == "emptied":
        remove_in_use(cache_dir / "v1")
    elif how == "without index":
        for path in (cache_dir / "v1" / "blocks").glob("cache.db*"):
            path.unlink()
    else:
        cache_dir.rename(cache_dir.with_name("elsewhere"))


@pytest.mark.fault(
    area="disk",
    fault="the cache directory is removed, renamed or emptied below a mount",
    face="all",
    sees="a new one is created, with a warning; the limit holds for all mounts together",
    deadline="at once, before the next block is written",
)
@pytest.mark.parametrize("how", ["removed", "renamed", "emptied", "without index"])
def test_two_mounts_share_one_limit_after_the_directory_was_replaced(tmp_path, how, caplog):
    cache_dir = tmp_path / "cache"
    first = open_cache(cache_dir, LIMIT)
    put(first, *range(30))
    take_away(cache_dir, how)
    second = open_cache(cache_dir, LIMIT)
    for number in range(100, 160):
        put(first, number)
        put(second, number + 1000)
    blocks = list((cache_dir / "v1" / "blocks").glob("??/*"))
    assert len(blocks) <= 40
    assert sum(path.stat().st_size for path in blocks) < LIMIT
    assert first.admin.max_bytes == second.admin.max_bytes == LIMIT
    assert first.admin.verify().stray == 0
    assert got(second, 159) == bytes_of(key_of(159), UNIT)
    assert "was removed or replaced" in caplog.text
    assert ((cache_dir / "v1").stat().st_mode & 0o777) == 0o700
    first.close()
    second.close()


def test_blocks_are_verified_again_in_a_new_directory(tmp_path):
    cache = open_cache(tmp_path)
    put(cache, 1)
    assert got(cache, 1)
    take_away(tmp_path, "emptied")
    put(cache, 2)
    path = block_file(tmp_path, 1)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(UNIT + blockfile.TRAILER_BYTES))
    assert got(cache, 1) is None
    cache.close()


def test_a_cache_that_cannot_be_recreated_is_not_used(tmp_path, caplog):
    cache_dir = tmp_path / "cache"
    cache = open_cache(cache_dir)
    put(cache, 1)
    take_away(cache_dir, "removed")
    cache_dir.write_text("in the way")
    stored: list[bool] = []
    for _ in range(3):
        cache.put(key_of(2), "s3://b/k", memoryview(b"x"), stored.append)
    cache.close()
    assert stored == [False] * 3
    assert sum("cannot be written" in record.message for record in caplog.records) == 1


@pytest.mark.fault(
    area="disk",
    fault="a changed byte in the totals of the cache index",
    face="all",
    sees="the totals are computed again from the rows, with a warning",
    deadline="the next start",
)
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE Settings SET value = 0 WHERE key = 'size'",
        "UPDATE Settings SET value = -5000000000 WHERE key = 'size'",
        "UPDATE Settings SET value = 'x' WHERE key = 'size'",
        "UPDATE Settings SET value = 9 WHERE key = 'count'",
        "UPDATE Cache SET size = 4611686018427387904 WHERE rowid = 3",
        "UPDATE Cache SET size = -1 WHERE rowid = 3",
    ],
)
def test_totals_that_were_changed_on_disk_are_corrected(tmp_path, change):
    first = open_cache(tmp_path, LIMIT)
    put(first, *range(10))
    first.close()
    with closing(sqlite3.connect(tmp_path / "v1/blocks/cache.db", isolation_level=None)) as db:
        db.execute(change)
    cache = BlockCache(tmp_path / "v1", Metrics())
    put(cache, *range(100, 150))
    assert 30 <= len(cache.admin) <= 40
    assert cache._index.recount() is False
    cache.close()


def test_a_link_at_the_name_of_an_incoming_file_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: 7)
    monkeypatch.setattr("threading.get_ident", lambda: 8)
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "c.7.8.tmp").symlink_to(tmp_path / "outside")
    blockfile.write(tmp_path / "ab" / "c", "abc", memoryview(b"data"))
    assert not (tmp_path / "outside").exists()
    assert blockfile.is_valid(tmp_path / "ab" / "c", "abc")
