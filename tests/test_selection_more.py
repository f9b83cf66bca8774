"""What is selected beyond the official flags: splits, clips, uids of a file, names."""

from __future__ import annotations

import json
import re

import pytest

from ego4dfs.catalog import uids_in
from ego4dfs.errors import ConfigError

pytestmark = pytest.mark.first_pass


def uid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


TRAIN, VAL, OTHER = uid(1), uid(2), uid(3)
CLIP_A, CLIP_B, CLIP_C = uid(0xA), uid(0xB), uid(0xC)  # A and B are cut from TRAIN, C from VAL


@pytest.fixture
def linked(release):
    """A release in which clips belong to videos, and an annotation names some of both."""
    url = release.put("one", b"bytes")
    rows = [(TRAIN, "train", ""), (VAL, "val", "train"), (OTHER, "", "")]
    release.manifest(
        "full_scale",
        "video_uid,split_fho,split_em,canonical_s3_location\n"
        + "".join(f"{v},{fho},{em},{url}-{v}\n" for v, fho, em in rows),
    )
    cuts = [(CLIP_A, TRAIN, 0), (CLIP_B, TRAIN, 10), (CLIP_C, VAL, 5)]
    release.manifest(
        "clips",
        "video_uid,exported_clip_uid,parent_video_uid,parent_start_sec,parent_end_sec,s3_path\n"
        + "".join(f"{c},{c},{v},{s}.0,{s + 8}.5,{url}-{c}\n" for c, v, s in cuts),
    )
    release.manifest(
        "clip_256ss",
        "video_uid,type,s3_path\n" + "".join(f"{c},video,{url}-{c}\n" for c, _, _ in cuts),
    )
    release.manifest(
        "imu",
        "file_uid,type,s3_path\n"
        + "".join(f"x{v},file,{release.url(v)}.csv\n" for v in (TRAIN, VAL)),
    )
    document = {"videos": [{"video_uid": TRAIN, "clips": [{"clip_uid": CLIP_B.upper()}]}]}
    release.dataset("annotations", {"fho_main_train.json": json.dumps(document).encode()})
    return release


DATASETS = ["full_scale", "clips", "clip_256ss", "imu"]


@pytest.fixture
def select(linked, open_tree):
    """Return the names that each dataset has under some options."""

    def select(datasets=DATASETS, **options):
        vfs = open_tree(version=linked.version, datasets=list(datasets), **options)
        return {
            name: {
                re.sub(r"\.\w+$", "", entry.name)
                for entry in vfs.listdir(f"{linked.version}/{name}")
                if entry.name != "manifest.csv"
            }
            for name in datasets
        }

    return select


def test_a_video_selects_everything_derived_from_it(select):
    assert select(video_uids=[TRAIN]) == {
        "full_scale": {TRAIN},
        "clips": {CLIP_A, CLIP_B},
        "clip_256ss": {CLIP_A, CLIP_B},
        "imu": {TRAIN},
    }


def test_a_clip_selects_its_video_and_no_other_clip(select):
    assert select(clip_uids=[CLIP_B.upper()]) == {
        "full_scale": {TRAIN},
        "clips": {CLIP_B},
        "clip_256ss": {CLIP_B},
        "imu": {TRAIN},
    }


@pytest.mark.parametrize(
    ("splits", "videos", "clips"),
    [
        (["fho:train"], {TRAIN}, {CLIP_A, CLIP_B}),
        (["train"], {TRAIN, VAL}, {CLIP_A, CLIP_B, CLIP_C}),
        (["FHO:val"], {VAL}, {CLIP_C}),
        (["em:train", "fho:train"], {TRAIN, VAL}, {CLIP_A, CLIP_B, CLIP_C}),
    ],
)
def test_a_split_of_full_scale_selects_in_every_dataset(select, splits, videos, clips):
    found = select(splits=splits)
    assert found["full_scale"] == videos
    assert found["clips"] == found["clip_256ss"] == clips
    assert found["imu"] == videos


def test_a_split_that_no_video_has_is_an_error_that_names_the_others(select):
    with pytest.raises(ConfigError, match=r"no video of v.* is in fho:test") as raised:
        select(splits=["train", "fho:test"])
    assert raised.value.hint.endswith("em:train, fho:train, fho:val")


@pytest.mark.parametrize("word", [":train", "fho:"])
def test_half_a_split_is_an_error(select, word):
    with pytest.raises(ConfigError, match="expected a split, got"):
        select(splits=[word])


def test_the_uids_of_an_annotation_in_the_tree_select(select):
    found = select(uids_from="annotations/fho_main_train.json")
    assert found == {
        "full_scale": {TRAIN},
        "clips": {CLIP_B},
        "clip_256ss": {CLIP_B},
        "imu": {TRAIN},
    }


def test_a_file_on_disk_that_names_only_videos_selects_all_their_clips(select, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(f"n,video_uid\n1,{VAL.upper()}\n2,\n")
    found = select(uids_from=str(path))
    assert (found["full_scale"], found["clips"], found["imu"]) == ({VAL}, {CLIP_C}, {VAL})


def test_uids_of_a_file_that_no_dataset_has_are_a_warning(select, tmp_path, caplog):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"video_uid": VAL}, {"video_uid": uid(99)}]))
    assert select(["full_scale"], uids_from=str(path)) == {"full_scale": {VAL}}
    assert "1 of 2 uids of" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing.json", b"{}", "contains no uid of a video or clip"),
        ("empty.csv", b"", "contains no uid of a video or clip"),
        ("annotations/absent.json", None, "neither on disk nor in the tree"),
    ],
)
def test_a_file_without_uids_is_an_error(select, tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        select(uids_from=str(path) if content is not None else name)


def test_patterns_select_names_and_exclude_has_precedence(release, open_tree):
    release.dataset("annotations", dict.fromkeys(("a_train.json", "a_val.json", "b.csv"), b"x"))

    def names(**options):
        vfs = open_tree(version=release.version, datasets=["annotations"], **options)
        return [e.name for e in vfs.listdir(f"{release.version}/annotations")][1:]

    assert names(include=["*.json"]) == ["a_train.json", "a_val.json"]
    assert names(exclude=["*_val*"]) == ["a_train.json", "b.csv"]
    assert names(include=["*.json", "*.csv"], exclude=["a_?rain*", "b*"]) == ["a_val.json"]
    with pytest.raises(ConfigError, match="expected a pattern of file names, got"):
        names(include=["annotations/*"])


def test_a_clip_that_no_dataset_has_is_an_error(select):
    with pytest.raises(ConfigError, match=f"1 of 2 uids not in .*: {uid(77)}"):
        select(clip_uids=[CLIP_A, uid(77)])


def test_the_frame_has_the_video_and_the_window_of_a_clip(linked, open_tree):
    vfs = open_tree(version=linked.version, datasets=["clips"], clip_uids=[CLIP_B])
    (entry,) = vfs.session.catalog.listing("clips").entries
    assert (entry.parent, entry.window) == (TRAIN, (10.0, 18.5))


def test_the_flags_work_on_the_command_line(linked, licensee, cli):
    arguments = ("--version", linked.version, "--datasets", "clips", "imu")
    where = f"{linked.version}/clips"
    done = cli("ls", where, *arguments, "--clip_uids", CLIP_A, "--splits", "fho:train")
    assert done.stdout.split() == [f"{CLIP_A}.mp4", "manifest.csv"]
    done = cli("ls", where, *arguments, "--uids_from", "annotations/fho_main_train.json")
    assert done.stdout.split() == [f"{CLIP_B}.mp4", "manifest.csv"]
    done = cli("ls", where, *arguments, "--exclude", f"{CLIP_A}*", "--exclude", f"{CLIP_B}*")
    assert done.stdout.split() == [f"{CLIP_C}.mp4", "manifest.csv"]
    done = cli("ls", where, *arguments, "--splits", "tarin", check=False)
    assert done.returncode == 2
    assert "is in tarin\n  hint: its manifest of full_scale has: em:train" in done.stderr


# --- the reading of uids -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_uids_are_found_at_any_chunk_size(size):
    document = {
        "videos": {uid(5): {"narration": 'says "video_uid": "no"'}},
        "list": [{"video_uid": "grp-" + uid(6), "clips": [{"exported_clip_uid": uid(7)}]}],
        "annotation_uid": uid(8),
    }
    content = json.dumps(document, indent=2).encode()
    found = uids_in(content[i : i + size] for i in range(0, len(content), size))
    assert (found.videos, found.clips) == ({uid(5), "grp-" + uid(6)}, {uid(7)})


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_the_columns_of_a_csv_are_found_by_name(size):
    content = b'\xef\xbb\xbfclip_uid,text,parent_video_uid\r\nC1,"a\nb",V1\r\n,x,V2\r\n'
    chunks = [content[:9], *(content[i : i + size] for i in range(9, len(content), size))]
    found = uids_in(chunks)
    assert (found.videos, found.clips) == ({"v1", "v2"}, {"c1"})
