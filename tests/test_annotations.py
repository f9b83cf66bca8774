"""Windows of annotations: one small file of each kind, in its public form, and of tables."""

from __future__ import annotations

import io
import json

import pytest

from ego4dfs.annotations import BadRow, Part, Window, json_stream, read_windows
from ego4dfs.annotations.json_stream import elements
from ego4dfs.annotations.rows import NO_FIELDS
from ego4dfs.errors import ConfigError

VIDEO, CLIP = "00000000-0000-4000-8000-00000000000A", "00000000-0000-4000-8000-00000000000c"
TIMES_OF_CLIP = {
    "clip_uid": CLIP,
    "video_start_sec": 100.0,
    "video_end_sec": 400.0,
    "clip_start_sec": 0.0,
    "clip_end_sec": 300.0,
}


def read(document, size=1 << 20, **options):
    content = document if isinstance(document, bytes) else json.dumps(document, indent=1).encode()
    chunks = (content[at : at + size] for at in range(0, len(content), size))
    return [row._replace(record=NO_FIELDS) for row in read_windows(chunks, **options)]


def in_both(row, start_s, end_s, text="", offset_s=100.0):
    """Return the window of a clip that begins at `offset_s` of its video."""
    video = Part(VIDEO.lower(), start_s, end_s)
    return Window(row, video, Part(CLIP, start_s - offset_s, end_s - offset_s), text)


def of_video(row, start_s, end_s, text=""):
    return Window(row, Part(VIDEO.lower(), start_s, end_s), None, text)


def episodic(split="train", **clip):
    """Return an annotation of one video with one clip."""
    video = {"video_uid": VIDEO, "split": split, "clips": [{**TIMES_OF_CLIP, **clip}]}
    return {"version": "1", "date": "220216", "description": "", "videos": [video]}


NLQ = {
    "language_queries": [
        {
            "clip_start_sec": 43.5,
            "clip_end_sec": 47.25,
            "video_start_sec": 143.5,
            "video_end_sec": 147.25,
            "video_start_frame": 4305,
            "video_end_frame": 4417,
            "template": "Objects: Where is object X before / after event Y?",
            "query": "Where was the knife?",
            "raw_tags": [],
        }
    ],
    "annotation_uid": "a",
}
MOMENTS = {
    "annotator_uid": "annotator_0",
    "labels": [
        {
            "start_time": 4.25,
            "end_time": 9.5,
            "start_frame": 127,
            "end_frame": 285,
            "video_start_time": 104.25,
            "video_end_time": 109.5,
            "label": "wash_dishes",
            "primary": True,
        }
    ],
}


def box(frame, video_frame):
    place = {"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0, "rotation": 0}
    return {**place, "frame_number": frame, "video_frame_number": video_frame}


VQ = {
    "query_sets": {
        "1": {
            "is_valid": True,
            "query_frame": 500,
            "query_video_frame": 6000,
            "response_track": [box(101, 3606), box(100, 3600), box(104, 3624)],
            "object_title": "blue bucket",
            "visual_crop": box(100, 3600),
        },
        "2": {"is_valid": False, "errors": ["no object"]},
    }
}


def test_nlq():
    document = episodic(annotations=[NLQ])
    row = "videos[0].clips[0].annotations[0].language_queries[0]"
    assert read(document) == [in_both(row, 143.5, 147.25, "Where was the knife?")]


def test_a_row_has_the_fields_of_its_record():
    (found,) = read_windows([json.dumps(episodic(annotations=[NLQ])).encode()])
    assert found.record == NLQ["language_queries"][0]
    good, bad = read_windows([f"video_uid,start_s,end_s,mine\n{VIDEO},1,2,a\n,1,2,b\n".encode()])
    assert [row.record["mine"] for row in (good, bad)] == ["a", "b"]


def test_moments():
    row = "videos[0].clips[0].annotations[0].labels[0]"
    assert read(episodic(annotations=[MOMENTS])) == [in_both(row, 104.25, 109.5, "wash_dishes")]


def test_vq_has_the_response_track_at_the_rates_of_clip_and_video():
    document = episodic(annotations=[VQ], clip_fps=5.0)
    row = "videos[0].clips[0].annotations[0].query_sets[1]"
    video, clip = Part(VIDEO.lower(), 120.0, 3625 / 30), Part(CLIP, 20.0, 21.0)
    assert read(document) == [Window(row, video, clip, "blue bucket")]


def test_a_test_set_needs_the_clips_that_are_searched():
    nlq = {"language_queries": [{"query": "Where?"}]}
    vq = {"query_sets": {"1": {"is_valid": True, "query_frame": 9, "object_title": "cup"}}}
    row = "videos[0].clips[0]"
    assert read(episodic("test", annotations=[nlq])) == [
        in_both(f"{row}.annotations[0].language_queries[0]", 100.0, 400.0, "Where?")
    ]
    assert read(episodic("test", annotations=[vq])) == [
        in_both(f"{row}.annotations[0].query_sets[1]", 100.0, 400.0, "cup")
    ]
    assert read(episodic("test")) == [in_both(row, 100.0, 400.0)]


def test_av():
    segment = {
        "start_time": 5.0,
        "end_time": 6.5,
        "video_start_time": 105.0,
        "video_end_time": 106.5,
        "person": "2",
        "target": None,
        "is_at_me": False,
    }
    said = {
        "transcription": "hello",
        "start_time_sec": 1.0,
        "end_time_sec": 2.0,
        "video_start_time": 101.0,
        "video_end_time": 102.0,
        "person_id": "0",
    }
    annotated = {
        "persons": [{"person_id": "0", "voice_segments": []}],
        "transcriptions": [said],
        "social_segments_talking": [segment],
        "social_segments_looking": [],
    }
    row = "videos[0].clips[0]"
    assert read(episodic(valid=True, **annotated)) == [
        in_both(f"{row}.transcriptions[0]", 101.0, 102.0, "hello"),
        in_both(f"{row}.social_segments_talking[0]", 105.0, 106.5),
    ]
    assert read(episodic(persons=[], transcriptions=[])) == [in_both(row, 100.0, 400.0)]


def voice(start_s, end_s):
    times = {"start_time": start_s, "end_time": end_s}
    of_video = {f"video_{name}": 100 + time_s for name, time_s in times.items()}
    return {**times, **of_video, "person": "1"}


def test_voices_and_faces_of_av_are_rows_for_those_who_ask():
    """They are annotated in all of a clip, so to fetch them would fetch the clip."""
    boxes = [{"x": 1, "video_frame": 3000 + frame, "frame": frame} for frame in range(60)]
    person = {
        "person_id": "1",
        "camera_wearer": False,
        "tracking_paths": [{"track_id": "a", "track": boxes}, {"track": []}],
        "voice_segments": [voice(5.0, 6.5)],
    }
    wearer = {"person_id": "0", "voice_segments": [voice(1.0, 2.0)]}
    document = episodic(persons=[person], camera_wearer=wearer)
    row = "videos[0].clips[0]"
    whole = in_both(row, 100.0, 400.0)
    assert read(document) == [whole]
    assert read(document, has_people=True) == [
        whole,
        in_both(f"{row}.persons[0].voice_segments[0]", 105.0, 106.5, "person 1 speaks"),
        of_video(f"{row}.persons[0].tracking_paths[0]", 100.0, 102.0, "face of person 1"),
        BadRow(f"{row}.persons[0].tracking_paths[1]", "its start or end is missing", NO_FIELDS),
        in_both(f"{row}.camera_wearer.voice_segments[0]", 101.0, 102.0, "camera wearer speaks"),
    ]
    chunks = [json.dumps(document).encode()]
    record = list(read_windows(chunks, has_people=True))[2].record
    assert (record["person"], len(record["track"])) == ("person 1", 60)
    assert read(episodic(annotations=[NLQ]), has_people=True) == read(episodic(annotations=[NLQ]))


@pytest.mark.parametrize(
    ("person", "text"),
    [
        ({"person_id": "2", "camera_wearer": True}, "camera wearer speaks"),
        ({"person_id": "<b>"}, "person <b> speaks"),
        ({"person_id": ["2"], "camera_wearer": "yes"}, "a person speaks"),
        ({}, "a person speaks"),
    ],
)
def test_persons_of_av_are_named(person, text):
    document = episodic(persons=[{**person, "voice_segments": [voice(1.0, 2.0)]}], camera_wearer=1)
    assert read(document, has_people=True)[1].text == text


@pytest.mark.parametrize(
    "person",
    [
        {"voice_segments": [voice(2.0, 1.0)]},
        {"voice_segments": ["x"]},
        {"voice_segments": {"a": {"video_start_time": "x", "video_end_time": 2}}},
        {"tracking_paths": ["x"]},
        {"tracking_paths": [{"track": "x"}]},
        {"tracking_paths": [{"track": ["x", {"video_frame": None}]}]},
        {"tracking_paths": [{"track": [{"video_frame": -9}]}]},
        {"tracking_paths": [{"track": [{"video_frame": {}}]}]},
    ],
)
def test_voices_and_faces_in_another_form_are_bad_rows(person):
    _, found = read(episodic(persons=[person, "x"]), has_people=True)
    assert isinstance(found, BadRow), found
    assert found.reason


def test_goalstep():
    step = {
        "start_time": 11.5,
        "end_time": 33.0,
        "step_category": "General: peel",
        "step_description": "peels a carrot",
        "is_continued": False,
        "segments": [{"start_time": 12.0, "end_time": 20.0, "step_description": "takes a peeler"}],
    }
    video = {
        "video_uid": VIDEO,
        "start_time": 1.0,
        "end_time": 600.0,
        "goal_category": "COOKING",
        "goal_description": "makes a salad",
    }
    assert read({"version": "2", "videos": [{**video, "segments": [step]}]}) == [
        of_video("videos[0].segments[0]", 11.5, 33.0, "peels a carrot"),
        of_video("videos[0].segments[0].segments[0]", 12.0, 20.0, "takes a peeler"),
    ]
    assert read({"videos": [video]}) == [of_video("videos[0]", 1.0, 600.0, "makes a salad")]


def test_narrations_are_moments():
    said = [
        {"timestamp_sec": 7.5, "timestamp_frame": 225, "narration_text": "#C C picks a cup"},
        {"timestamp_sec": 0.25, "timestamp_frame": 7, "narration_text": "#C C looks around"},
    ]
    summaries = [{"start_sec": 0.0, "end_sec": 300.0, "summary_text": "#summary C cooks"}]
    document = {
        VIDEO: {
            "status": "complete",
            "narration_pass_1": {"narrations": said, "summaries": summaries},
            "narration_pass_2": {"narrations": said[:1], "summaries": []},
        },
        "another": {"status": "redacted"},
    }
    row = f"{VIDEO}.narration_pass"
    assert read(document) == [
        of_video(f"{row}_1.narrations[0]", 6.5, 8.0, "#C C picks a cup"),
        of_video(f"{row}_1.narrations[1]", 0.0, 0.75, "#C C looks around"),
        of_video(f"{row}_2.narrations[0]", 6.5, 8.0, "#C C picks a cup"),
    ]


def test_redacted_narrations_are_moments():
    narration = {"time": 7.5, "text": "#C C picks a cup", "_annotation_uid": "a"}
    document = {"_map_errs": [1], "videos": {VIDEO: {"narrations": [narration], "summaries": []}}}
    assert read(document) == [
        of_video(f"videos[{VIDEO}].narrations[0]", 6.5, 8.0, "#C C picks a cup")
    ]


def test_fho_main():
    action = {
        "uid": "a",
        "start_sec": 110.0,
        "end_sec": 118.0,
        "clip_start_sec": 10.0,
        "clip_end_sec": 18.0,
        "narration_text": "#C C cuts wood",
        "is_rejected": False,
        "critical_frames": {"pre_45": 3300},
    }
    rejected = {"uid": "b", "is_rejected": True, "start_sec": None}
    interval = {
        "clip_uid": CLIP,
        "start_sec": 100.0,
        "end_sec": 400.0,
        "narrated_actions": [action, rejected, {"is_invalid_annotation": True}],
    }
    document = {"videos": [{"video_uid": VIDEO, "annotated_intervals": [interval]}]}
    row = "videos[0].annotated_intervals[0].narrated_actions[0]"
    assert read(document) == [in_both(row, 110.0, 118.0, "#C C cuts wood")]


def test_fho_lta_adds_the_start_of_the_clip():
    action = {
        "video_uid": VIDEO,
        "clip_uid": CLIP,
        "action_clip_start_sec": 10.5,
        "action_clip_end_sec": 18.5,
        "clip_parent_start_sec": 100.0,
        "clip_parent_end_sec": 400.0,
        "interval_start_sec": 100.0,
        "action_idx": 3,
        "verb": "cut",
        "noun": "wood",
    }
    assert read({"split": "val", "clips": [action]}) == [
        in_both("clips[0]", 110.5, 118.5, "cut wood")
    ]


@pytest.mark.parametrize("name", ["video_uid", "video_id"])
def test_fho_sta_is_a_moment(name):
    moment = {"uid": "a", name: VIDEO, "clip_uid": CLIP, "frame": 3300, "clip_frame": 300}
    document = {
        "info": {"description": "STA"},
        "noun_categories": [{"id": 0, "name": "apple"}],
        "annotations": [{**moment, "objects": []}],
    }
    assert read(document) == [in_both("annotations[0]", 109.0, 110.5)]


def test_fho_oscc_pnr_may_have_no_clip():
    clip = {
        "unique_id": "a",
        "video_uid": VIDEO,
        "clip_uid": None,
        "parent_start_sec": 110.0,
        "parent_end_sec": 118.0,
        "parent_pnr_frame": 3400,
        "clip_start_sec": None,
        "clip_end_sec": None,
        "state_change": True,
    }
    with_clip = {**clip, "clip_uid": CLIP, "clip_start_sec": 10.0, "clip_end_sec": 18.0}
    assert read({"clips": [clip, with_clip]}) == [
        of_video("clips[0]", 110.0, 118.0),
        in_both("clips[1]", 110.0, 118.0),
    ]


def test_fho_hands():
    frame = {"frame": 3300, "clip_frame": 300, "boxes": []}
    action = {
        "action_start_sec": 110.0,
        "action_end_sec": 118.0,
        "action_clip_start_sec": 10.0,
        "action_clip_end_sec": 18.0,
        "pre_45": frame,
    }
    clip = {"clip_id": 1, "clip_uid": CLIP, "video_uid": VIDEO}
    document = {"clips": [{**clip, "frames": [action, {"pre_45": frame}]}]}
    assert read(document) == [
        in_both("clips[0].frames[0]", 110.0, 118.0),
        in_both("clips[0].frames[1]", 109.0, 110.5),
    ]


def test_fho_scod_reaches_from_its_first_frame_to_its_last():
    frames = {"pre_frame": 3300, "pnr_frame": 3330, "post_frame": 3389}
    clip = {"clip_uid": CLIP, "video_uid": VIDEO} | {
        name: {"frame_number": number, "clip_frame_number": number - 3000, "bbox": []}
        for name, number in frames.items()
    }
    assert read({"clips": [clip]}) == [in_both("clips[0]", 110.0, 113.0)]


TABLE = f"video_uid,start_s,end_s,text\n{VIDEO},1,2.5,cup\n{VIDEO},3,4,\n"
LINES = "".join(
    json.dumps({"video_uid": VIDEO, "start_s": start, "end_s": end, "text": text}) + "\n"
    for start, end, text in [(1, 2.5, "cup"), (3, 4, None)]
)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (TABLE.encode(), ("row 2", "row 3")),
        (TABLE.encode("utf-16"), ("row 2", "row 3")),
        (("\n" + TABLE.replace("\n", "\r\n")).encode("utf-8-sig"), ("row 3", "row 4")),
        (LINES.encode(), ("line 1", "line 2")),
        (f"[{LINES.replace('}', '},', 1)}]".encode(), ("element 0", "element 1")),
    ],
)
@pytest.mark.parametrize("size", [7, 1 << 20])
def test_tables(content, rows, size):
    first, second = rows
    assert read(content, size) == [
        of_video(first, 1.0, 2.5, "cup"),
        of_video(second, 3.0, 4.0),
    ]


def test_empty_cells_after_the_last_column_are_no_cells():
    """Spreadsheets write them."""
    assert read(f"video_uid,start_s,end_s\n{VIDEO},1,2,,\n".encode()) == [
        of_video("row 2", 1.0, 2.0)
    ]


def test_a_table_may_name_clips():
    table = f"clip_uid,video_uid,start_s,end_s\n{CLIP},,1,2\n,{VIDEO},1,2\n".encode()
    assert read(table) == [
        Window("row 2", None, Part(CLIP, 1.0, 2.0), ""),
        of_video("row 3", 1.0, 2.0),
    ]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("v,1", "its start or end is missing"),
        ("v,,2", "its start or end is missing"),
        (",1,2", "it has no video_uid"),
        ("v,nan,2", "its start, 'nan', is not a number of seconds"),
        ("v,1,inf", "its end, 'inf', is not a number of seconds"),
        ("v,0:01,2", "its start, '0:01', is not a number of seconds"),
        ("v,-1,2", "it starts at -1 s, before the video"),
        ("v,2,2", "its start, 2 s, is not before its end, 2 s"),
        ("v,3,2", "its start, 3 s, is not before its end, 2 s"),
        ("v,1,5,3,5", "it has 5 cells, and the header has 3"),  # from 1.5 to 3.5
        ("v,1,2,x", "it has 4 cells, and the header has 3"),
    ],
)
def test_a_bad_row_is_named_and_the_rest_goes_on(cells, reason):
    table = f"video_uid,start_s,end_s\n{cells}\n\n{VIDEO},1,2\n".encode()
    bad, good = read(table)
    assert bad == BadRow("row 2", reason)
    assert good[1:4] == (Part(VIDEO.lower(), 1.0, 2.0), None, "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "it has no video_uid"),
        (
            '{"video_uid": "v", "start_s": true, "end_s": []}',
            "its start, True, is not a number of seconds",
        ),
        (
            '{"video_uid": "v", "start_s": NaN, "end_s": 1}',
            "its start, nan, is not a number of seconds",
        ),
        (
            '{"video_uid": "v", "start_s": 1, "end_s": [1, 2]}',
            "its end, [1, 2], is not a number of seconds",
        ),
        (
            '{"video_uid": "v", "start_s": 1, "end_s": 1' + "0" * 400 + "}",
            "its end, 100000000000000000...0000000000000000000, is not a number of seconds",
        ),
    ],
)
def test_a_bad_line_is_named(line, reason):
    assert read(f"{LINES}{line}\n".encode())[2] == BadRow("line 3", reason)
    assert read(f"{LINES}\n \n{line}\n".encode())[2] == BadRow("line 5", reason)


def test_a_bad_element_of_an_annotation_is_named():
    queries = [{"query": "no times"}, 5, {"video_start_sec": 2, "video_end_sec": 1}]
    found = read(episodic(annotations=[{"language_queries": queries}], clip_uid=CLIP))
    row = "videos[0].clips[0].annotations[0].language_queries"
    assert found == [
        BadRow(f"{row}[0]", "its start or end is missing"),
        BadRow(f"{row}[1]", "its start or end is missing"),
        BadRow(f"{row}[2]", "its start, 2 s, is not before its end, 1 s"),
    ]


def test_an_annotation_without_its_frames_is_named():
    sta = {"annotations": [{"uid": "a", "video_uid": VIDEO}]}
    scod = {"clips": [{"video_uid": VIDEO, "pnr_frame": None}]}
    query = {"is_valid": True, "response_track": "none"}
    vq = episodic(annotations=[{"query_sets": {"1": query}}])
    for document in (sta, scod, vq):
        [bad] = read(document)
        assert bad.reason == "its start or end is missing"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        (b"uid,start_s,end_s\n", "has no column video_uid"),
        (b"video_uid,start_s\nv,1\n", "has no column end_s"),
        (b"video_uid,start_s,end_s\n", "it has no windows"),
        (b'{"verbs": ["cut"], "nouns": [{"a": 1}], "clips": [{"b": 1}]}', "it has no windows"),
        (b'{"videos": [{"video_uid": "v", "clips": "x"}], "n": 1}', "it has no windows"),
        (b'{"taxonomy": {"cut": {"narrations": [{"time": 1}]}}}', "it has no windows"),
        (b'{"videos": [{"video_uid": "v"}', "it is not JSON that can be read, at character 30"),
        (b'{"videos": [{"video_uid": "v"', "it is not JSON that can be read, at character 12"),
        (b'{"videos" [1]}', "it is not JSON that can be read, at character 10"),
        (b'{"videos": [1]} []', "it is not JSON that can be read, at character 16"),
        (b'[\n{"video_uid": "v"}]x', "it is not JSON that can be read, at character 21"),
        (b'{"videos": ' + b"[" * 200_000, "it is not JSON that can be read, at character 12"),
    ],
)
def test_a_file_without_windows_is_refused(content, message):
    with pytest.raises(ConfigError) as caught:
        read(content)
    assert message in str(caught.value)


def test_elements_are_read_one_at_a_time(monkeypatch):
    """So a file of any length needs the memory of its longest element."""
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", 8)
    longest = 0

    class Counting(io.StringIO):
        def read(self, characters, /):
            nonlocal longest
            longest = max(longest, characters)
            return super().read(characters)

    document = {"a": 12345678, "b": [[1, "x" * 20]] * 500, "c": {"d": 123456789012}, "e": []}
    found = list(elements(Counting(json.dumps(document))))
    assert found == [("b", place, [1, "x" * 20]) for place in range(500)] + [
        ("c", "d", 123456789012)
    ]
    assert longest < 100
    monkeypatch.setattr(json_stream, "MAX_ELEMENT_CHARACTERS", 10)
    with pytest.raises(ConfigError):
        list(elements(io.StringIO(json.dumps(document))))
