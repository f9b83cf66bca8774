"""More requirements of a replacement for the official tool: paths, dataset names, missing flags."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from kit.cli import EGO4DFS
from kit.gateway import Gateway
from kit.official import compared, run_official

pytestmark = pytest.mark.first_pass

FILES = {"a.jpg": b"a", "b.jpg": b"bb", "c.jpg": b"ccc"}


def both_trees(release, *flags: str) -> dict[str, bytes]:
    """Run both tools with paths that no shell has expanded, and return both trees."""
    home = Path(os.environ["HOME"])
    flags = ("-y", "--no-metadata", "--version", release.version, *flags)
    done = run_official(Path("~/official"), *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    command = [*EGO4DFS, "prefetch", "-o", "~/ours", *flags]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    assert not Path("~").exists()
    found = compared(home / "ours")
    assert found == compared(home / "official")
    return found


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("what", ["nothing", "uid file", "config", "override"])
def test_the_tilde_is_the_home_in_every_path(release, what):
    manifest = release.dataset("clips", {f"{name[0]}.mp4": data for name, data in FILES.items()})
    home = Path(os.environ["HOME"])
    (home / "uids").write_text("a\nb")
    (home / "config").write_text(json.dumps({"video_uids": ["a", "b"]}))
    (home / "own.csv").write_bytes(b"".join(manifest.splitlines(keepends=True)[:3]))
    flags = {
        "nothing": ("--video_uids", "a", "b"),
        "uid file": ("--video_uid_file", "~/uids"),
        "config": ("--config_path", "~/config"),
        "override": ("--manifest-override-path", "~/own.csv"),
    }[what]
    found = both_trees(release, "--datasets", "clips", *flags)
    names = {path.rpartition("/")[2] for path in found} - {"manifest.csv"}
    assert names == {"a.mp4", "b.mp4"}


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize(
    ("given", "dataset"),
    [
        ("components/videos", "components/videos"),
        ("Components/Videos", "components/videos"),
        ("something_new", "something_new"),
    ],
)
def test_datasets_are_in_the_directories_of_their_names_known_or_not(release, given, dataset):
    release.dataset(dataset, FILES)
    found = both_trees(release, "--datasets", given)
    assert found.keys() - {f"{release.version}/{dataset}/manifest.csv"} == {
        f"{release.version}/{dataset}/{name}" for name in FILES
    }


def test_without_an_output_directory_the_run_is_refused(release, front: Gateway):
    command = [*EGO4DFS, "prefetch", "-y", "--version", release.version]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no output directory was given" in done.stderr
    assert front.requests == 0
