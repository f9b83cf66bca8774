"""What each filter admits."""

from __future__ import annotations

import pytest

from ego4dfs.catalog import Selection
from ego4dfs.manifest import Entry


def entry(**fields) -> Entry:
    usual = {
        "row": 2,
        "name": "u.mp4",
        "uid": "u",
        "url": "s3://b/u",
        "uids": frozenset({"u"}),
        "benchmarks": frozenset({"em", "fho"}),
        "universities": frozenset({"cmu"}),
        "annotation": "",
    }
    return Entry(**{**usual, **fields})


def test_no_filter_admits_everything():
    assert Selection().admits(entry())
    assert Selection().admits(entry(benchmarks=None, uids=frozenset(), universities=frozenset()))


@pytest.mark.parametrize(
    ("wanted", "tagged", "admitted"),
    [
        (["em"], {"em", "fho"}, True),
        (["em"], {"em"}, True),
        (["av", "fho"], {"em", "fho"}, True),
        (["av"], {"em", "fho"}, False),
        (["e"], {"em"}, False),
        (["em"], set(), False),
        (["em"], None, True),  # the manifest has no such column
    ],
)
def test_benchmarks_are_whole_tokens_and_any_is_enough(wanted, tagged, admitted):
    benchmarks = None if tagged is None else frozenset(tagged)
    assert Selection(benchmarks=frozenset(wanted)).admits(entry(benchmarks=benchmarks)) is admitted


@pytest.mark.parametrize(
    ("wanted", "found", "admitted"),
    [
        (["cmu"], {"cmu"}, True),
        (["nus", "cmu"], {"cmu"}, True),
        (["nus"], {"cmu", "nus"}, True),
        (["nus"], {"cmu"}, False),
        (["nus"], set(), False),
    ],
)
def test_universities_are_any_of_those_wanted(wanted, found, admitted):
    selection = Selection(universities=frozenset(wanted))
    assert selection.admits(entry(universities=frozenset(found))) is admitted


@pytest.mark.parametrize(
    ("wanted", "uids", "admitted"),
    [
        (["u"], {"u"}, True),
        (["x", "parent"], {"clip", "parent"}, True),
        (["x"], {"u"}, False),
        (["x"], set(), True),  # belongs to no video
    ],
)
def test_uids_are_matched_whole_and_keep_files_without_a_video(wanted, uids, admitted):
    assert Selection(video_uids=frozenset(wanted)).admits(entry(uids=frozenset(uids))) is admitted


@pytest.mark.parametrize(
    ("wanted", "annotation", "name", "admitted"),
    [
        (["nlq"], "nlq_train", "a.json", True),
        (["nlq"], "other", "nlq_val.json", True),
        (["nlq"], "narrations", "narration.json", False),
        (["nlq"], "", "narration.json", True),  # no annotation column: nothing to filter by
    ],
)
def test_annotations_match_a_part_of_column_or_name(wanted, annotation, name, admitted):
    selection = Selection(annotations=frozenset(wanted))
    assert selection.admits(entry(annotation=annotation, name=name)) is admitted


def test_all_filters_must_admit():
    both = Selection(benchmarks=frozenset(["em"]), universities=frozenset(["cmu"]))
    assert both.admits(entry())
    assert not both.admits(entry(universities=frozenset({"nus"})))
    assert not both.admits(entry(benchmarks=frozenset({"av"})))
