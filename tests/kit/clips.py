"""`ego4dfs clip` run against one release, and the pictures and the sound of what it writes."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest

from ego4dfs.cli import main
from ego4dfs.cli.output import ExitCode
from kit import media
from kit.cli import complaint, unwarned
from kit.data import MIB, seeded

FILES = {
    "aaaa.mp4": "index in front",
    "bbbb.mp4": "index at the end",
    "dddd.mp4": "pictures begin later",
}

LARGE_BYTES = 40 * MIB


@dataclass
class Done:
    """How a run ended."""

    code: int
    stdout: str
    stderr: str


@dataclass
class Clips:
    """The command in a directory of its own, against one release."""

    directory: Path
    version: str
    capture: pytest.CaptureFixture[str]

    def __call__(self, *words: str) -> Done:
        """Run it."""
        code = main(["clip", *words, "--version", self.version])
        return Done(code, *self.capture.readouterr())

    def report(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Run it, and return its JSON document."""
        done = self(*words, "--json")
        assert done.code == code, done
        return json.loads(done.stdout)


@pytest.fixture
def clips(release, licensee, tmp_path, monkeypatch, capsys) -> Clips:
    del licensee
    files = {name: media.form(form) for name, form in FILES.items()}
    files["eeee.mp4"] = media.encode(movflags="+frag_keyframe")
    files["ffff.mp4"] = seeded("no video", 1000)
    release.dataset("full_scale", files)
    release.dataset("clips", {"cccc.mp4": media.form("no sound")})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Clips(tmp_path / "here", release.version, capsys)


def refused(done: Done, code: ExitCode) -> str:
    """Return the message of a run that must fail with this code, without the hint."""
    assert done.code == code, done
    return unwarned(complaint(done)).splitlines()[0].removeprefix("ego4dfs: ")


def pictures(data: bytes) -> list[tuple[float, Any]]:
    """Return time and content of each picture that is presented."""
    with av.open(io.BytesIO(data)) as container:
        return [(frame.time, frame.to_ndarray()) for frame in container.decode(video=0)]


def large(*, faststart: bool) -> bytes:
    """Return a video with LARGE_BYTES of another box."""
    filler = media.box("free", seeded("filler", LARGE_BYTES))
    if faststart:
        return media.form("index in front") + filler
    data = media.form("index at the end")
    moov = media.moov_of(data)
    return data.removesuffix(moov) + filler + moov
