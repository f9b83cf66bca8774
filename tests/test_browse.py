"""The pages of `ego4dfs browse` over HTTP: what they are told, and what they may do."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import math
import re
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import av
import obstore
import pytest

from ego4dfs.blocks import PART_SIZE
from ego4dfs.browse import posters, text_index
from ego4dfs.browse.catalogue import COLUMNS
from ego4dfs.browse.video_page import seconds
from ego4dfs.store import resilient
from ego4dfs.store.retry import RetryPolicy
from kit import media
from kit.browse import (
    CLIP,
    FIRST,
    HOSTILE,
    LONG,
    MOUNTS,
    OTHER,
    SECOND,
    answer,
    described,
    narrated,
)
from kit.data import seeded
from kit.server import SHARING
from kit.web import BASE

pytestmark = pytest.mark.first_pass

STATIC = sorted(resources.files("ego4dfs.browse").joinpath("static").iterdir())
SHOWN_HOSTILE = HOSTILE.replace("\u202e", "\\u202e")


@pytest.fixture
def opened(browse, published):
    return browse(version=published.version)


@pytest.fixture
def client(opened):
    return opened[0]


def kept(tmp_path: Path, suffix: str) -> list[Path]:
    return sorted((tmp_path / "cache").rglob(f"browse/*{suffix}"))


def forget_facts(tmp_path: Path) -> None:
    """Forget the ETags of objects, so that they are asked for again."""
    for file in (tmp_path / "cache").rglob("facts.sqlite*"):
        file.unlink()


def videos_of(client) -> list[dict]:
    found = answer(client, "catalogue")
    return [dict(zip(found["columns"], row, strict=True)) for row in found["videos"]]


def test_the_catalogue_has_what_manifest_and_metadata_say(client, published):
    found = answer(client, "catalogue")
    assert (found["version"], found["columns"]) == (published.version, list(COLUMNS))
    assert (found["is_filtered"], found["splits_are_options"], found["problem"]) == (
        False,
        True,
        "",
    )
    first, second, other = videos_of(client)
    assert first == {
        "uid": FIRST,
        "duration_s": 4.0,
        "scenarios": ["Cooking"],
        "universities": ["cmu", "frl_track_1_public"],
        "benchmarks": ["em", "nlq"],
        "splits": ["em:train"],
        "has_audio": True,
        "has_imu": True,
        "has_gaze": False,
    }
    assert (second["uid"], second["scenarios"]) == (SECOND, [SHOWN_HOSTILE])
    assert (other["uid"], other["duration_s"], other["scenarios"]) == (OTHER, None, [])
    assert (other["has_audio"], other["splits"]) == (None, [])


def test_the_catalogue_has_the_selected_videos_only(browse, published):
    client, _ = browse(version=published.version, benchmarks=["fho"])
    assert [video["uid"] for video in videos_of(client)] == [SECOND]
    assert answer(client, "catalogue")["is_filtered"]
    assert client.get(f"browse/api/video?uid={FIRST}").status == 404


def test_splits_are_those_of_ego4d_json_if_the_manifest_has_none(browse, release):
    url = release.put("video", b"")
    release.manifest("full_scale", f"video_uid,canonical_s3_location\n{FIRST},{url}\n")
    release.metadata(json.dumps({"videos": [described(FIRST, "x") | {"split_av": "val"}]}).encode())
    client, _ = browse(version=release.version, datasets=["full_scale"])
    assert videos_of(client)[0]["splits"] == ["av:val"]
    assert not answer(client, "catalogue")["splits_are_options"]


def test_without_ego4d_json_the_videos_are_shown_with_the_reason(browse, published):
    client, _ = browse(version=published.version, metadata=False)
    assert "ego4d.json" in answer(client, "catalogue")["problem"]
    assert [video["duration_s"] for video in videos_of(client)] == [None] * 3


def test_without_videos_the_answer_says_which_dataset_has_some(browse, published):
    client, _ = browse(version=published.version, datasets=["annotations"])
    found = client.get("browse/api/catalogue")
    assert (found.status, b"--datasets full_scale" in found.body) == (502, True)


def test_ego4d_json_is_read_once_for_its_etag(browse, published, tmp_path):
    first, _ = browse(version=published.version)
    before = videos_of(first)
    [file] = kept(tmp_path, ".json")
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(file.read_text().replace("Cooking", "Carpentry"))
    second, _ = browse(version=published.version)
    assert videos_of(second)[0]["scenarios"] == ["Carpentry"]
    file.write_text('{"x": [1]}')
    third, _ = browse(version=published.version)
    assert videos_of(third) == before
    published.metadata(json.dumps({"videos": [described(FIRST, "Walking")]}).encode())
    forget_facts(tmp_path)
    fourth, _ = browse(version=published.version)
    assert videos_of(fourth)[0]["scenarios"] == ["Walking"]
    assert [path != file for path in kept(tmp_path, ".json")] == [True]


def test_a_video_has_its_tracks_in_order(client):
    found = answer(client, f"video?uid={FIRST}")
    assert (found["uid"], found["path"].endswith(f"/full_scale/{FIRST}.mp4")) == (FIRST, True)
    tracks = {track["name"]: track["segments"] for track in found["tracks"]}
    assert tracks == {
        "narration pass 1": [[0.5, 0.5, "#C C picks up the knife"], [2.5, 2.5, "#C C cuts bread"]],
        "narration pass 2": [[1.25, 1.25, "#C C holds a knife"]],
        "nlq_train": [[1.5, 2.5, "Where was the knife?"]],
        "redacted": [[3.5, 4.0, ""]],
        "clips": [[1.0, 3.0, CLIP]],
    }
    assert (found["objects"], found["more"]) == ([], [])


def test_a_video_has_the_objects_that_move_in_it_and_the_phases_of_its_actions(browse, boxed):
    """Boxes are shares of the picture if its size is known, else pixels."""
    client, _ = browse(version=boxed.version)
    found = answer(client, f"video?uid={FIRST}")
    assert found["objects"] == [
        {
            "track": "fho_hands_train",
            "label": "left hand",
            "in_pixels": True,
            "boxes": [[2.5, 16, 12, 0, 0], [3.0, 32, 36, 0, 0]],
        },
        {
            "track": "vq_train",
            "label": SHOWN_HOSTILE,
            "in_pixels": False,
            "boxes": [[1.0, 0.1, 0.1, 0.2, 0.2], [2.0, 0.3, 0.3, 0.1, 0.4]],
        },
    ]
    tracks = {track["name"]: track["segments"] for track in found["tracks"]}
    assert tracks["fho_hands_train pre"] == [[2.5, 3.0, ""]]
    assert tracks["fho_hands_train pnr"] == [[3.0, 3.034, ""]]
    assert tracks["fho_hands_train post"] == [[3.0, 3.5, ""]]
    assert answer(client, f"video?uid={SECOND}")["objects"] == []


def test_voices_and_faces_of_av_are_tracks_of_their_own(browse, spoken):
    client, _ = browse(version=spoken.version)
    found = answer(client, f"video?uid={FIRST}")
    tracks = {track["name"]: track["segments"] for track in found["tracks"]}
    assert tracks["av_train"] == [[1.5, 2.25, "hello"]]
    assert tracks["av_train voices"] == [[1.5, 2.25, f"person {SHOWN_HOSTILE} speaks"]]
    assert tracks["av_train faces"] == [[1.0, 2.034, f"face of person {SHOWN_HOSTILE}"]]
    [face] = found["objects"]
    assert (face["track"], face["in_pixels"]) == ("av_train faces", False)
    assert face["label"] == f"person {SHOWN_HOSTILE}"
    assert face["boxes"][0] == [1.0, 0.56875, 0.1, 0.2, 0.2]
    assert [time_s for time_s, *_ in face["boxes"]] == [1.0, 1.2, 1.4, 1.6, 1.8, 2.0]
    assert answer(client, "search?q=hello")["tracks"].keys() == {"av_train"}


def test_boxes_of_a_picture_of_unknown_size_are_those_of_ego4d_json(browse, boxed):
    sizes = {"display_resolution_width": 64, "display_resolution_height": 48}
    video = described(FIRST, "x")
    video["video_metadata"] |= sizes
    boxed.metadata(json.dumps({"videos": [video]}).encode())
    client, _ = browse(version=boxed.version)
    hand = answer(client, f"video?uid={FIRST}")["objects"][0]
    assert (hand["in_pixels"], hand["boxes"][0]) == (False, [2.5, 0.25, 0.25, 0, 0])


def test_an_impossible_size_is_unknown(browse, boxed):
    sizes = {"display_resolution_width": math.inf, "display_resolution_height": 48}
    video = described(FIRST, "x")
    video["video_metadata"] |= sizes
    boxed.metadata(json.dumps({"videos": [video]}).encode())
    client, _ = browse(version=boxed.version)
    assert answer(client, f"video?uid={FIRST}")["objects"][0]["in_pixels"]


def test_what_is_left_out_of_a_video_is_said(browse, boxed, monkeypatch):
    monkeypatch.setattr(text_index, "MAX_SEGMENTS", 2)
    monkeypatch.setattr(text_index, "MAX_BOXES", 1)
    client, _ = browse(version=boxed.version)
    found = answer(client, f"video?uid={FIRST}")
    assert found["more"] == [
        {"name": "fho_hands_train", "segments": 2, "has_boxes": True},
        {"name": "narration", "segments": 1, "has_boxes": False},
        {"name": "vq_train", "segments": 0, "has_boxes": True},
    ]
    assert [len(one["boxes"]) for one in found["objects"]] == [1, 1]
    monkeypatch.setattr(text_index, "MAX_SEGMENTS", 9)
    monkeypatch.setattr(text_index, "MAX_CHARACTERS", 30)
    assert {"name": "narration", "segments": 2, "has_boxes": False} in answer(
        client, f"video?uid={FIRST}"
    )["more"]


def test_hostile_texts_are_printable_and_bounded(client):
    [track] = answer(client, f"video?uid={SECOND}")["tracks"]
    hostile, long = (text for _, _, text in track["segments"])
    assert hostile == SHOWN_HOSTILE
    assert (long, len(long)) == (LONG[:2000], 2000)


def test_the_files_of_a_video_are_those_of_all_selected_datasets(client, published):
    found = answer(client, f"files?uid={FIRST}")
    path = f"{published.version}/full_scale/{FIRST}.mp4"
    assert found == [{"dataset": "full_scale", "path": path}]
    assert client.get("browse/api/files?uid=x").status == 404


def test_narrations_are_counted_in_the_order_of_the_catalogue(client):
    assert answer(client, "narrations") == [3, 2, 1]


KNIVES = ["#C C picks up the knife", "#C C holds a knife", "Where was the knife?"]
SEARCHES = {
    "knife": KNIVES,
    "KNIFE the": [KNIVES[0], KNIVES[2]],
    '"the knife" up': [KNIVES[0]],
    '"knife the"': [],
    "brea": ["#C C cuts bread"],
    "script alert": [SHOWN_HOSTILE],
    "knife OR bread": [],
    "knife*": KNIVES,
    'NEAR(a "': [],
    "text:knife ^ - + { } :": [],
    '"': [],
    "": [],
    "\0": [],
}


def test_a_search_finds_texts_with_all_words(browse, published):
    """The words of OTHER, which is not selected, are not found."""
    client, _ = browse(version=published.version, benchmarks=["nlq", "fho"])
    for words, found in SEARCHES.items():
        tracks = answer(client, f"search?q={quote(words)}")["tracks"]
        assert sorted(row[3] for rows in tracks.values() for row in rows) == sorted(found), words


@pytest.mark.parametrize(
    ("places", "found"),
    [("BA==", [2]), ("BQ==", [0, 2]), ("_w==", [0, 1, 2]), ("AA==", []), ("x", []), ("", [])],
)
def test_a_search_is_of_the_videos_at_places_of_the_catalogue(client, places, found):
    searched = [answer(client, f"search?q={word}&videos={places}") for word in ("knife", "alert")]
    rows = [row for one in searched for rows in one["tracks"].values() for row in rows]
    assert {row[0] for row in rows} == {(FIRST, SECOND, OTHER)[place] for place in found}


@pytest.mark.parametrize("name", ["narrations", "search?q=knife&videos=BA==", "status"])
def test_a_page_with_other_videos_is_told_so(browse, published, client, name):
    """Bits and places of a request are of the catalogue that its page has."""
    other, _ = browse(version=published.version, benchmarks=["fho"])
    ids = [answer(one, "catalogue")["id"] for one in (client, other)]
    assert ids[0] != ids[1]
    joined = "&" if "?" in name else "?"
    assert answer(client, f"{name}{joined}catalogue={ids[0]}") == answer(client, name)
    for stale in (ids[1], ""):
        found = client.get(f"browse/api/{name}{joined}catalogue={stale}")
        assert (found.status, b"load the page again" in found.body) == (409, True)


def test_a_catalogue_is_named_by_its_videos_in_their_order(browse, published):
    first, second = (browse(version=published.version)[0] for _ in range(2))
    assert answer(first, "catalogue")["id"] == answer(second, "catalogue")["id"]


def test_a_search_says_of_which_annotations_it_returns_only_the_first(client, monkeypatch):
    assert answer(client, "search?q=knife")["limited"] == []
    monkeypatch.setattr("ego4dfs.browse.pages.RESULTS", 1)
    found = answer(client, "search?q=knife")
    assert len(found["tracks"]) == 2
    assert found["limited"] == sorted(found["tracks"])
    assert all(len(rows) == 1 for rows in found["tracks"].values())


def test_a_selection_by_a_manifest_of_its_own_is_a_filter(browse, published, tmp_path):
    """No option of a mount selects its videos."""
    own = tmp_path / "own.csv"
    own.write_bytes(b"".join(row + b"\n" for row in manifest_of(published)[:2]))
    client, _ = browse(
        version=published.version,
        datasets=["full_scale"],
        manifest_override_path=str(own),
    )
    found = answer(client, "catalogue")
    assert (len(found["videos"]), found["is_filtered"]) == (1, True)


def manifest_of(published):
    """Return the rows of the manifest of the videos, with its header."""
    key = f"public/{published.version}/full_scale/manifest.csv"
    return obstore.get(published.server.store(SHARING), key).bytes().to_bytes().split(b"\n")


@pytest.mark.parametrize(
    ("time_s", "shown_s"),
    [(31 / 30, 1.034), (1.033, 1.033), (0.0, 0.0), (-0.1, 0.0), (7 / 3, 2.334)],
)
def test_a_link_leads_to_the_picture_at_its_time_and_not_to_the_one_before(time_s, shown_s):
    assert seconds(time_s) == shown_s


def test_an_index_outlives_errors_that_pass(browse, published, tmp_path, monkeypatch):
    client, _ = browse(version=published.version)
    files = kept(tmp_path, ".sqlite")
    with monkeypatch.context() as patch:

        def refuse(*_, **__):
            raise sqlite3.OperationalError("unable to open database file")

        patch.setattr("ego4dfs.browse.text_index.sqlite.connect", refuse)
        assert answer(client, "search?q=knife")["tracks"] == {}
    assert kept(tmp_path, ".sqlite") == files
    assert len(answer(client, "search?q=knife")["tracks"]) == 3


def test_annotations_that_are_not_selected_are_not_read(browse, published):
    client, _ = browse(version=published.version, datasets=["full_scale"])
    assert answer(client, "status")["annotations"] == []
    client, _ = browse(version=published.version, annotations=["nlq"])
    assert [one["name"] for one in answer(client, "status")["annotations"]] == ["nlq_train"]


def test_the_status_says_what_was_read_and_why_not(client):
    found = answer(client, "status")
    states = {one["name"]: (one["state"], one["problem"]) for one in found["annotations"]}
    assert states["narration"] == states["nlq_train"] == ("ready", "")
    assert states["taxonomy"] == ("failed", "it has no windows")
    assert all(one["read_bytes"] == one["bytes"] > 0 for one in found["annotations"])
    assert found["bytes_fetched"] > 0


def test_an_index_is_made_once_for_its_etag(browse, published, tmp_path):
    browse(version=published.version)
    files = kept(tmp_path, ".sqlite")
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 2
    assert kept(tmp_path, ".part") == []
    made = [file.stat().st_mtime_ns for file in files]
    client, _ = browse(version=published.version)
    assert [file.stat().st_mtime_ns for file in files] == made
    assert answer(client, "narrations") == [3, 2, 1]


def test_the_index_of_a_replaced_annotation_is_replaced(browse, published, tmp_path):
    browse(version=published.version)
    before = set(kept(tmp_path, ".sqlite"))
    replaced = {FIRST: {"narration_pass_1": narrated((1, "z"))}}
    published.put("narration.json", json.dumps(replaced).encode())
    forget_facts(tmp_path)
    client, _ = browse(version=published.version)
    assert answer(client, "narrations") == [1, 0, 0]
    after = set(kept(tmp_path, ".sqlite"))
    assert (len(after), len(after & before)) == (2, 1)


def test_an_index_that_was_damaged_before_the_start_is_made_again(browse, published, tmp_path):
    browse(version=published.version)
    for file in kept(tmp_path, ".sqlite"):
        file.write_bytes(b"x" * 100)
    client, _ = browse(version=published.version)
    assert len(answer(client, "search?q=knife")["tracks"]) == 3
    assert answer(client, "narrations") == [3, 2, 1]


def test_without_the_token_nothing_is_shown(client):
    for target in ("/browse/", "/browse/api/catalogue", f"/{BASE}x/browse/grid.js"):
        found = client.raw(target)
        assert (found.status, b"that ego4dfs has printed" in found.body) == (403, True)
        assert client.raw(target, method="POST").status == 403


def test_a_page_may_load_from_its_server_only(client):
    for name in ("", "video.html", "grid.js", "style.css", "icon.svg"):
        found = client.get(f"browse/{name}")
        policy = found.headers.get_all("Content-Security-Policy")
        assert (found.status, len(policy)) == (200, 1)
        assert policy[0].startswith("default-src 'self'; base-uri 'none'")
        assert "unsafe" not in policy[0]
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert found.headers["Referrer-Policy"] == "no-referrer"
    assert client.get("browse/grid.js").headers["Content-Type"].startswith("text/javascript")
    assert client.get("browse/").headers["Content-Type"].startswith("text/html")


def test_the_tree_is_beside_the_pages(client, published):
    assert client.get("browse").headers["Location"] == f"/{BASE}/browse/"
    found = client.get(f"{published.version}/full_scale/{FIRST}.mp4", Range="bytes=0-9")
    assert (found.status, len(found.body)) == (206, 10)
    assert client.get("").headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_nothing_else_is_a_page(client):
    names = ("x", "api", "api/", "api/x", "../pages.py", "%2e%2e/pages.py", "__init__.py", "%00")
    for name in names:
        assert client.get(f"browse/{name}").status == 404, name
    assert client.get("browse/", method="POST").status == 405


def test_pages_have_no_inline_code_and_no_markup_from_texts():
    assert {file.name.rpartition(".")[2] for file in STATIC} == {"html", "js", "css", "svg"}
    for file in STATIC:
        text = file.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), file
        if file.name.endswith(".html"):
            assert not re.search(
                r'\son\w+=|style=|javascript:|<style|<script(?! type="module" src=")', text
            )


def test_answers_are_compressed_for_those_who_ask(client):
    plain = client.get("browse/api/catalogue")
    packed = client.get("browse/api/catalogue", Accept_Encoding="gzip, br")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        *(("gzip;q=0", False), ("gzip; q=0.0, *", False), ("br", False), ("", False)),
        *(("GZIP;q=0.1", True), ("br, *;q=0.5", True), ("*;q=0", False), ("gzip;q=x", False)),
    ],
)
def test_gzip_is_sent_to_those_who_accept_it_only(client, accepted, is_packed):
    found = client.get("browse/api/mounts", Accept_Encoding=accepted)
    assert ("Content-Encoding" in found.headers, found.headers["Vary"]) == (
        is_packed,
        "Accept-Encoding",
    )


def test_a_video_of_a_throttled_store_is_to_be_asked_for_again(
    browse, published, gateway, no_retry_waits, monkeypatch
):
    limits = RetryPolicy(max_attempts=2, timeout_s=20.0, throttled_s=0.1)
    monkeypatch.setattr(resilient, "OBJECTS", limits)
    client, _ = browse(version=published.version, endpoint_url=gateway.url)
    assert answer(client, "catalogue")["videos"]
    gateway.faults.slow_down_every = 1
    found = client.get(f"browse/media?uid={FIRST}", Range="bytes=0-")
    assert (found.status, found.headers["Retry-After"]) == (503, "10")
    assert b"503" in found.body
    assert answer(client, "catalogue")["videos"]  # nothing of it waits for the store
    gateway.reset()
    found = client.get(f"browse/media?uid={FIRST}", Range="bytes=0-9")
    assert (found.status, len(found.body)) == (206, 10)


LARGE = seeded("media", 6 << 20)


def test_a_player_gets_a_part_of_what_it_asks_for_and_no_more_is_fetched(browse, release):
    """Players ask for all that follows, and stop reading when they have enough."""
    url = release.put("video", LARGE)
    release.manifest("full_scale", f"video_uid,canonical_s3_location\n{FIRST},{url}\n")
    release.metadata(b"{}")
    client, vfs = browse(version=release.version, datasets=["full_scale"])
    before = vfs.session.metrics.snapshot()["bytes_fetched"]
    found = client.get(f"browse/media?uid={FIRST}", Range="bytes=1000000-")
    stop = 5 * PART_SIZE  # the end of the part in which it would be short
    assert (found.status, found.body) == (206, LARGE[1_000_000:stop])
    assert found.headers["Content-Range"] == f"bytes 1000000-{stop - 1}/{len(LARGE)}"
    assert found.headers["Content-Type"] == "video/mp4"
    fetched = vfs.session.metrics.snapshot()["bytes_fetched"] - before
    assert fetched <= 6 * PART_SIZE  # of the 5 MiB that follow
    etag = found.headers["ETag"]
    head = client.get(f"browse/media?uid={FIRST}", method="HEAD")
    assert (head.status, head.headers["ETag"]) == (200, etag)
    assert head.headers["Content-Length"] == str(len(LARGE))
    for given, body in [("bytes=5-7", LARGE[5:8]), ("bytes=-4", LARGE[-4:]), ("x", LARGE)]:
        assert client.get(f"browse/media?uid={FIRST}", Range=given).body == body
    after = client.get(f"browse/media?uid={FIRST}", Range=f"bytes={len(LARGE)}-")
    assert after.status == 416
    assert client.get(f"browse/media?uid={SECOND}").status == 404


def test_the_start_of_a_video_is_fetched_once_and_nothing_is_read_ahead(browse, release):
    """The first request brings two parts; the search of the index reads in the first one."""
    url = release.put("video", media.box("ftyp", bytes(8)) + media.box("free", LARGE))
    release.manifest("full_scale", f"video_uid,canonical_s3_location\n{FIRST},{url}\n")
    release.metadata(b"{}")
    client, vfs = browse(version=release.version, datasets=["full_scale"])
    answer(client, "catalogue")
    for fetched in (2 * PART_SIZE, 0):
        before = vfs.session.metrics.snapshot()["bytes_fetched"]
        found = client.get(f"browse/media?uid={FIRST}", Range="bytes=0-")
        assert (found.status, len(found.body)) == (206, PART_SIZE)
        assert vfs.session.metrics.snapshot()["bytes_fetched"] - before == fetched


def test_a_poster_is_the_first_picture_of_the_video(client):
    found = client.get(f"browse/api/poster?uid={FIRST}")
    assert (found.status, found.headers["Content-Type"]) == (200, "image/jpeg")
    assert "private" in found.headers["Cache-Control"]
    with av.open(io.BytesIO(found.body), format="jpeg_pipe") as picture:
        frame = next(picture.decode(video=0))
    assert (frame.width, frame.height) == (64, 48)


def test_a_poster_is_made_once(client, opened, monkeypatch):
    first = client.get(f"browse/api/poster?uid={FIRST}").body
    monkeypatch.setattr(posters, "first_picture", None)
    assert client.get(f"browse/api/poster?uid={FIRST}").body == first


def test_a_video_without_a_poster_has_an_empty_answer(client, monkeypatch):
    assert client.get(f"browse/api/poster?uid={OTHER}").status == 204
    assert client.get("browse/api/poster?uid=x").status == 204
    monkeypatch.setattr(posters, "find_spec", lambda _: None)  # without PyAV
    found = client.get(f"browse/api/poster?uid={SECOND}")
    assert (found.status, found.body) == (204, b"")


def test_a_poster_is_the_preview_of_viz_if_there_is_one(browse, published):
    published.dataset(
        "viz", {f"{FIRST}_small.jpg": b"a JPEG", f"{SECOND}_small.jpg": bytes(2 << 20)}
    )
    client, vfs = browse(version=published.version, datasets=["full_scale", "viz"])
    before = vfs.session.metrics.snapshot()["bytes_fetched"]
    assert client.get(f"browse/api/poster?uid={FIRST}").body == b"a JPEG"
    assert vfs.session.metrics.snapshot()["bytes_fetched"] - before < 1000
    assert client.get(f"browse/api/poster?uid={SECOND}").body.startswith(b"\xff\xd8")  # too large


def test_the_mounts_are_those_of_the_caller(client):
    assert answer(client, "mounts") == MOUNTS


def test_a_client_that_leaves_ends_nothing(client):
    with closing(http.client.HTTPConnection("127.0.0.1", client.port)) as connection:
        connection.request("GET", f"{client.base}browse/api/catalogue")
    assert answer(client, "catalogue")["videos"]
