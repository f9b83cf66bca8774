"""Copies of data sets of small files: one request a file, with the outcome of asking for sizes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
from collections import Counter
from dataclasses import replace

import pytest

from ego4dfs.cli.progress import Progress
from ego4dfs.copies import Journal, Layout, State
from ego4dfs.errors import AccessDenied, OutputError, StoreError
from ego4dfs.prefetch import Fetcher, Report, Status, disk_space, disks_of
from ego4dfs.prefetch.disk_space import DiskSpace, check_room
from ego4dfs.prefetch.expected_sizes import ExpectedSizes
from kit.data import MIB, seeded
from kit.prefetch import data_of, tree
from kit.processes import wait_until
from kit.server import SHARING
from kit.stores import s3_client

pytestmark = pytest.mark.first_pass

COUNT, SAMPLE = 150, 16
SAMPLED = range(0, COUNT, COUNT // SAMPLE)
SMALL = {f"{number:03}.pt": seeded(f"file {number}", 1000 + number) for number in range(COUNT)}
FLAGS = ("-y", "--no-metadata", "--datasets", "viz")


def asked(front) -> Counter[str]:
    """Count the requests for objects of the dataset, by method."""
    return Counter(method for method, path, _ in front.log if "/objects/" in path)


def lose(release, *names: str) -> None:
    for name in names:
        key = f"public/{release.version}/objects/viz/{name}"
        s3_client(release.server).delete_object(Bucket=SHARING, Key=key)


def test_a_small_file_costs_one_request(prefetch, release, front, tmp_path):
    release.dataset("viz", SMALL)
    done = prefetch(*FLAGS)
    assert asked(front) == {"HEAD": SAMPLE, "GET": COUNT}
    assert data_of(tree(tmp_path / "out"), release, "viz") == SMALL
    assert f"{COUNT} files to fetch, about 15" in done.stdout
    assert re.search(
        r"^viz +150 +~15\d\.\d KiB +0 +150 +~15\d\.\d KiB +0$", done.stdout, re.MULTILINE
    )
    front.reset()
    assert "already exist" in prefetch(*FLAGS).stdout
    assert asked(front) == {}


def test_answers_of_a_dry_run_are_kept(prefetch, release, front):
    release.dataset("viz", SMALL)
    prefetch(*FLAGS, "--dry-run")
    assert asked(front) == {"HEAD": COUNT}
    front.reset()
    prefetch(*FLAGS)
    assert asked(front) == {"GET": COUNT}


def test_a_question_needs_the_sizes_of_all_files(prefetch, release, front):
    release.dataset("viz", SMALL)
    done = prefetch(*FLAGS[1:], answer="y\n")
    assert asked(front) == {"HEAD": COUNT, "GET": COUNT}
    assert "Expected size of downloaded files is 0.0002 GiB" in done.stdout


@pytest.mark.parametrize(
    "files",
    [
        {name: SMALL[name] for name in list(SMALL)[:63]},
        {**SMALL, **{f"{number:03}.pt": seeded(f"{number}", MIB + 9) for number in SAMPLED}},
    ],
    ids=["few", "large"],
)
def test_few_or_large_files_are_all_asked_for(prefetch, release, front, files):
    release.dataset("viz", files)
    prefetch(*FLAGS)
    assert asked(front)["HEAD"] == len(files)


def recorded(out, release) -> dict[str, object]:
    """Return the records of copies, without the time of their last check."""
    layout = Layout(out, release.version)
    journal = Journal(layout.state, read_only=True)
    found = {
        path: replace(r, checked_s=0.0) for path, r in journal.records(f"{release.version}/viz")
    }
    journal.close()
    return found


def outcome(done, out, release) -> dict[str, object]:
    """Return all that a run leaves, prints and reports, except times and places.

    Rows of manifest.ver are in the order in which files were complete.
    """
    report, found = json.loads(done.stdout), tree(out)
    ver = f"{release.version}/viz/manifest.ver"
    found[ver] = b"".join(sorted(found[ver].splitlines(keepends=True)))
    varying = ("seconds", "output_directory", "retry")
    return {
        "tree": found,
        "times": {path.name: path.stat().st_mtime_ns for path in out.rglob("*.pt")},
        "records": recorded(out, release),
        "report": {key: value for key, value in report.items() if key not in varying},
        "retry": [line.replace(str(out), "OUT").replace(" --yes", "") for line in report["retry"]],
        "named": [line for line in done.stderr.splitlines() if "Missing s3 object" in line],
    }


def test_the_outcome_is_that_of_a_plan_with_all_sizes(prefetch, release, front, tmp_path):
    files = {
        **SMALL,
        "empty.pt": b"",
        "middle.pt": seeded("middle", MIB + MIB // 2),
        "large.mp4": seeded("large", 9 * MIB + 7),
        "same1.pt": SMALL["000.pt"],
        "same2.pt": SMALL["000.pt"],
        "lost1.pt": b"1",
        "lost2.pt": b"2",
    }
    release.dataset("viz", files)
    lose(release, "lost2.pt", "lost1.pt")
    front.reset()
    front.faults.hide_missing = True
    found = []
    for name, flags, answer in (("one", FLAGS, None), ("all", FLAGS[1:], "y\n")):
        out = tmp_path / name
        done = prefetch(*flags, "--json", "-o", str(out), answer=answer, code=3)
        found.append(outcome(done, out, release))
        shutil.rmtree(os.environ["EGO4DFS_CACHE_DIR"])
    assert found[0] == found[1]
    assert [p["uid"] for p in found[0]["report"]["problems"]] == ["lost1", "lost2"]
    assert found[0]["report"]["refused"] == 2
    assert len(found[0]["named"]) == 2


def test_a_refusal_is_remembered_for_the_next_run(prefetch, release, front):
    release.dataset("viz", SMALL)
    lost = [f"{number:03}.pt" for number in range(1, COUNT, 2)]
    lose(release, *lost)
    front.faults.hide_missing = True
    prefetch(*FLAGS, code=3)
    more = {f"more{number}.pt": seeded(f"more {number}", 1000) for number in range(64)}
    release.dataset("viz", {**SMALL, **more})
    lose(release, *lost)
    front.reset()
    front.faults.hide_missing = True
    prefetch(*FLAGS, code=3)
    assert asked(front) == {"HEAD": SAMPLE, "GET": len(more)}


def test_missing_files_are_named_in_the_order_of_the_plan(bench):
    bench.put(**{f"n{i}": b"x" * (100 + i) for i in range(80)})
    plan = bench.plan(samples=True)
    for lost in ("n11", "n12", "n71"):
        del bench.store.objects[f"s3://b/{lost}.mp4"]
    bench.store.before_answer = lambda url: time.sleep(0.3) if "n11" in url else None
    problems = bench.fetch(plan).problems
    assert [(p.uid, p.status) for p in problems] == [
        (name, Status.MISSING) for name in ("n11", "n12", "n71")
    ]


def test_a_file_on_disk_is_compared_with_its_facts_first(bench):
    bench.put(**{f"n{i}": b"x" * (100 + i) for i in range(80)})
    (bench.directory / "n7.mp4").write_bytes(b"x" * 107)
    plan = bench.plan(samples=True)
    assert plan.count(State.CHECK) == 1
    assert "s3://b/n7.mp4" in bench.store.heads
    assert len(bench.store.heads) <= SAMPLE + 1


def test_an_unfinished_file_is_resumed_after_its_facts_are_known(bench):
    data = os.urandom(3 * MIB)
    bench.put(**{f"n{i}": b"x" * (100 + i) for i in range(80)}, large=data)
    stream = bench.store.stream_range

    def cut(url, start, stop, sink, **options):
        sink(start, memoryview(data)[start : start + MIB // 2])
        raise AccessDenied("expired in the middle")

    bench.store.stream_range = cut
    bench.fetch(bench.plan(samples=True))
    bench.store.stream_range = stream
    bench.facts.remove("s3://b/large.mp4")
    more = {f"s3://b/m{i}.mp4": b"y" * (100 + i) for i in range(80)}
    bench.store.objects = {**more, **bench.store.objects}  # so that it is not in the sample
    bench.store.gets.clear()
    plan = bench.plan(samples=True)
    assert plan.partial_bytes > MIB
    bench.fetch(plan)
    assert (bench.directory / "large.mp4").read_bytes() == data
    assert sum(stop - start for url, start, stop in bench.store.gets if "large" in url) < 2 * MIB


def test_what_is_larger_than_expected_is_continued_by_ranges_of_its_version(bench):
    large = {f"large{i}": os.urandom(2 * MIB + i) for i in range(3)}
    bench.put(**{f"n{i}": b"x" * (100 + i) for i in range(95)}, **large)
    pinned = []
    read_range = bench.store.read_range

    def read(url, start, stop, *, etag="", size=None):
        pinned.append((start > 0, bool(etag)))
        return read_range(url, start, stop, etag=etag, size=size)

    bench.store.read_range = read
    report = bench.fetch(bench.plan(samples=True))
    assert report.counts[Status.DONE] == 98
    assert all(is_pinned for is_later, is_pinned in pinned if is_later)
    for name, data in large.items():
        assert (bench.directory / f"{name}.mp4").read_bytes() == data
        places = [p for p in bench.store.gets if name in p[0]]
        assert sum(min(stop, len(data)) - start for _, start, stop in places) == len(data)


@pytest.mark.parametrize("other_bytes", [99, 2 * MIB])
def test_an_answer_with_the_etag_of_another_object_is_not_kept(bench, other_bytes):
    """A proxy that has lost its place sends the answer to an earlier request.

    Only a HEAD request shows it.
    """
    bench.put(**{f"n{i:02}": b"x" * (100 + i) for i in range(90)})
    bench.put(n00=b"o" * other_bytes)
    true, lies = bench.store.read_range, iter([True])

    def read(url, start, stop, *, etag="", size=None):
        if url == "s3://b/n89.mp4" and next(lies, False):
            url = "s3://b/n00.mp4"
            wait_until(lambda: any(place[0] == url for place in bench.store.gets))
        return true(url, start, stop, etag=etag, size=size)

    bench.store.read_range = read
    fetcher = Fetcher(bench.session, bench.layout, bench.journal, bench.plan(samples=True), jobs=1)
    assert fetcher.run()
    assert fetcher.report.counts[Status.DONE] == 90
    assert (bench.directory / "n89.mp4").read_bytes() == b"x" * 189
    assert bench.store.renewed == ["s3://b/n89.mp4"]


def test_expected_sizes_are_the_mean_of_those_known():
    sizes = ExpectedSizes([100, 300], 3)
    assert sizes.expected_bytes == 600
    assert sizes.begin() == 2
    assert sizes.expected_bytes == 400
    sizes.learn(500)
    assert (sizes.expected_bytes, sizes.learnt_bytes) == (600, 500)
    assert ExpectedSizes([], 3).expected_bytes == 0


def test_totals_grow_as_sizes_are_learnt(bench):
    bench.put(**{f"n{i}": bytes([i]) * 100 for i in range(75)}, last=b"x" * 600)
    fetcher = Fetcher(bench.session, bench.layout, bench.journal, bench.plan(samples=True))
    seen = [(fetcher.report.total_bytes, fetcher.report.expected_bytes)]
    fetcher.run(lambda: seen.append((fetcher.report.total_bytes, fetcher.report.expected_bytes)))
    assert seen[0] == (SAMPLE * 100, 60 * 100)
    assert seen[-1] == (8100, 0)


def test_expected_totals_are_shown_as_such():
    stream = io.StringIO()
    progress = Progress(stream)
    progress._next_s = 0.0
    progress.show(Report(2, total_bytes=MIB, expected_bytes=2 * MIB))
    assert "0 of 2 files, 0 B of about 3.0 MiB" in stream.getvalue()


@pytest.mark.parametrize(
    ("free", "needed", "expected", "may_lack"),
    [
        (100, 0, 51, True),
        (100, 0, 50, False),
        (100, 80, 11, True),
        (100, 99, 0, False),
        (None, 9, 9, False),
    ],
)
def test_room_for_twice_what_is_expected_is_enough(free, needed, expected, may_lack):
    assert DiskSpace("/d", free, needed, expected_bytes=expected).may_lack_space is may_lack


def test_where_room_may_be_short_all_sizes_are_asked_for(prefetch, release, front, small_disk):
    files = {f"{number:03}.pt": seeded(f"file {number}", 200_000) for number in range(COUNT)}
    release.dataset("viz", files)
    done = prefetch(*FLAGS, "-o", str(small_disk))
    assert asked(front)["HEAD"] == COUNT
    assert "150 files to fetch, 28.6 MiB; " in done.stdout
    assert data_of(tree(small_disk), release, "viz") == files


UNLIKE = {f"n{i}": b"x" * (100 + i) for i in range(96)}
"""Files of which a sample is small, and others are not."""
UNLIKE |= {f"n{i}": os.urandom(500_000) for i in range(96) if i % 6}


@pytest.mark.fault(
    area="disk",
    fault="too little room for files whose sizes are not known before the copy",
    face="prefetch",
    sees="the run ends and says how much room the rest needs; the next run asks for all sizes",
    deadline="at once",
)
def test_a_run_ends_when_the_rest_is_not_expected_to_fit(bench, monkeypatch):
    bench.put(**UNLIKE)
    plan = bench.plan(samples=True)
    assert plan.unsized == 80
    monkeypatch.setattr(Layout, "free_bytes", lambda *_: 3 * MIB)
    report = bench.fetch(plan)
    assert isinstance(report.stopped_by, OutputError)
    assert "v9/clips: about " in str(report.stopped_by)
    assert "more are needed, and 3.0 MiB are free" in str(report.stopped_by)
    assert report.counts[Status.DONE] < 90


def test_a_disk_of_a_dataset_that_is_too_small_ends_only_that(bench, monkeypatch):
    monkeypatch.setattr(Layout, "free_bytes", lambda *_: 10)
    monkeypatch.setattr(disk_space, "is_of_own_disk", lambda *_: True)
    check_room(bench.layout, "v9/clips", 10)
    with pytest.raises(OSError, match="No space left"):
        check_room(bench.layout, "v9/clips", 11)
    monkeypatch.setattr(Layout, "free_bytes", lambda *_: None)
    check_room(bench.layout, "v9/clips", 11)


def test_without_a_sample_the_room_is_not_judged(bench, monkeypatch):
    bench.put(**UNLIKE)
    bench.facts.get("s3://b/n0.mp4")
    plan = bench.plan(skip_checks=True, samples=True)
    assert (plan.unsized, plan.expected_bytes) == (95, 0)
    assert not any(disk.expected_bytes for disk in disks_of(plan, bench.layout, {}))
    monkeypatch.setattr(Layout, "free_bytes", lambda *_: 10)
    assert bench.fetch(plan).counts[Status.DONE] == 96


def test_a_shard_needs_all_sizes(prefetch, release, front):
    release.dataset("viz", SMALL)
    prefetch(*FLAGS, "--shard", "0/2")
    assert asked(front)["HEAD"] == COUNT


@pytest.mark.parametrize("is_known", [True, False])
def test_a_large_file_is_fetched_by_ranges_whatever_said_its_size(bench, is_known):
    """A HEAD that is wrong, or the HEAD after a refused first GET: nothing is read whole."""
    data = seeded("large", 40 * MIB)
    if not is_known:  # by a sample of small files
        bench.put(**{f"n{number:02}": bytes([number]) * 100 for number in range(90)})
    bench.put(zz=data)
    read, head, ranges = bench.store.read_range, bench.store.head, []

    def read_range(url, start, stop, *, etag="", size=None):
        if url.endswith("zz.mp4"):
            ranges.append(stop - start)
            if not (is_known or etag):
                raise StoreError("a range that the store does not answer", url=url)
        return read(url, start, stop, etag=etag, size=size)

    def wrong(url):
        return replace(head(url), size=39 * MIB)

    bench.store.read_range = read_range
    if is_known:
        bench.store.head = wrong
    plan = bench.plan(samples=not is_known)
    bench.store.head = head
    report = bench.fetch(plan)
    assert not report.problems
    assert (bench.directory / "zz.mp4").read_bytes() == data
    assert max(ranges) < len(data) / 2
