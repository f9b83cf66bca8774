"""`ego4dfs prefetch`: what it copies, prints and requests, and which files it does not change."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess

import pytest

from ego4dfs.copies import Journal
from kit.cli import EGO4DFS
from kit.data import MIB, seeded
from kit.prefetch import data_of, tree
from kit.server import SHARING

FILES = {
    "narration.json": b'{"a": 1}' * 1000,
    "nothing.json": b"",
    "middle.pt": seeded("middle", 3 * MIB + 17),
    "large.mp4": seeded("large", 40 * MIB + 1),
    **{f"small{i}.pt": seeded(str(i), 20_000 + i) for i in range(40)},
}


def test_copies_are_the_objects_at_the_paths_of_the_official_tool(prefetch, release, tmp_path):
    manifest = release.dataset("annotations", FILES)
    release.metadata(b'{"videos": []}')
    prefetch("-y")
    found = tree(tmp_path / "out")
    assert data_of(found, release, "annotations") == FILES
    assert found[f"{release.version}/annotations/manifest.csv"] == manifest
    assert found["ego4d.json"] == found[f"{release.version}/ego4d.json"] == b'{"videos": []}'
    assert not [path for path in found if path.endswith(".part")]


def test_a_second_run_requests_only_the_manifests(prefetch, release, front):
    release.dataset("annotations", FILES)
    release.metadata(b"{}")
    prefetch("-y")
    front.reset()
    done = prefetch("-y")
    requests = [(method, path.rpartition("/")[2]) for method, path, _ in front.log]
    assert sorted(requests) == [("GET", "manifest.csv"), ("HEAD", "ego4d.json")]
    assert "The latest versions of all requested videos already exist" in done.stdout


def test_annotations_are_the_default_with_a_message(prefetch, release):
    release.dataset("annotations", {"a.json": b"a"})
    assert (
        "fetching annotations, as the official tool does" in prefetch("-y", "--no-metadata").stdout
    )


@pytest.mark.parametrize(
    ("answer", "is_fetched"), [("\n", True), ("y\n", True), ("what\nYES\n", True), ("n\n", False)]
)
def test_its_prompt_is_that_of_the_official_tool(prefetch, release, tmp_path, answer, is_fetched):
    release.dataset("annotations", {"a.json": b"a" * 2**20})
    done = prefetch("--no-metadata", answer=answer)
    question = (
        "Expected size of downloaded files is 0.0010 GiB. Do you want to start the download? "
    )
    assert question + "([y]/n)" in done.stdout
    assert ("Aborting the download operation." in done.stdout) is not is_fetched
    path = tmp_path / "out" / release.version / "annotations/a.json"
    assert path.exists() is is_fetched


def test_without_stdin_the_confirmation_is_an_error(prefetch, release):
    release.dataset("annotations", {"a.json": b"a"})
    assert "use -y to fetch without asking" in prefetch("--no-metadata", code=2).stderr


def test_skip_s3_checks_works_with_yes_and_without(prefetch, release, tmp_path):
    """Fault 3: the official tool ends with an UnboundLocalError."""
    release.dataset("annotations", {"a.json": b"a"})
    done = prefetch("--skip-s3-checks", "--no-metadata", answer="y\n")
    assert "Number of files to download is: 1" in done.stdout
    assert (tmp_path / "out" / release.version / "annotations/a.json").read_bytes() == b"a"
    prefetch("--skip-s3-checks", "--no-metadata", "-y")


def test_filters_that_match_nothing_are_reported(prefetch, release):
    """Fault 6: the official tool says "All S3 Objects Invalid"."""
    rows = [f"a,file,{release.put('a.json', b'a')},[FHO]"]
    release.manifest("annotations", "\n".join(["video_uid,type,s3_path,benchmarks", *rows, ""]))
    done = prefetch("-y", "--no-metadata", "--benchmarks", "nlq", code=2)
    assert "0 of 1 rows of annotations match" in done.stderr


def test_a_dry_run_writes_nothing(prefetch, release, tmp_path, front):
    release.dataset("annotations", FILES)
    done = prefetch("--dry-run", "--no-metadata", "--json")
    plan = json.loads(done.stdout)
    assert plan["datasets"][0]["to_fetch"] == len(FILES)
    assert plan["datasets"][0]["bytes_to_fetch"] == sum(map(len, FILES.values()))
    assert not (tmp_path / "out").exists()
    assert front.bytes_sent < MIB


def test_manifests_only_fetches_only_manifests(prefetch, release, tmp_path):
    """Fault 16: the official tool cannot fetch only the manifest."""
    manifest = release.dataset("annotations", FILES)
    release.metadata(b"{}")
    prefetch("-y", "--manifests-only")
    assert tree(tmp_path / "out") == {
        "ego4d.json": b"{}",
        f"{release.version}/ego4d.json": b"{}",
        f"{release.version}/annotations/manifest.csv": manifest,
    }


def test_the_manifest_of_full_scale_is_written_to_the_root_with_its_flag(
    prefetch, release, tmp_path
):
    release.dataset("annotations", {"a.json": b"a"})
    manifest = release.dataset("full_scale", {"b.mp4": b"b"})
    done = prefetch("-y", "--no-metadata", "--manifest")
    assert (tmp_path / "out/manifest.csv").read_bytes() == manifest
    assert "Manifest downloaded: " in done.stdout


def test_ego4d_json_is_fetched_again_after_a_change(prefetch, release, tmp_path):
    """Fault 15: the official tool fetches it once and never again."""
    release.dataset("annotations", {"a.json": b"a"})
    release.metadata(b"{}")
    prefetch("-y")
    release.metadata(b'{"videos": [1]}')
    prefetch("-y")
    for path in ("ego4d.json", f"{release.version}/ego4d.json"):
        assert (tmp_path / "out" / path).read_bytes() == b'{"videos": [1]}'


def test_a_second_prefetch_in_one_directory_is_refused(prefetch, release, tmp_path):
    release.dataset("annotations", {"a.json": b"a"})
    prefetch("-y", "--no-metadata")
    holder = Journal(tmp_path / "out/.ego4dfs")
    assert "another prefetch is running" in prefetch("-y", "--no-metadata", code=1).stderr
    holder.close()


@pytest.mark.fuse
def test_a_prefetch_into_a_mount_is_refused_with_a_remedy(prefetch, release, mount, front):
    release.dataset("annotations", {"a.json": b"a"})
    root = mount("--version", release.version, "--datasets", "annotations")
    done = prefetch("-y", "-o", str(root / "sub"), code=5)
    assert f"ego4dfs unmount {root}" in done.stderr


def test_quiet_prints_nothing_and_a_log_has_lines_without_bars(prefetch, release, front):
    release.dataset("annotations", {"large.mp4": seeded("large", 30 * MIB)})
    front.faults.piece_bytes, front.faults.bytes_per_s = 64 << 10, 0.5 * MIB
    done = prefetch("-y", "--no-metadata")
    lines = [line for line in done.stderr.splitlines() if "warning" not in line]
    assert lines
    assert all(re.fullmatch(r"\d of 1 files, .* of 30\.0 MiB, .*/s.*", line) for line in lines)
    done = prefetch("-y", "--no-metadata", "--quiet")
    assert done.stdout == ""


def test_a_terminal_shows_bars(prefetch, release, front, tmp_path):
    release.dataset("annotations", {"large.mp4": seeded("large", 30 * MIB)})
    front.faults.piece_bytes, front.faults.bytes_per_s = 64 << 10, 1 * MIB
    command = shlex.join([*EGO4DFS, "prefetch", "-y", "--no-metadata", "-o", str(tmp_path / "out")])
    command += f" --version {release.version}"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert "large.mp4" in done.stdout
    assert "0 of 1 files" in done.stdout
    assert "MiB" in done.stdout


@pytest.mark.parametrize("transport", ["s3fs"])
def test_the_other_transport_copies_too(prefetch, release, tmp_path, transport):
    release.dataset("annotations", FILES)
    prefetch("-y", "--no-metadata", "--transport", transport)
    assert data_of(tree(tmp_path / "out"), release, "annotations") == FILES


def test_a_mirror_in_a_directory_is_copied_too(prefetch, release, tmp_path):
    bucket = tmp_path / "mirror" / SHARING / "public" / release.version
    (bucket / "annotations").mkdir(parents=True)
    (bucket / "a.pt").write_bytes(FILES["large.mp4"])
    row = f"a,file,s3://{SHARING}/public/{release.version}/a.pt"
    (bucket / "annotations/manifest.csv").write_text(f"video_uid,type,s3_path\n{row}\n")
    prefetch("-y", "--no-metadata", "--source", str(tmp_path / "mirror"))
    found = data_of(tree(tmp_path / "out"), release, "annotations")
    assert found == {"a.pt": FILES["large.mp4"]}
