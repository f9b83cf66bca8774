"""A session opens every part once, and closes all of them if a later one fails."""

from __future__ import annotations

import pytest

from ego4dfs import session
from ego4dfs.config import resolve
from ego4dfs.errors import CacheError
from ego4dfs.session import open_session
from ego4dfs.vfs import open_selected_session
from kit.own_process import descriptors_below, started_threads
from kit.processes import wait_until


@pytest.fixture
def options(tmp_path):
    """A mirror with one small dataset, and a directory of copies of it with one subdirectory."""
    manifests = tmp_path / "mirror/ego4d-consortium-sharing/public/v2/annotations"
    manifests.mkdir(parents=True)
    (manifests / "manifest.csv").write_text("file_uid,type,s3_path\na,file,s3://b/a.json\n")
    (tmp_path / "copies/v2/annotations").mkdir(parents=True)
    return {
        "source": tmp_path / "mirror",
        "cache_dir": tmp_path / "cache",
        "copies": tmp_path / "copies",
        "version": "v2",
        "datasets": ["annotations"],
    }


@pytest.mark.parametrize("part", ["BlockCache", "FactsIndex", "Reader", "ManifestCache", "Session"])
def test_no_descriptor_stays_open_when_a_later_part_fails(options, tmp_path, monkeypatch, part):
    open_session(resolve(options)).close()  # what libraries start once, they have started now

    def fail(*_: object, **__: object) -> None:
        raise CacheError("as if the disk were full")

    monkeypatch.setattr(session, part, fail)
    kept = []  # an error that is kept keeps the frames, and so all that only they refer to
    with started_threads() as started:
        for _ in range(3):
            with pytest.raises(CacheError) as raised:
                open_session(resolve(options))
            kept.append(raised)
    assert descriptors_below(tmp_path) == []
    assert bool(started) == (part != "BlockCache"), "the cache is the first part with a thread"
    wait_until(lambda: not any(thread.is_alive() for thread in started))


def test_no_descriptor_stays_open_when_the_selection_fails(options, tmp_path):
    with pytest.raises(Exception, match="0 of 1 rows of annotations match"):
        open_selected_session(resolve({**options, "include": ["b*"]}))
    assert descriptors_below(tmp_path) == []


def test_a_closed_session_leaves_no_descriptor(options, tmp_path):
    with_copies = open_selected_session(resolve(options))
    assert str(tmp_path / "copies/v2") in descriptors_below(tmp_path)
    with_copies.close()
    assert descriptors_below(tmp_path) == []
