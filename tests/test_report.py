"""`ego4dfs report`: differences of recorded counters, its tables and plots, and its advice."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter

import pytest

from ego4dfs.cache import prepare_directory
from ego4dfs.mount.recorder import COUNTERS
from ego4dfs.report import Step, Summary, advice, read_records, summarize
from ego4dfs.report.plots import draw
from ego4dfs.report.summary import merged
from kit.cli import complaint
from kit.data import MIB

pytestmark = pytest.mark.first_pass

NOW_S = int(time.time())


def row(minutes_ago, *, mount="1@1", mountpoint="/m", patterns=None, results=None, **counters):
    return {
        "mountpoint": mountpoint,
        "mount": mount,
        "time": NOW_S - 60 * minutes_ago,
        "counters": {**dict.fromkeys((*COUNTERS, "requests", "read_errors"), 0), **counters},
        "results": results or {},
        "patterns": patterns or {},
        "cache_bytes": MIB,
        "cache_limit_bytes": 64 * MIB,
    }


def read(count, *, opens=1, access="whole files", dataset="full_scale"):
    return {dataset: {access: {"opens": opens, "bytes": count}}}


@pytest.fixture
def write(tmp_path):
    """Write rows as recorders do, and return the directory of the format."""
    inner = prepare_directory(tmp_path / "cache")
    (inner / "counters").mkdir()

    def written(*rows, name="a.jsonl"):
        text = "".join(f"{json.dumps(one)}\n" for one in rows)
        with (inner / "counters" / name).open("a") as file:
            file.write(text)
        return inner

    return written


def test_steps_are_differences_within_a_mount_and_begin_with_its_start(write):
    inner = write(
        row(9, bytes_served=10, hits=1, misses=1, patterns=read(10)),
        row(8, mount="2@2", bytes_served=100, hits=3, results={"ok": 2}),
        row(7, bytes_served=25, hits=1, misses=4, patterns=read(25, opens=3), results={"ok": 1}),
    )
    found = summarize(read_records(inner))
    assert [step.counters["bytes_served"] for step in found.steps] == [10, 100, 15]
    assert [step.hit_rate for step in found.steps] == [0.5, 1.0, 0.0]
    assert found.counters["bytes_served"] == 125
    assert (found.results["ok"], found.hit_rate) == (3, 0.5)
    assert (found.bytes["full_scale", "whole files"], found.mountpoints) == (25, ["/m"])
    assert found.opens["full_scale", "whole files"] == 3


def test_only_what_was_asked_for_is_counted(write):
    write(row(90, bytes_served=10), name="a.jsonl.1")
    inner = write(
        row(5, bytes_served=30),
        row(4, mount="2@2", mountpoint="/other", bytes_served=7),
    )
    records = read_records(inner)
    found = summarize(records, mountpoint="/m", since_s=NOW_S - 600)
    assert [step.counters["bytes_served"] for step in found.steps] == [20]
    assert summarize(records).mountpoints == ["/m", "/other"]
    assert summarize([]).amplification is summarize([]).hit_rate is None


@pytest.mark.fault(
    area="disk",
    fault="recorded counters that were cut off, or changed by hand",
    face="report",
    sees="the report of the other lines",
    deadline="at once",
)
def test_lines_that_cannot_be_used_are_left_out(write):
    good = row(5, bytes_served=1)
    bad = [
        {**good, "counters": {**good["counters"], "hits": value}}
        for value in (-1, 1.5, "1", None, True, 1 << 70)
    ]
    bad += [[], 5, {**good, "mount": 1}, {**good, "time": 1e400}, {**good, "patterns": []}]
    bad += [{**good, "time": value} for value in (1 << 33, 10**15, -1)]
    bad += [{**good, "patterns": {"d": {"random": {"opens": 1}}}}, {**good, "results": "x"}]
    inner = write(good, *bad)
    with (inner / "counters/a.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\n{"a":\n' + b"[" * 100_000)
    (inner / "counters/b.jsonl").mkdir()
    (inner / "counters/c.jsonl").symlink_to(inner / "counters/a.jsonl")
    found = read_records(inner)
    assert [record.counters["bytes_served"] for record in found] == [1]
    unknown = {"d": {"x": {"opens": 1, "bytes": 1}}}
    (record, _) = read_records(
        write({**good, "time": NOW_S - 900, "patterns": unknown}, name="d.jsonl")
    )
    assert record.patterns == {"d": {}}


def test_counters_that_became_smaller_are_no_negative_step(write):
    found = summarize(read_records(write(row(5, hits=9), row(4, hits=2))))
    assert found.counters["hits"] == 9


def test_amplification_is_that_of_bytes_that_are_no_copies(write):
    inner = write(row(5, bytes_served=30, bytes_from_copies=10, bytes_fetched=50))
    assert summarize(read_records(inner)).amplification == 2.5


def test_a_file_whose_pattern_changes_while_it_is_open_is_counted_once(write):
    inner = write(
        row(9, patterns=read(500, opens=3, access="windows")),
        row(
            8,
            patterns={
                "full_scale": {
                    "windows": {"opens": 2, "bytes": 100},
                    "whole files": {"opens": 1, "bytes": 950},
                }
            },
        ),
        row(7, mount="2@2", patterns=read(7, access="windows")),
    )
    records = read_records(inner)
    found = summarize(records)
    assert found.bytes == {("full_scale", "windows"): 107, ("full_scale", "whole files"): 950}
    assert found.opens == {("full_scale", "windows"): 3, ("full_scale", "whole files"): 1}
    later = summarize(records, since_s=NOW_S - 8.5 * 60)
    assert later.bytes == {("full_scale", "windows"): 7, ("full_scale", "whole files"): 950}


def test_steps_are_merged_with_their_neighbours():
    steps = [Step(float(n), Counter(hits=n), n, 9) for n in range(100)]
    found = merged(steps, 10)
    assert len(found) == 10
    assert sum(step.counters["hits"] for step in found) == sum(range(100))
    assert (found[-1].time_s, found[-1].cache_bytes) == (99.0, 99)
    assert merged(steps[:1], 10) == steps[:1]
    assert merged([], 10) == []


def summary(*, limit=64 * MIB, opens=None, sizes=None, results=None, **counters):
    return Summary(
        steps=[Step(0.0, Counter(counters), 0, limit)],
        counters=Counter(counters),
        opens=Counter(opens or {}),
        bytes=Counter(sizes or {}),
        results=Counter(results or {}),
    )


WHOLE, SMALL = ("full_scale", "whole files"), ("slowfast8x8_r101_k400", "whole files")


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (summary(evictions=1, bytes_fetched=65 * MIB, bytes_served=65 * MIB), "cache is too small"),
        (summary(opens={WHOLE: 2}, sizes={WHOLE: 16 * MIB}), "2 videos were read as a whole"),
        (summary(opens={SMALL: 1000}, sizes={SMALL: MIB}), "1,000 small files were read"),
        (summary(bytes_fetched=50 * MIB, bytes_served=20 * MIB), "2.5 bytes were fetched for each"),
        (summary(read_errors=1), "1 open or read of programs ended with an error"),
        (summary(throttled_answers=2, results={"ok": 100}), "asked to slow down 2 times"),
        (summary(results={"denied": 3}), "3 requests were refused"),
    ],
)
def test_advice_says_what_costs_and_the_remedy(found, sentence):
    (said,) = advice(found)
    assert sentence in said


@pytest.mark.parametrize(
    "found",
    [
        summary(evictions=1, bytes_fetched=64 * MIB, bytes_served=64 * MIB),
        summary(bytes_fetched=65 * MIB, bytes_served=65 * MIB),
        summary(evictions=1, bytes_fetched=1, limit=0, bytes_served=1),
        summary(opens={WHOLE: 2}, sizes={WHOLE: 16 * MIB - 1}),
        summary(opens={SMALL: 999}, sizes={SMALL: MIB}),
        summary(opens={SMALL: 1000}, sizes={SMALL: 1000 * MIB}),
        summary(bytes_fetched=40 * MIB, bytes_served=20 * MIB),
        summary(bytes_fetched=15 * MIB, bytes_served=MIB),
        summary(throttled_answers=1, results={"ok": 100}),
    ],
)
def test_nothing_is_advised_below_the_bounds(found):
    assert advice(found) == []


def test_the_report_has_tables_and_advice(write, cli, tmp_path):
    results = {"ok": 5, "denied": 1}
    more = {"bytes_from_copies": 5, "requests": 6, "evictions": 2, "read_errors": 1, "errors": 4}
    patterns = {**read(20 * MIB, opens=2), **read(7, access="random", dataset="imu\x1b[31m")}
    write(
        row(9, hits=1),
        row(
            2,
            hits=3,
            misses=1,
            bytes_served=20 * MIB,
            bytes_fetched=10 * MIB,
            patterns=patterns,
            results=results,
            **more,
        ),
    )
    where = ("--cache-dir", str(tmp_path / "cache"))
    text = cli("report", *where).stdout
    for part in (
        "full_scale   whole files      2  20.0 MiB  10.0 MiB",
        "imu\\x1b[31m  random           1       7 B       7 B",
        "fetched ÷ read  0.50",
        "6 (5 ok, 1 denied)",
        "2 blocks; limit 64.0 MiB",
        "1 seen by programs, 4 in all",
        "Advice: full_scale: 2 videos were read as a whole",
        "Advice: 1 request was refused",
    ):
        assert part in text, text
    found = json.loads(cli("report", "/m", *where, "--json").stdout)
    assert (found["amplification"], found["hit_rate"], len(found["steps"])) == (
        pytest.approx(0.5, abs=1e-6),
        0.75,
        2,
    )
    assert found["steps"][1]["hits"] == 2
    assert found["patterns"][0] == {
        "dataset": "full_scale",
        "access": "whole files",
        "opens": 2,
        "bytes": 20 * MIB,
    }
    assert "nothing was recorded" in cli("report", *where, "--since", "60").stdout
    assert json.loads(cli("report", *where, "--since", "60", "--json").stdout)["steps"] == []


def test_a_time_that_is_none_is_refused(cli):
    done = cli("report", "--since", "soon", check=False)
    assert done.returncode == 2
    assert "--since: expected a duration" in complaint(done)


def test_plots_are_written(write, cli, tmp_path):
    rows = [
        row(9 - n, hits=n, misses=2, bytes_served=n * MIB, patterns=read(n, dataset="$a_{$"))
        for n in range(1, 9)
    ]
    write(*rows)
    done = cli("report", "--cache-dir", str(tmp_path / "cache"), "--plots", str(tmp_path / "p/q"))
    for name in ("over-time.png", "patterns.png"):
        assert f"plot: {tmp_path}/p/q/{name}" in done.stdout
        assert (tmp_path / "p/q" / name).read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_plots_name_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Exception, match="--plots needs matplotlib") as raised:
        draw(summary(), tmp_path)
    assert raised.value.hint == "pip install 'ego4dfs[report]'"
