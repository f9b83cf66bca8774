"""The meaning of each form of manifest.csv: names, locations, uids and filters."""

from __future__ import annotations

import csv
import io

import pytest
from ego4d.cli.manifest import list_videos_in_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego4dfs.catalog import Selection
from ego4dfs.config import resolve
from ego4dfs.errors import ManifestError
from ego4dfs.manifest import LOCATION_COLUMNS, RESERVED_NAMES, UID_COLUMNS, Manifest, parse

UID = "8ea8bd4d-0a2b-4c5d-8e6f-0123456789ab"
UID2 = "3e08beb0-1111-4222-8333-abcdefabcdef"
CLIP = "c11b0000-5555-4666-8777-888899990000"
FULL_SCALE_HEADER = (
    "video_uid,path,duration_sec,scenarios,split_em,split_av,split_fho,benchmarks,"
    "origin_video_id,video_source,device,deid_scrubbed_audio,deid_scrubbed_faces,"
    "physical_setting_name,fb_participant_id,display_resolution_width,"
    "display_resolution_height,sample_resolution_width,sample_resolution_height,release_1,"
    "canonical_s3_location,canonical_fps,canonical_display_width,canonical_display_height,"
    "canonical_num_frames,canonical_mp4_duration_sec,canonical_video_start_sec,"
    "canonical_video_duration_sec,canonical_audio_start_sec,canonical_audio_duration_sec,"
    "canonical_video_start_pts,canonical_video_duration_pts,canonical_video_base_numerator,"
    "canonical_video_base_denominator,canonical_audio_start_pts,canonical_audio_duration_pts,"
    "canonical_audio_base_numerator,canonical_audio_base_denominator,"
    "canonical_audio_channel_layout,canonical_audio_channel_rate_hz,canonical_is_validated"
)


def table(*rows: str) -> bytes:
    return "\n".join([*rows, ""]).encode()


def names(manifest: Manifest) -> list[str]:
    return [entry.name for entry in manifest.entries]


def full_scale_row(uid: str, **cells: str) -> str:
    columns = FULL_SCALE_HEADER.split(",")
    assert len(columns) == 41
    location = f"s3://ego4d-unict/public/v1/full_scale/{uid}"
    row = {"video_uid": uid, "path": location, "canonical_s3_location": location, **cells}
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([row.get(column, "") for column in columns])
    return line.getvalue()


def test_a_full_scale_row_is_an_mp4_though_its_key_has_no_extension():
    row = full_scale_row(
        UID, duration_sec="903.3", benchmarks="[FHO]", video_source="unict", split_fho="test"
    )
    manifest = parse(table(FULL_SCALE_HEADER, row), "v1/full_scale")
    (entry,) = manifest.entries
    assert entry.name == f"{UID}.mp4"
    assert entry.url == f"s3://ego4d-unict/public/v1/full_scale/{UID}"
    assert (entry.row, entry.uid, entry.uids) == (2, UID, {UID})
    assert (entry.benchmarks, entry.universities) == ({"fho"}, {"unict"})
    assert manifest.problems == ()


def test_grouped_videos_are_files_of_their_own():
    row = full_scale_row(f"grp-{UID}")
    (entry,) = parse(table(FULL_SCALE_HEADER, row), "v2_1/full_scale").entries
    assert entry.name == f"grp-{UID}.mp4"
    assert entry.uids == {f"grp-{UID}"}


def test_a_v1_manifest_without_path_splits_and_benchmarks_is_read():
    content = table(
        "video_uid,scenarios,device,duration_sec,canonical_s3_location",
        f"{UID},[],GoPro,903.3,s3://ego4d-cmu/public/v1/full_scale/{UID}",
    )
    (entry,) = parse(content, "v1/full_scale").entries
    assert entry.name == f"{UID}.mp4"
    assert entry.benchmarks is None


@pytest.mark.parametrize("id_column", ["exported_clip_uid", "video_uid", "file_uid"])
def test_clips_are_found_by_clip_and_by_parent(id_column):
    """With the uid in any column, a clip is `<clip uid>.mp4`, and is found by its parent too."""
    columns = "parent_video_uid,parent_start_sec,parent_end_sec,s3_path,manifold_location"
    content = table(
        f"{id_column},{columns},type,benchmarks",
        f"{CLIP},{UID},0.0,8.0,s3://ego4d-cmu/public/v2/clips/{CLIP}.mp4,x://y,mp4,[EM]",
    )
    (entry,) = parse(content, "v2/clips").entries
    assert entry.name == f"{CLIP}.mp4"
    assert entry.uids == {CLIP, UID}


def test_the_clips_manifest_with_both_ids_is_named_by_the_video_uid_column():
    content = table(
        "video_uid,exported_clip_uid,parent_video_uid,s3_path",
        f"{CLIP},{CLIP},{UID},s3://ego4d-cmu/public/v2/clips/{CLIP}.mp4",
    )
    assert names(parse(content, "v2/clips")) == [f"{CLIP}.mp4"]


def test_annotations_keep_their_file_names_and_belong_to_no_video():
    location = "s3://ego4d-consortium-sharing/public/v2/annotations/narration.json"
    content = table(
        "file_uid,annotation,type,canonical_s3_location", f"{UID},Narrations,file,{location}"
    )
    (entry,) = parse(content, "v2/annotations").entries
    assert (entry.name, entry.url, entry.annotation) == ("narration.json", location, "narrations")
    assert entry.uids == frozenset()


def test_features_are_files_that_belong_to_the_video_in_their_name():
    key = f"public/v1/features/action_features/omnivore_video_swinl_fp16/{UID}.pt"
    content = table(
        "video_uid,type,s3_path,benchmarks",
        f"{UID},file,s3://ego4d-unict-milan/{key},[FHO]",
        f"{UID2},file,s3://ego4d-unict-milan/{key.replace(UID, UID2)},[]",
    )
    first, second = parse(content, "v2/omnivore").entries
    assert (first.name, first.uids, first.benchmarks) == (f"{UID}.pt", {UID}, {"fho"})
    assert (second.name, second.uids, second.benchmarks) == (f"{UID2}.pt", {UID2}, frozenset())


def test_models_whose_video_uid_is_a_random_id_belong_to_no_video():
    content = table(
        "video_uid,type,canonical_s3_location",
        f"{UID},file,s3://ego4d-consortium-sharing/public/v2/sta_models/object_detector.pth",
    )
    (entry,) = parse(content, "v2/sta_models").entries
    assert (entry.name, entry.uids) == ("object_detector.pth", frozenset())


@pytest.mark.parametrize("header", ["file_uid,type,s3_path", "video_uid,type,s3_path"])
def test_imu_files_belong_to_their_video_in_either_form(header):
    """Where the id is a random file id the name says the video."""
    key = f"s3://ego4d-cmu/public/v2/imu/canonical/{UID}.csv"
    uid = CLIP if header.startswith("file") else UID
    (entry,) = parse(table(header, f"{uid},file,{key}"), "v2/imu").entries
    assert (entry.name, entry.uids) == (f"{UID}.csv", {UID})


def test_viz_pictures_belong_to_the_video_in_their_name():
    key = f"s3://ego4d-cmu/public/v2/viz/{UID}_small.jpg"
    (entry,) = parse(table("file_uid,type,s3_path", f"x,file,{key}"), "v2/viz").entries
    assert (entry.name, entry.uids) == (f"{UID}_small.jpg", {UID})


@pytest.mark.parametrize(
    ("header", "row", "name"),
    [
        ("file_uid,type,s3_path", "u,mp4,s3://b/k/x", "u.mp4"),
        ("file_uid,type,s3_path", "u,video,s3://b/k/x", "u.mp4"),
        ("file_uid,type,s3_path", "u,file,s3://b/k/x", "x"),
        ("file_uid,type,s3_path", "u,json,s3://b/k/x.json", "x.json"),
        ("file_uid,type,s3_path", "u,,s3://b/k/x.tar", "x.tar"),
        ("file_uid,type,s3_path", "u,other,s3://b/k/x.tgz", "x.tgz"),
        ("video_uid,type,s3_path", "u,mp4,s3://b/k/x", "u.mp4"),
        ("video_uid,type,s3_path", "u,file,s3://b/k/x.pt", "x.pt"),
        ("video_uid,type,s3_path", "u,,s3://b/k/x", "u.mp4"),
        ("video_uid,type,s3_path", "u,MP4,s3://b/k/x", "u.mp4"),
        ("video_uid,s3_path", "u,s3://b/k/x.pt", "u.mp4"),
        ("file_uid,s3_path", "u,s3://b/k/x.pt", "x.pt"),
        ("file_uid,video_uid,s3_path", "f,v,s3://b/k/x.pt", "x.pt"),
        ("video_uid,canonical_s3_location,s3_path", "u,s3://b/k/right,s3://b/wrong", "u.mp4"),
        ("video_uid,s3_path", "u,s3://b/a key+with #odd €.pt", "u.mp4"),
        ("file_uid,s3_path", "u,s3://b/a key+with #odd €.pt", "a key+with #odd €.pt"),
    ],
)
def test_names_and_locations_equal_those_of_the_official_tool(tmp_path, header, row, name):
    path = tmp_path / "manifest.csv"
    path.write_bytes(table(header, row))
    (official,) = list_videos_in_manifest(path, set(), set())
    (entry,) = parse(path.read_bytes(), "t").entries
    assert (entry.name, entry.url) == (official.filename_base, official.s3_path)
    assert entry.name == name


def test_a_location_in_path_alone_is_enough():
    """The official tool fails here; the notebooks' first manifests have no other column."""
    (entry,) = parse(table("video_uid,path", "u,s3://b/k/u"), "t").entries
    assert (entry.name, entry.url) == ("u.mp4", "s3://b/k/u")


BENCHMARK_CELLS = {
    "[EM]": {"em"},
    "[FHO]": {"fho"},
    "[EM|AV]": {"em", "av"},
    "[EM|MQ|VQ]": {"em", "mq", "vq"},
    "[FHO |EM]": {"fho", "em"},
    "[ EM]": {"em"},
    "[goalstep]": {"goalstep"},
    "[]": set(),
    "": set(),
}


@pytest.mark.parametrize(("cell", "tokens"), BENCHMARK_CELLS.items())
def test_benchmarks_are_case_free_tokens_between_bars(cell, tokens):
    content = table("video_uid,s3_path,benchmarks", f"u,s3://b/u,{cell}")
    manifest = parse(content, "t")
    assert manifest.entries[0].benchmarks == tokens
    assert manifest.problems == ()


def test_a_benchmark_without_brackets_is_read_and_reported():
    """The official tool skips such rows, one warning each."""
    manifest = parse(table("video_uid,s3_path,benchmarks", "u,s3://b/u,em"), "t")
    assert manifest.entries[0].benchmarks == {"em"}
    assert [(p.row, p.column) for p in manifest.problems] == [(2, "benchmarks")]


def test_universities_come_from_bucket_and_video_source():
    content = table(
        "video_uid,s3_path,video_source",
        "a,s3://ego4d-cmu/a,",
        "b,s3://ego4d-unict/b,unict",
        "c,s3://ego4d-speac/c,",
        "d,s3://unheard-of/d,Bristol",
        "e,s3://unheard-of/e,",
        "f,s3://ego4d-cmu/f,minnesota",
    )
    found = [set(entry.universities) for entry in parse(content, "t").entries]
    assert found == [{"cmu"}, {"unict"}, {"nus"}, {"bristol"}, set(), {"cmu", "minnesota"}]


@pytest.mark.parametrize("benchmarks", [set(), {"em"}, {"FHO"}, {"em", "fho"}, {"av"}])
@pytest.mark.parametrize("universities", [set(), {"cmu"}, {"nus", "unc"}])
def test_filters_and_order_equal_those_of_the_official_tool(tmp_path, benchmarks, universities):
    cells = list(BENCHMARK_CELLS)
    buckets = ["ego4d-cmu", "ego4d-speac", "ego4d-unc", "elsewhere"]
    rows = [f"u{i},s3://{buckets[i % 4]}/k{i},{cells[i * 7 % 9]}" for i in range(72)]
    path = tmp_path / "manifest.csv"
    path.write_bytes(table("video_uid,s3_path,benchmarks", *rows))
    wanted = [v.filename_base for v in list_videos_in_manifest(path, benchmarks, universities)]
    settled = resolve({"benchmarks": benchmarks, "universities": universities}, environ={})
    selection = Selection(
        benchmarks=frozenset(settled.benchmarks), universities=frozenset(settled.universities)
    )
    entries = [e for e in parse(path.read_bytes(), "t").entries if selection.admits(e)]
    assert [entry.name for entry in entries] == wanted


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", "u", "v", "mp4", "file", "s3://b/k", "s3://b/x/k", "s3://b/k.json", "[EM]", '"', "\n"]
)
COLUMNS = st.sampled_from([*UID_COLUMNS, *LOCATION_COLUMNS, "type", "benchmarks", "x", "\ufeff"])


def as_csv(rows: list[list[str]], lineterminator: str, quoting: int = csv.QUOTE_MINIMAL) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator=lineterminator, quoting=quoting).writerows(rows)
    return out.getvalue().encode()


@settings(max_examples=300)
@given(st.lists(COLUMNS, max_size=6), st.lists(st.lists(CELLS, max_size=7), max_size=12))
def test_any_table_gives_unique_names_or_a_manifest_error(header, rows):
    try:
        manifest = parse(as_csv([header, *rows], "\r\n"), "t")
    except ManifestError:
        return
    found = names(manifest)
    assert len(set(found)) == len(found)
    assert not set(found) & set(RESERVED_NAMES)
    assert not [name for name in found if "/" in name or name in {"", ".", ".."}]


@settings(max_examples=200)
@given(st.lists(CELLS, min_size=1, max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_no_valid_row_is_lost_because_of_other_cells(cells, lineterminator):
    rows = [[f"u{i}", cell, f"s3://b/k{i}", cell] for i, cell in enumerate(cells)]
    header = ["video_uid", "scenarios", "s3_path", "note"]
    content = as_csv([header, *rows], lineterminator, csv.QUOTE_ALL)
    manifest = parse(content, "t")
    assert [(e.uid, e.url) for e in manifest.entries] == [(row[0], row[2]) for row in rows]


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_manifest_error(content):
    for data in (content, b"video_uid,s3_path\n" + content):
        try:
            parse(data, "t")
        except ManifestError:
            continue
