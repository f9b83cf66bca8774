"""`prefetch --shard`: equal parts on all machines, and several shards in one directory at once."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego4dfs.cli.shard_option import shard_of
from ego4dfs.copies import (
    Journal,
    Layout,
    Record,
    ShardJournal,
    State,
    journal_file,
    open_whole,
    shard_journal,
)
from ego4dfs.copies.journal import JournalError
from ego4dfs.copies.manifest_ver import VersionFile
from ego4dfs.errors import ConfigError, OutputError, StoreUnavailable
from ego4dfs.files import Folders
from ego4dfs.prefetch import TO_FETCH, DatasetPlan, Item, Report, Shard
from ego4dfs.prefetch.commit import Committer
from ego4dfs.prefetch.shard import assign
from ego4dfs.store import ObjectFacts
from kit.cli import EGO4DFS
from kit.data import MIB, seeded
from kit.guides import examples, run_example
from kit.own_process import descriptors_below
from kit.prefetch import data_of, tree
from kit.processes import wait_until
from kit.server import environment

pytestmark = pytest.mark.first_pass

ROOT = Path(__file__).parent.parent
FILES = {f"v{i}.mp4": seeded(str(i), 3000 * i + 1) for i in range(24)}
SIZES = st.dictionaries(st.text(max_size=8), st.integers(0, 1 << 40), max_size=60)


@given(sizes=SIZES, count=st.integers(1, 64), seed=st.integers())
@settings(max_examples=200, deadline=None)
def test_parts_are_disjoint_complete_and_independent_of_the_order(sizes, count, seed):
    shuffled = list(sizes.items())
    random.Random(seed).shuffle(shuffled)
    found = [Shard(part, count).keys(dict(shuffled)) for part in range(count)]
    assert sorted(key for part in found for key in part) == sorted(sizes)
    assert assign(sizes, count) == {key: part for part in range(count) for key in found[part]}
    loads = [sum(sizes[key] for key in part) for part in found]
    assert max(loads) <= sum(sizes.values()) / count + max(sizes.values(), default=0)


def test_files_of_equal_size_are_counted():
    for size in (0, 1):
        found = assign({f"s3://b/{i}": size for i in range(130)}, 64)
        counts = [list(found.values()).count(part) for part in range(64)]
        assert sorted(set(counts)) == [2, 3]


@pytest.mark.parametrize("seed", range(3))
def test_the_largest_part_of_the_samples_sizes_is_near_the_mean(sampled, seed):
    """Show 3: at most 1.1 times the mean, for 1 to 64 parts."""
    known = [file.size for files in sampled.sample.files.values() for file in files]
    drawn = random.Random(seed).choices(known, k=2000)
    sizes = {f"s3://b/{i}": size for i, size in enumerate(drawn)}
    worst = 0.0
    for count in range(1, 65):
        loads = [0] * count
        for key, part in assign(sizes, count).items():
            loads[part] += sizes[key]
        worst = max(worst, max(loads) * count / sum(loads))
    print(f"largest part / mean: {worst:.4f} with files of {min(known)} to {max(known)} bytes")
    assert worst <= 1.1


def test_a_size_that_is_not_known_is_an_error_not_another_split():
    states = (*TO_FETCH, State.RIGHT)  # of a copy whose source was another one
    items = [Item("v2/d", "a", "d", "", "s3://b/a", None, state) for state in states]
    for item in items:
        with pytest.raises(StoreUnavailable, match="s3://b/a: its size is not known"):
            Shard(0, 2).of([DatasetPlan("d", 1, [item])], by_size=True)
        _, share = Shard(0, 2).of([DatasetPlan("d", 1, [item])], by_size=False)
        assert share.all_files == 1


ARRAY = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "4"}
STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "3"}
RANK = {"RANK": "6", "WORLD_SIZE": "8"}
POD = {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "5"}


@pytest.mark.parametrize(
    ("environ", "shard"),
    [
        (ARRAY | {"SLURM_ARRAY_TASK_MIN": "3"}, "2/4"),
        (ARRAY | {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2"}, "2/4"),
        (ARRAY | {"SLURM_ARRAY_TASK_ID": "3", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, "3/4"),
        (
            ARRAY | STEP | {"SLURM_ARRAY_TASK_ID": "3", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"},
            "3/4",
        ),
        (STEP, "1/3"),
        (STEP | {"SLURM_NTASKS": "9", "SLURM_STEP_NUM_TASKS": "3"}, "1/3"),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, "2/4"),
        (RANK, "6/8"),
        (RANK | STEP, "6/8"),
        (RANK | STEP | {"SLURM_STEP_ID": ""}, "6/8"),
        (POD, "2/5"),
        ({"RANK": "0", "WORLD_SIZE": "1"} | POD, "2/5"),
        ({"RANK": "0", "WORLD_SIZE": "1"}, "0/1"),
    ],
)
def test_auto_reads_the_variables_of_schedulers(environ, shard):
    assert str(shard_of("auto", environ)) == shard


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, ("SLURM_ARRAY_TASK_ID", "SLURM_PROCID", "RANK", "JOB_COMPLETION_INDEX")),
        ({"RANK": "0"}, ("WORLD_SIZE is not set",)),
        ({"JOB_COMPLETION_INDEX": "0"}, ("JOB_COMPLETIONS is not set",)),
        ({"SLURM_ARRAY_TASK_ID": "0"}, ("SLURM_ARRAY_TASK_COUNT is not set",)),
        (RANK | {"RANK": "x"}, ("RANK=x is not a number",)),
        (RANK | {"RANK": "8"}, ("RANK=8", "WORLD_SIZE=8")),
        (RANK | POD, ("RANK (6/8)", "JOB_COMPLETION_INDEX (2/5)")),
        (ARRAY | STEP | {"SLURM_ARRAY_TASK_ID": "1"}, ("SLURM_ARRAY_TASK_ID", "SLURM_PROCID")),
        (ARRAY | {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "9"}, ("evenly",)),
        (ARRAY | {"SLURM_ARRAY_TASK_STEP": "0"}, ("evenly",)),
        ({**STEP, "SLURM_PROCID": "0"} | {"SLURM_STEP_ID": None}, ("SLURM_NTASKS", "batch script")),
    ],
)
def test_variables_that_name_no_part_are_an_error_that_names_them(environ, named):
    environ = {name: value for name, value in environ.items() if value is not None}
    with pytest.raises(ConfigError) as caught:
        shard_of("auto", environ)
    assert all(text in f"{caught.value} {caught.value.hint}" for text in named)


@pytest.mark.parametrize(
    "text", ["3/3", "-1/4", "a/b", "1/0", "0/0", "1", "", "1/2/3", "\u0661/\u0662"]
)
def test_a_malformed_shard_is_an_error(text):
    with pytest.raises(ConfigError, match="--shard"):
        shard_of(text, {})


@pytest.fixture
def together(spawn, release, tmp_path):
    """Start shards of a selection in one directory, all at once, and return the processes."""

    def run(shards, *arguments, out="out"):
        command = [*EGO4DFS, "prefetch", "-y", "-o", str(tmp_path / out), "--json"]
        command += ["--version", release.version, *arguments]
        started = []
        for shard in shards:
            log = (tmp_path / f"{shard.replace('/', '-')}.json").open("w+")
            # Each machine has a cache of its own.
            cache = str(tmp_path / f"cache-{shard.replace('/', '-')}")
            started.append(
                (spawn([*command, "--shard", shard, "--cache-dir", cache], stdout=log), log)
            )
        return started

    return run


def reports(started):
    found = []
    for process, log in started:
        assert process.wait(timeout=120) == 0
        log.seek(0)
        found.append(json.load(log))
    return found


def records(out):
    with closing(Journal(out / ".ego4dfs", read_only=True)) as journal:
        return {path: (r.url, r.facts.etag, r.checksum) for path, r in journal.records()}


def test_shards_in_one_directory_at_once_make_what_one_run_makes(
    prefetch, together, release, front, tmp_path
):
    release.dataset("annotations", FILES)
    release.dataset("clips", {"c.mp4": b"c", "d.mp4": seeded("d", 9 * MIB)})
    release.metadata(b'{"videos": []}')
    options = ("--datasets", "annotations", "clips")
    prefetch("-y", *options, "-o", str(tmp_path / "whole"))
    front.reset()
    found = reports(together([f"{part}/4" for part in range(4)], *options))
    gets = [path for method, path, _ in front.log if method == "GET" and "/objects/" in path]
    assert {path.rpartition("/")[2] for path in gets} == {*FILES, "c.mp4", "d.mp4"}
    assert sorted(r["shard"]["index"] for r in found) == [0, 1, 2, 3]
    assert len({r["shard"]["split"] for r in found}) == 1
    assert sum(r["shard"]["files"] for r in found) == len(FILES) + 2
    size = sum(map(len, FILES.values())) + 1 + 9 * MIB + 14
    assert sum(r["fetched_bytes"] for r in found) == size  # nothing is fetched twice
    assert _lines(tree(tmp_path / "out")) == _lines(tree(tmp_path / "whole"))
    assert records(tmp_path / "out") == records(tmp_path / "whole")
    assert not list((tmp_path / "out/.ego4dfs").glob("shard-*"))
    front.reset()
    done = prefetch("-y", *options)
    assert "The latest versions of all requested videos already exist" in done.stdout
    assert not [path for method, path, _ in front.log if method == "GET" and "/objects/" in path]


def _lines(found):
    """Return the files; of manifest.ver the lines, whose order is that of completion."""
    return {p: sorted(d.splitlines()) if p.endswith(".ver") else d for p, d in found.items()}


def test_a_complete_shard_does_not_claim_the_whole(prefetch, release, tmp_path):
    release.dataset("annotations", FILES)
    prefetch("-y", "--no-metadata", "--shard", "1/3")
    found = data_of(tree(tmp_path / "out"), release, "annotations")
    assert 0 < len(found) < len(FILES)
    again = prefetch("-y", "--no-metadata", "--shard", "1/3")
    assert f"Shard 1 of 3: {len(found)} of {len(FILES)} files" in again.stdout
    assert "all requested videos of shard 1 of 3 already exist" in again.stdout
    document = json.loads((tmp_path / "out/.ego4dfs/selections.json").read_bytes())
    assert document == {release.version: {"annotations": sorted(found)}}
    planned = prefetch("--dry-run", "--no-metadata", "--json")
    [dataset] = json.loads(planned.stdout)["datasets"]
    assert dataset["to_fetch"] == len(FILES) - len(found)
    other = prefetch("-y", "--no-metadata", "--shard", "0/3")
    assert f"shard 0 of 3: {len(FILES) // 3}" in other.stdout


def test_a_killed_shard_is_resumed_by_any_later_run(prefetch, together, release, front, tmp_path):
    files = {f"big{i}.mp4": seeded(f"b{i}", 24 * MIB + i) for i in range(2)}
    release.dataset("annotations", files)
    front.faults.piece_bytes, front.faults.bytes_per_s = 64 << 10, 6 * MIB
    [(process, _)] = together(["0/2"], "--no-metadata")
    wait_until(lambda: front.bytes_sent > 12 * MIB)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    front.faults.bytes_per_s = 0.0
    done = json.loads(prefetch("-y", "--no-metadata", "--json").stdout)
    assert done["resumed_bytes"] > MIB
    size = sum(map(len, files.values()))
    assert done["fetched_bytes"] == size - done["resumed_bytes"] - done["cached_bytes"]
    assert data_of(tree(tmp_path / "out"), release, "annotations") == files
    assert not list((tmp_path / "out/.ego4dfs").glob("shard-*"))


def test_runs_that_may_write_the_same_file_are_refused(
    prefetch, together, release, front, tmp_path
):
    release.dataset("annotations", FILES)
    gate = threading.Event()
    front.faults.only, front.faults.method, front.faults.gate = "objects", "GET", gate
    try:
        started = together(["0/2"], "--no-metadata")
        plan = tmp_path / "out/.ego4dfs/shard-0-of-2/plan.json"
        wait_until(plan.exists)
        same = prefetch("-y", "--no-metadata", "--shard", "0/2", code=1)
        assert "another prefetch is running there" in same.stderr
        whole = prefetch("-y", "--no-metadata", code=1)
        assert "another prefetch is running there" in whole.stderr
        other = prefetch("-y", "--no-metadata", "--shard", "1/3", code=1)
        assert "shard-0-of-2 of another selection" in other.stderr
    finally:
        gate.set()
    reports(started)
    prefetch("-y", "--no-metadata", "--shard", "1/3")


def test_the_command_that_continues_splits_in_the_same_way(prefetch, release, tmp_path):
    names = [f"v{number}.mp4" for number in range(8)]
    rows = [f"{name},file,{release.url(f'annotations/{name}')}" for name in names]
    release.manifest("annotations", "\n".join(["video_uid,type,s3_path", *rows, ""]))
    for name in names[1:]:
        release.put(f"annotations/{name}", name.encode())
    parts = assign(
        {release.url(f"annotations/{n}"): len(n) if n != names[0] else 0 for n in names}, 2
    )
    part = parts[release.url(f"annotations/{names[0]}")]
    variables = {"JOB_COMPLETION_INDEX": str(part), "JOB_COMPLETIONS": "2"}
    done = prefetch("-y", "--no-metadata", "--shard", "auto", code=3, **variables)
    [line] = [line for line in done.stderr.splitlines() if line.startswith("  ego4dfs prefetch")]
    assert f"--shard {part}/2" in line
    assert "--include" not in line
    assert len(data_of(tree(tmp_path / "out"), release, "annotations")) == 3


@pytest.mark.parametrize("more", [("--to", "cache"), ("--skip-s3-checks",), ("--bypass-existing",)])
def test_parts_do_not_depend_on_what_a_machine_has(prefetch, release, tmp_path, more):
    release.dataset("annotations", FILES)
    out = () if "cache" in more else ("-o", str(tmp_path / "out"))
    run = ("-y", "--no-metadata", "--json", *more)
    seen = []
    for part in range(3):  # each has what the parts before have fetched, and knows their sizes
        done = prefetch(*run, *out, "--shard", f"{part}/3", out=False)
        seen.append(json.loads(done.stdout))
    assert len({found["shard"]["split"] for found in seen}) == 1
    assert sum(found["shard"]["files"] for found in seen) == len(FILES)
    assert sum(found["done"] for found in seen) == len(FILES)
    assert sum(found["fetched_bytes"] for found in seen) == sum(map(len, FILES.values()))
    rest = json.loads(prefetch(*run, *out, out=False).stdout)
    assert (rest["done"], rest["skipped"]) == (0, len(FILES))


def test_uids_of_ego4d_json_select_the_same_files_in_each_part(prefetch, release, tmp_path):
    release.dataset("annotations", FILES)
    named = [name.removesuffix(".mp4") for name in list(FILES)[:9]]
    release.metadata(json.dumps({"videos": [{"video_uid": uid} for uid in named]}).encode())
    for part in range(3):
        prefetch("-y", "--shard", f"{part}/3", "--uids-from", "ego4d.json")
        assert (tmp_path / "out/ego4d.json").exists()  # part 0 has fetched it
    found = data_of(tree(tmp_path / "out"), release, "annotations")
    assert found == {f"{uid}.mp4": FILES[f"{uid}.mp4"] for uid in named}
    again = prefetch("--dry-run", "--json", "--no-metadata", "--uids-from", "ego4d.json")
    assert json.loads(again.stdout)["datasets"][0]["to_fetch"] == 0


@pytest.mark.parametrize("what", ["indexes", "windows"])
def test_indexes_and_windows_of_videos_are_split_too(sampled, tmp_path, transport, what):
    env = environment(sampled.server, tmp_path / "home", transport)
    uids = [video.uid for video in sampled.sample.videos]
    windows = tmp_path / "windows.csv"
    rows = [f"{uid},0.5,1" for uid in uids]
    windows.write_text("\n".join(["video_uid,start_s,end_s", *rows, ""]))
    line = [*EGO4DFS, "prefetch", "-y", "--to", "cache", "--datasets", "full_scale", "--json"]
    line += ["--indexes"] if what == "indexes" else ["--windows", str(windows)]

    def run(*more):
        done = subprocess.run([*line, *more], env=env, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    count = 2 if what == "indexes" else len(uids) + 1  # then the last part has no file
    parts = [run("--shard", f"{part}/{count}") for part in range(count)]
    files = [part["shard"]["files"] for part in parts]
    assert (sum(files), min(files) > 0) == (len(uids), what == "indexes")
    assert [part["videos"] for part in parts] == files
    assert sum(part["shard"]["bytes"] for part in parts) == parts[0]["shard"]["all_bytes"]
    assert run("--dry-run", "--shard", f"0/{count}")["shard"] == parts[0]["shard"]
    assert run()["fetched_bytes"] == 0


def test_the_examples_of_the_guide(sampled, tmp_path, transport):
    env = environment(sampled.server, tmp_path / "home", transport)
    programs = Path(sys.executable).parent
    env["PATH"] = f"{programs}:{env['PATH']}"
    [(language, code), (_, checks)] = examples(ROOT / "docs/guides/cluster.md")
    printed = run_example(language, code, tmp_path, env)
    checked = run_example(language, checks, tmp_path, env).splitlines()
    assert all(line.endswith(" right") for line in checked)
    assert len(checked) == 2
    print(printed)
    assert all(f"shard {part} of 2: " in printed for part in range(2))
    done = run_example(language, code.splitlines()[0].partition(" --shard")[0], tmp_path, env)
    assert "The latest versions of all requested videos already exist" in done


@pytest.mark.program("munged", "slurmctld", "slurmd", "sbatch")
def test_a_slurm_array_makes_what_one_run_makes(prefetch, release, tmp_path):
    release.dataset("annotations", FILES)
    release.metadata(b"{}")
    prefetch("-y", "-o", str(tmp_path / "whole"))
    command = [*EGO4DFS, "prefetch", "-y", "-o", str(tmp_path / "out"), "--json"]
    command += ["--datasets", "annotations", "--version", release.version, "--shard", "auto"]
    array = ["sbatch", "--wait", "--array=0-3", f"--output={tmp_path}/%a.json", "--error=/dev/null"]
    line = [str(ROOT / "scripts/slurm"), *array, "--wrap", shlex.join(command)]
    with subprocess.Popen(line, cwd=tmp_path) as slurm:
        try:
            assert slurm.wait(120) == 0
        finally:
            slurm.terminate()  # its daemons end with it
    found = [json.loads((tmp_path / f"{part}.json").read_bytes()) for part in range(4)]
    assert sum(report["fetched_bytes"] for report in found) == sum(map(len, FILES.values())) + 2
    assert _lines(tree(tmp_path / "out")) == _lines(tree(tmp_path / "whole"))


def test_a_dry_run_shows_the_part(prefetch, release):
    release.dataset("annotations", FILES)
    shown = [
        json.loads(prefetch("--dry-run", "--no-metadata", "--json", "--shard", f"{i}/2").stdout)
        for i in range(2)
    ]
    assert sum(s["datasets"][0]["to_fetch"] for s in shown) == len(FILES)
    assert sum(s["shard"]["bytes"] for s in shown) == shown[0]["shard"]["all_bytes"]


def test_a_dataset_that_cannot_be_listed_ends_a_shard(prefetch, release):
    release.dataset("annotations", FILES)
    release.metadata(b"{}")
    options = ("-y", "--datasets", "annotations", "fut_loc")
    done = prefetch(*options, "--shard", "0/2", code=4)
    assert "dataset fut_loc is refused" in done.stderr
    prefetch(*options, code=3)


FACTS = ObjectFacts(3, "e", "v", 10**18)


def test_a_shard_begins_with_all_records_and_returns_only_its_own(tmp_path):
    state = tmp_path / ".ego4dfs"
    state.mkdir()
    with closing(open_whole(state)) as whole:
        for path in ("a", "b", "c"):
            whole.begin(path, f"s3://b/{path}", FACTS, ".ego4dfs/x.part")
            whole.written(path, 0, 2)
    shards = [ShardJournal(state, index, 2) for index in range(2)]
    for journal, path in zip(shards, ("a", "b"), strict=True):
        with journal.exclusive():
            journal.begin_part([path], "d")
        assert journal.partial_download(path).ranges == ((0, 2),)
    shards[0].forget("a")
    shards[0].note_evidence("s", "b", "disagreed", "s3://b/a")
    shards[1].complete([("b", Record("s3://b/b", "s", "v2", FACTS, "md5"))])
    for journal in reversed(shards):
        journal.close()
    with closing(open_whole(state)) as whole:
        assert whole.partial_bytes() == {"c": 2}
        assert ("b", "disagreed", "s3://b/a") in whole.evidence("s")
        assert [path for path, _ in whole.records()] == ["b"]
        assert whole.partial_download("c") is not None
        assert whole.partial_download("b") is None


def in_the_database(state: Path, to: Path) -> set[str]:
    """Return what a power loss leaves for certain: the copies that are not in SQLite's log only."""
    to.mkdir()
    shutil.copy(state / "journal.sqlite", to)
    with closing(Journal(to, read_only=True)) as journal:
        return {path for path, _ in journal.records()}


def shard_with_a(directory: Path) -> tuple[Path, ShardJournal]:
    """Return the state directory below `directory`, and the journal of a shard that has `a`."""
    state = directory / ".ego4dfs"
    state.mkdir()
    journal = ShardJournal(state, 0, 2)
    with journal.exclusive():
        journal.begin_part(["a"], "d")
    journal.complete([("a", Record("s3://b/a", "s", "v2", FACTS, "md5"))])
    return state, journal


@pytest.mark.parametrize("by", ["its end", "the next prefetch"])
def test_a_power_loss_costs_no_record(tmp_path, monkeypatch, by):
    state = tmp_path / ".ego4dfs"
    state.mkdir()
    record = Record("s3://b/a", "s", "v2", FACTS, "md5")
    with closing(open_whole(state)) as whole:
        whole.complete([("a", record)])
    journal = ShardJournal(state, 0, 2)
    with journal.exclusive():
        journal.begin_part(["a", "b"], "d")
    assert (state / "shard-0-of-2/plan.json").exists()
    assert in_the_database(state / "shard-0-of-2", tmp_path / "begun") == {"a"}
    journal.complete([("b", record)])
    found = []
    remove = shard_journal._remove

    def removed(directory: Path) -> None:
        found.append(in_the_database(state, tmp_path / "moved"))
        remove(directory)

    monkeypatch.setattr(shard_journal, "_remove", removed)
    if by == "its end":
        journal.close()
    else:
        Journal.close(journal)  # as if killed
        open_whole(state).close()
    assert found == [{"a", "b"}]


@pytest.mark.parametrize("by", ["its end", "the next prefetch"])
def test_a_shard_whose_directory_is_removed_in_part_loses_no_record(tmp_path, monkeypatch, by):
    state, journal = shard_with_a(tmp_path)
    killed = tmp_path / "killed"
    if by == "the next prefetch":
        shutil.copytree(state / "shard-0-of-2", killed)
    with monkeypatch.context() as patch:

        def remove_some(directory):
            assert not descriptors_below(directory)
            (directory / "journal.sqlite").unlink(missing_ok=True)
            raise OSError(39, "Directory not empty")

        patch.setattr(shutil, "rmtree", remove_some)
        journal.close()
        if by == "the next prefetch":
            shutil.copytree(killed, state / "shard-0-of-2", dirs_exist_ok=True)
            open_whole(state).close()
    with closing(open_whole(state)) as whole:
        assert [path for path, _ in whole.records()] == ["a"]
    assert not list(state.glob("shard-*"))


ITEMS = {
    name: Item("v2/d", name, "d", name, f"s3://b/{name}", FACTS, State.ADOPT) for name in "abc"
}


@pytest.fixture
def layout(tmp_path):
    """A directory with files that have no record yet."""
    made = Layout(tmp_path, "v2")
    made.prepare(("d",))
    for name in ITEMS:
        (made.dataset("d") / name).write_bytes(b"abc")
    return made


def committer(layout, folders, journal):
    origin = {"source": "s", "release": "v2"}
    return Committer(layout, folders, journal, Report(), lambda _: False, **origin)


def test_a_run_that_is_alone_reads_manifest_ver_once(layout, monkeypatch):
    read = []

    def counted(directory):
        read.append(directory)
        return VersionFile(directory)

    monkeypatch.setattr("ego4dfs.prefetch.commit.VersionFile", counted)
    with closing(Folders(layout.root)) as folders, closing(Journal(layout.state)) as journal:
        alone = committer(layout, folders, journal)
        for item in ITEMS.values():
            alone.adopt(item, FACTS, "md5")
            alone.flush()
    assert read == [layout.dataset("d")]
    assert [row.uid for row in VersionFile(layout.dataset("d")).all()] == ["a", "b", "c"]


def test_shards_keep_the_rows_of_each_other_in_manifest_ver(layout, monkeypatch):
    journals = [ShardJournal(layout.state, index, 2) for index in range(2)]
    with closing(Folders(layout.root)) as folders:
        committers = [committer(layout, folders, journal) for journal in journals]
        for name, part in (("a", 0), ("b", 1), ("c", 0)):
            committers[part].adopt(ITEMS[name], FACTS, "md5")
            committers[part].flush()
        monkeypatch.setattr(shard_journal, "WAIT_S", 0.2)
        committers[1].adopt(ITEMS["b"], FACTS, "md5")
        with journals[0].exclusive(), pytest.raises(JournalError, match="another prefetch"):
            committers[1].flush()
    for journal in journals:
        journal.close()
    assert [row.uid for row in VersionFile(layout.dataset("d")).all()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("paths", "call", "error"),
    [
        (None, "copy_database", sqlite3.OperationalError("disk I/O error")),
        (["a"], "Journal.replace_rows", JournalError(5, "disk I/O error")),
    ],
    ids=["all rows", "its own rows"],
)
def test_a_shard_that_cannot_begin_can_be_begun_again_by_the_same_process(
    tmp_path, monkeypatch, paths, call, error
):
    """A worker of Dask lives on: what it kept locked would look like a shard that is running."""
    state = tmp_path / ".ego4dfs"
    state.mkdir()
    with closing(open_whole(state)) as whole:
        whole.complete([("a", Record("s3://b/a", "s", "v2", FACTS, "md5"))])

    def fail(*_arguments, **_options):
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(f"ego4dfs.copies.journal.{call}", fail)
        with pytest.raises(JournalError, match="disk I/O error"):
            ShardJournal(state, 0, 2, paths)
    assert not descriptors_below(state)
    with closing(ShardJournal(state, 0, 2, paths)) as journal:
        assert [path for path, _ in journal.records()] == ["a"]


def test_a_shard_moves_the_rows_of_one_that_was_killed(tmp_path):
    state, killed = shard_with_a(tmp_path)
    Journal.close(killed)
    with closing(ShardJournal(state, 1, 2)) as journal:
        assert [path for path, _ in journal.records()] == ["a"]
        assert [path.name for path in state.glob("shard-*")] == ["shard-1-of-2"]


def test_a_shard_that_cannot_move_its_rows_says_so_and_the_next_prefetch_moves_them(
    tmp_path, monkeypatch, caplog
):
    state, journal = shard_with_a(tmp_path)
    monkeypatch.setattr(shard_journal, "WAIT_S", 0.1)
    with closing(Journal(state)):  # another shard moves its own
        journal.close()
    assert "shard-0-of-2: " in caplog.text
    assert "the next prefetch moves the records" in caplog.text
    with closing(open_whole(state)) as whole:
        assert [path for path, _ in whole.records()] == ["a"]


def test_a_running_shard_refuses_other_splits_and_whole_runs(tmp_path):
    state = tmp_path / ".ego4dfs"
    state.mkdir()
    with closing(ShardJournal(state, 0, 2)) as running:
        with running.exclusive():
            running.begin_part(["a"], "one split")
        with closing(ShardJournal(state, 1, 2)) as same:
            same.begin_part(["b"], "one split")
        with (
            closing(ShardJournal(state, 1, 3)) as other,
            pytest.raises(OutputError, match="shard-0-of-2 of another selection"),
        ):
            other.begin_part(["a"], "another split")
        with pytest.raises(journal_file.InUse):
            open_whole(state)
        Journal(state).close()  # nothing of it is still locked


def test_a_shard_in_a_directory_that_does_not_exist_is_an_error_that_names_it(tmp_path):
    with pytest.raises(OutputError, match=r"\.ego4dfs: no such file or directory"):
        ShardJournal(tmp_path / ".ego4dfs", 0, 2)


def test_a_filesystem_without_locks_is_refused(tmp_path, monkeypatch):
    state = tmp_path / ".ego4dfs"
    state.mkdir()

    def no_locks(_descriptor, _wait_s):
        raise OSError(38, "not implemented")

    monkeypatch.setattr(journal_file, "_lock", no_locks)
    with pytest.raises(OutputError, match="shards need a filesystem with locks"):
        ShardJournal(state, 0, 2)


def test_a_damaged_plan_of_a_killed_shard_is_ignored(tmp_path):
    state = tmp_path / ".ego4dfs"
    state.mkdir()
    for index, content in enumerate([b"[1", b"[]", b'{"paths": [1, null]}']):
        journal = ShardJournal(state, index, 3)
        with journal.exclusive():
            journal.begin_part([f"{index}"], "d")
        kept = tmp_path / f"kept-{index}"
        shutil.copytree(state / f"shard-{index}-of-3", kept)
        journal.close()
        shutil.copytree(kept, state / f"shard-{index}-of-3")
        (state / f"shard-{index}-of-3/plan.json").write_bytes(content)
        open_whole(state).close()
        assert not list(state.glob("shard-*"))
    assert sqlite3.connect(state / "journal.sqlite").execute("SELECT 1").fetchone() == (1,)


def test_a_shard_of_known_paths_copies_only_their_rows(tmp_path):
    """Hundreds begin at once, each with the lock of the journal, which has 100,000 rows."""
    state = tmp_path / ".ego4dfs"
    state.mkdir()
    facts = ObjectFacts(1, "e", "", 1)
    names = ["a", "b", "c.part"]
    with closing(Journal(state)) as whole:
        whole.complete((f"v9/{n}", Record(f"s3://b/{n}", "", "v9", facts, "md5")) for n in names)
        whole.begin("v9/d", "s3://b/d", facts, "d.part")
        whole.written("v9/d", 0, 1)
    journal = ShardJournal(state, 0, 2, {"v9/a", "v9/d"})
    # One whose name is like that of an unfinished copy is known, so that it is not removed.
    assert sorted(path for path, _ in journal.records()) == ["v9/a", "v9/c.part"]
    assert journal.partial_download("v9/d").ranges == ((0, 1),)
    journal.begin_part(["v9/a", "v9/d"], "digest")
    journal.complete([("v9/d", Record("s3://b/d", "", "v9", facts, "md5"))])
    journal.close()
    with closing(open_whole(state)) as whole:
        assert sorted(path for path, _ in whole.records()) == ["v9/a", "v9/b", "v9/c.part", "v9/d"]
        assert whole.partial_bytes() == {}


def test_more_paths_than_one_statement_takes_are_copied(tmp_path):
    state = tmp_path / ".ego4dfs"
    state.mkdir()
    facts = ObjectFacts(1, "e", "", 1)
    paths = [f"v9/{number}" for number in range(2000)]
    with closing(Journal(state)) as whole:
        whole.complete((p, Record(f"s3://b/{p}", "", "v9", facts, "md5")) for p in paths)
    with closing(ShardJournal(state, 0, 2, paths[1:])) as journal:
        assert sorted(path for path, _ in journal.records()) == sorted(paths[1:])
