"""`prefetch --to cache --indexes`: what is fetched, what is named, what stays."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from ego4dfs.cli import main
from ego4dfs.cli.output import ExitCode
from kit import media
from kit.cli import unwarned
from kit.data import MIB, seeded
from kit.gateway import Gateway
from kit.server import Release

SECONDS = 40
INDEXES_KIB = 541.3
"""The first part of both of `videos`, and the last one of that whose index is at the end."""


@dataclass
class Runs:
    """The command against one release, through a gateway that counts."""

    release: Release
    front: Gateway
    capture: pytest.CaptureFixture[str]

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Run `prefetch --to cache`; return what it printed on stdout and stderr."""
        self.front.reset()
        self.front.faults.hide_missing = True
        done = main(["prefetch", "--to", "cache", *words, "--version", self.release.version])
        out, err = self.capture.readouterr()
        assert done == code, f"{done}\n{out}\n{err}"
        return out, unwarned(err)

    def report(self, *words: str, code: int = 0) -> dict[str, object]:
        """Run it without questions; return its JSON document."""
        return json.loads(self(*words, "-y", "--json", code=code)[0])

    @property
    def gets(self) -> list[str]:
        """The objects of which something was fetched, one for each request."""
        log = self.front.log
        return [
            path.rpartition("/")[2]
            for method, path, _ in log
            if method == "GET" and "/objects/" in path
        ]


@pytest.fixture
def runs(release, front, capsys) -> Runs:
    return Runs(release, front, capsys)


@pytest.fixture(scope="module")
def videos() -> dict[str, bytes]:
    """Videos of 22 MB with a key frame every 4.3 s; the index of one is at its end."""
    return {f"{name}.mp4": media.long_video(SECONDS, seed) for seed, name in enumerate("ab")}


def test_indexes_fetch_head_and_index_and_report_the_bytes(runs, videos):
    files = videos | {"ego4d.csv": b"no video"}
    runs.release.dataset("full_scale", files)
    out, _ = runs("--indexes", "-y")
    whole = sum(map(len, videos.values())) / MIB
    assert f"2 videos, {whole:.1f} MiB; the indexes need about 512.0 KiB; the cache has" in out
    assert f"2 indexes, {INDEXES_KIB:.1f} KiB; the videos have {whole:.1f} MiB." in out
    assert sorted(runs.gets) == ["a.mp4", "b.mp4", "b.mp4"]
    assert 0 <= runs.front.bytes_sent - INDEXES_KIB * 1024 < 64 * 1024  # that are manifests


def test_indexes_are_not_fetched_again(runs, videos):
    runs.release.dataset("full_scale", videos)
    first = runs.report("--indexes")
    assert (first["done"], first["skipped"], first["videos"]) == (2, 0, 2)
    assert first["fetched_bytes"] == first["index_bytes"]
    again = runs.report("--indexes")
    assert (again["done"], again["skipped"], again["fetched_bytes"]) == (0, 2, 0)
    assert runs.gets == []


def test_after_that_a_window_is_one_request(runs, videos, tmp_path):
    runs.release.dataset("full_scale", videos)
    runs("--indexes", "-y")
    runs.front.reset()
    file = str(tmp_path / "clip.mp4")
    assert main(["clip", "b", "9", "11", "-o", file, "--version", runs.release.version]) == 0
    assert runs.gets == ["b.mp4"]


def test_pinned_indexes_are_exactly_what_was_fetched(runs, videos, cli):
    runs.release.dataset("full_scale", videos)
    report = runs.report("--indexes", "--pin")
    pins = json.loads(cli("cache", "info", "--json").stdout)["pins"]
    assert {pin["url"].rpartition("/")[2] for pin in pins} == set(videos)
    disk = sum(pin["bytes"] for pin in pins)
    assert report["index_bytes"] <= disk < report["index_bytes"] + 4 * 4096
    assert runs.report("--indexes", "--pin")["fetched_bytes"] == 0


def test_files_without_a_usable_index_are_named_and_the_rest_goes_on(runs, cli):
    good = media.form("index at the end")
    files = {"bad.mp4": seeded("bad", 4 * MIB), "gone.mp4": b"", "good.mp4": good}
    files["moof.mp4"] = media.encode(movflags="+frag_keyframe")
    runs.release.dataset("full_scale", files)
    report = runs.report("--indexes", "--pin", code=ExitCode.PARTIAL)
    assert {p["path"].rpartition("/")[2]: p["reason"] for p in report["problems"]} == {
        "bad.mp4": "it has no usable index: the box at byte 0 has an impossible size",
        "gone.mp4": "it has no usable index: it has no index (moov)",
        "moof.mp4": "it has no usable index: it is fragmented: its index is in many places",
    }
    assert (report["done"], report["failed"], report["videos"]) == (1, 3, 1)
    [pin] = json.loads(cli("cache", "info", "--json").stdout)["pins"]
    assert pin["url"].endswith("good.mp4")
    _, err = runs("--indexes", "-y", code=ExitCode.PARTIAL)
    assert "  failed  " in err
    assert "bad.mp4: it has no usable index: the box at byte 0" in err


def test_a_missing_object_is_named(runs, videos):
    runs.release.put("there", videos["a.mp4"])
    rows = [f"{name},mp4,{runs.release.url(name)}" for name in ("there", "gone")]
    runs.release.manifest("full_scale", "\n".join(["video_uid,type,s3_path", *rows, ""]))
    report = runs.report("--indexes", code=ExitCode.PARTIAL)
    assert (report["done"], report["missing"] + report["refused"]) == (1, 1)


def test_a_dry_run_of_indexes_fetches_nothing(runs, videos):
    runs.release.dataset("full_scale", videos)
    plan = json.loads(runs("--indexes", "--dry-run", "--json")[0])
    assert plan == {"videos": 2, "video_bytes": sum(map(len, videos.values()))}
    assert runs.gets == []


def test_without_room_the_run_stops_and_says_why(runs, monkeypatch):
    runs.release.dataset("full_scale", {"a.mp4": media.form("index in front")})
    monkeypatch.setattr("ego4dfs.prefetch.index_warmer.PIN_SHARE", 0)
    _, err = runs("--indexes", "-y", code=ExitCode.FAILURE)
    assert "the cache has no room for the indexes of more videos" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--indexes", "--manifests-only"], "--manifests-only: not allowed with"),
        (["--indexes", "--to", "directory"], "--indexes: only the cache can have parts of files"),
        (["--indexes", "--datasets", "annotations"], "no videos are selected of annotations"),
    ],
)
def test_words_that_do_not_fit_together_are_refused(runs, words, message):
    runs.release.dataset("annotations", {"x.json": b"{}"})
    assert message in runs(*words, "-y", code=ExitCode.USAGE)[1]
