"""Media facts: computed from the index of a video, and kept in the facts' database."""

from __future__ import annotations

import sqlite3
import zlib
from array import array
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ego4dfs.blocks import PART_SIZE
from ego4dfs.facts import IndexPlace, MediaFacts, MediaTable, media_facts
from ego4dfs.facts.media_facts import MAX_GROUPS
from ego4dfs.facts.table import FactsTable
from ego4dfs.media import MediaIndex, Samples, find_index, read_index
from ego4dfs.store import ObjectFacts
from kit import media

URL = "s3://bucket/full_scale/a"
SIZE = 1000
FACTS = MediaFacts(range(900, 1000), 30, 300, (0, 120, 240), (10, 280, 600), (300, 610, 900))


def index_of(data: bytes) -> MediaIndex:
    return read_index(len(data), lambda offset, length: data[offset : offset + length])


@pytest.fixture
def table(tmp_path):
    with closing(FactsTable(tmp_path / "facts.sqlite")) as facts:
        yield facts


@pytest.mark.parametrize("name", media.FORMS)
def test_a_group_holds_what_the_presentation_of_its_seconds_needs(name):
    data = media.form(name)
    index = index_of(data)
    facts = MediaFacts.of(index)
    times = [time / facts.timescale for time in facts.times]
    assert times == sorted(media.key_frames(index.video).times / index.video.timescale)
    found = find_index(len(data), lambda offset, length: data[offset : offset + length])
    assert data[facts.index.start : facts.index.stop] == found.moov
    for group, (begin, end) in enumerate(zip(times, [*times[1:], index.stop_s], strict=True)):
        needed = index.byte_ranges(max(0.0, begin), end - 1e-6)
        assert facts.starts[group] <= needed[0].start
        assert needed[-1].stop <= facts.stops[group]


def test_groups_are_not_longer_than_needed():
    data = media.form("no sound")
    facts = MediaFacts.of(index_of(data))
    assert list(facts.starts[1:]) == list(facts.stops[:-1])
    keys = media.key_frames(index_of(data).video)
    assert list(facts.starts) == keys.offsets.tolist()
    assert facts.stops[-1] == keys.stop


def test_a_group_is_found_by_the_offset_of_a_read():
    found = [FACTS.group_at(offset) for offset in (0, 9, 10, 279, 280, 599, 600, 899, 900, 10**9)]
    assert found == [None, None, 0, 0, 1, 1, 2, 2, None, None]


@given(
    st.lists(
        st.tuples(st.integers(0, 5000), st.integers(0, 10**6), st.integers(1, 10**6)),
        min_size=1,
        max_size=50,
    )
)
def test_packed_facts_are_the_same_afterwards(steps):
    times, starts, stops = [-7], [0], [1]
    for time, start, length in steps:
        times.append(times[-1] + time)
        starts.append(starts[-1] + start)
        stops.append(max(stops[-1], starts[-1] + length))
    facts = MediaFacts(range(5, 99), 90_000, times[-1], times, starts, stops)
    again = MediaFacts.unpacked(facts.index, facts.timescale, facts.end, facts.packed())
    assert [list(column) for column in (again.times, again.starts, again.stops)] == [
        times,
        starts,
        stops,
    ]
    assert (again.index, again.timescale, again.end) == (facts.index, 90_000, times[-1])


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"no zlib",
        zlib.compress(b"x" * 23),
        zlib.compress(b""),
        zlib.compress(bytes(24 * MAX_GROUPS + 24)),
        zlib.compress(array("q", [0, 5, 0]).tobytes()),
        zlib.compress(array("q", [0, -5, 9]).tobytes()),
        zlib.compress(array("q", [0, 2**63 - 1, 2**63 - 1]).tobytes()),
        zlib.compress(array("q", [1, -1, 0, 1, 5, 5]).tobytes()),
        FACTS.packed()[:-3],
    ],
    ids=[
        "empty",
        "no zlib",
        "odd",
        "no group",
        "bomb",
        "no byte",
        "negative",
        "large",
        "back",
        "cut",
    ],
)
def test_damaged_groups_are_an_error_in_bounded_memory(packed):
    with pytest.raises(ValueError):  # noqa: PT011 - of zlib, struct or ours
        MediaFacts.unpacked(range(1, 2), 30, 100, packed)


def test_facts_are_kept_for_one_version_of_an_object(tmp_path, table):
    MediaTable(table).put(URL, SIZE, "etag", FACTS)
    with closing(FactsTable(tmp_path / "facts.sqlite")) as again:
        kept = MediaTable(again)
        assert kept.get(URL, SIZE, "etag") == MediaFacts.unpacked(
            FACTS.index, FACTS.timescale, FACTS.end, FACTS.packed()
        )
        assert kept.get(URL, SIZE, "other") is None
        assert kept.get(URL, SIZE + 1, "etag") is None
        assert kept.get(URL + "b", SIZE, "etag") is None


class Others:
    """What other nodes share of one video."""

    def __init__(self, content=None):
        self.content, self.asked, self.added = content, [], []

    def media(self, *version):
        self.asked.append(version)
        return self.content

    def add_media(self, *version_and_content):
        self.added.append(version_and_content)


def test_facts_of_other_nodes_are_kept(table):
    writer, version = Others(), (URL, SIZE, "etag")
    MediaTable(table, writer).put(*version, FACTS)
    [(*told, content)] = writer.added
    assert (tuple(told), writer.asked) == (version, [])
    table.apply({URL: None}, {})
    reader = Others(content)
    kept = MediaTable(table, reader)
    found = kept.get(*version)
    assert found == MediaFacts.unpacked(FACTS.index, FACTS.timescale, FACTS.end, FACTS.packed())
    assert kept.get(*version) == found
    assert (reader.asked, reader.added) == ([version], [])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null\n",
        b"[" * 100_000,
        b"[1]\nx",
        b'["URL", SIZE, "etag", 32, 100, 30, 9000]\nx',
        b'["URL", SIZE, "etag", 0.5, 100, 30, 9000]\nPACKED',
        b'["URL", SIZE, "etag", 32, 100, 30]\nPACKED',
        b'["URL", SIZE, "other", 32, 100, 30, 9000]\nPACKED',
        b'["URL", SIZE, "etag", 32, 100, true, 9000]\nPACKED',
        b'["URL", SIZE, "etag", 32, 99999999999, 30, 9000]\nPACKED',
        b'["URL", SIZE, "etag", -1, 100, 30, 9000]\nPACKED',
        b'["URL", SIZE, "etag", 32, 100, 30, 9223372036854775808]\nPACKED',
    ],
)
def test_facts_of_other_nodes_that_cannot_be_right_are_unknown(table, content):
    right = b'["URL", SIZE, "etag", 32, 100, 30, 9000]\nPACKED'
    words = ((b"URL", URL.encode()), (b"SIZE", b"1000"), (b"PACKED", FACTS.packed()))
    for word, value in words:
        content, right = content.replace(word, value), right.replace(word, value)
    kept = MediaTable(table, Others(content))
    assert kept.get(URL, SIZE, "etag") is None
    assert not list(kept.places("s3://bucket/full_scale/", 10))
    assert MediaTable(table, Others(right)).get(URL, SIZE, "etag") is not None


def test_facts_of_an_object_are_removed_with_its_size(table):
    kept = MediaTable(table)
    kept.put(URL, SIZE, "etag", FACTS)
    table.apply({URL: None}, {})
    assert kept.get(URL, SIZE, "etag") is None


def test_places_are_those_of_one_directory(table):
    kept = MediaTable(table)
    for name in ("full_scale/a", "full_scale/b", "full_scale0/c", "full_scal/d"):
        kept.put(f"s3://bucket/{name}", SIZE, "etag", FACTS)
    places = list(kept.places("s3://bucket/full_scale/", 10))
    assert places == [IndexPlace(SIZE, FACTS.index)] * 2
    assert len(list(kept.places("s3://bucket/full_scale/", 1))) == 1


@pytest.mark.parametrize(
    "change",
    ["index_stop = 2000", "timescale = 0", "timescale = 'x'", "key_frames = x'00'", "size = 50"],
)
def test_a_row_that_was_changed_counts_as_missing(tmp_path, table, change):
    kept = MediaTable(table)
    kept.put(URL, SIZE, "etag", FACTS)
    with closing(sqlite3.connect(tmp_path / "facts.sqlite")) as other, other:
        other.execute(f"UPDATE media SET {change}")  # noqa: S608
    assert kept.get(URL, SIZE, "etag") is None
    assert not list(kept.places("s3://bucket/full_scale/", 10))


@pytest.mark.parametrize(
    "change",
    [
        "index_stop = 2000",
        "timescale = 0",
        "timescale = 'x'",
        "key_frames = x'00'",
        "index_start = -1",
    ],
)
def test_a_row_with_impossible_values_counts_as_missing(table, change):
    kept = MediaTable(table)
    kept.put(URL, SIZE, "etag", FACTS)
    change_row(table, change)
    assert kept.get(URL, SIZE, "etag") is None


@pytest.mark.parametrize(
    "change",
    [
        "index_start = -1",
        "index_start = index_stop",
        "index_start = 0.5",
        "index_stop = 'x'",
        "index_stop = 2000",
        "size = 1000.5",
    ],
)
def test_an_impossible_place_is_left_out(table, change):
    kept = MediaTable(table)
    kept.put(f"{URL}1", SIZE, "etag", FACTS)
    kept.put(URL, SIZE, "etag", FACTS)
    change_row(table, change)
    assert list(kept.places("s3://bucket/full_scale/", 10)) == [IndexPlace(SIZE, FACTS.index)]


def change_row(table, change):
    """Change the row of URL as another program, or a fault of ours: its checksum is right."""
    columns = "url, size, etag, index_start, index_stop, timescale, end_ticks, key_frames"
    table.write(
        (f"UPDATE media SET {change} WHERE url = ?", [(URL,)]),  # noqa: S608
        (f"UPDATE media SET proof = proof({columns})", [()]),  # noqa: S608
    )
    assert table.rows_of("media", columns, (URL,))


def test_facts_that_sqlite_cannot_store_are_not_recorded(table):
    kept = MediaTable(table)
    kept.put(URL, SIZE, "etag", MediaFacts(FACTS.index, 1, 1 << 63, (0,), (0,), (5,)))
    kept.put(URL, 1 << 63, "etag", FACTS)
    assert not list(kept.places("s3://bucket/full_scale/", 10))


def test_a_database_without_the_table_gets_it(tmp_path):
    path: Path = tmp_path / "facts.sqlite"
    with closing(FactsTable(path)) as facts:
        facts.apply({URL: ObjectFacts(SIZE, "etag", "", 0)}, {})
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TABLE media")
    with closing(FactsTable(path)) as facts:
        MediaTable(facts).put(URL, SIZE, "etag", FACTS)
        assert MediaTable(facts).get(URL, SIZE, "etag") is not None
        assert facts.facts([URL])[URL].size == SIZE


def test_an_index_that_facts_cannot_describe_is_not_recorded(table):
    index = index_of(media.form("no sound"))
    samples = index.video.samples
    samples.offsets[:] = samples.offsets[::-1].copy()  # key frames in reverse order
    assert MediaTable(table).record(URL, index.size, "etag", index) is None


def test_about_the_bytes_of_a_window_are_known_without_its_index():
    """Of 200 windows nine in ten are within them and one part more; in all, a tenth is too much."""
    data = media.long_video(120, 1)
    index = index_of(data)
    facts, random = MediaFacts.of(index), Random(1)
    near, needed, complete = 0, 0, 0
    for _ in range(200):
        start_s = random.uniform(0, 117)
        found = facts.bytes_near(start_s, start_s + 2)
        ranges = index.byte_ranges(start_s, start_s + 2)
        assert found.start <= ranges[0].start
        complete += ranges[-1].stop <= found.stop + PART_SIZE
        near, needed = near + len(found), needed + ranges[-1].stop - ranges[0].start
    assert complete >= 180
    assert near <= 1.1 * needed


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (0, 4, (10, 300)),
        (0, 2, (10, 155)),
        (2, 6, (10, 445)),
        (4, 8, (280, 610)),
        (9, 100, (600, 900)),
        (50, 60, (600, 900)),
    ],
)
def test_a_part_of_the_last_group_is_as_long_as_its_seconds(start_s, end_s, expected):
    assert FACTS.bytes_near(start_s, end_s) == range(*expected)


def test_sound_that_is_elsewhere_in_the_file_is_not_in_the_groups():
    data = media.apart()
    index = index_of(data)
    facts, keys = MediaFacts.of(index), media.key_frames(index.video)
    assert list(facts.starts) == keys.offsets.tolist()
    assert facts.stops[-1] == keys.stop


def test_groups_after_the_end_of_the_sound_have_their_pictures_only():
    index = index_of(media.form("index at the end"))
    video, sound = index.tracks
    half = len(sound.samples) // 2
    samples = sound.samples
    shorter = Samples(
        samples.decode[: half + 1],
        *(values[:half] for values in (samples.present, samples.offsets, samples.sizes)),
        samples.is_key[:half],
        samples.description[:half],
    )
    shown = range(sound.shown.start, int(samples.decode[half]))
    early = replace(index, tracks=(video, replace(sound, samples=shorter, shown=shown)))
    facts, keys = MediaFacts.of(early), media.key_frames(video)
    first = len(keys.times) // 2 + 1
    assert list(facts.starts[first:]) == keys.offsets.tolist()[first:]
    assert list(facts.starts[1:3]) < keys.offsets.tolist()[1:3]


def test_too_many_key_frames_are_refused_before_they_are_listed(monkeypatch):
    monkeypatch.setattr(media_facts, "MAX_GROUPS", 5)
    index = index_of(media.form("no sound"))
    monkeypatch.setattr(MediaIndex, "groups", None)
    with pytest.raises(ValueError, match="more than 5 key frames"):
        MediaFacts.of(index)


def test_facts_of_an_object_with_a_name_that_is_no_text_are_not_recorded(table):
    kept = MediaTable(table)
    kept.put(URL, SIZE, "\udc80", FACTS)
    kept.put(URL + "\udc80", SIZE, "etag", FACTS)
    assert not list(kept.places("s3://bucket/full_scale/", 10))
