"""`ego4dfs verify` finds what is damaged, missing and extra, with and without the store."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
import pytest

from ego4dfs.cli.output import ExitCode
from kit.cli import complaint, run_cli
from kit.data import MIB, seeded
from kit.server import SHARING, Release

FILES = {name: seeded(name, size) for name, size in (("a.bin", 3 * MIB), ("b.bin", 700))}
FILES["empty.bin"] = b""


@dataclass
class Copied:
    """A release, and a directory with a prefetch of it."""

    release: Release
    directory: Path
    env: dict[str, str]

    @property
    def files(self) -> Path:
        return self.directory / self.release.version / "annotations"

    def verify(self, *arguments: str, endpoint: str = "") -> tuple[int, dict[str, Any]]:
        env = {**self.env, **({"AWS_ENDPOINT_URL": endpoint} if endpoint else {})}
        version = ("--version", self.release.version)
        done = run_cli(
            "verify",
            "-o",
            str(self.directory),
            "--json",
            *version,
            *arguments,
            env=env,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def copied(release, licensee, cli, tmp_path) -> Copied:
    release.dataset("annotations", FILES)
    release.metadata(b"{}")
    version = ("--version", release.version)
    cli("prefetch", "-o", str(tmp_path / "copies"), "-y", "--datasets", "annotations", *version)
    return Copied(release, tmp_path / "copies", licensee)


def found_problems(report):
    return {(problem["verdict"], Path(problem["path"]).name) for problem in report["problems"]}


def rot(path: Path) -> None:
    """Change one byte but neither size nor time, as a failing disk does."""
    found = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("how", [(), ("--offline",)], ids=["online", "offline"])
def test_an_undamaged_directory_has_no_findings(copied, how):
    code, report = copied.verify(*how)
    assert code == ExitCode.OK
    assert report["problems"] == []
    assert report["files"]["right"] == len(FILES) + 1  # ego4d.json


@pytest.mark.parametrize("how", [(), ("--offline",)], ids=["online", "offline"])
@pytest.mark.parametrize("damage", [rot, shorten])
def test_damaged_missing_and_extra_files_are_distinguished(
    copied, how, damage: Callable[[Path], None]
):
    damage(copied.files / "a.bin")
    (copied.files / "b.bin").unlink()
    (copied.files / "mine.txt").write_text("my own")
    (copied.files / "c.bin.part").write_text("under way")
    code, report = copied.verify(*how)
    assert code == ExitCode.FAILURE
    assert found_problems(report) == {
        ("damaged", "a.bin"),
        ("missing", "b.bin"),
        ("extra", "mine.txt"),
    }


def test_extra_files_alone_do_not_fail_the_check(copied):
    (copied.files / "mine.txt").write_text("my own")
    code, report = copied.verify()
    assert (code, found_problems(report)) == (ExitCode.OK, {("extra", "mine.txt")})


def test_repair_fetches_only_damaged_and_missing_files(copied, gateway):
    rot(copied.files / "b.bin")
    (copied.files / "empty.bin").unlink()
    (copied.files / "mine.txt").write_text("my own")
    code, report = copied.verify("--repair", "-y")
    assert (code, report["repaired"]) == (ExitCode.OK, 2)
    assert found_problems(report) == {("extra", "mine.txt")}
    assert {name: (copied.files / name).read_bytes() for name in FILES} == FILES
    assert (copied.files / "mine.txt").read_text() == "my own"
    assert copied.verify("--offline")[0] == ExitCode.OK


def test_what_cannot_be_repaired_is_still_reported(copied):
    """One of two damaged files has another version on S3."""
    rot(copied.files / "b.bin")
    shorten(copied.files / "a.bin")
    key = f"public/{copied.release.version}/objects/annotations/a.bin"
    obstore.delete(copied.release.server.store(SHARING), key)
    code, report = copied.verify("--repair", "-y")
    assert (code, report["repaired"]) == (ExitCode.PARTIAL, 1)
    assert found_problems(report) == {("damaged", "a.bin")}


def test_offline_sends_no_request(copied):
    code, _ = copied.verify("--offline", endpoint="http://127.0.0.1:9")
    assert code == ExitCode.OK


@pytest.mark.parametrize("how", [(), ("--offline",)], ids=["online", "offline"])
def test_only_selected_files_are_checked(copied, how):
    rot(copied.files / "a.bin")
    code, report = copied.verify("--include", "b*", "--no-metadata", *how)
    assert code == ExitCode.OK
    assert report["files"]["right"] == 1


def test_copies_of_another_release_are_reported_and_pruned_on_request(copied):
    """A file that the manifest no longer lists is removed only if prefetch fetched it unchanged.

    Releases that share a directory are v2 and v2_1; here the journal is changed to name another.
    """
    with sqlite3.connect(copied.directory / ".ego4dfs/journal.sqlite") as journal:
        journal.execute("UPDATE files SET release = 'an older one'")
    journal.close()
    rows = [f"{n},file,{copied.release.url(f'annotations/{n}')}" for n in ("b.bin",)]
    copied.release.manifest("annotations", "\n".join(["video_uid,type,s3_path", *rows, ""]))
    (copied.files / "mine.txt").write_text("my own")
    (copied.files / "empty.bin").write_text("changed")
    code, report = copied.verify()
    stale = {("of another release", "a.bin"), ("extra", "mine.txt"), ("extra", "empty.bin")}
    assert (code, found_problems(report)) == (ExitCode.OK, stale)
    code, report = copied.verify("--prune")
    assert (code, report["removed"]) == (ExitCode.OK, 1)
    assert found_problems(report) == {("extra", "mine.txt"), ("extra", "empty.bin")}
    assert sorted(path.name for path in copied.files.iterdir()) == [
        *("b.bin", "empty.bin", "manifest.csv", "manifest.ver", "mine.txt")
    ]
    assert "a.bin" not in (copied.files / "manifest.ver").read_text()
    assert ("missing", "a.bin") not in found_problems(copied.verify("--offline")[1])


def test_offline_every_filter_goes_by_the_manifests_beside_the_copies(copied, tmp_path):
    (tmp_path / "uids.csv").write_text("video_uid\nb\n")
    rot(copied.files / "a.bin")
    nobody = "http://127.0.0.1:9"
    for flags in (("--video_uids", "b"), ("--uids-from", str(tmp_path / "uids.csv"))):
        code, report = copied.verify("--offline", *flags, endpoint=nobody)
        assert (code, found_problems(report)) == (ExitCode.OK, set())
        assert report["files"]["right"] == 2  # b.bin and ego4d.json
    code, report = copied.verify("--offline", "--exclude", "b*", endpoint=nobody)
    assert (code, found_problems(report)) == (ExitCode.FAILURE, {("damaged", "a.bin")})


def test_a_filter_that_needs_another_manifest_says_which(copied, cli):
    flags = ("--version", copied.release.version, "--offline", "--splits", "train")
    done = cli("verify", "-o", str(copied.directory), *flags, check=False)
    assert "the manifest of full_scale" in done.stderr
    assert "--manifests-only --datasets full_scale" in done.stderr
    assert done.returncode == ExitCode.FAILURE


def test_files_that_a_filter_leaves_out_are_not_extra(copied):
    assert found_problems(copied.verify("--include", "b*")[1]) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--offline", "--repair"), "--repair: not allowed with --offline"),
        (("--offline", "--prune"), "--prune: not allowed with --offline"),
        (("--version", "v1"), "there are no copies"),
    ],
)
def test_meaningless_combinations_of_options_are_an_error(copied, cli, arguments, message):
    directory = str(copied.directory)
    options = arguments if "--version" in arguments else ("--version", "v1", *arguments)
    if "--offline" in arguments:
        options = ("--version", "v2", "--datasets", "annotations", *arguments)
    done = cli("verify", "-o", directory, *options, check=False)
    assert done.returncode == ExitCode.USAGE
    assert message in complaint(done)


@pytest.mark.fuse
def test_a_mount_is_refused_as_a_directory_of_copies(release, licensee, cli, mount):
    release.dataset("annotations", {"a": b"a"})
    root = mount("--version", release.version, "--datasets", "annotations")
    done = cli("verify", "-o", str(root), "--version", "v1", check=False)
    assert "an ego4dfs is mounted at" in complaint(done)
    assert done.returncode == ExitCode.MOUNTPOINT
    assert "unmount" in done.stderr
    assert "choose another directory" not in done.stderr  # these are the files to check


def test_without_a_directory_the_error_shows_the_option(licensee, cli):
    done = cli("verify", check=False)
    assert "no output directory was given" in complaint(done)
    assert done.returncode == ExitCode.USAGE


def test_the_table_names_each_problem(copied, cli):
    (copied.files / "b.bin").unlink()
    version = ("--version", copied.release.version)
    done = cli("verify", "-o", str(copied.directory), *version, check=False)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["state", "file", "why"]
    assert lines[1].split() == ["missing", f"{copied.release.version}/annotations/b.bin"]
    assert lines[-1] == "3 right, 1 missing"
