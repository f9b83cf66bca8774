"""StoreContract: the tests that every ObjectStore passes, as a pytest class to subclass."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ego4dfs.errors import ObjectChanged, ObjectMissing, StoreError
from ego4dfs.store import Fetched, ObjectStore, WrongSize

DATA = bytes(range(256)) * 40
LONG = bytes(range(256)) * 3000 + b"end"
KEYS = [
    "space in/a name.mp4",
    "plus+and+plus",
    "hash#tag",
    "percent%20and%2Fand%",
    "tilde~star*",
    "question?and&amp=;,",
    "quote'and\"and`",
    "bräcket[naïve]日本.csv",
    "deep/" + "d/" * 40 + "x",
    "colon:at@back\\slash",
]
INVALID_URLS = [
    *["", "s3://", "s3://bucket", "s3://bucket/", "http://a/b", "a/b", "s3:///key"],
    *["s3://a b/k", "s3://x@evil/k", "s3://a#/k", "s3://a?/k", "s3://../k", "s3://a..b/k"],
    *["s3://a\nb/k", "s3://[::1]/k", "s3://bücket/k", "s3://a%2F/k", "s3://a:80/k"],
]


@dataclass(frozen=True)
class StoreUnderTest:
    """A store, and a way to put objects where it reads them.

    `put` puts or replaces the object with a key, and returns its URL; `url` returns the URL of a
    key. The bucket may be any, and keys may get a prefix.
    """

    store: ObjectStore
    put: Callable[[str, bytes], str]
    url: Callable[[str], str]


def fetched(found: Fetched | None) -> Fetched:
    """Return what a read without a condition has fetched."""
    assert found is not None
    return found


class StoreContract:
    """What the rest of ego4dfs expects of an ObjectStore.

    A subclass gives a fixture `under_test` that returns a StoreUnderTest, with a bucket or a prefix
    that is empty for each test.
    """

    def test_head_reports_size_etag_and_time(self, under_test: StoreUnderTest) -> None:
        before_s = int(time.time()) - 1
        facts = under_test.store.head(under_test.put("a.bin", DATA))
        assert facts.size == len(DATA)
        assert facts.etag
        assert '"' not in facts.etag
        assert before_s <= facts.mtime_ns / 1e9 <= time.time() + 2

    def test_head_and_get_report_the_same_facts(self, under_test: StoreUnderTest) -> None:
        url = under_test.put("a.bin", DATA)
        assert under_test.store.head(url) == under_test.store.read_range(url, 7, 9).facts

    @pytest.mark.parametrize(
        ("start", "stop"),
        [(0, 1), (0, len(DATA)), (100, 200), (len(DATA) - 1, len(DATA)), (255, 257)],
    )
    def test_a_range_has_exactly_the_requested_bytes(
        self, under_test: StoreUnderTest, start: int, stop: int
    ) -> None:
        found = under_test.store.read_range(under_test.put("a.bin", DATA), start, stop)
        assert (bytes(found.data), found.start) == (DATA[start:stop], start)

    @pytest.mark.parametrize("start", [0, 5, len(DATA) - 1])
    def test_a_range_past_the_end_is_truncated(
        self, under_test: StoreUnderTest, start: int
    ) -> None:
        found = under_test.store.read_range(under_test.put("a.bin", DATA), start, 10 * len(DATA))
        assert bytes(found.data) == DATA[start:]

    @pytest.mark.parametrize("count", [1, 300, len(DATA) - 1, len(DATA), 10 * len(DATA)])
    def test_a_negative_start_counts_from_the_end(
        self, under_test: StoreUnderTest, count: int
    ) -> None:
        url = under_test.put("a.bin", DATA)
        found = under_test.store.read_range(url, -count, 0)
        assert (bytes(found.data), found.start) == (DATA[-count:], max(0, len(DATA) - count))
        assert found.facts == under_test.store.head(url)

    def test_a_pinned_range_from_the_end_is_of_the_pinned_version(
        self, under_test: StoreUnderTest
    ) -> None:
        url = under_test.put("a.bin", DATA)
        facts = under_test.store.head(url)
        found = under_test.store.read_range(url, -9, 0, etag=facts.etag, size=facts.size)
        assert (bytes(found.data), found.start) == (DATA[-9:], len(DATA) - 9)
        with pytest.raises(ObjectChanged):
            under_test.store.read_range(url, -9, 0, etag="0" * 32)

    @pytest.mark.parametrize("start", [len(DATA), len(DATA) + 1])
    def test_a_range_that_starts_at_the_end_is_refused(
        self, under_test: StoreUnderTest, start: int
    ) -> None:
        """By StoreError itself, not one of its subclasses: it says nothing about the object."""
        url = under_test.put("a.bin", DATA)
        with pytest.raises(StoreError) as caught:
            under_test.store.read_range(url, start, start + 1)
        assert type(caught.value) is StoreError

    def test_an_empty_object_has_facts_and_can_be_read_whole(
        self, under_test: StoreUnderTest
    ) -> None:
        url = under_test.put("empty", b"")
        assert under_test.store.head(url).size == 0
        assert bytes(fetched(under_test.store.read(url)).data) == b""

    def test_an_empty_object_has_no_range(self, under_test: StoreUnderTest) -> None:
        url = under_test.put("empty", b"")
        for start, stop in ((0, 1), (-1, 0)):
            with pytest.raises(StoreError) as caught:
                under_test.store.read_range(url, start, stop)
            assert type(caught.value) is StoreError

    def test_a_pinned_range_is_of_the_pinned_version(self, under_test: StoreUnderTest) -> None:
        url = under_test.put("a.bin", DATA)
        etag = under_test.store.head(url).etag
        assert bytes(under_test.store.read_range(url, 3, 9, etag=etag).data) == DATA[3:9]

    def test_a_pinned_read_of_a_replaced_object_is_an_error(
        self, under_test: StoreUnderTest
    ) -> None:
        """An object replaced by one of the same size is noticed, and no byte of it returned."""
        url = under_test.put("a.bin", DATA)
        etag = under_test.store.head(url).etag
        under_test.put("a.bin", DATA[::-1])
        with pytest.raises(ObjectChanged):
            under_test.store.read_range(url, 0, 10, etag=etag)

    def test_a_wrong_size_is_an_error_with_the_true_facts(self, under_test: StoreUnderTest) -> None:
        """The size that the caller assumes is compared, even if the ETag is the same."""
        url = under_test.put("a.bin", DATA)
        facts = under_test.store.head(url)
        for size in (len(DATA) - 1, len(DATA) + 1):
            with pytest.raises(WrongSize) as caught:
                under_test.store.read_range(url, 0, 10, etag=facts.etag, size=size)
            assert caught.value.facts == facts

    @pytest.mark.parametrize(
        ("start", "stop"), [(0, len(LONG)), (1, 600_000), (len(LONG) - 1, len(LONG))]
    )
    def test_a_streamed_range_arrives_whole_and_in_order(
        self, under_test: StoreUnderTest, start: int, stop: int
    ) -> None:
        """The sink gets each byte once."""
        url = under_test.put("long.bin", LONG)
        got = bytearray()

        def sink(offset: int, data: memoryview) -> None:
            assert offset == start + len(got)
            got.extend(data)

        etag = under_test.store.head(url).etag
        under_test.store.stream_range(url, start, stop, sink, etag=etag)
        assert got == LONG[start:stop]

    def test_a_stream_of_a_replaced_object_is_an_error(self, under_test: StoreUnderTest) -> None:
        """No byte of the new version reaches the sink."""
        url = under_test.put("a.bin", DATA)
        etag = under_test.store.head(url).etag
        under_test.put("a.bin", DATA[::-1])
        with pytest.raises(ObjectChanged):
            under_test.store.stream_range(
                url, 0, 10, lambda *_: pytest.fail("got bytes"), etag=etag
            )

    def test_an_error_of_a_sink_does_not_count_as_an_answer(
        self, under_test: StoreUnderTest
    ) -> None:
        """What a sink raises is passed on unchanged."""
        url = under_test.put("a.bin", DATA)

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "no space left")

        with pytest.raises(OSError, match="no space left"):
            under_test.store.stream_range(url, 0, 10, full, etag=under_test.store.head(url).etag)

    def test_a_replaced_object_has_another_etag(self, under_test: StoreUnderTest) -> None:
        first = under_test.store.head(under_test.put("a.bin", DATA))
        second = under_test.store.head(under_test.put("a.bin", DATA[::-1]))
        assert first.etag != second.etag

    def test_a_missing_object_is_reported_as_missing(self, under_test: StoreUnderTest) -> None:
        """Also one in a bucket that does not exist; the error has its URL."""
        store = under_test.store
        for where in (under_test.url("not/there"), "s3://no-such-bucket-here/key"):
            for ask in (store.head, store.read, lambda url: store.read_range(url, 0, 1)):
                with pytest.raises(ObjectMissing) as caught:
                    ask(where)
                assert caught.value.url == where

    def test_a_prefix_is_not_an_object(self, under_test: StoreUnderTest) -> None:
        under_test.put("directory/a.bin", DATA)
        with pytest.raises(ObjectMissing):
            under_test.store.head(under_test.url("directory"))

    @pytest.mark.parametrize("key", KEYS)
    def test_a_key_is_used_verbatim(self, under_test: StoreUnderTest, key: str) -> None:
        """Nothing in a key is an escape, a pattern or a separator."""
        url = under_test.put(key, key.encode())
        assert under_test.store.head(url).size == len(key.encode())
        assert bytes(under_test.store.read_range(url, 0, 1000).data) == key.encode()
        assert bytes(fetched(under_test.store.read(url)).data) == key.encode()

    def test_a_key_with_an_escape_is_not_the_key_without(self, under_test: StoreUnderTest) -> None:
        """`a%20b` and `a b` are two keys."""
        under_test.put("a b", b"plain")
        with pytest.raises(ObjectMissing):
            under_test.store.head(under_test.url("a%20b"))

    def test_read_returns_the_whole_object(self, under_test: StoreUnderTest) -> None:
        found = fetched(under_test.store.read(under_test.put("a.bin", DATA)))
        assert (bytes(found.data), found.start, found.facts.size) == (DATA, 0, len(DATA))

    def test_read_returns_none_while_the_etag_is_the_same(self, under_test: StoreUnderTest) -> None:
        url = under_test.put("a.bin", DATA)
        etag = fetched(under_test.store.read(url)).facts.etag
        assert under_test.store.read(url, unless_etag=etag) is None

    def test_read_returns_the_object_after_it_was_replaced(
        self, under_test: StoreUnderTest
    ) -> None:
        url = under_test.put("a.bin", DATA)
        etag = fetched(under_test.store.read(url)).facts.etag
        under_test.put("a.bin", b"new")
        assert bytes(fetched(under_test.store.read(url, unless_etag=etag)).data) == b"new"

    @pytest.mark.parametrize("url", INVALID_URLS)
    def test_an_invalid_object_url_is_refused(self, under_test: StoreUnderTest, url: str) -> None:
        """Before a request is sent to a host that such a URL may name."""
        with pytest.raises(StoreError):
            under_test.store.head(url)

    def test_source_does_not_change(self, under_test: StoreUnderTest) -> None:
        """It is a part of all cache keys."""
        before = under_test.store.source
        under_test.store.head(under_test.put("a.bin", DATA))
        assert under_test.store.source == before != ""
