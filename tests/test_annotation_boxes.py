"""The boxes and phases of the records of annotations, by their kinds."""

from __future__ import annotations

import math

import pytest

from ego4dfs.annotations.boxes import MAX_BOXES, Box, Phase, boxes_of, has_parts, phases_of

pytestmark = pytest.mark.first_pass

PLACE = {"x": 10.0, "y": 20.0, "width": 30.0, "height": 40.0}


def test_a_response_track_of_vq_has_a_box_for_each_of_its_frames():
    size = {"original_width": 1920, "original_height": 1080}
    track = [
        {**PLACE, "frame_number": 1, "video_frame_number": 90, "rotation": 0, **size},
        {**PLACE, "x": 12, "frame_number": 2, "video_frame_number": 96},
    ]
    assert boxes_of({"object_title": "blue_bucket", "response_track": track}) == [
        Box("blue bucket", 3.0, 10, 20, 30, 40, 1920, 1080),
        Box("blue bucket", 3.2, 12, 20, 30, 40),
    ]


def face(*frames: object, **fields: object):
    """Return the boxes of the track of a face in these frames, by their times."""
    track = [{**PLACE, "frame": 1, "video_frame": frame, "clip_frame": None} for frame in frames]
    record = {"track_id": "7", "track": track, "person": "person 1", **fields}
    assert has_parts(record)
    return boxes_of(record)


def test_a_face_of_av_has_some_of_the_boxes_that_it_has_in_each_frame():
    found = face(*range(30, 46), *range(120, 123))
    assert found[0] == Box("person 1", 1.0, 10, 20, 30, 40)
    shown = [round(box.time_s * 30) for box in found]
    assert shown == [30, 36, 42, 45, 120, 122]  # with the ends of both appearances
    assert len(face(*range(9000))) == 1501
    assert len(face(*range(90_000))) == MAX_BOXES
    assert [box.time_s for box in face(60, 0, 30)] == [0.0, 1.0, 2.0]
    assert [box.time_s for box in face(30)] == [1.0]


def test_a_face_of_av_in_another_form_is_left_out():
    assert face(None, "x", -1, math.nan, [], 1e300) == []
    assert [box.time_s for box in face(None, 30, {})] == [1.0]
    assert face(30, track={"x": 1}) == []
    assert face(30, person=["x"])[0].label == "object"
    assert len(face(30, person="x" * 9999)[0].label) == 200


def test_frames_of_fho_main_have_hands_and_objects():
    boxes = [
        {"object_type": "left_hand", "structured_noun": None, "bbox": PLACE},
        {"object_type": "object_of_change", "structured_noun": "knife", "bbox": PLACE},
    ]
    boxes.append(boxes[0])  # another one
    frame = {"frame_type": "pnr_frame", "frame_number": 60, "boxes": boxes}
    sized = {**frame, "frame_number": 75, "frame_width": 640, "frame_height": 480}
    assert boxes_of({"frames": [frame, sized]}) == [
        Box("left hand", 2.0, 10, 20, 30, 40),
        Box("object of change knife", 2.0, 10, 20, 30, 40),
        Box("left hand 2", 2.0, 10, 20, 30, 40),
        Box("left hand", 2.5, 10, 20, 30, 40, 640, 480),
        Box("object of change knife", 2.5, 10, 20, 30, 40, 640, 480),
        Box("left hand 2", 2.5, 10, 20, 30, 40, 640, 480),
    ]


def test_hands_of_fho_hands_are_positions():
    frames = {
        "pre_45": {"frame": 30, "boxes": [{"left_hand": [5.5, 6]}, {"right_hand": [7, 8]}]},
        "post_frame": {"frame": 90, "boxes": [{"left_hand": [1, 2]}]},
    }
    assert boxes_of({"action_start_sec": 1.0, **frames}) == [
        Box("left hand", 1.0, 5.5, 6, 0, 0),
        Box("right hand", 1.0, 7, 8, 0, 0),
        Box("left hand", 3.0, 1, 2, 0, 0),
    ]


def test_scod_and_sta():
    frame = {
        "frame_number": 30,
        "width": 1440,
        "height": 1080,
        "bbox": [{"object_type": "tool", "structured_noun": "saw", "bbox": PLACE}],
    }
    assert boxes_of({"pnr_frame": frame}) == [Box("tool saw", 1.0, 10, 20, 30, 40, 1440, 1080)]
    objects = [{"box": [10, 20, 40, 60], "noun_category_id": 3}]
    assert boxes_of({"frame": 45, "objects": objects}) == [
        Box("next object 1", 1.5, 10, 20, 30, 40)
    ]


@pytest.mark.parametrize(
    "record",
    [
        {"response_track": "none"},
        {"response_track": [7, {}, {**PLACE}, {**PLACE, "video_frame_number": -1}]},
        {"response_track": [{**PLACE, "x": 1e300, "video_frame_number": 1}]},
        {"response_track": [{**PLACE, "y": math.nan, "video_frame_number": 1}]},
        {"response_track": [{**PLACE, "width": -1, "video_frame_number": 1}]},
        {"frames": [{"frame_number": 1, "boxes": {"bbox": PLACE}}, {"boxes": [{"bbox": PLACE}]}]},
        {"frames": [{"frame_number": 1, "boxes": [{"bbox": [1, 2, 3, 4]}]}]},
        {"pre_45": {"frame": 1, "boxes": [{"left_hand": [1]}, {"left_hand": ["x", 2]}, 5]}},
        {"pre_45": 7, "pnr_frame": None, "frame": 1, "objects": [{"box": [1, 2, 3]}, {}]},
        {"frame": 1, "objects": [{"box": [5, 5, 1, 1]}, {"box": [None, 1, 2, 3]}]},
        {"video_uid": "v", "start_s": "1"},
    ],
)
def test_what_is_damaged_has_no_box(record):
    assert boxes_of(record) == []


def test_most_records_have_no_part():
    assert not has_parts({"timestamp_sec": 1.0, "narration_text": "#C C cuts"})
    assert has_parts({"critical_frames": None})


def test_a_record_has_a_bounded_number_of_boxes():
    track = [{**PLACE, "video_frame_number": place} for place in range(MAX_BOXES + 1)]
    assert len(boxes_of({"response_track": track})) == MAX_BOXES


def test_labels_are_bounded():
    track = [{**PLACE, "video_frame_number": 1}]
    [box] = boxes_of({"object_title": "x" * 2000, "response_track": track})
    assert len(box.label) == 200


BEFORE, AT, AFTER = Phase("pre", 1.0, 2.0), Phase("pnr", 2.0, 61 / 30), Phase("post", 2.0, 3.0)


@pytest.mark.parametrize(
    ("record", "phases"),
    [
        (
            {"critical_frames": {"pre_45": 1, "pre_frame": 30, "pnr_frame": 60, "post_frame": 90}},
            [BEFORE, AT, AFTER],
        ),
        (
            {"pre_frame": {"frame": 30}, "pnr_frame": {"frame_number": 60}, "post_frame": {}},
            [BEFORE, AT],
        ),
        ({"parent_pnr_frame": 60, "state_change": True}, [AT]),
        ({"critical_frames": {"pre_frame": 90, "pnr_frame": 60, "post_frame": 30}}, [AT]),
        ({"critical_frames": None}, []),
        ({"critical_frames": {"pre_frame": 30, "pnr_frame": "x"}}, []),
        ({"narration_text": "#C C cuts"}, []),
    ],
)
def test_the_phases_of_an_action(record, phases):
    assert phases_of(record) == phases
