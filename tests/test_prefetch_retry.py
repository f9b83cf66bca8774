"""The commands at the end of a report retry only what failed, and can be pasted into a shell."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kit.official import objects_read
from kit.prefetch import data_of, tree

NAMES = ("good.json", "it's [1],2.json", "other good.json")


@pytest.fixture
def paste(tmp_path):
    """Run lines in a shell, as if copied from the terminal."""

    def run(lines: list[str], code: int = 0) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-ec", "\n".join(lines)],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def printed_commands(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line[2:] for line in done.stderr.splitlines() if line.startswith("  ego4dfs prefetch")]


def forget() -> None:
    """Forget the recorded refusals, which are used for a minute."""
    shutil.rmtree(os.environ["EGO4DFS_CACHE_DIR"])


def annotated(release, dataset: str, names: tuple[str, ...]) -> None:
    rows = [f'f{i},x,file,"{release.url(f"{dataset}/{name}")}"' for i, name in enumerate(names)]
    release.manifest(dataset, "\n".join(["file_uid,annotation,type,s3_path", *rows, ""]))


def test_a_few_failed_files_are_selected_by_name(prefetch, release, front, tmp_path, paste):
    annotated(release, "annotations", NAMES)
    for name in (NAMES[0], NAMES[2]):
        release.put(f"annotations/{name}", name.encode())
    done = prefetch("-y", "--no-metadata", "--annotations", "x", code=3)
    [line] = printed_commands(done)
    words = shlex.split(line)
    assert words[words.index("--include") + 1] == "it's [[]1][,]2.json"
    assert "--annotations" not in line
    release.put(f"annotations/{NAMES[1]}", b"now it is there")
    forget()
    front.reset()
    paste([line])
    [read] = objects_read(front)
    assert read.endswith("/it%27s%20%5B1%5D%2C2.json")
    assert len(data_of(tree(tmp_path / "out"), release, "annotations")) == 3


def test_hostile_names_and_patterns_can_be_pasted(prefetch, release, paste):
    names = ("-y.json", "a,b [x].json", "a.b [x].json", "$(x) *?.json", "it's.json")
    lost = [name for name in names if name != "a.b [x].json"]
    annotated(release, "annotations", names)
    release.put("annotations/a.b [x].json", b"there")
    done = prefetch("-y", "--no-metadata", "--include", "*.json", "--include", "x*", code=3)
    [line] = printed_commands(done)
    for name in lost:
        release.put(f"annotations/{name}", name.encode())
    forget()
    shown = json.loads(paste([f"{line} --dry-run --json"]).stdout)["datasets"]
    assert [(d["files"], d["to_fetch"]) for d in shown] == [(4, 4)]
    paste([line])


UIDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(12)]


def videos(release, dataset: str, there: list[str]) -> None:
    rows = [f"{uid},file,{release.url(f'{dataset}/{uid}.pt')}" for uid in UIDS]
    release.manifest(dataset, "\n".join(["video_uid,type,s3_path", *rows, ""]))
    for uid in there:
        release.put(f"{dataset}/{uid}.pt", uid.encode())


def test_many_failed_files_are_in_a_file_of_uids_beside_the_journal(
    prefetch, release, tmp_path, paste
):
    videos(release, "imu", UIDS[:3])
    done = prefetch("-y", "--no-metadata", "--datasets", "imu", "--video_uids", *UIDS[1:], code=3)
    [line] = printed_commands(done)
    words = shlex.split(line)
    file = Path(words[words.index("--video_uid_file") + 1])
    assert file.parent == tmp_path / "out/.ego4dfs"
    assert file.read_text().split() == UIDS[3:]
    assert len(line) < 300
    assert "--video_uids" not in words
    videos(release, "imu", UIDS)
    forget()
    shown = json.loads(paste([f"{line} --dry-run --json"]).stdout)["datasets"]
    assert [(d["dataset"], d["files"], d["to_fetch"]) for d in shown] == [("imu", 9, 9)]
    paste([line])
    assert sorted(data_of(tree(tmp_path / "out"), release, "imu")) == [f"{u}.pt" for u in UIDS[1:]]


def test_uids_of_the_environment_are_not_mixed_with_a_file(prefetch, release, paste):
    videos(release, "imu", UIDS[:3])
    uids = {"EGO4DFS_VIDEO_UIDS": " ".join(UIDS[1:])}
    done = prefetch("-y", "--no-metadata", "--datasets", "imu", code=3, **uids)
    [line] = printed_commands(done)
    assert "--video_uid_file" not in line
    videos(release, "imu", UIDS)
    forget()
    os.environ.update(uids)
    try:
        paste([line])
    finally:
        del os.environ["EGO4DFS_VIDEO_UIDS"]


def test_each_dataset_and_ego4d_json_have_a_line_of_their_own(prefetch, release, tmp_path, paste):
    for dataset in ("annotations", "viz"):
        annotated(release, dataset, NAMES[:1])
    release.dataset("imu", {"a.csv": b"a"})
    done = prefetch("-y", "--datasets", "annotations", "imu", "viz", code=3)
    lines = printed_commands(done)
    assert len(lines) == 3
    assert "--manifests-only" in lines[0]
    for dataset in ("annotations", "viz"):
        release.dataset(dataset, {NAMES[0]: b"there"})
    release.metadata(b"{}")
    forget()
    paste(lines)
    found = tree(tmp_path / "out")
    for dataset in ("annotations", "viz"):
        assert data_of(found, release, dataset) == {NAMES[0]: b"there"}
    assert found["ego4d.json"] == b"{}"


def test_json_has_the_same_commands(prefetch, release):
    annotated(release, "annotations", NAMES[:2])
    release.put(f"annotations/{NAMES[0]}", b"a")
    done = prefetch("-y", "--no-metadata", "--json", code=3)
    assert json.loads(done.stdout)["retry"] == printed_commands(done)
