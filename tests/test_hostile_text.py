"""No command, log or JSON document sends control characters of a name, cell or path."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ego4dfs import cli
from kit.cli import EGO4DFS
from kit.data import HOSTILE
from kit.server import CLEANED

BUCKET = "ego4d-consortium-sharing"
WORDS = [letters for letters in HOSTILE.values() if letters != "\udce9"]  # S3 keys are UTF-8
NAMES = [f"{number}{letters}.json" for number, letters in enumerate(WORDS)]
GONE = "gone\x1b[2J\nego4dfs: forged.json"
FORGED = "\x1b[2J\nego4dfs: forged"


@dataclass(frozen=True)
class Place:
    """A mirror of buckets with hostile names, an environment, and a directory with such a name."""

    directory: Path
    env: dict[str, str]

    def run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command; its output must be printable, also after a failure."""
        done = subprocess.run(
            [*EGO4DFS, *words],
            capture_output=True,
            check=False,
            timeout=120,
            stdin=subprocess.DEVNULL,
            env=self.env,
        )
        for stream in (done.stdout, done.stderr):
            check_prints(stream.decode(errors="replace"))  # names of other mounts are in it
        return done

    def json(self, *words: str) -> object:
        """Run a command with --json and return what a program reads."""
        return json.loads(self.run(*words, "--json").stdout)


def check_prints(text: str) -> None:
    """Fail on a character that could control a terminal or forge a line."""
    unprintable = {letter for letter in text if not letter.isprintable()} - {"\n"}
    assert not unprintable, text
    assert not any(line.startswith("ego4dfs: forged") for line in text.split("\n")), text


@pytest.fixture(scope="module")
def mirror(tmp_path_factory) -> Path:
    """A release with hostile text in its manifest, names and cells."""
    root = tmp_path_factory.mktemp("mirror")
    base = root / BUCKET / "public/v2"
    (base / "objects").mkdir(parents=True)
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["video_uid", "type", "s3_path", "benchmarks"])
    for name in (*NAMES, GONE):
        url = f"s3://{BUCKET}/public/v2/objects/{name}"
        rows.writerow([hashlib.sha256(name.encode()).hexdigest()[:8], "file", url, "[FHO]"])
        if name != GONE:
            (base / "objects" / name).write_bytes(name.encode())
    rows.writerow([f"u{FORGED}", "file", f"no\x9burl{FORGED}", f"[FHO{FORGED}"])
    rows.writerow(["v", "file", f"s3://{BUCKET}/{FORGED}/", "[FHO]"])
    (base / "annotations").mkdir()
    (base / "annotations/manifest.csv").write_text(table.getvalue(), newline="")
    (base / "clips").mkdir()
    (base / "clips/manifest.csv").write_text(f"a{FORGED},b\x9b\n1,2\n")
    (base / "ego4d.json").write_bytes(b"{}")
    return root


@pytest.fixture
def place(mirror, tmp_path) -> Iterator[Place]:
    directory = tmp_path / f"d{FORGED}\u202e"
    directory.mkdir()
    plain = {name: value for name, value in os.environ.items() if not name.startswith(CLEANED)}
    ours = {
        "HOME": str(directory),
        "EGO4DFS_SOURCE": str(mirror),
        "EGO4DFS_VERSION": "v2",
        "EGO4DFS_DATASETS": "annotations",
        "EGO4DFS_CACHE_SIZE": "64MiB",
        "PYTHONUTF8": "1",
    }
    yield Place(directory, {**plain, **ours})
    for path in directory.glob("mp*"):
        if os.path.ismount(path):
            subprocess.run(["umount", "-l", path], check=False)


@pytest.mark.fault(
    area="terminal",
    fault="names with escape sequences, line ends or bidirectional marks",
    face="ls",
    sees="each name is one line, with such characters escaped; `--json` has the exact names",
    deadline="at once",
)
def test_ls_shows_one_line_for_each_name_and_json_is_exact(place):
    done = place.run("ls", "v2/annotations")
    assert len(done.stdout.decode().splitlines()) == len([*NAMES, GONE, "manifest.csv"])
    assert set(place.json("ls", "v2/annotations")) == {*NAMES, GONE, "manifest.csv"}
    place.run("ls", "-l", "v2/annotations")
    assert {row["name"] for row in place.json("ls", "-l", "v2/annotations")} > {*NAMES}
    place.run("ls", f"v2/{FORGED}")
    place.run("ls", "v2/clips", "--datasets", "clips")


@pytest.mark.fault(
    area="terminal",
    fault="names with escape sequences, line ends or bidirectional marks",
    face="prefetch, verify",
    sees="they are escaped in plan, report and errors; a shell reads the commands to try again",
    deadline="at once",
)
def test_prefetch_and_verify_escape_what_they_name(place):
    out = str(place.directory / "out")
    place.run("prefetch", "-o", out, "--dry-run")
    done = place.run("prefetch", "-y", "-o", out)
    commands = [line for line in done.stderr.decode().splitlines() if "ego4dfs prefetch" in line]
    assert commands
    for line in commands:
        words = subprocess.run(
            ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True
        ).stdout.split(b"\0")
        assert os.fsencode(out) in words
    Path(out, "v2/annotations", NAMES[0]).write_bytes(b"?")
    place.run("verify", "-o", out)
    place.run("verify", "-o", out, "--offline")
    assert place.json("verify", "-o", out, "--offline")["problems"]
    place.run("prefetch", "--to", "cache", "--pin", "-y")
    place.run("cache", "info")
    assert place.json("cache", "info")["pins"]


@pytest.mark.parametrize(
    "words",
    [
        ("doctor",),
        ("doctor", "--datasets", "clips"),
        ("cache", "info"),
        ("cache", "verify"),
        ("status", f"/{FORGED}"),
        ("unmount", f"/{FORGED}"),
        ("verify", "-o", f"/{FORGED}"),
        ("mount", f"/{FORGED}"),
        (FORGED,),
        (f"--{FORGED}",),
        ("ls", f"--{FORGED}"),
        ("ls", "--datasets", FORGED),
        ("ls", "--version", FORGED),
        ("ls", "--video_uids", FORGED),
        ("ls", "--splits", FORGED),
        ("ls", "--uids-from", FORGED),
        ("ls", "--source", FORGED),
        ("ls", "--source", "", "--endpoint-url", FORGED),
        ("ls", "--source", "", "--aws_profile_name", FORGED),
        ("ls", "--config_path", FORGED),
        ("ls", "--cache-size", FORGED),
        ("ls", "--cache-dir", f"/dev/null/{FORGED}"),
        ("prefetch", "-o", "/dev/null", "--jobs", FORGED),
    ],
    ids=" ".join,
)
def test_words_of_the_command_line_are_printed_escaped(place, words, monkeypatch, capsys):
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    cli.main(words)
    shown = capsys.readouterr()
    check_prints(shown.out)
    check_prints(shown.err)
    assert "unexpected" not in shown.err


@pytest.mark.fuse
@pytest.mark.fault(
    area="terminal",
    fault="names with escape sequences, line ends or bidirectional marks",
    face="mount, status",
    sees="the mount has the exact names; its messages, its log and `status` escape them",
    deadline="at once",
)
def test_a_mount_logs_hostile_names_escaped(place, libfuse):
    mountpoint = place.directory / "mp\x9b"
    mountpoint.mkdir()
    log = place.directory / "log"
    done = place.run("mount", str(mountpoint), "--libfuse", libfuse, "--log-file", str(log))
    assert done.returncode == 0, done.stderr
    files = mountpoint / "v2/annotations"
    assert {*NAMES} < {*os.listdir(files)}
    assert (files / NAMES[0]).read_bytes() == NAMES[0].encode()
    with pytest.raises(OSError, match="No such file"):
        (files / GONE).read_bytes()
    place.run("status")
    place.run("status", str(mountpoint))
    assert place.json("status", str(mountpoint))["errors"] == 1
    assert place.run("unmount", str(mountpoint)).returncode == 0
    check_prints(log.read_text())
    assert "gone" in log.read_text()


def test_characters_outside_the_locale_are_escaped_too(place):
    place.env.update(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii")
    assert place.run("ls", "v2/annotations").returncode == 0
