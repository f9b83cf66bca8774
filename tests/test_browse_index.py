"""The index of an annotation: complete or absent, and what a search of it looks at."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading

import pytest

from ego4dfs.api.window_rows import WindowRow
from ego4dfs.browse import annotations, text_index
from ego4dfs.browse.derived import Derived
from ego4dfs.browse.index_writer import SUFFIX, write_index
from ego4dfs.browse.text_index import OfVideo, Segment, TextIndex, match_queries
from ego4dfs.errors import ConfigError
from kit.browse import FIRST, HOSTILE, answer, publish
from kit.cli import run_cli
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass


def rows(*texts: str, uid: str = "v"):
    return [WindowRow(f"r{n}", {}, "", uid, n, n + 1, text=text) for n, text in enumerate(texts)]


def test_rows_without_a_window_are_left_out(tmp_path):
    given = [*rows("good"), WindowRow("r", {}, "bad", "v", 1, 2), WindowRow("r", {}, "", None)]
    write_index(tmp_path / "x", given, "nlq_train")
    index = TextIndex(tmp_path / "x")
    assert index.of_video("v") == OfVideo([Segment("v", "nlq_train", 0, 1, "good")], [])
    assert (index.of_video("w"), index.counts()) == (OfVideo([], []), {"v": 1})
    assert index.left_out() == (2, "r: bad")
    write_index(tmp_path / "y", given[2:], "nlq_train")
    assert TextIndex(tmp_path / "y").left_out() == (1, "r: it has no video")


def test_an_index_that_is_not_completed_leaves_nothing(tmp_path):
    def fail():
        yield from rows("a", "b")
        raise ConfigError("damaged")

    with pytest.raises(ConfigError):
        write_index(tmp_path / "x", fail(), "x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    old, new, other = (tmp_path / name for name in (".x.aa.part", ".x.bb.part", "y.sqlite"))
    for file in (old, new, other):
        file.touch()
    for file in (old, other):
        os.utime(file, (1, 1))
    write_index(tmp_path / "x", rows("a"), "x")
    assert {path.name for path in tmp_path.iterdir()} == {new.name, other.name, "x"}


def test_an_index_of_an_older_form_is_removed(tmp_path):
    kept = Derived(tmp_path, "s3://b/narration.json", "etag", SUFFIX)
    older = kept.path.with_name(kept.path.name.replace(SUFFIX, ".sqlite"))
    other = Derived(tmp_path, "s3://b/other.json", "etag", ".sqlite").path
    for path in (kept.path, older, other):
        path.touch()
    kept.remove_older()
    assert set(tmp_path.iterdir()) == {kept.path, other}


def test_texts_that_sqlite_cannot_store_are_replaced(tmp_path):
    write_index(tmp_path / "x", rows("\ud800 knife", "a\0b knife", uid="\udfff"), "x")
    found = TextIndex(tmp_path / "x").search("knife", ["?"], 9)
    assert [row.text for row in found] == ["? knife", "a\0b knife"]


def test_a_search_looks_at_a_bounded_number_of_matches(tmp_path, monkeypatch):
    write_index(tmp_path / "x", [*rows(*["a"] * 50), *rows("a", uid="w")], "x")
    index = TextIndex(tmp_path / "x")
    assert [row.uid for row in index.search("a", {"w"}, 5)] == ["w"]
    assert len(index.search("a", {"v", "w"}, 5)) == 5
    monkeypatch.setattr(text_index, "MAX_EXAMINED", 50)
    assert index.search("a", {"w"}, 5) == []


def test_what_has_the_word_is_kept_if_too_much_begins_with_it(tmp_path, monkeypatch):
    write_index(tmp_path / "x", [*rows(*["cuts"] * 50), *rows("cut", uid="w")], "x")
    monkeypatch.setattr(text_index, "MAX_EXAMINED", 20)
    assert [row.uid for row in TextIndex(tmp_path / "x").search("cut", {"w"}, 5)] == ["w"]


def test_many_threads_may_search(tmp_path):
    write_index(tmp_path / "x", rows(*["a b"] * 500), "x")
    index, found = TextIndex(tmp_path / "x"), []
    threads = [
        threading.Thread(target=lambda: found.append(len(index.search("b", {"v"}, 400))))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [400] * 16


def test_an_index_is_never_written(tmp_path):
    write_index(tmp_path / "x", rows("a"), "x")
    with TextIndex(tmp_path / "x")._open() as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute("DELETE FROM windows")


def test_words_become_terms():
    query = '"cut" "the  bread" "now"'
    assert match_queries('cut "the  bread" now') == [query, f"{query}*"]
    assert match_queries('a"b" ""') == ['"ab"']
    assert match_queries('"" " "') == []


def test_the_start_of_a_word_is_searched_if_the_word_is_not_frequent(tmp_path):
    write_index(tmp_path / "x", rows("cuts", "cut", "cut", "a cutter"), "x")
    index = TextIndex(tmp_path / "x")
    assert [row.text for row in index.search("cut", {"v"}, 2)] == ["cut", "cut"]
    assert [row.text for row in index.search("cut", {"v"}, 9)] == ["cuts", "cut", "cut", "a cutter"]
    assert index.search("cu", {"v"}, 9) == []


def test_the_pages_answer_while_annotations_are_read_and_end_at_once(
    browse, published, monkeypatch, tmp_path
):
    """An index that was stopped is built by the next start."""
    reading, go_on = threading.Event(), threading.Event()
    read = annotations.read_windows

    def slow(chunks, **options):
        for row in read(chunks, **options):
            if "narration_pass_1" in row.row:
                reading.set()
                go_on.wait(60)
            yield row

    monkeypatch.setattr(annotations, "read_windows", slow)
    client, vfs = browse(waits=False, version=published.version)
    assert reading.wait(60)
    states = {one["name"]: one["state"] for one in answer(client, "status")["annotations"]}
    assert states["narration"] == "reading"
    assert not answer(client, "status")["is_done"]
    assert answer(client, "narrations") == []
    wait_until(lambda: answer(client, "search?q=where")["tracks"])  # small files come first
    tracks = [track["name"] for track in answer(client, f"video?uid={FIRST}")["tracks"]]
    assert tracks == ["nlq_train", "redacted", "clips"]
    del vfs
    go_on.set()
    wait_until(lambda: answer(client, "status")["is_done"])


def test_reading_is_stopped_by_the_end_of_the_server(published, licensee, tmp_path, monkeypatch):
    from ego4dfs.browse import open_pages
    from ego4dfs.config import resolve
    from ego4dfs.vfs import open_vfs

    reading = threading.Event()

    def endless(_, **__):
        for number in range(10**9):
            reading.set()
            yield read_row(number)

    monkeypatch.setattr(annotations, "read_windows", endless)
    config = resolve({"version": published.version, "datasets": ["annotations"]})
    vfs = open_vfs(config)
    with open_pages(vfs, config, {}, dict):
        assert reading.wait(60)
    vfs.close()
    assert not [one for one in threading.enumerate() if one.name == "ego4dfs-annotations"]
    assert list((tmp_path / "cache").rglob("*.part")) == []


def test_an_index_that_was_removed_is_made_again(browse, published, tmp_path, licensee):
    """As by `ego4dfs cache clear --all` while the pages are served."""
    client, _ = browse(version=published.version)
    assert len(answer(client, "search?q=knife")["tracks"]) == 3
    run_cli("cache", "clear", "--all", env=licensee)
    assert list((tmp_path / "cache").rglob("*.sqlite")) == []
    assert answer(client, "search?q=knife")["tracks"] == {}
    wait_until(lambda: answer(client, "status")["is_done"])
    assert len(answer(client, "search?q=knife")["tracks"]) == 3
    assert answer(client, "narrations") == [3, 2, 1]


def test_an_index_that_is_removed_while_it_is_written_is_made_again(
    browse, published, monkeypatch, tmp_path
):
    write, removed = annotations.write_index, []

    def write_once_removed(path, rows, name):
        if name == "narration" and not removed:
            removed.append(shutil.rmtree(path.parent))
        write(path, rows, name)

    monkeypatch.setattr(annotations, "write_index", write_once_removed)
    client, _ = browse(version=published.version)
    wait_until(lambda: answer(client, "narrations") == [3, 2, 1])
    assert len(removed) == 1


def test_an_index_that_is_removed_again_and_again_is_given_up(
    browse, published, monkeypatch, tmp_path
):
    write, removed = annotations.write_index, []

    def write_removed(path, rows, name):
        if name == "narration":
            removed.append(shutil.rmtree(path.parent))
        write(path, rows, name)

    monkeypatch.setattr(annotations, "write_index", write_removed)
    client, _ = browse(version=published.version)

    def states():
        return {one["state"] for one in answer(client, "status")["annotations"]}

    wait_until(lambda: "failed" in states())
    assert len(removed) == 5


def overwritten(content: bytes) -> bytes:
    """Keep the first page, which has the schema."""
    return content[:4096] + b"\xff" * (len(content) - 4096)


def overwrite(tmp_path, word: bytes, damaged=overwritten) -> None:
    """Damage the index that has a word."""
    for file in (tmp_path / "cache").rglob(f"*{SUFFIX}"):
        content = file.read_bytes()
        if word in content:
            file.write_bytes(damaged(content))


@pytest.mark.parametrize(
    "damaged",
    [
        overwritten,
        lambda content: content[: len(content) // 2],
        lambda _: b"x" * 100,
        lambda _: b"",
    ],
    ids=["overwritten", "cut", "another file", "empty"],
)
def test_an_index_that_is_damaged_is_made_again_when_that_is_seen(
    browse, published, tmp_path, damaged
):
    client, _ = browse(version=published.version)
    overwrite(tmp_path, b"bread", damaged)
    assert list(answer(client, "search?q=knife")["tracks"]) == ["nlq_train"]
    wait_until(lambda: answer(client, "status")["is_done"])
    assert len(answer(client, "search?q=knife")["tracks"]) == 3
    assert answer(client, "narrations") == [3, 2, 1]
    assert problem_of(client, "narration") == ""


def problem_of(client, name: str) -> str:
    found = answer(client, "status")["annotations"]
    return next(one["problem"] for one in found if one["name"] == name)


def test_an_index_is_said_to_be_damaged_until_it_is_made_again(
    browse, published, tmp_path, monkeypatch
):
    client, _ = browse(version=published.version)
    overwrite(tmp_path, b"bread")
    go_on = threading.Event()
    write = annotations.write_index
    monkeypatch.setattr(annotations, "write_index", lambda *given: go_on.wait(60) and write(*given))
    answer(client, "narrations")
    assert problem_of(client, "narration") == "its index was damaged, and is made again"
    assert not answer(client, "status")["is_done"]
    go_on.set()
    wait_until(lambda: answer(client, "narrations") == [3, 2, 1])


def test_an_index_that_is_damaged_again_and_again_is_given_up(browse, published, tmp_path):
    """As on a bad disk. The problem says what to do."""
    client, _ = browse(version=published.version)
    for _ in range(4):
        overwrite(tmp_path, b"bread")
        assert answer(client, "narrations") == []
        wait_until(lambda: answer(client, "status")["is_done"])
    assert problem_of(client, "narration") == (
        "its index was damaged 4 times; check the disk of the cache, or name another directory"
        " with --cache-dir"
    )
    assert list(answer(client, "search?q=knife")["tracks"]) == ["nlq_train"]


def test_a_new_index_that_cannot_be_read_is_given_up(browse, published, monkeypatch):
    write = annotations.write_index

    def write_wrong(path, rows, name):
        write(path, rows, name)
        if name == "narration":
            path.write_bytes(b"x" * 100)

    monkeypatch.setattr(annotations, "write_index", write_wrong)
    client, _ = browse(version=published.version)
    assert problem_of(client, "narration").startswith("its new index cannot be read; check")


def test_rows_that_name_no_window_are_counted_and_the_first_is_named(browse, release):
    person = {"person_id": HOSTILE, "tracking_paths": [{"track": "x"}], "voice_segments": [1]}
    clip = {"clip_uid": "c", "video_start_sec": 0, "video_end_sec": 2, "persons": [person]}
    av = {"videos": [{"video_uid": FIRST, "split": "train", "clips": [clip]}]}
    publish(release, {"av_train.json": av})
    client, _ = browse(version=release.version)
    first = "videos[0].clips[0].persons[0].voice_segments[0]: its start or end is missing"
    assert problem_of(client, "av_train") == f"2 rows name no window; the first is {first}"
    client, _ = browse(version=release.version)  # as kept
    assert problem_of(client, "av_train").startswith("2 rows")


def read_row(number: int):
    from ego4dfs.annotations import Part, Window

    return Window("r", Part("v", number, number + 1), None, "text")
