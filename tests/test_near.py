"""The near tier: what one node has fetched, no other node fetches from S3."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import StoreUnavailable
from ego4dfs.near import limits
from ego4dfs.near.chunks import chunk_of, facts_name, lease_name
from kit.data import MIB, seeded
from kit.gateway import Faults, Reply
from kit.near import PATIENT, near_store, read, written

SIZES = {"empty.csv": 0, "small.pt": 58_000, "one.bin": MIB, "video.mp4": 3 * MIB + 12_345}
FILES = {name: seeded(name, size) for name, size in SIZES.items()}
MORE = {f"{number}.pt": seeded(str(number), 40_000 + 977 * number) for number in range(40)}
TOTAL = sum(SIZES.values())
QUICK = replace(PATIENT, request_s=0.5, slow_s=0.3, failures=2, flush_s=0.1)


@pytest.fixture
def files(release):
    """A dataset of small and large files; returns the path of each by its name."""
    release.metadata(b"{}")
    release.dataset("clips", FILES)
    return {name: f"/{release.version}/clips/{name}" for name in FILES}


@pytest.fixture
def node(near, release):
    options = {"version": release.version, "datasets": ["clips"]}
    return lambda name, **more: near.node(name, **options, **more)


@pytest.fixture
def filled(near, node, files):
    """The near tier has all files."""
    first = node("first")
    read_all(first, files)
    written(first)
    near.far.reset()
    return first


def read_all(vfs, files, content=FILES):
    """Read all files in random order, and check each byte."""
    names = list(files)
    random.shuffle(names)
    for name in names:
        assert read(vfs, files[name]) == content[name]


def test_a_second_node_fetches_no_byte_from_s3(near, node, files):
    first = node("first")
    read_all(first, files)
    written(first)
    assert first.session.metrics.bytes_fetched <= 1.02 * TOTAL
    near.far.reset()
    second = node("second")
    read_all(second, files)
    written(second)
    counters = second.status()
    assert counters["bytes_fetched"] == 0
    assert counters["bytes_from_near"] >= TOTAL
    assert counters["near"] == "ok"
    assert near.far.methods["GET"] == 1 + (SIZES["empty.csv"] == 0)  # revalidation, no first byte
    assert near.keys("leases") == []


def test_nodes_that_read_at_once_fetch_each_byte_once(near, node, release):
    release.metadata(b"{}")
    content = {**FILES, **MORE}
    release.dataset("clips", content)
    files = {name: f"/{release.version}/clips/{name}" for name in content}
    nodes = [node(name) for name in ("a", "b", "c")]
    for vfs in nodes:
        vfs.listdir(f"/{release.version}/clips")  # manifests are not objects
    near.far.reset()
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(read_all, vfs, files, content) for vfs in nodes]:
            done.result()
    assert near.far.bytes_sent <= 1.02 * sum(map(len, content.values()))


def test_nodes_that_miss_the_same_file_at_once_send_one_request(near, node, files):
    nodes = [node(name) for name in ("a", "b", "c")]
    for vfs in nodes:
        vfs.stat(files["one.bin"])  # so that all know what to fetch
    near.far.reset()
    near.far.faults = Faults(latency_s=0.3)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda vfs: read(vfs, files["one.bin"]), nodes))
    assert found == [FILES["one.bin"]] * 3
    assert near.far.methods["GET"] == 1


@pytest.mark.parametrize("knows_facts", [True, False])
def test_a_lease_of_a_node_that_ended_expires(near, node, release, files, knows_facts, monkeypatch):
    monkeypatch.setattr(limits, "DEFAULT", replace(PATIENT, lease_s=1.0))
    vfs = node("waits")
    url = release.url("clips/one.bin")
    source, facts = vfs.session.store.source, near_store(vfs).far.head(url)
    name = facts_name(source, url)
    if knows_facts:
        vfs.session.facts.record(url, facts)
        name = chunk_of(ObjectRef.of(source, url, facts.size, facts.etag), 0).name
    near.put(f"{near.prefix}/{lease_name(name)}", b"a node that was killed")
    assert read(vfs, files["one.bin"]) == FILES["one.bin"]
    written(vfs)
    assert near.keys("leases") == []
    assert vfs.session.metrics.bytes_fetched == MIB


def test_without_s3_nodes_go_on_with_what_is_near(near, node, files, filled):
    second = node("second")
    second.listdir("/")
    near.far.stop()
    read_all(second, {name: path for name, path in files.items() if SIZES[name]})
    third = node("third")  # not even its manifests were fetched
    read_all(third, {name: path for name, path in files.items() if SIZES[name]})
    assert third.session.metrics.bytes_fetched == 0


def test_without_s3_what_is_not_near_is_an_error(near, node, files):
    vfs = node("cold")
    vfs.listdir("/")
    near.far.stop()
    with pytest.raises(StoreUnavailable):
        read(vfs, files["small.pt"])


NEAR_FAULTS = {
    "answers 503": {"reply": Reply(503)},
    "is full": {"reply": Reply(507), "method": "PUT"},
    "answers 403": {"reply": Reply(403)},
    "answers 404 to all": {"reply": Reply(404)},
    "answers 200 without a body": {"reply": Reply(200)},
    "answers another page": {"reply": Reply(200, body=b"<html>log in</html>")},
    "resets connections": {"reset_every": 1},
    "sends no HTTP": {"garbage": b"\0" * 40},
    "flips bytes": {"flip_byte": True},
    "sends short bodies": {"cut_body_at": 100},
    "does not answer": {"stall_s": 1.0},
    "stalls in bodies": {"stall_body_s": 1.0},
}


def test_a_near_tier_that_fails_costs_no_byte(near, node, files, filled, monkeypatch):
    monkeypatch.setattr(limits, "DEFAULT", QUICK)
    for number, (fault, faults) in enumerate(NEAR_FAULTS.items()):
        near.gateway.reset()
        near.gateway.faults = Faults(**faults)
        vfs = node(fault, fill_near=number % 2 == 0)
        read_all(vfs, files)
        vfs.close()


def test_a_near_tier_that_is_gone_is_not_asked_for_a_while(near, node, files, filled, monkeypatch):
    monkeypatch.setattr(limits, "DEFAULT", QUICK)
    near.gateway.stop()
    vfs = node("second")
    read_all(vfs, files)
    counters = vfs.status()
    assert counters["near"] == "failing"
    assert counters["near_failures"] <= 2 * QUICK.failures
    assert counters["bytes_fetched"] >= TOTAL


def test_a_near_tier_that_sends_damaged_bytes_is_not_asked_for_a_while(
    near, node, files, filled, monkeypatch
):
    monkeypatch.setattr(limits, "DEFAULT", replace(PATIENT, failures=2))
    near.gateway.faults = Faults(flip_byte=True)
    vfs = node("second")
    read_all(vfs, files)
    assert vfs.status()["near"] == "failing"
    assert vfs.session.metrics.near_failures <= 4


@pytest.mark.parametrize("failures", [1, 2, 4])
def test_a_near_tier_that_sends_damaged_bytes_is_not_filled(
    near, node, release, monkeypatch, failures
):
    """The nodes would write everything again, each for the others, which cannot read it."""
    content = seeded("long", 12 * MIB)
    release.metadata(b"{}")
    release.dataset("clips", {"long.mp4": content})
    path = f"/{release.version}/clips/long.mp4"
    first = node("first")
    assert read(first, path) == content
    written(first)
    monkeypatch.setattr(limits, "DEFAULT", replace(PATIENT, failures=failures))
    near.gateway.reset()
    near.gateway.faults = Faults(flip_byte=True)
    second = node("second")
    assert read(second, path) == content
    written(second)
    rewritten = [one for one in near.gateway.log if one[0] == "PUT" and "/chunks/" in one[1]]
    assert len(rewritten) < failures
    assert second.status()["near"] == "failing"
    assert second.status()["bytes_fetched"] <= 13 * MIB


def test_damaged_objects_are_replaced(near, node, files, filled):
    """All of them were written like this: they arrive as the store has them, and reads go on."""
    for key in near.keys(""):
        data = bytearray(near.content(key))
        data[-1] ^= 1
        near.put(key, bytes(data))
    second = node("second")
    read_all(second, files)
    written(second)
    assert second.session.metrics.near_failures > 4
    assert second.status()["near"] == "ok"
    third = node("third")
    read_all(third, files)
    assert third.session.metrics.bytes_fetched == 0


def test_a_chunk_under_the_name_of_another_is_not_used(near, node, files, filled):
    first, *_, last = near.keys("chunks")
    near.put(first, near.content(last))
    second = node("second")
    read_all(second, files)
    assert second.session.metrics.near_failures > 0


def test_a_new_version_of_an_object_replaces_the_old_one(near, node, release, files, filled):
    new = seeded("new", 30_000)
    release.put("clips/small.pt", new)
    near.remove("chunks")
    for name in ("second", "third"):
        vfs = node(name)
        assert read(vfs, files["small.pt"]) == new
        written(vfs)
    assert vfs.session.metrics.bytes_fetched == 0


def test_without_fill_near_nothing_is_written(near, node, files):
    vfs = node("reads", fill_near=False)
    read_all(vfs, files)
    assert near.gateway.methods["PUT"] == 0
    assert near.keys("") == []
    assert vfs.session.metrics.bytes_fetched <= 1.02 * TOTAL


def test_a_closing_node_finishes_its_writes(near, node, files):
    vfs = node("first")
    near.gateway.faults = Faults(latency_s=0.05, method="PUT")
    assert read(vfs, files["small.pt"]) == FILES["small.pt"]
    vfs.close()
    assert len(near.keys("chunks")) == len(near.keys("facts")) == 1
    assert near.keys("leases") == []


def test_an_object_whose_bytes_disagree_with_its_etag_comes_from_s3(near, node, files, filled):
    second = node("second")
    url = second.open(files["one.bin"]).ref.url
    before = len(near.keys("chunks"))
    near_store(second).renew(url)
    assert read(second, files["one.bin"]) == FILES["one.bin"]
    assert second.session.metrics.bytes_fetched == MIB // 2  # a half came with the open
    written(second)
    assert len(near.keys("chunks")) == before - 1


def test_a_first_answer_that_s3_does_not_confirm_is_not_written(near, node, files):
    """A proxy has answered the first GET of a file with the bytes of another one."""
    first = node("first")
    store, far = near_store(first), near_store(first).far
    one = next(url for url in _urls(first, files) if url.endswith("one.bin"))
    small = next(url for url in _urls(first, files) if url.endswith("small.pt"))

    class Shifted:
        """The far store, with the answer for one object sent for the other."""

        source, head, renew, close = far.source, far.head, far.renew, far.close

        def read_range(self, url, start, stop, **pins):
            return far.read_range(small if url == one else url, start, stop, **pins)

    store.far = Shifted()
    assert store.read_range(one, 0, 10).data == FILES["small.pt"][:10]
    assert store.writes.flush(60)
    store.far = far
    assert near.keys("chunks") == near.keys("facts") == []
    assert read(node("second"), files["one.bin"]) == FILES["one.bin"]


class Together:
    """The far store, whose first answers wait for each other."""

    def __init__(self, far, answered: threading.Barrier) -> None:
        self.source, self.head, self.renew, self.close = far.source, far.head, far.renew, far.close
        self._read_range, self._answered = far.read_range, answered

    def read_range(self, url, start, stop, **pins):
        self._answered.wait()
        return self._read_range(url, start, stop, **pins)


@pytest.mark.parametrize("count", [1000, 2 * MIB - 1000, 4 * MIB])
def test_the_end_of_an_object_is_shared_in_whole_chunks(near, node, files, count):
    """3 MiB and 12,345 bytes have four chunks, of which the last is short."""
    data = FILES["video.mp4"]
    first = node("first")
    url = next(url for url in _urls(first, files) if url.endswith("video.mp4"))
    found = near_store(first).read_range(url, -count, 0)
    assert bytes(found.data) == data[-count:]
    written(first)
    first_chunk = -(-max(0, len(data) - count - MIB) // MIB)
    assert len(near.keys("chunks")) == 4 - first_chunk
    near.far.reset()
    second = near_store(node("second"))
    pins = {"etag": found.facts.etag, "size": len(data)}
    assert (
        second.read_range(url, first_chunk * MIB, len(data), **pins).data
        == data[first_chunk * MIB :]
    )
    assert second.read_range(url, -count, 0).data == data[-count:]
    assert not [path for _, path, _ in near.far.log if path.endswith("video.mp4")]
    assert second.read_range(url, 0, len(data), **pins).data == data


def test_nodes_that_fetch_both_ends_at_once_do_not_wait_for_each_other(
    near, node, files, monkeypatch
):
    monkeypatch.setattr(limits, "DEFAULT", replace(PATIENT, lease_s=600))
    first, second = node("first"), node("second")
    url = next(url for url in _urls(first, files) if url.endswith("video.mp4"))
    ends = threading.Barrier(2, timeout=60)
    for store in map(near_store, (first, second)):
        store.far = Together(store.far, ends)
    with ThreadPoolExecutor(2) as pool:
        head = pool.submit(near_store(first).read_range, url, 0, 100)
        tail = pool.submit(near_store(second).read_range, url, -100, 0)
        assert (head.result().data, tail.result().data) == (
            FILES["video.mp4"][:100],
            FILES["video.mp4"][-100:],
        )


def _urls(vfs, files):
    return [vfs.origin(path).url for path in files.values()]
