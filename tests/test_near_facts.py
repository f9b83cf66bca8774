"""Facts in the near tier: one node asks S3 for sizes and indexes of videos, and all know them."""

import json
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from ego4dfs.metrics import Metrics
from ego4dfs.near import NearTier, SharedFacts, fact_table, shared_facts
from ego4dfs.near.chunks import Damaged, encoded, table_name
from ego4dfs.near.fact_table import Row, directory_of, merged, packed, unpacked
from ego4dfs.near.tier import NearFailed
from ego4dfs.near.writes import Writes
from ego4dfs.store import MAX_OBJECT_BYTES, MAX_TIME_NS, ObjectFacts
from ego4dfs.store.bucket import Bucket
from ego4dfs.vfs.video import open_video
from kit import media
from kit.cli import run_cli
from kit.data import MIB, seeded
from kit.gateway import Faults, Reply
from kit.locked_sqlite import locked
from kit.near import BUCKET, PATIENT, PROFILE, near_store, read, written

pytestmark = pytest.mark.first_pass

FILES = {f"{number}.pt": seeded(str(number), 1000 + number) for number in range(150)}
SECONDS = 20
DIRECTORY = "public/v2/clips"
PREFIX = f"s3://bucket/{DIRECTORY}/"
FACTS = ObjectFacts(3, "abc", "v1", 5)


@pytest.fixture
def node(near, release):
    options = {"version": release.version, "datasets": ["clips"], "metadata": False}
    return lambda name, **more: near.node(name, **{**options, **more})


@pytest.fixture
def directory(release):
    """A dataset of small files; returns its directory."""
    release.dataset("clips", FILES)
    return f"/{release.version}/clips"


@pytest.fixture
def known(near, node, directory):
    """One node has asked S3 for all facts."""
    sizes(node("first"), directory)
    near.far.reset()
    near.gateway.reset()


def sizes(vfs, directory):
    """Return the sizes of all files as `ls -l` does, in a moment when all is written."""
    names = [entry.name for entry in vfs.listdir(directory) if entry.name != "manifest.csv"]
    found = {name: vfs.stat(f"{directory}/{name}").size for name in names}
    assert vfs.session.facts._sweeps.wait(60)
    written(vfs)
    return found


def expected():
    return {name: len(data) for name, data in FILES.items()}


def url_in(vfs, directory, name):
    return vfs.origin(f"{directory}/{name}").url


def test_a_second_node_lists_sizes_without_a_head(near, node, directory, known):
    vfs = node("second", fill_near=False)
    assert sizes(vfs, directory) == expected()
    assert near.far.methods["HEAD"] == 0
    assert near.gateway.requests == 2  # the manifest, and the facts of all files
    assert len(near.keys("tables")) == 1


def test_the_second_ls_sends_no_head(near, release, directory, run_here, tmp_path):
    words = ["--near", f"s3://{BUCKET}/{near.prefix}", "--near-profile", PROFILE, "--fill-near"]
    words += ["--near-endpoint", near.gateway.url, "--endpoint-url", near.far.url]
    words += ["--version", release.version, "--datasets", "clips", "--no-metadata"]

    def ls(name):
        return run_here("ls", "-l", directory, *words, "--cache-dir", str(tmp_path / name)).stdout

    listed = ls("a")
    assert near.far.methods["HEAD"] == len(FILES)
    near.far.reset()
    assert ls("b") == listed
    assert near.far.methods["HEAD"] == 0


def test_threads_that_look_at_once_wait_for_one_table(near, node, directory, known):
    vfs = node("second")
    names = [entry.name for entry in vfs.listdir(directory)]
    near.gateway.faults = Faults(latency_s=0.3)
    near.gateway.reset()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: vfs.stat(f"{directory}/{name}"), names[:20]))
    assert vfs.session.facts._sweeps.wait(60)
    assert near.far.methods["HEAD"] == 0
    assert near.gateway.requests == 1


def test_files_of_a_known_directory_need_no_facts_of_their_own(near, node, directory):
    first = node("first")
    for name in FILES:
        read(first, f"{directory}/{name}")
    written(first)
    near.far.reset()
    near.gateway.reset()
    second = node("second")
    assert read(second, f"{directory}/7.pt") == FILES["7.pt"]
    assert near.far.methods["HEAD"] == 0
    assert second.session.metrics.bytes_fetched == 0
    assert near.gateway.methods["GET"] == 3  # manifest, table, chunk


def test_a_plan_of_another_node_sends_no_head(near, node, directory, known):
    vfs = node("second")
    urls = [url_in(vfs, directory, name) for name in FILES]
    vfs.session.facts.sweep(urls)
    assert vfs.session.facts._sweeps.wait(60)
    assert len(vfs.session.facts.peek_many(urls)) == len(FILES)
    assert near.far.methods["HEAD"] == 0


def test_what_is_known_is_kept_on_disk(near, node, directory, known):
    vfs = node("second")
    vfs.stat(f"{directory}/1.pt")
    vfs.close()
    near.gateway.stop()
    again = node("second")
    assert sizes_of_some(again, directory) == [len(FILES["2.pt"])]
    assert near.far.methods["HEAD"] == 0


def sizes_of_some(vfs, directory):
    return [vfs.stat(f"{directory}/2.pt").size]


@pytest.mark.parametrize(
    "faults",
    [
        {"reply": Reply(503)},
        {"reply": Reply(404)},
        {"reply": Reply(200, body=b"<html>")},
        {"flip_byte": True},
        {"cut_body_at": 100},
    ],
    ids="-".join,
)
def test_without_the_table_s3_is_asked(near, node, directory, known, faults):
    near.gateway.faults = Faults(**faults)
    assert sizes(node("second", fill_near=False), directory) == expected()
    assert near.far.methods["HEAD"] == len(FILES)


def test_ego4d_json_is_asked_of_s3_by_each_node(near, release, node, directory, known):
    release.metadata(b"{}")
    vfs = node("second", metadata=True)
    vfs.stat("/ego4d.json")
    assert near.far.methods["HEAD"] == 1


def test_while_the_index_of_facts_is_locked_the_facts_are_used(near, node, directory, known):
    vfs = node("second")
    [database] = near.directory.glob("cache-second/**/facts.sqlite")
    with locked(database):
        assert vfs.stat(f"{directory}/7.pt").size == len(FILES["7.pt"])
    assert near.far.methods["HEAD"] == 0


def test_facts_of_objects_with_the_same_etag_are_not_shared(near, node, release):
    """The answer for one of them may have been sent for the other."""
    release.dataset("clips", {"a.pt": b"same", "b.pt": b"same", "c.pt": b"other"})
    for name in ("first", "second"):
        vfs = node(name)
        assert [vfs.stat(f"/{release.version}/clips/{n}.pt").size for n in "abc"] == [4, 4, 5]
        written(vfs)
        heads, _ = near.far.methods["HEAD"], near.far.reset()
    assert heads == 1


# Facts that are wrong


def test_facts_of_an_object_that_was_replaced_cost_one_request(near, release, node, directory):
    sizes(node("first"), directory)
    new = seeded("new", 30_000)
    release.put("clips/7.pt", new)
    near.far.reset()
    second = node("second")
    path = f"{directory}/7.pt"
    assert second.stat(path).size == len(FILES["7.pt"])  # as it was when a node has asked
    assert read(second, path) == new
    assert second.stat(path).size == len(new)
    assert near.far.methods["HEAD"] <= 2
    written(second)
    near.far.reset()
    third = node("third")
    assert third.stat(path).size == len(new)
    assert read(third, path) == new
    assert near.far.methods["HEAD"] == 0


def planted(near, vfs, url, facts):
    """Replace the facts of an object in its table by others, with a right checksum."""
    name = table_name(vfs.session.store.source, directory_of(url))
    content = packed({url: Row(facts, int(time.time()) + 9999)})
    near.put(f"{near.prefix}/{name}", encoded(name, content))


@pytest.mark.parametrize("what", ["size", "etag", "both", "none"])
@pytest.mark.parametrize("fills", [True, False])
def test_wrong_facts_give_no_wrong_byte(near, node, directory, known, what, fills):
    vfs = node("second", fill_near=fills)
    url, other = (url_in(vfs, directory, name) for name in ("7.pt", "8.pt"))
    right, wrong = (near_store(vfs).far.head(one) for one in (url, other))
    facts = {
        "size": ObjectFacts(right.size - 9, right.etag, "", 0),
        "etag": ObjectFacts(right.size, wrong.etag, "", 0),
        "both": wrong,
        "none": ObjectFacts(0, right.etag, "", 0),
    }
    planted(near, vfs, url, facts[what])
    near.far.reset()
    assert read(vfs, f"{directory}/7.pt") == FILES["7.pt"]
    assert near.far.requests <= 4
    assert vfs.stat(f"{directory}/7.pt").size == right.size


def test_facts_that_were_found_wrong_are_not_read_again(near, node, directory, known, monkeypatch):
    monkeypatch.setattr(shared_facts, "REREAD_S", 0.0)
    vfs = node("second", fill_near=False)
    url = url_in(vfs, directory, "7.pt")
    vfs.session.facts.get(url)
    near.far.reset()
    vfs.session.facts.remove(url)
    planted(near, vfs, url, facts_of(7))  # another node has replaced the table
    assert vfs.session.facts.get(url).size == len(FILES["7.pt"])
    assert near.far.methods["HEAD"] == 1


def test_bytes_that_were_wrong_take_the_media_facts_with_them(near, node, filmed):
    first = node("first")
    open_video(first, filmed)
    url = first.origin(filmed).url
    written(first)
    assert len(near.keys("media")) == 1
    near_store(first).renew(url)
    written(first)
    assert near.keys("media") == []


# Videos


@pytest.fixture
def filmed(release):
    """A video with its index at the end; returns its path."""
    release.dataset("clips", {"a.mp4": media.long_video(SECONDS, 1)})
    return f"/{release.version}/clips/a.mp4"


def test_the_first_window_of_a_second_node_costs_no_index(near, node, filmed):
    first = node("first")
    open_video(first, filmed).cut(0, 1)
    written(first)
    second = node("second")
    fetched = second.session.metrics
    video = open_video(second, filmed)
    assert fetched.bytes_fetched == 0
    ref = video.handle.ref
    facts = second.session.facts.media.get(ref.url, ref.size, ref.etag)
    assert facts == first.session.facts.media.get(ref.url, ref.size, ref.etag)
    cut = video.cut(12, 13)
    needed = sum(len(piece) for piece in cut.pieces)
    for piece in cut.pieces:
        video.read(piece.start, len(piece))
    assert 0 < fetched.bytes_fetched <= needed + 3 * MIB


def test_the_place_of_an_index_is_known_before_it_is_read(near, node, filmed):
    first = node("first")
    open_video(first, filmed)
    written(first)
    second = node("second")
    handle = second.open(filmed)
    found = second.video_facts.fetch_ahead(handle.ref)
    assert found is not None
    assert second.session.metrics.bytes_fetched == 0


def test_media_facts_are_requested_once(near, node, filmed):
    vfs = node("first", fill_near=False)
    ref = vfs.open(filmed).ref
    near.gateway.reset()
    for _ in range(3):
        assert vfs.session.facts.media.get(ref.url, ref.size, ref.etag) is None
    assert near.gateway.requests == 0  # the open has asked


# Tables


@pytest.fixture
def shared(near):
    """Make SharedFacts of a node; the timer does not run."""
    made = []

    def make(**more):
        url = f"s3://{BUCKET}/{near.prefix}"
        bucket = Bucket(url, endpoint_url=near.gateway.url, profile=PROFILE)
        tier = NearTier(bucket, Metrics(), PATIENT)
        writes = Writes(tier)
        found = SharedFacts("s3", tier, writes, **{"fills": True, **more})
        made.append((found, writes, bucket))
        found.flush = lambda: (found.write(), writes.flush(60))
        return found

    yield make
    for found, writes, bucket in made:
        found.close()
        writes.close()
        bucket.close()


def facts_of(number):
    return ObjectFacts(number + 1, f"e{number}", "", number)


def test_nodes_that_write_at_once_lose_no_fact(near, shared):
    nodes = [shared() for _ in range(4)]
    for number, node in enumerate(nodes):
        for name in range(number * 10, number * 10 + 10):
            node.add(f"{PREFIX}{name}", facts_of(name), 100)
    gate = near.gateway.faults.gate = threading.Event()
    for node in nodes:
        node.write()
    gate.set()
    for node in nodes:
        node.flush()
        node.flush()  # what other nodes were faster with
    reader = shared()
    found = reader.facts([PREFIX + "0"])
    assert found == {f"{PREFIX}{name}": facts_of(name) for name in range(40)}


def test_a_table_is_written_after_a_while_without_an_end(near, shared, monkeypatch):
    monkeypatch.setattr(shared_facts, "WRITE_AFTER_S", 0.1)
    node, other = shared(), shared(fills=False)
    node.add(PREFIX + "a", FACTS, 100)
    monkeypatch.setattr(shared_facts, "REREAD_S", 0.0)
    ends_s = time.monotonic() + 60
    while not other.facts([PREFIX + "a"]):
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def test_long_tables_are_written_less_often(near, shared, monkeypatch):
    monkeypatch.setattr(shared_facts, "WRITE_BYTES_PER_S", 1)
    node = shared()
    for number in range(2):
        node.add(f"{PREFIX}{number}", facts_of(number), 100)
        waits_s = node._timer.interval
        node.flush()
    assert waits_s > 2 * shared_facts.WRITE_AFTER_S


def test_a_timer_that_a_fork_has_ended_is_started_again(near, shared):
    node = shared()
    node._timer = threading.Timer(0, node.write)
    node.add(PREFIX + "a", FACTS, 100)
    assert node._timer.is_alive()


def test_what_could_not_be_written_is_written_later(near, shared):
    node = shared()
    near.gateway.faults = Faults(reply=Reply(507), method="PUT")
    node.add(PREFIX + "a", FACTS, 100)
    node.flush()
    assert near.keys("tables") == []
    near.gateway.faults = Faults()
    node.add(PREFIX + "b", FACTS, 100)
    node.flush()
    assert set(shared().facts([PREFIX + "c"])) == {PREFIX + "a", PREFIX + "b"}


def test_a_damaged_table_is_replaced(near, shared):
    for content in (b"E4N1", encoded(table_name("s3", DIRECTORY), b"no zlib")):
        near.put(f"{near.prefix}/{table_name('s3', DIRECTORY)}", content)
        node = shared()
        assert node.facts([PREFIX + "a"]) == {}
        node.add(PREFIX + "a", FACTS, 100)
        node.flush()
        assert shared().facts([PREFIX + "a"]) == {PREFIX + "a": FACTS}


def test_a_table_that_arrives_damaged_is_kept(near, shared):
    """It has what other nodes know; what this node knows is added once the table arrives right."""
    first, second = shared(), shared()
    first.add(PREFIX + "a", FACTS, 100)
    first.flush()
    near.gateway.faults = Faults(flip_byte=True)
    second.add(PREFIX + "b", FACTS, 100)
    second.flush()
    assert shared().facts([PREFIX + "a"]) == {}
    near.gateway.faults = Faults()
    assert shared().facts([PREFIX + "a"]) == {PREFIX + "a": FACTS}
    second.flush()
    assert set(shared().facts([PREFIX + "a"])) == {PREFIX + "a", PREFIX + "b"}


def test_an_unchanged_table_is_neither_sent_nor_written_again(near, shared, monkeypatch):
    writer, reader = shared(), shared()
    for number in range(500):
        writer.add(f"{PREFIX}{number}", facts_of(number), 100)
    writer.flush()
    assert len(reader.facts([PREFIX + "0"])) == 500
    near.gateway.reset()
    assert reader.facts([PREFIX + "0"]) == {}
    assert near.gateway.requests == 0  # it was read lately
    monkeypatch.setattr(shared_facts, "REREAD_S", 0.0)
    assert reader.facts([PREFIX + "0"]) == {}
    assert [status for _, _, status in near.gateway.log] == [304]
    writer.add(PREFIX + "0", facts_of(0), 200)
    writer.flush()
    assert near.gateway.methods["PUT"] == 0
    writer.add(PREFIX + "x", FACTS, 200)
    writer.flush()
    assert reader.facts([PREFIX + "0"])[PREFIX + "x"] == FACTS


def test_a_node_that_does_not_fill_writes_nothing(near, shared):
    node = shared(fills=False)
    node.add(PREFIX + "a", FACTS, 100)
    node.add_media(PREFIX + "a", 3, "abc", b"x")
    node.flush()
    assert near.keys("") == []


@pytest.mark.parametrize(
    "facts",
    [
        ObjectFacts(0, "abc", "", 5),
        ObjectFacts(3, "", "", 5),
        ObjectFacts(3, "abc", "", 5, is_lasting=False),
    ],
)
def test_facts_that_a_get_cannot_confirm_are_not_written(near, shared, facts):
    node = shared()
    node.add(PREFIX + "a", facts, 100)
    node.flush()
    assert near.keys("") == []


@pytest.mark.parametrize("url", [PREFIX + "x" * 2048, PREFIX + "a\nb", PREFIX + "\x7f"])
def test_a_row_that_no_node_would_read_is_not_written(near, shared, url):
    node = shared()
    node.add(url, FACTS, 100)
    node.flush()
    assert near.keys("") == []


@pytest.mark.parametrize(("limit", "value"), [("MAX_JSON_BYTES", 100), ("_MAX_COMMAS", 13)])
def test_a_table_that_no_node_would_read_is_not_written(near, shared, monkeypatch, limit, value):
    monkeypatch.setattr(fact_table, limit, value)
    node = shared()
    for name in ("a", "b,,,"):
        node.add(PREFIX + name, FACTS, 100)
        node.flush()
    assert shared().facts([PREFIX + "a"]) == {PREFIX + "a": FACTS}


def test_memory_and_tables_are_limited(near, shared, monkeypatch):
    monkeypatch.setattr(shared_facts, "MAX_UNWRITTEN", 3)
    monkeypatch.setattr(shared_facts, "MAX_TABLES", 2)
    node = shared()
    for number in range(5):
        node.add(f"{PREFIX}{number}", facts_of(number), 100)
    node.flush()
    assert len(shared().facts([PREFIX + "0"])) == 3
    near.gateway.reset()
    node.facts(f"s3://{number}/a/b/{number % 3}/c" for number in range(5))
    assert near.gateway.requests == 2


def test_a_last_write_that_fails_starts_no_timer(shared, monkeypatch):
    def fail(*_: object) -> bool:
        raise NearFailed

    node = shared()
    monkeypatch.setattr(node._writes, "submit", lambda write: write())
    monkeypatch.setattr(node, "_merge", fail)
    node.add(PREFIX + "a", FACTS, 100)
    node.write()
    assert node._timer is not None, "the write is repeated later"
    node.close()
    assert node._timer is None


def test_after_the_end_nothing_is_collected(near, shared):
    node = shared()
    node.add(PREFIX + "a", FACTS, 100)
    node.close()
    node.add(PREFIX + "b", FACTS, 100)
    node.flush()
    assert list(shared().facts([PREFIX + "b"])) == [PREFIX + "a"]


@pytest.mark.parametrize(
    ("url", "directory"),
    [
        ("s3://b/public/v2/full_scale/a.mp4", "public/v2/full_scale"),
        ("s3://c/public/v2/full_scale/b.mp4", "public/v2/full_scale"),
        ("s3://b/public/v1/features/x/y/a.pt", "public/v1/features"),
        ("s3://b/public/v2/ego4d.json", ""),
        ("s3://b/public/v2/full_scale/", ""),
        ("s3://b/a", ""),
        ("s3://b", ""),
    ],
)
def test_a_table_has_the_objects_below_three_directories_of_all_buckets(url, directory):
    assert directory_of(url) == directory


def test_rows_are_read_as_they_were_written():
    rows = {PREFIX + name: Row(ObjectFacts(3, "e", "v", 7), 9) for name in ("a", "b/c", "ü")}
    assert unpacked(DIRECTORY, packed(rows)) == rows
    assert unpacked("public/v2/other", packed(rows)) == {}


GOOD = [PREFIX + "a", 3, "abc", "v1", 5, 100]


@pytest.mark.parametrize(
    ("place", "values"),
    [
        (0, ["", None, 5, PREFIX + "\udc80", PREFIX + "x" * 2048, PREFIX, PREFIX + "\n"]),
        (1, [0, -1, MAX_OBJECT_BYTES + 1, "3", None]),
        (2, ["", None, 'a"b"', "ü", "a\n", '"abc"', 5]),
        (3, [None, "\0", 5]),
        (4, [-1, MAX_TIME_NS + 1, None]),
        (5, [None, "x", float("inf")]),
    ],
)
def test_impossible_rows_are_left_out(place, values):
    bad = [[*GOOD[:place], value, *GOOD[place + 1 :]] for value in values]
    content = zlib.compress(json.dumps([GOOD, *bad, [], 5, None, [*GOOD, 1]]).encode())
    assert unpacked(DIRECTORY, content) == {PREFIX + "a": Row(FACTS, 100)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        zlib.compress(b"{}"),
        zlib.compress(b"5"),
        zlib.compress(b"[" * 200_000),
        zlib.compress(b"\xff"),
        zlib.compress(b"[]")[:-1],
        zlib.compress(bytes(65 << 20)),
        zlib.compress(b"[" + b"0," * 200_000 + b"0]"),
        zlib.compress(b"[" + b"[0,0,0,0,0,0,0,0,0,0]," * 160_001 + b"0]"),
    ],
)
def test_what_is_no_table_is_damage(content):
    with pytest.raises(Damaged):
        unpacked(DIRECTORY, content)


def test_what_was_said_later_wins(monkeypatch):
    old, new = Row(FACTS, 100), Row(facts_of(7), 200)
    assert merged({"a": old}, {"a": new}) == {"a": new}
    assert merged({"a": new}, {"a": old}) == {"a": new}
    assert merged({"a": old}, {"a": Row(FACTS, 200)}) == {"a": old}  # nothing new
    monkeypatch.setattr("ego4dfs.near.fact_table.MAX_ROWS", 1)
    assert merged({"a": old}, {"b": new}) == {"a": old}
    assert merged({"a": old}, {"a": new}) == {"a": new}


def copied(near, release, out, *options, cache):
    """Run prefetch as a node without a cache; return the requests that S3 got, by method."""
    near.far.reset()
    place = ("--near", f"s3://{BUCKET}/{near.prefix}", "--near-endpoint", near.gateway.url)
    run_cli(
        *("prefetch", "-y", "--no-metadata", "-o", str(out), "--datasets", "clips", *place),
        *("--near-profile", PROFILE, "--version", release.version, *options),
        *("--endpoint-url", near.far.url, "--cache-dir", str(cache)),
    )
    return near.far.methods


def test_a_copy_on_a_new_node_asks_for_no_size(near, release, node, directory, tmp_path):
    """Nor for one in a sample, nor to confirm what it puts into the near tier."""
    know_all(node("first"), directory)
    found = copied(near, release, tmp_path / "out", "--fill-near", cache=tmp_path / "cache")
    assert (found["HEAD"], found["GET"]) == (0, len(FILES) + 1)  # and the manifest


def know_all(vfs, directory):
    for name in FILES:
        vfs.stat(f"{directory}/{name}")
    vfs.session.facts._sweeps.wait(60)
    written(vfs)


def test_facts_of_other_nodes_prove_no_file_of_another_program(
    near, release, node, directory, tmp_path
):
    know_all(node("first"), directory)
    new = seeded("new", len(FILES["7.pt"]))
    release.put("clips/7.pt", new)
    files = tmp_path / "out" / release.version / "clips"
    files.mkdir(parents=True)
    for name, data in FILES.items():
        (files / name).write_bytes(data)
    found = copied(near, release, tmp_path / "out", cache=tmp_path / "cache")
    assert found["HEAD"] == len(FILES)
    assert (files / "7.pt").read_bytes() == new


def test_a_row_that_was_said_in_the_future_is_left_out():
    """No true facts would replace it."""
    now_s = int(time.time())
    rows = {PREFIX + name: Row(FACTS, now_s + ahead_s) for name, ahead_s in TIMES.items()}
    assert list(unpacked(DIRECTORY, packed(rows))) == [PREFIX + "old", PREFIX + "soon"]


TIMES = {"old": -(10**6), "soon": 3600, "far": 10**6}
