"""What the package contains about Ego4D: datasets, versions, universities."""

import pytest
from ego4d.cli import config as official
from ego4d.cli.universities import BUCKET_TO_UNIV, UNIV_TO_BUCKET

from ego4dfs import datasets
from ego4dfs.errors import ConfigError

README_TABLE = """
    annotations full_scale clips video_540ss annotations_540ss 3d 3d_scans 3d_scan_keypoints imu
    slowfast8x8_r101_k400 omnivore_video_swinl omnivore_image_swinl fut_loc av_models lta_models
    moments_models nlq_models sta_models vq2d_models
"""


def test_every_official_dataset_is_known():
    wanted = {*README_TABLE.split(), *official.DATASETS_ALL}
    assert wanted <= set(datasets.known_names())


def test_undocumented_datasets_are_known():
    wanted = {"clip_256ss", "clips_540ss", "omnivore_video_swinl_fp16", "components/gaze"}
    assert wanted <= set(datasets.known_names())


def test_names_are_unique_normal_and_described():
    names = datasets.known_names()
    assert len(set(names)) == len(names)
    for dataset in datasets.known():
        assert datasets.normalise(dataset.name) == dataset.name
        assert dataset.description


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("full-scale", "full_scale"),
        ("fullscale", "full_scale"),
        ("Full_Scale", "full_scale"),
        ("fulscale", "full_scale"),
        ("annotation", "annotations"),
        ("clip", "clips"),
        ("components/video", "components/videos"),
        ("slowfast", "slowfast8x8_r101_k400"),
        ("omnivore", "omnivore_video_swinl"),
        ("xyz", ""),
        ("", ""),
    ],
)
def test_suggest_finds_what_was_meant(name, meant):
    assert datasets.suggest(name) == meant


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("full_scale", "full_scale"),
        (" Full_Scale/ ", "full_scale"),
        ("components/videos//", "components/videos"),
        ("made_up", "made_up"),
    ],
)
def test_normalise_gives_the_name_of_the_directory(name, clean):
    assert datasets.normalise(name) == clean


@pytest.mark.parametrize(
    "name", ["", "  ", "/", "/etc", "..", "../x", "a/../b", "a//b", "./a", "a\0b", "a\nb", "a\\b"]
)
def test_normalise_refuses_names_that_leave_the_directory(name):
    with pytest.raises(ConfigError, match="cannot be the name of a dataset") as caught:
        datasets.normalise(name)
    assert "--list-datasets" in caught.value.hint


def test_the_default_version_is_the_official_one():
    assert datasets.VERSION_DEFAULT == official.VERSION_DEFAULT
    assert datasets.VERSION_DEFAULT in datasets.VERSIONS


@pytest.mark.parametrize("version", ["v1", "v2", "v2_1", "v3", "v10_22"])
def test_known_and_future_versions_are_accepted(version):
    assert datasets.check_version(f" {version.upper()} ") == version


@pytest.mark.parametrize("text", ["", "2", "v", "v2.1", "v2_", "latest", "v2/../x", "v2_1 v1"])
def test_an_invalid_version_is_refused(text):
    with pytest.raises(ConfigError, match="is not a version") as caught:
        datasets.check_version(text)
    assert caught.value.hint == "versions look like v1, v2 or v2_1"


@pytest.mark.parametrize("version", ["v1", "v2", "v2_1", "v3_7"])
def test_the_directory_of_a_version_is_the_official_one(version):
    theirs = official.validate_config(_official_config(version)).out_version_dir
    assert datasets.version_directory(version) == theirs


def _official_config(version):
    # None lets boto3 take no profile at all, so that no ~/.aws is needed.
    return official.Config(version=version, aws_profile_name=None)


def test_universities_and_their_buckets_are_the_official_ones():
    ours = {name: buckets[0] for name, buckets in datasets.UNIVERSITY_BUCKETS.items()}
    assert ours == UNIV_TO_BUCKET
    for bucket, university in BUCKET_TO_UNIV.items():
        assert datasets.university_of_bucket(bucket) == university


def test_the_old_bucket_of_unict_still_belongs_to_it():
    """The official map lost it, so its --universities unict drops these rows."""
    assert datasets.university_of_bucket("ego4d-unict") == "unict"


def test_an_unknown_bucket_belongs_to_no_university():
    assert datasets.university_of_bucket("ego4d-elsewhere") == ""
