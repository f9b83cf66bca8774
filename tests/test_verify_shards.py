"""`verify --shard`: each file is checked by exactly one of N parts, with and without the store."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ego4dfs.cli.output import ExitCode
from ego4dfs.copies import Layout, ShardJournal
from kit.cli import EGO4DFS, complaint, run_cli
from kit.data import seeded
from kit.server import environment
from test_verify import FILES, copied, found_problems, rot  # noqa: F401 - a fixture

pytestmark = pytest.mark.first_pass

HOW = ((), ("--offline",))
CASES = [((), count) for count in range(1, 9)] + [(("--offline",), count) for count in (1, 3)]


@pytest.fixture(scope="module")
def downloaded(sampled, tmp_path_factory, transport):
    """A prefetch of the sample, with damage, and the environment of its user."""
    home = tmp_path_factory.mktemp("downloaded")
    env = environment(sampled.server, home, transport)
    out = home / "ego4d_data"
    options = ("--datasets", "full_scale", "clips", "annotations", "imu")
    run_cli("prefetch", "-y", "-o", str(out), *options, env=env)
    files = sorted(p for p in (out / "v2").glob("*/*"))
    copies = [p for p in files if p.name not in {"manifest.csv", "manifest.ver"}]
    rot(copies[0])
    copies[1].unlink()
    copies[2].with_name("mine.txt").write_text("my own")
    return out, env, len(copies), {how: verify(out, env, *how) for how in HOW}


def verify(out, env, *arguments):
    line = [*EGO4DFS, "verify", "-o", str(out), "--json", *arguments]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(("how", "count"), CASES)
def test_the_parts_are_disjoint_complete_and_balanced(downloaded, how, count):
    out, env, files, found = downloaded
    code, whole = found[how]
    assert code == ExitCode.FAILURE
    with ThreadPoolExecutor(2) as pool:
        shard = [("--shard", f"{part}/{count}") for part in range(count)]
        parts = list(pool.map(lambda one: verify(out, env, *how, *one), shard))
    reports = [report for _, report in parts]
    assert sum((Counter(r["files"]) for r in reports), Counter()) == +Counter(whole["files"])
    listed = [problem["path"] for report in reports for problem in report["problems"]]
    assert sorted(listed) == sorted(problem["path"] for problem in whole["problems"])
    for exit_code, report in parts:
        broken = report["files"]["damaged"] + report["files"]["missing"]
        assert exit_code == (ExitCode.FAILURE if broken else ExitCode.OK)
    shards = [report["shard"] for report in reports]
    assert {(s["count"], s["all_files"], s["split"]) for s in shards} == {
        (count, files, shards[0]["split"])
    }
    assert sum(s["files"] for s in shards) == files
    assert sum(s["bytes"] for s in shards) == shards[0]["all_bytes"]
    largest = max(p.stat().st_size for p in Path(out).rglob("*.mp4"))
    assert max(s["bytes"] for s in shards) <= shards[0]["all_bytes"] / count + largest


def test_parts_repair_their_own_files_at_once_in_one_directory(copied, spawn, tmp_path):  # noqa: F811
    names = {f"v{number}.bin": seeded(str(number), 5000 * number) for number in range(1, 9)}
    copied.release.dataset("annotations", names)
    run = ("--version", copied.release.version)
    options = ("-o", str(copied.directory), "-y", "--datasets", "annotations", *run)
    run_cli("prefetch", *options, env=copied.env)
    for name in names:
        rot(copied.files / name)
    started = []
    for part in range(3):
        log = (tmp_path / f"{part}.json").open("w+")
        more = ("--json", "--repair", "--shard", f"{part}/3")
        line = [*EGO4DFS, "verify", *options, *more]
        started.append((spawn(line, stdout=log, env=copied.env), log))
    repaired = 0
    for process, log in started:
        assert process.wait(timeout=60) == ExitCode.OK
        log.seek(0)
        report = json.load(log)
        assert report["repaired"] == report["shard"]["files"] > 0
        repaired += report["repaired"]
    assert repaired == len(names)
    assert {name: (copied.files / name).read_bytes() for name in names} == names
    assert not list((copied.directory / ".ego4dfs").glob("shard-*"))
    code, report = copied.verify("--datasets", "annotations", "--offline")
    right = len(FILES) + len(names) + 1  # ego4d.json
    assert (code, report["files"]["right"]) == (ExitCode.OK, right)


def test_a_part_of_another_split_that_is_being_repaired_is_refused(copied):  # noqa: F811
    rot(copied.files / "a.bin")
    journal = ShardJournal(Layout(copied.directory, copied.release.version).state, 0, 2)
    try:
        with journal.exclusive():
            journal.begin_part([], "another")
        line = ("verify", "-y", "-o", str(copied.directory), "--version", copied.release.version)
        done = run_cli(*line, "--repair", "--shard", "1/2", env=copied.env, check=False)
        assert done.returncode == ExitCode.FAILURE
        assert "shard-0-of-2 of another selection" in complaint(done)
        copied.verify("--shard", "1/2")  # a check alone needs no lock
    finally:
        journal.close()


def test_the_report_names_the_part_and_auto_reads_it(copied):  # noqa: F811
    line = ("verify", "-o", str(copied.directory), "--version", copied.release.version)
    env = {**copied.env, "RANK": "1", "WORLD_SIZE": "3"}
    done = run_cli(*line, "--shard", "auto", env=env)
    assert done.stdout.startswith("shard 1 of 3: 1 file, ")
    assert done.stdout.endswith(": 1 right\n")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--shard", "3/3"), "--shard 3/3: there is no such part"),
        (("--shard", "x"), "--shard x: must be I/N"),
        (("--shard", "auto"), "none is set"),
        (("--shard", "0/2", "--prune"), "--prune: not allowed with --shard"),
    ],
)
def test_bad_values_are_one_clear_line(copied, more, named):  # noqa: F811
    line = ("verify", "-o", str(copied.directory), "--version", copied.release.version)
    done = run_cli(*line, *more, env=copied.env, check=False)
    assert done.returncode == ExitCode.USAGE
    assert named in complaint(done)


@pytest.mark.parametrize(
    ("name", "how"),
    [("journal.sqlite", ()), ("journal.sqlite", ("--offline",)), ("selections.json", ())],
)
def test_records_that_cannot_be_read_end_a_part(copied, name, how):  # noqa: F811
    """Other machines may read them, and would divide other files."""
    (copied.directory / ".ego4dfs" / name).write_bytes(b"damaged" * 1000)
    line = ("verify", "-o", str(copied.directory), "--version", copied.release.version)
    done = run_cli(*line, *how, "--shard", "0/2", env=copied.env, check=False)
    assert done.returncode == ExitCode.FAILURE, done.stdout
    assert "cannot be read" in done.stderr or "journal" in done.stderr
    assert "hint: " in done.stderr


def test_a_dataset_that_cannot_be_listed_ends_a_part(copied):  # noqa: F811
    (copied.files.parent / "clips").mkdir()
    (copied.files.parent / "clips/manifest.csv").write_text("video_uid,type,s3_path\n")
    line = ("verify", "-o", str(copied.directory), "--version", copied.release.version)
    assert run_cli(*line, env=copied.env, check=False).returncode == ExitCode.PARTIAL
    done = run_cli(*line, "--shard", "0/2", env=copied.env, check=False)
    assert done.returncode == ExitCode.REFUSED
    assert "clips" in complaint(done)
    assert found_problems(copied.verify("--datasets", "annotations")[1]) == set()
    assert len(FILES) == copied.verify("--offline", "--shard", "0/1")[1]["shard"]["files"]
