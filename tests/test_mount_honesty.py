"""A mount reports a missing store, cache or object; nothing looks like an empty file."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from kit.cache import remove_in_use
from kit.cli import run_cli
from kit.processes import wait_until

pytestmark = pytest.mark.fuse

ROWS = "video_uid,type,s3_path\n"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A directory in place of S3, with a dataset of two files and a row whose object is absent."""
    bucket = tmp_path / "mirror" / "ego4d-consortium-sharing"
    directory = bucket / "public" / "v2_1" / "imu"
    directory.mkdir(parents=True)
    rows = [f"{name},file,s3://ego4d-consortium-sharing/{name}.csv" for name in ("a", "b", "gone")]
    (directory / "manifest.csv").write_text(ROWS + "\n".join(rows) + "\n")
    for name in ("a", "b"):
        (bucket / f"{name}.csv").write_text(name * 1000)
    return tmp_path / "mirror"


def mounted(mount, mirror: Path, *more: str) -> Path:
    return mount("--source", str(mirror), "--datasets", "imu", "--no-metadata", *more) / "v2/imu"


def test_an_outage_makes_no_empty_files(mount, mirror, tmp_path):
    directory = mounted(mount, mirror)
    mirror.rename(tmp_path / "away")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        os.stat(directory / "a.csv")
    assert "a.csv" in os.listdir(directory)
    (tmp_path / "away").rename(mirror)

    def answers() -> bool:
        try:
            return (directory / "a.csv").stat().st_size == 1000
        except OSError:
            return False

    wait_until(answers)
    assert (directory / "a.csv").read_text() == "a" * 1000


def test_tar_reports_a_file_that_is_refused(mount, mirror, tmp_path):
    directory = mounted(mount, mirror)
    assert (directory / "gone.csv").stat().st_mode & 0o777 == 0o640
    done = subprocess.run(
        ["tar", "-cf", tmp_path / "all.tar", "-C", directory, "."],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "gone.csv: File removed before we read it" in done.stderr


def test_a_mount_whose_cache_was_removed_can_be_read_and_unmounted(mount, mirror, licensee):
    directory = mounted(mount, mirror)
    assert (directory / "a.csv").read_text() == "a" * 1000
    remove_in_use(Path(licensee["EGO4DFS_CACHE_DIR"]))
    assert (directory / "b.csv").read_text() == "b" * 1000
    mount.unmount(directory.parent.parent)
    assert not os.path.ismount(directory.parent.parent)


@pytest.mark.parametrize("flag", ["--cache-dir", "--log-file"])
def test_the_mount_must_not_hide_its_own_files(mirror, tmp_path, licensee, flag):
    mountpoint = tmp_path / "m"
    mountpoint.mkdir()
    inside = mountpoint / "inside"
    done = run_cli(
        *("mount", str(mountpoint), "--source", str(mirror), flag, str(inside)),
        env=licensee,
        check=False,
    )
    assert done.returncode == 2
    assert "below the mountpoint itself" in done.stderr
    assert flag in done.stderr
    assert list(mountpoint.iterdir()) == []


def test_a_long_listing_distinguishes_refused_from_unreachable(mirror, tmp_path, licensee, cli):
    arguments = ("ls", "-l", "v2/imu", "--source", str(mirror), "--datasets", "imu")
    whole = cli(*arguments, env=licensee)
    assert ["refused" in line for line in whole.stdout.splitlines() if "gone.csv" in line] == [True]
    rows = (mirror / "ego4d-consortium-sharing/public/v2_1/imu/manifest.csv").read_text()
    new = rows + "new,file,s3://ego4d-consortium-sharing/new.csv\n"
    (mirror / "ego4d-consortium-sharing/public/v2_1/imu/manifest.csv").write_text(new)
    cli(*("ls", "v2/imu", "--source", str(mirror), "--datasets", "imu"), env=licensee)
    mirror.rename(tmp_path / "away")
    part = cli(*arguments, env=licensee, check=False)
    assert part.returncode == 3
    assert [line.split()[0] for line in part.stdout.splitlines() if "new.csv" in line] == ["?"]
    assert "the sizes of 1 of 5 files could not be fetched" in part.stderr
