"""Errors are one or two lines with the right exit code, and leave nothing behind."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ego4dfs.demo.server import S3Server
from kit.cli import complaint, run_cli, without
from kit.gateway import Gateway
from kit.mounts import Mounts, is_mounted
from kit.processes import processes_with, wait_until
from kit.server import SHARING, Release, environment

pytestmark = pytest.mark.fuse

UNKNOWN_UID = "0a7f0bd4-0000-4000-8000-000000000000"
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Place:
    """A directory with obstacles for commands, and a licensee's identity."""

    path: Path
    env: dict[str, str]
    gateway: Gateway

    @property
    def names(self) -> dict[str, Path]:
        return {name: self.path / name for name in ("mp", "full", "file", "none", "closed")}


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Iterator[Gateway]:
    """Serve a v2_1 as S3 serves it to licensees: missing objects are refused."""
    with S3Server(tmp_path_factory.mktemp("bad") / "s3") as server:
        server.create_bucket(SHARING)
        release = Release(server, "v2_1")
        release.dataset("annotations", {"narration.json": b"{}"})
        release.metadata(b"{}")
        release.manifest("imu", b"\x1b[31m\x00 is no header\n\xff\n")
        release.manifest("gaze", "name,size\na,1\n")
        release.manifest("viz", "")
        with Gateway(server.endpoint_url) as gateway:
            gateway.server = server
            yield gateway


@pytest.fixture
def place(honest, tmp_path, transport) -> Place:
    honest.reset()
    honest.faults.hide_missing = True
    env = environment(honest.server, tmp_path / "home", transport, AWS_ENDPOINT_URL=honest.url)
    place = Place(tmp_path, env, honest)
    for name in ("mp", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full/notes.txt").write_text("")
    (tmp_path / "full/my video.mp4").write_text("")
    (tmp_path / "file").write_text("")
    return place


def refused(place: Place, *arguments: str, code: int, **changes: str) -> str:
    """Run a command that must fail; return its message after checking that nothing is left."""
    words = [argument.format(**place.names) for argument in arguments]
    env = without({**place.env, **changes}, *(name for name, value in changes.items() if not value))
    done = run_cli(*words, env=env, check=False)
    output = complaint(done)
    assert done.returncode == code, output
    assert not any(is_mounted(path) for path in place.names.values())
    wait_until(lambda: processes_with(str(place.path)) == [])  # the background one ends last
    return output.replace(str(place.path), "")


USAGE = {
    "unknown flag": (
        ("--cache-sise", "1GiB"),
        "no option --cache-sise",
        "did you mean --cache-size",
    ),
    "far from any flag": (("--bogus",), "no option --bogus", "see ego4dfs mount --help"),
    "ambiguous flag": (("--v", "v1"), "--v is short for several", "--version --video_uid"),
    "bad size": (("--cache-size", "12 parsecs"), "'12 parsecs' is not a size", "50GiB"),
    "tiny size": (("--cache-size", "1KiB"), "at least 64MiB", "50GiB"),
    "bad libfuse": (("--libfuse", "4"), "one of auto, 2, 3", "'4'"),
    "bad transport": (("--transport", "ftp"), "one of auto, obstore, s3fs", "'ftp'"),
    "bad endpoint": (
        ("--endpoint-url", "localhost"),
        "--endpoint-url: expected a URL",
        "http://127.0.0.1",
    ),
    "bad university": (("--universities", "mit"), "'mit'", "choose from: bristol"),
    "missing profile": (
        ("--aws_profile_name", "nobody"),
        "profile 'nobody' does not exist",
        "name",
    ),
    "missing config": (
        ("--config_path", "/no/file"),
        "there is no file /no/file",
        "check the path",
    ),
    "missing uid file": (("--video_uid_file", "/no/file"), "no file /no/file", "check the path"),
    "bad source": (("--source", "foo://bar"), "foo", ""),
    "unknown uid": (
        ("--datasets", "annotations", "--video_uids", UNKNOWN_UID),
        f"1 of 1 uids not in annotations: {UNKNOWN_UID}",
        "--allow-missing",
    ),
}


@pytest.mark.parametrize("name", USAGE)
def test_a_wrong_flag_or_value_is_named_with_its_remedy(place, name):
    arguments, *wanted = USAGE[name]
    output = refused(place, "mount", "{mp}", *arguments, code=2)
    assert all(words in output for words in wanted), output


def test_a_mount_without_a_mountpoint_says_where_to_put_it(place):
    output = refused(place, "mount", code=2)
    assert "no MOUNTPOINT" in output
    assert "ego4dfs mount ~/ego4d" in output


MOUNTPOINTS = {
    "missing": ("{none}", "/none: no such directory", "mkdir -p /none"),
    "below a file": ("{file}/x", "/file/x: Not a directory", ""),
    "a file": ("{file}", "/file is not a directory", "choose an empty directory"),
    "not empty": ("{full}", "is not empty; it contains my video.mp4, notes.txt", "--nonempty"),
    "another filesystem": ("/proc", "filesystem of type proc is mounted", "another directory"),
}


@pytest.mark.parametrize("name", MOUNTPOINTS)
def test_an_unusable_mountpoint_is_named_with_its_remedy(place, name):
    mountpoint, *wanted = MOUNTPOINTS[name]
    output = refused(place, "mount", mountpoint, code=5)
    assert all(words in output for words in wanted), output
    assert place.gateway.requests == 0


@pytest.mark.parametrize("command", ["unmount", "status"])
@pytest.mark.parametrize("mountpoint", ["{mp}", "{none}", "{file}"])
def test_unmount_and_status_without_a_mount_say_so(place, command, mountpoint):
    output = refused(place, command, mountpoint, code=5)
    assert "no ego4dfs is mounted there" in output


CACHES = {
    "a file": ("{file}", "/file: not a directory"),
    "below a file": ("{file}/x", "not a directory"),
    "nowhere to make it": ("/proc/none", "/proc/none: no such file"),
}


@pytest.mark.parametrize("name", CACHES)
def test_an_unusable_cache_directory_is_named(place, name):
    directory, wanted = CACHES[name]
    for command in (("mount", "{mp}"), ("ls",), ("cache", "info")):
        output = refused(place, *command, "--cache-dir", directory, code=1)
        assert wanted in output
        assert "--cache-dir" in output


def test_a_log_file_that_cannot_be_written_is_named(place):
    output = refused(place, "mount", "{mp}", "--log-file", "/proc/none/log", code=5)
    assert "log file /proc/none/log" in output


KEYS = {
    "no key": (
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
        "no access key",
        "configure",
    ),
    "unknown key": ({"AWS_ACCESS_KEY_ID": "AKIAX"}, "unknown key", "expire 14 days"),
    "wrong secret": ({"AWS_SECRET_ACCESS_KEY": "x"}, "wrong secret", "both halves"),
}


@pytest.mark.parametrize("foreground", [(), ("--foreground",)], ids=["background", "foreground"])
@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_is_not_accepted_is_distinguished(place, name, foreground):
    changes, *wanted = KEYS[name]
    output = refused(place, "mount", "{mp}", *foreground, code=4, **changes)
    assert all(words in output for words in wanted), output
    assert "AKIAX" not in output


def test_an_expired_key_is_distinguished(place):
    place.gateway.faults.rejected_keys = {place.env["AWS_ACCESS_KEY_ID"]: "ExpiredToken"}
    output = refused(place, "mount", "{mp}", code=4)
    assert "expired" in output
    assert "https://ego4ddataset.com" in output


def test_a_key_that_is_not_ego4ds_is_distinguished(place):
    place.gateway.faults.rejected_keys = {place.env["AWS_ACCESS_KEY_ID"]: "AccessDenied"}
    for selection in ((), ("--datasets", "annotations")):
        output = refused(place, "mount", "{mp}", *selection, code=4)
        assert "this AWS key may not read Ego4D v2_1" in output
        assert "--aws_profile_name" in output


def test_a_dataset_that_is_not_published_is_distinguished(place):
    output = refused(place, "mount", "{mp}", "--datasets", "fut_loc", "annotations", code=4)
    assert "dataset fut_loc is refused in v2_1, though the key works for others" in output


@pytest.mark.parametrize(
    ("typo", "advice"),
    [("fullscale", "did you mean full_scale?"), ("zebra", "--list-datasets prints the names")],
)
def test_a_dataset_that_does_not_exist_is_distinguished(place, typo, advice):
    output = refused(place, "mount", "{mp}", "--datasets", typo, code=2)
    assert output.splitlines()[0] == f"ego4dfs: there is no dataset '{typo}' in v2_1: {advice}"
    assert "--list-datasets" in output


def test_a_version_that_does_not_exist_is_distinguished(place):
    done = run_cli("mount", str(place.path / "mp"), "--version", "v9", env=place.env, check=False)
    assert done.returncode == 4
    assert "there is no Ego4D v9, or this AWS key may not read it" in done.stderr


@pytest.mark.parametrize("foreground", [(), ("--foreground",)], ids=["background", "foreground"])
@pytest.mark.parametrize("endpoint", [NOWHERE, "http://nowhere.invalid"])
def test_an_endpoint_that_does_not_answer_is_named(place, endpoint, foreground):
    output = refused(place, "mount", "{mp}", *foreground, code=1, AWS_ENDPOINT_URL=endpoint)
    assert output.startswith(f"ego4dfs: {endpoint}: ")
    assert "no manifest of v2_1 is cached" in output
    assert "--endpoint-url" in output


def test_a_missing_mirror_is_named(place):
    output = refused(place, "mount", "{mp}", "--source", "{none}", code=1)
    assert "file:///none: no such directory" in output
    assert output.splitlines()[-1] == "  hint: check the path given as --source"


@pytest.mark.parametrize("dataset", ["imu", "gaze", "viz"])
def test_a_file_that_is_not_a_manifest_is_named_with_its_place(place, dataset):
    output = refused(place, "mount", "{mp}", "--datasets", dataset, code=1)
    assert f"manifest v2_1/{dataset}, row 1: no column holds an id" in output
    assert output.replace("\n", "").isprintable()


def test_nonempty_mounts_and_the_files_below_are_back_after_the_unmount(place, libfuse):
    full = place.path / "full"
    mounts = Mounts(place.path, libfuse)
    mounts.adopt(full)
    try:
        mounts.again(full, "--nonempty", env=place.env)
        assert sorted(os.listdir(full)) == ["ego4d.json", "v2"]
        done = run_cli("mount", str(full), "--nonempty", env=place.env, check=False)
        assert done.returncode == 5
        assert "ego4dfs is mounted there already" in complaint(done)
        assert f"ego4dfs unmount {full}" in done.stderr
        mounts.unmount(full)
    finally:
        mounts.clear()
    assert sorted(os.listdir(full)) == ["my video.mp4", "notes.txt"]


def test_commands_that_do_not_exist_are_named(place):
    for word, hint in (("mont", "did you mean mount?"), ("--datasets", "command first")):
        output = refused(place, word, code=2)
        assert hint in output


def test_a_directory_of_reports_stays_empty(place):
    """None of these is an unexpected error, which would leave a traceback in a file."""
    home = Path(place.env["HOME"])
    for arguments in itertools.chain(((), ("--datasets", "zebra")), [("--cache-size", "x")]):
        run_cli("mount", str(place.path / "none"), *arguments, env=place.env, check=False)
    assert list(home.rglob("errors.log")) == []
