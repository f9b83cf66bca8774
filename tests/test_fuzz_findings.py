"""Input that fuzzing found to have the wrong result, each as an example."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ego4dfs.catalog.uids import uids_in
from ego4dfs.config import resolve
from ego4dfs.copies import Journal
from ego4dfs.copies.etag_trust import BucketEtags
from ego4dfs.copies.manifest_ver import Row, VersionFile, parse
from ego4dfs.copies.record import Record
from ego4dfs.errors import CacheError, ConfigError, OutputError, StoreError
from ego4dfs.facts import FactsIndex
from ego4dfs.files import mountinfo
from ego4dfs.store import ObjectFacts, aws_config_files
from kit.cache import open_cache, put
from kit.copies import Bench
from kit.fakes import CountingStore
from kit.fuzz.answer_targets import URL, Reply, call_all
from kit.sqlite import undecodable_schema

FACTS = ObjectFacts(10, "e" * 32, "v1", 7 * 10**9)


def test_a_short_row_of_manifest_ver_below_another_order_of_columns():
    rows, damage = parse(b"filename,uid,version\r\na.mp4\r\nb.mp4,b,v2\r\n")
    assert rows == [Row("", None, ""), Row("b", "v2", "b.mp4")]
    assert damage == ""


@pytest.mark.parametrize("content", [b'"a\nb"\r\n', b'"a\rb",v1,a.mp4\r\n', b'"a\nb",v1\r\n'])
def test_a_uid_with_a_line_end_is_not_written_to_manifest_ver(tmp_path, content):
    """A reader takes a short row of two lines for a quote that is not closed."""
    (tmp_path / "manifest.ver").write_bytes(b"uid,version,filename\r\nc,v3,c.mp4\r\n" + content)
    versions = VersionFile(tmp_path)
    versions.put("d\ne", "", "d.mp4")
    versions.put("f", "", "f.mp4")
    assert versions.save()
    rows, damage = parse((tmp_path / "manifest.ver").read_bytes())
    assert {Row("c", "v3", "c.mp4"), Row("f", None, "")} <= set(rows)
    assert not any("d" in row.uid for row in rows)
    assert damage == ""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The directory of a journal with two records, a download, and evidence."""
    state = tmp_path / ".ego4dfs"
    state.mkdir()
    with closing(Journal(state)) as journal:
        record = Record("s3://b/a", "memory", "v2", FACTS, "md5")
        journal.complete([("v2/clips/a.mp4", record), ("v2/clips/b.mp4", record)])
        journal.begin("v2/clips/c.mp4", "s3://b/c", FACTS, ".ego4dfs/c.mp4.part")
        journal.written("v2/clips/c.mp4", 2, 6)
        journal.note_evidence("memory", "b", "parts", str(8 << 20))
    return state


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(statement)


@pytest.mark.parametrize(
    "change",
    [
        "url = ''",
        "url = 'file:///etc/passwd'",
        "url = x'00'",
        "path = '../../a'",
        "path = '/etc/x'",
        "size = 'x'",
        "size = -1",
        "size = 0.5",
        "mtime_ns = 1e999",
        "source = x'ff'",
        "checksum = x'ff'",
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_damaged_record_of_the_journal_is_left_out(state, change, read_only):
    statement = f"UPDATE files SET {change} WHERE path = 'v2/clips/a.mp4'"  # noqa: S608
    execute(state / "journal.sqlite", statement)
    with closing(Journal(state, read_only=read_only)) as journal:
        assert [path for path, _ in journal.records()] == ["v2/clips/b.mp4"]


@pytest.mark.parametrize(
    "change", ["stop = 1", "start = -1", "stop = 'x'", "start = 0.5", "stop = 9223372036854775807"]
)
def test_a_damaged_range_of_the_journal_is_fetched_again(state, change):
    execute(state / "journal.sqlite", f"UPDATE ranges SET {change}")  # noqa: S608
    with closing(Journal(state)) as journal:
        found = journal.partial_download("v2/clips/c.mp4")
        assert found is not None
        assert (found.size, found.ranges) == (10, ())
        assert journal.partial_bytes() == {}


@pytest.mark.parametrize("change", ["size = 'x'", "url = x'00'", "part_name = x'00'"])
def test_a_damaged_download_of_the_journal_starts_again(state, change):
    execute(state / "journal.sqlite", f"UPDATE downloads SET {change}")  # noqa: S608
    with closing(Journal(state)) as journal:
        assert journal.partial_download("v2/clips/c.mp4") is None


@pytest.mark.parametrize("change", ["detail = 'x'", "detail = x'00'", "kind = 'x'", "bucket = 1"])
def test_damaged_evidence_of_the_journal_is_ignored(state, change):
    execute(state / "journal.sqlite", f"UPDATE evidence SET {change}")  # noqa: S608
    execute(state / "journal.sqlite", "DELETE FROM files")
    with closing(Journal(state)) as journal:
        assert not BucketEtags(journal, "memory").are_checksums("s3://b/a")


def test_a_row_with_an_impossible_bucket_stops_no_other_file(tmp_path):
    """manifest.csv may name it; no request can be sent for it."""
    store = CountingStore({"s3://b/a.mp4": b"a", "s3://b_@/b.mp4": b"b"})
    bench = Bench(tmp_path, store)
    (bench.directory / "b.mp4").write_bytes(b"b")
    bench.fetch()
    assert (bench.directory / "a.mp4").read_bytes() == b"a"
    bench.close()


def test_a_schema_that_is_no_text_is_a_damaged_database(tmp_path, state):
    """Python raises UnicodeDecodeError for a message of SQLite that quotes it."""
    FactsIndex(tmp_path, CountingStore()).close()
    undecodable_schema(tmp_path / "facts.sqlite")
    with pytest.raises(CacheError, match="malformed"):
        FactsIndex(tmp_path, CountingStore())
    cache = open_cache(tmp_path / "cache")
    put(cache, 1)
    cache.close()
    undecodable_schema(tmp_path / "cache/v1/blocks/cache.db")
    with pytest.raises(CacheError, match="malformed"):
        open_cache(tmp_path / "cache", max_bytes=None)
    undecodable_schema(state / "journal.sqlite")
    with pytest.raises(OutputError, match="malformed"):
        Journal(state, read_only=True)
    with closing(Journal(state)) as journal:  # set aside, and begun again
        assert dict(journal.records()) == {}


@pytest.mark.parametrize(
    "given",
    [
        {"cache_size": "9" * 5000},
        {"cache_size": f"1.{'9' * 5000}GiB"},
        {"cache_dir": "\ud800"},
        {"copies": "~\ud800"},
        {"output_directory": "a\ud800"},
        {"endpoint_url": "http://["},
        {"endpoint_url": "http://h:x"},
        {"endpoint_url": "http://h:99999"},
        {"version": "x" * 9000},
        {"transport": "x" * 9000},
        {"video_uid_file": "x" * 5000},
        {"manifest_override_path": "x/" * 3000},
        {"datasets": ["x" * 9000]},
        {"universities": ["x" * 9000]},
        {"libfuse": "x" * 9000},
    ],
    ids=lambda given: next(iter(given)),
)
def test_an_option_that_cannot_be_used_is_one_short_error(given):
    with pytest.raises(ConfigError) as caught:
        resolve(given, environ={"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"})
    assert len(str(caught.value)) < 500


def test_a_credential_process_with_a_long_word_is_not_looked_up(aws):
    aws.config(f"[default]\ncredential_process = /bin/x {'y' * 300}\n")
    assert not aws_config_files.has_relative_names()


def test_an_escape_that_is_no_byte_is_text(tmp_path, monkeypatch):
    (tmp_path / "self").mkdir()
    line = b"1 2 0:5 / /mnt\\777\\040x rw - fuse.ego4dfs x rw,user_id=%b\n"
    (tmp_path / "self/mountinfo").write_bytes(line % (b"9" * 5000))
    monkeypatch.setattr(mountinfo, "_PROC", tmp_path)
    (found,) = mountinfo.mounts()
    assert os.fspath(found.mountpoint) == "/mnt\\777 x"
    assert found.owner is None


@pytest.mark.parametrize(
    "reply",
    [
        Reply(304, {}, b"", is_sound=True),
        Reply(206, {"Content-Range": f"bytes 0-4/{'9' * 5000}"}, b"hello", is_sound=True),
    ],
    ids=["304 that was not asked for", "a size of 5000 digits"],
)
def test_an_answer_that_is_no_answer_is_a_store_error(reply):
    results = [found for found in call_all(reply) if found[0] != "streamed"]
    assert len(results) == 10
    for name, result in results:
        if name == "read_if_changed" and reply.status == 304:
            assert result is None
        elif reply.status == 304 or "range" in name:
            assert isinstance(result, StoreError)
            assert URL in str(result)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, f"<Error><Code>{'x' * 3000}</Code><Region>{'x' * 3000}</Region></Error>"),
        ({}, "<Error><Code>\u202e</Code><Region><a/></Region></Error>"),
        ({"x-amz-bucket-region": "x" * 3000}, ""),
        ({"Location": "/" + "x" * 3000}, ""),
    ],
)
def test_a_message_does_not_quote_what_is_too_long_for_s3(headers, body):
    for status in (301, 400, 403):
        for _, result in call_all(Reply(status, headers, body.encode(), is_sound=False)):
            assert len(str(result)) < 500


def test_uids_do_not_depend_on_the_size_of_chunks():
    content = b'\n\n\n\n{"other_video_uid": "a", "video_uid": "b"}'
    for size in range(1, len(content)):
        chunks = [content[at : at + size] for at in range(0, len(content), size)]
        assert uids_in(chunks).videos == {"b"}
    piece = b'{"other_video_uid": "a' + b" " * 490 + b'", "video_uid": "b"}'
    long = b"[" + b"," * 3 + piece + b" " * 100
    for cut in range(1, len(long)):
        assert uids_in([long[:cut], long[cut:]]).videos <= {"b"}


def test_an_answer_that_is_longer_than_its_range_is_an_error():
    """Nothing of it is passed on: it contradicts itself."""
    found = list(call_all(Reply(206, {"Content-Range": 0}, b"x" * 69, is_sound=True)))
    for name, result in found:
        if name == "stream_range":
            assert "more than 5 bytes" in str(result)
        elif name == "streamed":
            assert result == b""
