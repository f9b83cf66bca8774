"""A dataset whose manifest is refused does not stop the others, and is reported with a remedy."""

from __future__ import annotations

import json

import pytest

from kit.prefetch import data_of, tree

FLAGS = ("-y", "--no-metadata", "--datasets")


@pytest.fixture(autouse=True)
def readable(release):
    """The licensee may read ego4d.json: a refusal is the dataset's, not the key's."""
    release.metadata(b"{}")


def test_the_others_are_fetched_and_the_refused_one_is_reported_twice(
    prefetch, release, tmp_path, front
):
    """Before the first byte, so that the user can fix it, and at the end, so that it is noticed."""
    release.dataset("annotations", {"a.json": b"a"})
    done = prefetch(*FLAGS, "fut_loc", "annotations", code=3)
    assert data_of(tree(tmp_path / "out"), release, "annotations") == {"a.json": b"a"}
    assert not (tmp_path / "out" / release.version / "fut_loc").exists()
    assert done.stderr.count("dataset fut_loc is refused") == 2
    assert done.stderr.count("announced but not published") == 2
    assert "Continuing without fut_loc." in done.stderr
    retry = done.stderr.splitlines()[-1].strip()
    assert retry.startswith("ego4dfs prefetch ")
    assert "--datasets fut_loc" in retry
    assert "annotations" not in retry


def test_json_names_it_with_reason_and_remedy(prefetch, release):
    release.dataset("annotations", {"a.json": b"a"})
    for flags in (("--dry-run",), ()):
        done = prefetch(*FLAGS, "fut_loc", "annotations", "--json", *flags, code=3)
        document = json.loads(done.stdout)
        [refused] = document["refused_datasets"]
        assert refused["dataset"] == "fut_loc"
        assert "is refused" in refused["reason"]
        assert "not published" in refused["remedy"]
    assert (document["done"], document["exit_code"]) == (1, 3)


def test_all_refused_is_access_refused_and_nothing_is_fetched(prefetch, release, tmp_path, front):
    done = prefetch("-y", "--datasets", "fut_loc", "annotations_540ss", code=4)
    assert "dataset fut_loc is refused" in done.stderr
    assert "Going on" not in done.stderr
    assert [path for method, path, _ in front.log if method == "GET" and "ego4d.json" in path] == []
    assert not (tmp_path / "out").exists()


def test_a_misspelt_dataset_among_refused_ones_is_a_usage_error(prefetch, release, tmp_path):
    release.dataset("annotations", {"a.json": b"a"})
    done = prefetch("-y", "--datasets", "fut_loc", "full_scal", "annotations", code=2)
    assert "did you mean full_scale?" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_rejected_key_is_reported_once_and_stops_the_run(prefetch, release, front):
    release.dataset("annotations", {"a.json": b"a"})
    front.faults.rejected_keys = {release.server.licensee.access_key: "InvalidAccessKeyId"}
    done = prefetch(*FLAGS, "annotations", "clips", code=4)
    assert done.stderr.count("unknown key") == 1


def test_a_damaged_manifest_stops_its_dataset_only(prefetch, release, tmp_path):
    release.dataset("annotations", {"a.json": b"a"})
    release.manifest("viz", "no header at all\n")
    done = prefetch(*FLAGS, "viz", "annotations", code=3)
    assert "manifest" in done.stderr
    assert data_of(tree(tmp_path / "out"), release, "annotations") == {"a.json": b"a"}


def test_unknown_uids_beside_a_refused_dataset_are_a_warning(prefetch, release, tmp_path):
    one, other = (f"0000000{i}-0000-4000-8000-000000000000" for i in (1, 2))
    release.dataset("full_scale", {f"{one}.mp4": b"video"})
    flags = (*FLAGS, "full_scale", "fut_loc", "--video_uids", one)
    assert "uids not in" not in prefetch(*flags, code=3).stderr
    assert (
        f"1 of 2 uids not in full_scale fut_loc: {other}" in prefetch(*flags, other, code=3).stderr
    )
    prefetch(*FLAGS, "full_scale", "--video_uids", one, other, code=2)


def test_manifests_only_skips_a_refused_dataset_too(prefetch, release, tmp_path):
    manifest = release.dataset("annotations", {"a.json": b"a"})
    prefetch(*FLAGS, "fut_loc", "annotations", "--manifests-only", code=3)
    assert tree(tmp_path / "out") == {f"{release.version}/annotations/manifest.csv": manifest}
