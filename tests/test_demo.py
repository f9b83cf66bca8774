"""`ego4dfs demo`: all steps run, and nothing stays behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from shutil import which

import pytest

from ego4dfs.demo.walkthrough import own_command
from kit.cli import run_cli
from kit.mounts import mounts_below
from kit.processes import processes_with, wait_until
from kit.server import shared_media
from kit.web import Client

pytestmark = pytest.mark.fuse


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run with an empty home, no keys and no settings; end what the test leaves."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "EGO4DFS_", "XDG_"))}
    env = {**kept, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    yield env
    run_cli("demo", "--stop", env=env, check=False)


def assert_nothing_left(directory: Path) -> None:
    assert mounts_below(directory) == []
    assert processes_with(str(directory)) == []


# `ego4dfs demo`, with videos that were made before.
DEMO = """
import sys
from pathlib import Path
from ego4dfs.cli import main
from ego4dfs.demo import sample
make_all = sample.make_all
sample.make_all = lambda clips, _: make_all(clips, Path(sys.argv[1]))
sys.exit(main(["demo"]))
"""


def test_the_demo_runs_to_its_end_and_cleans_up(home: Mapping[str, str], tmp_path: Path):
    command = [sys.executable, "-c", DEMO, str(shared_media())]
    done = subprocess.run(
        command, env=home, capture_output=True, text=True, check=False, timeout=170
    )
    assert done.returncode == 0, done.stderr
    output = done.stdout
    assert "the same frames, 0 bytes fetched: they came from the cache" in output
    assert "fetched 0 bytes more" in output
    last = output.partition("\nDone in ")[0].rstrip().splitlines()
    assert re.fullmatch(r" +\$ ego4dfs clip [0-9a-f-]{36} 0:10 0:12 -o clip\.mp4", last[-3])
    cost = r" +clip\.mp4: 2 s, [\d.]+ KiB written, [\d.]+ [KM]iB fetched; the video has 25\.6 MiB"
    assert re.fullmatch(cost, last[-2])
    assert last[-1].endswith("$ ego4dfs unmount ego4d")
    assert f"mkdir -p ~/ego4d_data && {own_command()} mount ~/ego4d_data" in output
    assert_nothing_left(tmp_path)
    assert list(tmp_path.glob("ego4dfs-demo-*")) == []


@pytest.mark.parametrize("path", ["/usr/bin:/bin", f"{Path(sys.executable).parent}:/bin"])
def test_the_printed_command_can_be_run(path: str, monkeypatch: pytest.MonkeyPatch):
    """In a clone ego4dfs is in .venv/bin, and PATH does not lead there."""
    monkeypatch.setenv("PATH", path)
    line = f"{own_command()} --version"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ego4dfs ")


@pytest.mark.first_pass
def test_the_demo_can_be_browsed_and_leaves_nothing(home: Mapping[str, str], tmp_path: Path):
    code = DEMO.replace('["demo"]', '["demo", "--browse"]')
    line = [sys.executable, "-c", code, str(shared_media())]
    with subprocess.Popen(line, env=home, stdout=subprocess.PIPE, text=True) as process:
        url = next(one for one in process.stdout if one.startswith("Ego4D is at ")).split()[-1]
        client = Client.of(url)
        wait_until(lambda: json.loads(client.get("api/status").body)["is_done"])
        uid = json.loads(client.get("api/catalogue").body)["videos"][0][0]
        found = json.loads(client.get(f"api/video?uid={uid}").body)
        assert {track["name"] for track in found["tracks"]} == {
            *("narration pass 1", "narration pass 2", "nlq_train", "moments_train", "vq_train"),
            *("fho_main", "fho_main pre", "fho_main pnr", "fho_main post", "goalstep_train"),
            *("fho_hands_train", "fho_hands_train pre", "fho_hands_train pnr"),
            *("fho_hands_train post", "clips", "redacted", "all_narrations_redacted"),
        }
        assert {(one["track"], one["label"]) for one in found["objects"]} == {
            *(("vq_train", "knife"), ("fho_main", "left hand")),
            ("fho_main", "object of change knife (knife, machete)"),
            *(("fho_hands_train", "left hand"), ("fho_hands_train", "right hand")),
        }
        assert not any(one["in_pixels"] for one in found["objects"])
        assert client.get(f"api/poster?uid={uid}").body.startswith(b"\xff\xd8")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert_nothing_left(tmp_path)
    assert list(tmp_path.glob("ego4dfs-demo-*")) == []


def test_a_demo_with_keep_can_be_read_and_stopped(home: Mapping[str, str], tmp_path: Path):
    """--keep returns while server and mount run; --stop removes both."""
    output = run_cli("demo", "--keep", env=home, timeout=170).stdout
    directory = tmp_path / ".cache" / "ego4dfs-demo"
    videos = directory / "ego4d" / "v2" / "full_scale"
    assert f"ls -l {videos}" in output
    assert ("ffplay" in output) == (which("ffplay") is not None)
    assert any(name.endswith(".mp4") for name in os.listdir(videos))
    secret = (directory / "credentials").read_text().split("=")[-1].strip()
    assert secret not in output
    assert (directory / "credentials").stat().st_mode & 0o777 == 0o600
    again = run_cli("demo", "--keep", env=home, check=False)
    assert again.returncode == 5
    assert "ego4dfs demo --stop" in again.stderr
    run_cli("demo", "--stop", env=home)
    assert_nothing_left(directory)
    assert not directory.exists()


def test_stop_without_a_demo_says_so(home: Mapping[str, str]):
    done = run_cli("demo", "--stop", env=home, check=False)
    assert done.returncode == 5
    assert done.stderr.splitlines() == [
        "ego4dfs: no demo is running",
        "  hint: ego4dfs demo --keep starts one",
    ]
