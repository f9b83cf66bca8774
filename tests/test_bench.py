"""The benchmark measures what it says, compares equal work, and names what it could not do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from benchmarks import BenchError, RunError, measure, peers, proxy, report, samples
from benchmarks.__main__ import choose, main
from benchmarks.copiers import copiers
from benchmarks.goals import at_most, times_as_good
from benchmarks.report import replace
from benchmarks.row import Column, Contender, Outcome, Result, Row, Sample, run_row
from benchmarks.rows import ROWS
from benchmarks.servers import Servers, serving

ROOT = Path(__file__).parent.parent
NEEDED_BYTES = 256 << 20  # more than these tests publish and cache
COLUMNS = (Column("wall_s", "wall s", spread=True), Column("requests", "requests", digits=0))
Prepare = Callable[[Servers], AbstractContextManager[Sequence[Contender]]]


def nothing(servers: Servers) -> AbstractContextManager[Sequence[Contender]]:
    raise NotImplementedError


def outcome(*results: Result, **options: object) -> Outcome:
    return Outcome(Row("some-row", "some", "some work", COLUMNS, nothing, **options), results)


def walls(name: str, *seconds: float) -> Result:
    return Result(name, [{"wall_s": second} for second in seconds])


def test_the_table_shows_medians_extremes_and_ratios():
    found = outcome(walls("ours", 1, 2, 9), walls("theirs", 5, 3, 4))
    lines = report.markdown([found]).splitlines()
    assert lines[0] == "| work | tool | wall s (min–max) | ratio | requests |"
    assert lines[2] == "| some work | ours | 2.00 (1.00–9.00) | – | – |"
    assert lines[3] == "|  | theirs | 4.00 (3.00–5.00) | 2.00 × | – |"


def test_a_ratio_above_one_means_that_ego4dfs_is_better_for_every_quantity():
    rate = Column("rate", "MB/s", more_is_better=True)
    results = (Result("ours", [{"rate": 300.0}]), Result("theirs", [{"rate": 100.0}]))
    found = Outcome(Row("some-row", "some", "some work", (rate,), nothing), results)
    assert found.ratio(results[1]) == 3


def test_tools_that_are_missing_or_failed_are_named_and_have_no_figures():
    broken = Result("broken", [{"wall_s": 1.0}], trouble="failed: wrong | bytes\nand more")
    found = outcome(walls("ours", 1), Result("absent", trouble="missing: apt"), broken)
    lines = report.markdown([found]).splitlines()
    assert lines[3] == "|  | absent | missing: apt | – | – |"
    assert lines[4] == "|  | broken | failed: wrong / bytes | – | – |"
    assert list(found.failed) == [broken]


def test_a_tool_that_ran_less_often_is_marked():
    text = report.markdown([outcome(walls("ours", 1, 1, 1), walls("slow", 7))])
    assert "| slow (runs: 1) |" in text


def test_goals_are_checked_against_the_run():
    bounds = [at_most("at most 3 s", "wall_s", 3), at_most("few", "requests", 2)]
    wanted = [times_as_good("theirs", 10), times_as_good("theirs"), *bounds]
    found = outcome(walls("ours", 2), walls("theirs", 8), goals=wanted)
    verdicts = ["missed", "reached", "reached", "not measured"]
    assert [goal.verdict(found) for goal in wanted] == verdicts
    assert report.goals([found]).splitlines()[0].endswith("theirs: **missed**, 4.00")
    assert list(report.as_json([found], {})["rows"][0]["goals"].values()) == verdicts


def contenders_row(*contenders: Contender) -> Row:
    @contextmanager
    def prepare(_: Servers) -> Iterator[Sequence[Contender]]:
        yield contenders

    return Row("some-row", "some", "some work", COLUMNS, prepare)


def test_each_round_begins_with_another_tool():
    order: list[str] = []

    def run(name: str) -> Sample:
        order.append(name)
        return {"wall_s": 1.0}

    row = contenders_row(
        Contender("a", partial(run, "a")),
        Contender("b", partial(run, "b")),
        Contender("once", partial(run, "once"), most_rounds=1),
    )
    run_row(row, Servers(Path(), None, None, ""), 3)
    assert order == ["a", "b", "once", "b", "a", "a", "b"]


def test_a_row_that_needs_the_proxy_is_named_where_there_is_none():
    row = Row("some-row", "some", "some work", COLUMNS, nothing, needs_wan=True)
    found = run_row(row, Servers(Path(), None, None, "nginx is not installed"), 1)
    assert found.results[0].trouble == "missing: nginx is not installed"


def test_a_row_that_cannot_be_prepared_does_not_stop_the_next():
    @contextmanager
    def prepare(_: Servers) -> Iterator[Sequence[Contender]]:
        raise RunError("no copy to begin with")
        yield ()

    row = Row("some-row", "some", "some work", COLUMNS, prepare)
    found = run_row(row, Servers(Path(), None, None, ""), 1)
    assert [result.trouble for result in found.failed] == ["failed: no copy to begin with"]


def python(*lines: str) -> list[str]:
    return [sys.executable, "-c", "\n".join(lines)]


def test_a_run_counts_the_memory_and_the_cpu_of_children(tmp_path):
    child = "x = b'x' * (200 << 20); import time; time.sleep(0.3); sum(range(3_000_000))"
    command = python("import subprocess, sys", f"subprocess.run([sys.executable, '-c', {child!r}])")
    usage = measure.run(command, environment=os.environ, log=tmp_path / "log")
    assert usage.peak_bytes > 200 << 20
    assert usage.cpu_s > 0
    assert usage.wall_s >= 0.3


def test_a_run_that_fails_says_how(tmp_path):
    with pytest.raises(RunError, match="ended with 3: no way"):
        measure.run(
            python("print('no way')", "raise SystemExit(3)"),
            environment=os.environ,
            log=tmp_path / "log",
        )


def test_a_run_that_does_not_end_is_ended(tmp_path):
    with pytest.raises(RunError, match="did not end within 0 s"):
        measure.run(
            python("import time", "time.sleep(60)"),
            environment=os.environ,
            log=tmp_path / "log",
            timeout_s=0.2,
        )


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[Servers]:
    with serving(tmp_path_factory.mktemp("bench"), needed_bytes=NEEDED_BYTES) as running:
        yield running


def test_a_small_row_from_the_server_to_the_table(servers):
    samples.publish_metadata(servers.s3)
    dataset = samples.publish_files(servers.s3, "few", [10, 0, 70_000])
    ours = copiers()[0]

    def copy(shape: str, wanted: samples.Dataset) -> Sample:
        out = servers.empty("out")
        environment = ours.environment(servers, shape, servers.empty("cache"))
        found = measure.sample(servers, shape, ours.command(dataset, out), environment)
        wanted.check(out)
        return found

    more = samples.Dataset("few", {**dataset.files, "absent.pt": (1, "")})
    row = contenders_row(
        Contender("near", partial(copy, "lan", dataset)),
        Contender("distant", partial(copy, "wan", dataset), servers.wan_missing),
        Contender("unchecked", partial(copy, "lan", more)),
    )
    near, distant, unchecked = run_row(row, servers, 1).results
    assert near.samples[0]["peak_mib"] > 10
    assert "requests" not in near.samples[0]
    assert unchecked.trouble == "failed: absent.pt was not copied"
    if servers.wan_missing:
        assert distant.trouble == proxy.missing()
    else:
        # ego4d.json, the manifest, and at least one for each file
        assert distant.samples[0]["requests"] >= 5
        assert distant.samples[0]["wire_mib"] > 70_000 / measure.MIB


def test_every_tool_trusts_the_distant_server_and_copies_what_a_licensee_may(servers, tmp_path):
    samples.publish_metadata(servers.s3)
    videos = samples.publish_videos(servers.s3, "full_scale", [10, 70_000], tmp_path)
    assert servers.url("wan").startswith("https://")
    for copier in (one for one in copiers() if not one.tool.missing):
        out = servers.empty("out")
        environment = copier.environment(servers, "wan", servers.empty("cache"))
        identity = servers.s3.admin if copier.lists else servers.s3.licensee
        assert environment["AWS_ACCESS_KEY_ID"] == identity.access_key
        found = measure.sample(servers, "wan", copier.command(videos, out), environment)
        videos.check(out, object_names=copier.object_names)
        assert found["requests"] >= len(videos.files), copier.name


def test_a_run_with_wrong_bytes_has_no_result(servers, tmp_path):
    dataset = samples.publish_files(servers.s3, "one", [10])
    (name,) = dataset.files
    (tmp_path / name).write_bytes(b"0123456789")
    with pytest.raises(RunError, match="is wrong"):
        dataset.check(tmp_path)


def test_a_place_without_room_is_refused(tmp_path):
    with pytest.raises(BenchError, match="--place"), serving(tmp_path, needed_bytes=1 << 60):
        pass


def test_nothing_is_left_of_a_run_that_was_killed(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f"ego4dfs-bench-{ended.pid}-x"
    left.mkdir()
    with serving(tmp_path, needed_bytes=NEEDED_BYTES) as running:
        assert [running.directory] == list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tool_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "PEERS", tmp_path)
    found = peers.official.__wrapped__()
    assert found.command == ()
    assert found.missing == "missing: pip install ego4d==1.7.3"


def test_a_tool_that_does_not_start_says_why(tmp_path, monkeypatch):
    aws = tmp_path / "bin/aws"
    aws.parent.mkdir()
    aws.write_text("#!/bin/sh\necho no module >&2\nexit 1\n")
    aws.chmod(0o755)
    monkeypatch.setattr(peers, "PEERS", tmp_path)
    assert peers.aws.__wrapped__().missing == "missing: does not start: no module"


def test_a_group_of_a_document_is_replaced_and_the_rest_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- bench some -->\nold\n<!-- end of bench some -->\nz\n")
    for text in ("new", "newer"):
        replace(page, {"some": f"{text}\n"})
        marked = f"<!-- bench some -->\n\n{text}\n\n<!-- end of bench some -->\n"
        assert page.read_text() == f"a\n{marked}z\n"
    with pytest.raises(BenchError, match="bench other"):
        replace(page, {"other": "text\n"})


def test_names_choose_rows_groups_and_families():
    assert choose([]) == list(ROWS)
    assert {row.group for row in choose(["prefetch"])} == {"prefetch"}
    small = [row.name for row in choose(["prefetch-small"])]
    assert small == ["prefetch-small-lan", "prefetch-small-wan"]
    windows = [row.name for row in choose(["window"])]
    assert windows == ["window-url", "window-decord", "windows-epoch"]
    with pytest.raises(BenchError, match="no group or row prefetch-sm"):
        choose(["prefetch-sm"])


def test_a_part_of_a_group_cannot_be_written_to_the_document(capsys):
    page = ROOT / "docs/performance.md"
    before = page.read_text()
    assert main(["prefetch-small-lan", "--write", str(page)]) == 2
    assert "whole groups" in capsys.readouterr().err
    assert page.read_text() == before


def test_every_row_has_a_name_of_its_own_and_its_group_a_place_in_the_document():
    assert len({row.name for row in ROWS}) == len(ROWS)
    page = (ROOT / "docs/performance.md").read_text()
    for row in ROWS:
        assert row.name.startswith(row.group)
        assert f"<!-- bench {row.group} -->" in page


def test_the_list_needs_no_server(capsys):
    assert main(["--list"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [
        row.name for row in ROWS
    ]
