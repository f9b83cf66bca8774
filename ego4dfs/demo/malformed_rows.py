"""Malformed manifest rows as they occur at Ego4D, for tests: `add_malformed_rows` lists them."""

from __future__ import annotations

from ego4dfs.demo.clean_release import SampleMedia, full_scale_row
from ego4dfs.demo.release import FULL_SCALE_HEADER, Release
from ego4dfs.demo.videos import CONSORTIUM

VERSION = "v2_1"
_VIDEO_HEADER = ("video_uid", "type", "s3_path", "benchmarks")
_FILE_HEADER = ("file_uid", "annotation", "type", "canonical_s3_location")
_PREFIX = f"s3://{CONSORTIUM}/public/{VERSION}"
_ODD_CELLS = ("", "[]", "[FHO |EM]", "[ EM]", "em")


def add_malformed_rows(release: Release, made: SampleMedia) -> frozenset[str]:
    """Add malformed rows to v2_1 and return the locations that are listed but absent.

    | Dataset            | What is wrong                                                         |
    |--------------------|-----------------------------------------------------------------------|
    | full_scale         | one more row, whose uid is `grp-<uuid>`                               |
    | components/videos  | benchmarks cells ``""``, `[]`, `[FHO |EM]`, `[ EM]`, `em`;            |
    |                    | an empty s3_path; a uid in two rows; an upper-case uid;               |
    |                    | a listed but absent object                                            |
    | 3d_scans           | the same basename under two prefixes, with other bytes                |
    | av_models          | two files with the same stem: model.json and model.csv                |
    | lta_models         | a file whose key has no extension                                     |
    | moments_models     | manifest with CRLF line ends                                          |
    | nlq_models         | manifest that begins with a byte order mark                           |
    | paco_frames        | keys with a space, `+`, `#` and letters beyond ASCII; an empty object |
    | social_test        | a row too short by two cells and a row too long by one                |

    social_test has a correct row, too. Its short row names no object; its long row names an
    existing one before the surplus cell.
    """
    _add_group(release, made)
    absent = _add_components(release, made)
    _add_names(release, made)
    for dataset, line_end, encoding in (
        ("moments_models", "\r\n", "utf-8"),
        ("nlq_models", "\n", "utf-8-sig"),
    ):
        _add_files(release, made, dataset, {"model.ckpt": dataset.encode()})
        manifest = release.manifests[VERSION, dataset]
        manifest.line_end, manifest.encoding = line_end, encoding
    _add_files(release, made, "social_test", {"good.json": b"{}", "long.json": b"[]"})
    lines = release.manifests[VERSION, "social_test"].lines
    lines[1].append("surplus")
    lines.append([made.uids.take(), "short"])
    return absent


def _add_group(release: Release, made: SampleMedia) -> None:
    video = made.videos[-1]
    uid = f"grp-{made.uids.take()}"
    where = f"s3://{CONSORTIUM}/public/v2/full_scale/{uid}"
    row = full_scale_row(video, VERSION) | {"video_uid": uid, "canonical_s3_location": where}
    release.add_video(VERSION, "full_scale", FULL_SCALE_HEADER, row, made.media[video.media])


def _add_components(release: Release, made: SampleMedia) -> frozenset[str]:
    uids = [made.uids.take() for _ in range(8)]
    uids[6] = uids[6].upper()
    cells = [*_ODD_CELLS, "[EM]", "[EM|MQ|VQ]", "[AV]"]
    file = made.media[made.clips[0].small]
    dataset = "components/videos"
    for uid, benchmarks in zip(uids, cells, strict=True):
        row = {
            "video_uid": uid,
            "type": "mp4",
            "s3_path": f"{_PREFIX}/{dataset}/{uid}.mp4",
            "benchmarks": benchmarks,
        }
        release.add_video(VERSION, dataset, _VIDEO_HEADER, row, file)
    manifest = release.manifests[VERSION, dataset]
    manifest.lines.append(manifest.lines[0])
    manifest.rows.append(manifest.rows[0])
    manifest.add({"video_uid": made.uids.take(), "type": "mp4", "benchmarks": "[EM]"}, "")
    absent = manifest.rows[7].location
    del release.objects[absent]
    return frozenset({absent})


def _add_names(release: Release, made: SampleMedia) -> None:
    _add_files(release, made, "3d_scans", {"a/scan.tar": b"first", "b/scan.tar": b"second"})
    _add_files(release, made, "av_models", {"model.json": b"{}", "model.csv": b"a,b\n"})
    _add_files(release, made, "lta_models", {"checkpoint": b"weights"})
    frames = {
        "a frame.jpg": b"space",
        "a+frame.jpg": b"plus",
        "a#frame.jpg": b"hash",
        "tr\u00e4umerei_\u4e2d\u6587.jpg": b"letters",
        "empty.jpg": b"",
    }
    _add_files(release, made, "paco_frames", frames)


def _add_files(release: Release, made: SampleMedia, dataset: str, files: dict[str, bytes]) -> None:
    located = {
        f"{_PREFIX}/{dataset}/{name}": (made.uids.take(), content)
        for name, content in files.items()
    }
    release.add_files(VERSION, dataset, _FILE_HEADER, located)
