"""Free space on each disk that a prefetch writes to, and release files on read-only ones."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from ego4dfs.cli.output import ExitCode
from ego4dfs.copies import Layout
from ego4dfs.errors import OutputError
from ego4dfs.prefetch import disks_of, room_on, without_space
from ego4dfs.prefetch.disk_space import DiskSpace
from kit.data import MIB

pytestmark = pytest.mark.first_pass

LARGE = {f"{number}.mp4": bytes([number]) * 3 * MIB for number in range(4)}
FLAGS = ("-y", "--no-metadata", "--datasets")


def fill(directory, left_bytes):
    """Take the rest of a disk."""
    rest = directory / "rest"
    rest.write_bytes(b"")
    disk = os.statvfs(directory)
    rest.write_bytes(bytes(disk.f_bavail * disk.f_frsize - left_bytes))


@pytest.fixture
def other_disk(release, tmp_path, small_disk):
    """The directory of clips is on a disk of its own, with room for 4 MiB."""
    release.dataset("clips", LARGE)
    release.dataset("viz", {"c.jpg": b"c"})
    directory = tmp_path / "out" / release.version / "clips"
    directory.parent.mkdir(parents=True)
    directory.symlink_to(small_disk)
    fill(directory, 4 * MIB)
    return directory


@pytest.mark.fault(
    area="disk",
    fault="too little room on the disk of one dataset, which is not that of the others",
    face="prefetch",
    sees="the directory and its free space are named before a byte is fetched; the others are"
    " copied; exit code 3",
    deadline="at once",
)
def test_a_dataset_that_does_not_fit_its_own_disk_is_not_begun(prefetch, front, other_disk):
    front.reset()
    done = prefetch(*FLAGS, "clips", "viz", code=ExitCode.PARTIAL)
    assert f"ego4dfs: {other_disk}: 12.0 MiB are needed, and 4.0 MiB are free" in done.stderr
    assert "Continuing without clips." in done.stderr
    assert (other_disk.parent / "viz/c.jpg").read_bytes() == b"c"
    assert not any(path.endswith(".mp4") for verb, path, _ in front.log if verb == "GET")
    assert sorted(os.listdir(other_disk)) == ["manifest.csv", "rest"]


@pytest.fixture
def version_disk(release, tmp_path, small_disk):
    """The version directory is on a full disk; the directory of viz is not."""
    release.metadata(b"{}" * MIB)
    release.dataset("clips", LARGE)
    release.dataset("viz", {"c.jpg": b"c"})
    version, viz = tmp_path / "out" / release.version, tmp_path / "viz"
    viz.mkdir()
    (tmp_path / "out").mkdir()
    version.symlink_to(small_disk)
    (small_disk / "viz").symlink_to(viz)
    fill(small_disk, MIB)
    return version


@pytest.mark.parametrize("datasets", [("clips", "viz"), ("viz",)])
def test_metadata_on_a_full_disk_fails_alone(prefetch, version_disk, datasets):
    """It belongs to no dataset, and the version directory has no manifest of its own."""
    done = prefetch("-y", "--metadata", "--datasets", *datasets, code=ExitCode.PARTIAL)
    assert ("Continuing without clips." in done.stderr) == ("clips" in datasets)
    assert "without ." not in done.stderr
    assert "without  " not in done.stderr
    text = done.stdout + done.stderr
    assert f"{version_disk.name}/manifest.csv" not in text
    failed = 1 + len(LARGE) * ("clips" in datasets)
    assert f"{failed} failed" in text
    assert (version_disk / "viz/c.jpg").read_bytes() == b"c"


@pytest.mark.parametrize("target", ["x" * 300, "clips"], ids=["ENAMETOOLONG", "ELOOP"])
def test_a_directory_linked_to_an_invalid_place_fails_that_dataset(
    prefetch, release, tmp_path, target
):
    release.dataset("clips", {"a.mp4": b"a"})
    release.dataset("viz", {"c.jpg": b"c"})
    version = tmp_path / "out" / release.version
    version.mkdir(parents=True)
    (version / "clips").symlink_to(target)
    done = prefetch(*FLAGS, "clips", "viz", code=ExitCode.PARTIAL)
    assert "1 failed" in done.stdout + done.stderr
    assert (version / "viz/c.jpg").read_bytes() == b"c"


def test_a_directory_that_may_not_be_read_fails_that_dataset(bench, tmp_path, monkeypatch):
    bench.put(a=b"a")
    plan, layout, exists = bench.plan(), Layout(tmp_path, "v9"), Path.exists

    def refuse(path):
        if path.name == "clips":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(OutputError, match="clips: permission denied"):
        layout.device("v9/clips")
    [root] = disks_of(plan, layout, {})
    assert root.needed_bytes == 0


def test_all_datasets_of_a_full_disk_are_named():
    root, full = DiskSpace("/a", 9), DiskSpace("/b", 1, 5, ("clips", "viz"))
    other = DiskSpace("/c", 9, 5, ("av",))
    assert without_space([root, full, other]) == [full]
    assert str(full.error()) == "/b: 5 B are needed for clips viz, and 1 B are free"
    with pytest.raises(OutputError):
        without_space([root, full])


def test_a_run_that_writes_only_there_does_not_begin(prefetch, other_disk):
    done = prefetch(*FLAGS, "clips", code=ExitCode.FAILURE)
    assert f"{other_disk}: 12.0 MiB are needed, and 4.0 MiB are free" in done.stderr
    assert "hint: free some space" in done.stderr


def test_what_is_on_disk_is_not_needed_again(prefetch, other_disk):
    prefetch(*FLAGS, "clips", "--include", "0.mp4")
    fill(other_disk, 10 * MIB)
    prefetch(*FLAGS, "clips")
    assert {path.name: path.read_bytes() for path in other_disk.glob("*.mp4")} == LARGE


def test_the_plan_names_the_room_on_each_disk(prefetch, other_disk):
    lines = prefetch(*FLAGS, "clips", "viz", "--dry-run").stdout.splitlines()
    assert lines[-1].startswith("5 files to fetch, 12.0 MiB; ")
    assert lines[-1].endswith(f" are free; 4.0 MiB are free in {other_disk}.")


def test_the_bytes_for_one_disk_are_summed(bench, tmp_path, monkeypatch):
    """Two datasets on one disk share its room, and a directory that does not exist has one too."""
    bench.put(a=b"a" * 70, b=b"b" * 30)
    plan = bench.plan()
    layout = Layout(tmp_path / "not" / "made", "v9")
    monkeypatch.setattr(Layout, "device", lambda _self, where="": len(where))
    [root, other] = disks_of(plan, layout, {plan.datasets[0].items[0].path: 20})
    assert (root.needed_bytes, root.datasets) == (0, ())
    assert (other.needed_bytes, other.datasets) == (80, ("clips",))
    assert room_on([root, other]).endswith(f"in {layout.root / 'v9/clips'}")


@pytest.fixture
def read_only_version(prefetch, release, tmp_path):
    """A version directory in which nothing can be made, with a dataset that can be written."""
    release.metadata(b"{}")
    release.dataset("viz", {"c.jpg": b"c"})
    release.dataset("clips", {"a.mp4": b"a"})
    out = tmp_path / "out"
    prefetch("-y", "--datasets", "viz")
    version, clips = out / release.version, tmp_path / "clips"
    (version / "ego4d.json").unlink()
    (version / "clips").mkdir()
    clips.mkdir()
    for words in (("--bind", version, version), ("--bind", clips, version / "clips")):
        subprocess.run(["mount", *map(str, words)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(version)], check=True)
    yield version
    for path in (version / "clips", version):
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_metadata_that_cannot_be_offered_stops_no_run(prefetch, read_only_version, tmp_path):
    prefetch("-y", "--datasets", "clips")
    assert (read_only_version / "clips/a.mp4").read_bytes() == b"a"
    assert (tmp_path / "out/ego4d.json").read_bytes() == b"{}"


def test_metadata_that_cannot_be_written_fails_that_file(
    prefetch, release, read_only_version, tmp_path
):
    release.metadata(b'{"new": 1}')
    done = prefetch("-y", "--datasets", "clips", code=ExitCode.PARTIAL)
    assert "ego4d.json: cannot be written: read-only file system" in done.stderr
    assert (read_only_version / "clips/a.mp4").read_bytes() == b"a"


def test_a_manifest_that_cannot_be_written_to_the_root_fails_that_file(prefetch, release, tmp_path):
    release.dataset("full_scale", {"b.mp4": b"b"})
    release.dataset("viz", {"c.jpg": b"c"})
    (tmp_path / "out/manifest.csv").mkdir(parents=True)
    done = prefetch(*FLAGS, "viz", "--manifest", code=ExitCode.PARTIAL)
    assert "manifest.csv: there is a directory of this name" in done.stderr
    assert (tmp_path / "out" / release.version / "viz/c.jpg").read_bytes() == b"c"
