"""What the flags of the official tool make the tree show."""

from __future__ import annotations

import pytest
from ego4d.cli.universities import UNIV_TO_BUCKET

from ego4dfs.errors import AccessDenied, ConfigError

pytestmark = pytest.mark.first_pass

UIDS = [f"{number:08x}-1111-4222-8333-abcdefabcdef" for number in range(1, 5)]
CLIPS = [f"{number:08x}-9999-4222-8333-abcdefabcdef" for number in range(1, 5)]
TAGS = ["[EM]", "[FHO |EM]", "[]", "fho"]
BUCKETS = [UNIV_TO_BUCKET["cmu"], UNIV_TO_BUCKET["nus"], "ego4d-unict", "elsewhere"]


@pytest.fixture
def published(release):
    """Four videos in four datasets; no bytes of them are fetched, so none has an object."""
    rows = list(zip(UIDS, TAGS, BUCKETS, ["", "", "unict", "bristol"], strict=True))
    full = [f"{u},s3://{b}/full_scale/{u},{t},{s}" for u, t, b, s in rows]
    features = [f"{u},file,s3://{b}/f/{u}.pt,{t}" for u, t, b, _ in rows]
    imu = [f"{i},file,s3://{b}/imu/{u}.csv" for i, (u, _, b, _) in enumerate(rows)]
    clips = [f"{c},{u},s3://{BUCKETS[0]}/clips/{c}.mp4" for c, u in zip(CLIPS, UIDS, strict=True)]
    manifests = {
        "full_scale": ["video_uid,canonical_s3_location,benchmarks,video_source", *full],
        "slowfast8x8_r101_k400": ["video_uid,type,s3_path,benchmarks", *features],
        "imu": ["file_uid,type,s3_path", *imu],
        "clips": ["exported_clip_uid,parent_video_uid,s3_path", *clips],
        "annotations": ["file_uid,type,s3_path", "f1,file,s3://b/narration.json"],
    }
    release.metadata(b'{"date": 1}')
    return {
        name: release.manifest(name, "\r\n".join([*lines, ""])) for name, lines in manifests.items()
    }


@pytest.fixture
def shown(open_tree, release, published):
    """Return the files of the datasets with some flags."""

    def show(*datasets: str, **flags: object) -> list[list[str]]:
        vfs = open_tree(version=release.version, datasets=datasets, **flags)
        return [
            [e.name for e in vfs.listdir(f"{release.version}/{name}") if e.name != "manifest.csv"]
            for name in datasets
        ]

    return show


def videos(*numbers: int, suffix: str = "mp4") -> list[str]:
    return [f"{UIDS[number]}.{suffix}" for number in numbers]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [(["em"], [0, 1]), (["FHO"], [1, 3]), (["EM", "fho"], [0, 1, 3])],
)
def test_benchmarks_filter_every_dataset_even_without_the_column(shown, wanted, numbers):
    full, features, imu = shown("full_scale", "slowfast8x8_r101_k400", "imu", benchmarks=wanted)
    assert full == videos(*numbers)
    assert features == videos(*numbers, suffix="pt")
    assert imu == videos(*numbers, suffix="csv")


@pytest.mark.parametrize(
    ("wanted", "numbers"), [(["cmu"], [0]), (["nus", "unict"], [1, 2]), (["bristol"], [3])]
)
def test_universities_filter_by_bucket_and_by_source(shown, wanted, numbers):
    (full,) = shown("full_scale", universities=wanted)
    assert full == videos(*numbers)


def test_video_uids_filter_videos_features_imu_and_clips_alike(shown):
    """The official tool downloads all of features and imu in this case."""
    found = shown(
        *("full_scale", "slowfast8x8_r101_k400", "imu", "clips", "annotations"),
        video_uids=[UIDS[2].upper(), UIDS[0]],
    )
    assert found == [
        videos(0, 2),
        videos(0, 2, suffix="pt"),
        videos(0, 2, suffix="csv"),
        [f"{CLIPS[0]}.mp4", f"{CLIPS[2]}.mp4"],
        ["narration.json"],
    ]


def test_a_clip_is_found_by_its_own_uid(shown):
    assert shown("clips", video_uids=[CLIPS[1]]) == [[f"{CLIPS[1]}.mp4"]]


def test_a_uid_must_be_in_at_least_one_dataset(shown):
    assert shown("full_scale", "clips", video_uids=[CLIPS[1]]) == [[], [f"{CLIPS[1]}.mp4"]]


def test_uids_that_no_dataset_has_are_an_error_that_names_them(shown):
    unknown = "ffffffff-1111-4222-8333-abcdefabcdef"
    with pytest.raises(ConfigError) as caught:
        shown("full_scale", video_uids=[UIDS[0], unknown])
    assert f"1 of 2 uids not in full_scale: {unknown}" in str(caught.value)
    assert "--allow-missing" in caught.value.hint


def test_uids_that_no_dataset_has_may_be_allowed(shown, caplog):
    unknown = "ffffffff-1111-4222-8333-abcdefabcdef"
    found = shown("full_scale", video_uids=[UIDS[0], unknown], allow_missing=True)
    assert found == [videos(0)]
    assert unknown in caplog.text


def test_the_manifest_is_complete_with_any_filter(open_tree, release, published):
    vfs = open_tree(
        version=release.version,
        datasets=["full_scale"],
        benchmarks=["em"],
        universities=["cmu"],
        video_uids=[UIDS[0]],
    )
    handle = vfs.open(f"{release.version}/full_scale/manifest.csv")
    assert vfs.read(handle, 0, 10**6) == published["full_scale"]


def test_the_metadata_is_at_the_root_and_below_the_version(open_tree, release, published):
    vfs = open_tree(version=release.version, datasets=["clips"])
    for path in ("ego4d.json", f"{release.version}/ego4d.json"):
        assert vfs.read(vfs.open(path), 0, 100) == b'{"date": 1}'
    counts = vfs.session.metrics.requests
    assert (counts["head"], counts["get"]) == (0, 1)


def test_the_metadata_can_be_left_out(open_tree, release, published):
    vfs = open_tree(version=release.version, datasets=["clips"], metadata=False)
    assert [entry.name for entry in vfs.listdir("")] == [release.version]
    assert [entry.name for entry in vfs.listdir(release.version)] == ["clips"]


def test_the_root_manifest_is_full_scales(open_tree, release, published):
    vfs = open_tree(version=release.version, datasets=["full_scale", "clips"], manifest=True)
    assert vfs.read(vfs.open("manifest.csv"), 0, 10**6) == published["full_scale"]
    assert "manifest.csv" in [entry.name for entry in vfs.listdir("")]


def test_without_datasets_all_known_datasets_are_shown(open_tree, release, published):
    vfs = open_tree(version=release.version)
    names = [entry.name for entry in vfs.listdir(release.version)]
    assert {"full_scale", "clips", "imu", "components", "egotracks"} <= set(names)
    listed = [entry.name for entry in vfs.listdir(f"{release.version}/full_scale")]
    assert listed == ["manifest.csv", *videos(0, 1, 2, 3)]


def test_a_local_manifest_can_replace_that_of_a_dataset(open_tree, release, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(f"video_uid,s3_path\n{UIDS[3]},s3://b/x\n")
    vfs = open_tree(
        version=release.version, datasets=["full_scale"], manifest_override_path=str(path)
    )
    names = [entry.name for entry in vfs.listdir(f"{release.version}/full_scale")]
    assert names == ["manifest.csv", *videos(3)]
    handle = vfs.open(f"{release.version}/full_scale/manifest.csv")
    assert vfs.read(handle, 0, 10**6) == path.read_bytes()
    assert vfs.session.metrics.requests["manifest"] == 0


def test_a_named_dataset_that_is_refused_is_reported_at_once(open_tree, release, published):
    with pytest.raises(AccessDenied, match="gaze"):
        open_tree(version=release.version, datasets=["gaze"])


def test_a_misspelt_dataset_is_reported_with_the_name_that_was_meant(open_tree, release, published):
    with pytest.raises(ConfigError, match=r"no dataset 'full-scale'.*full_scale"):
        open_tree(version=release.version, datasets=["full-scale"])


def test_an_unknown_version_without_data_is_refused(open_tree, release):
    """SeaweedFS answers 404 where S3 answers 403; an empty tree would look like one of Ego4D."""
    for flags in ({}, {"datasets": ["clips"]}):
        with pytest.raises(ConfigError, match=f"there is no version {release.version}") as caught:
            open_tree(version=release.version, **flags)
        assert "v2_1" in caught.value.hint


def test_an_unknown_version_with_metadata_is_accepted(open_tree, release):
    """Though its annotations are not published yet."""
    release.metadata(b"{}")
    vfs = open_tree(version=release.version)
    assert release.version in [entry.name for entry in vfs.listdir("")]


def test_a_known_version_needs_no_check(open_tree):
    assert [entry.name for entry in open_tree(version="v1", metadata=False).listdir("")] == ["v1"]


def test_a_missing_profile_is_refused_even_with_cached_manifests(open_tree, release, published):
    flags = {"version": release.version, "datasets": ["clips"]}
    open_tree(**flags).close()
    with pytest.raises(ConfigError, match="'wrong' does not exist"):
        open_tree(**flags, aws_profile_name="wrong")
    assert open_tree(**flags, aws_profile_name="default").listdir("")
