"""A mount shows the same tree as a download by the official tool, ego4d 1.7.3."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from kit.mounts import Mounts
from kit.server import environment

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

DATASETS = (
    *("annotations", "full_scale", "clips", "slowfast8x8_r101_k400", "imu", "viz"),
    *("clip_256ss", "video_540ss", "sta_models"),
)


def download(directory: Path, env: dict[str, str], *arguments: str) -> None:
    """Run the official tool into an empty directory."""
    directory.mkdir()
    command = [sys.executable, "-m", "ego4d.cli.cli", "-o", str(directory), "-y", *arguments]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, check=False, timeout=150
    )
    assert done.returncode == 0, done.stdout + done.stderr


def differences(one: Path, other: Path) -> list[str]:
    done = subprocess.run(["diff", "-r", one, other], capture_output=True, text=True, check=False)
    assert done.returncode < 2, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def licensed(sampled, tmp_path, transport) -> dict[str, str]:
    """A licensee with a profile, which the official tool requires."""
    env = environment(sampled.server, tmp_path / "home", transport)
    (tmp_path / "home/.aws").mkdir()
    keys = sampled.server.licensee
    (tmp_path / "home/.aws/credentials").write_text(
        f"[default]\naws_access_key_id = {keys.access_key}\n"
        f"aws_secret_access_key = {keys.secret_key}\n"
    )
    return env


@pytest.fixture
def mounts(tmp_path, libfuse):
    made = Mounts(tmp_path, libfuse)
    yield made
    made.clear()


@pytest.mark.parametrize("release", ["v2_1", "v1"])
def test_a_mount_differs_from_a_download_in_its_records_only(
    sampled, licensed, mounts, tmp_path, release
):
    assert version("ego4d") == "1.7.3"
    names = [name for name in DATASETS if name in sampled.sample.datasets(release)]
    assert len(names) >= 3
    arguments = ("--version", release, "--datasets", *names)
    download(tmp_path / "download", licensed, *arguments)
    root = mounts(*arguments, env=licensed)
    directory = release.partition("_")[0]
    records = {f"Only in {tmp_path}/download/{directory}/{name}: manifest.ver" for name in names}
    second = f"Only in {root}/{directory}: ego4d.json"
    found = set(differences(tmp_path / "download", root))
    # The official tool writes its record in the dataset that it finishes last.
    assert second in found
    assert found - {second} <= records
    assert len(found) > 1


def test_a_selection_shows_what_the_same_flags_download(sampled, licensed, mounts, tmp_path):
    uids = [video.uid for video in sampled.sample.videos[1:3]]
    arguments = ("--datasets", "full_scale", "--video_uids", *uids)
    download(tmp_path / "download", licensed, *arguments)
    root = mounts(*arguments, env=licensed)
    found = sorted(path.name for path in (root / "v2/full_scale").iterdir())
    assert found == sorted([*(f"{uid}.mp4" for uid in uids), "manifest.csv"])
    expected = {
        f"Only in {tmp_path}/download/v2/full_scale: manifest.ver",
        f"Only in {root}/v2: ego4d.json",
    }
    assert set(differences(tmp_path / "download", root)) == expected
