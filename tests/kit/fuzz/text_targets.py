"""Targets: manifests, the official tool's manifest.ver, and files that uids are read from."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from hypothesis import strategies as st

from ego4dfs.catalog.uids import CLIP_KEYS, VIDEO_KEYS, uids_in
from ego4dfs.copies.manifest_ver import Row, VersionFile
from ego4dfs.copies.manifest_ver import parse as parse_rows
from ego4dfs.errors import ManifestError
from ego4dfs.manifest import RESERVED_NAMES, parse
from ego4dfs.manifest.header import read_header
from kit.fuzz.inputs import damaged, texts
from kit.fuzz.target import Target, assert_clear

UID = "0a2b4c5d-8e6f-4123-8456-0123456789ab"
_URL = re.compile(r"s3://[^/\s]+/.*[^/]", re.DOTALL)
_MANIFEST = (
    "video_uid,type,s3_path,benchmarks,parent_video_uid,split_fho,parent_start_sec,parent_end_sec\n"
    f"{UID},mp4,s3://ego4d-cmu/a/{UID},[FHO|EM],,train,,\n"
    f'b,file,s3://b/b.pt,"[x, ""y""\nz]",{UID},val,1.5,2\n'
    "c,mp4,s3://b/c.mp4,[],,,0,\n"
    "c,mp4,s3://b/2/c.mp4,[],,,,\n"
).encode()
_PIECES = (
    *(
        "\n",
        "\r\n",
        "\r",
        ",",
        ",,,",
        '"',
        '""',
        '","',
        "\0",
        "\ufeff",
        " ",
        "\t",
        "\x85",
        "\u2028",
    ),
    *("video_uid", "file_uid", "s3_path", "type", "path", "benchmarks", "split_em", "annotation"),
    *("video_uid,s3_path\n", "file_uid,type,path\n", "parent_start_sec", "[EM|MQ]", "mp4", "file"),
    *(
        "s3://b/k",
        "s3://b/dir/k.mp4",
        "s3://b/",
        "s3://",
        "/",
        "..",
        "manifest.csv",
        UID,
        "x" * 300,
    ),
    *("a,s3://b/a\n", 'a,"s3://b/a\n', "a,s3://b/a~2\n", "é", "1e5", "2.5"),
)
_VERSIONS = f"uid,version,filename\r\n{UID},v1,{UID}.mp4\r\nb,,b.mp4\r\nc\r\n".encode()
_VERSION_PIECES = (
    *("\n", "\r\n", "\r", ",", '"', '""', "\0", "\ufeff", "uid", "version", "filename", "\udcff"),
    *("uid,version,filename\r\n", "filename,uid,version\r\n", "uid,filename,version\n"),
    *("a,v1,a.mp4\r\n", "a\r\n", "b,,b.mp4\r\n", "null", UID, "é"),
)
_UID_PIECES = (
    *('{"', '": {', '"video_uid": "', '"clip_uid":"', '"parent_video_uid" : "', '", ', '"}', "]"),
    *("[", "{", "}", "\n", "\n\n\n", " ", ",", '"', "\\", "\ufeff", "_uid", "other_", UID, "grp-"),
    *("video_uid,clip_uid\n", "a,b\n", "video_uid", "exported_clip_uid", f'"{UID}": {{'),
)


def _check_manifest(content: bytes, _: Path) -> None:
    """Names are unique and safe, and each row is shown or reported."""
    try:
        manifest = parse(content, "t")
    except ManifestError as error:
        assert_clear(error)
        return
    names = [entry.name for entry in manifest.entries]
    assert len(set(names)) == len(names)
    for entry in manifest.entries if len(names) < 1000 else ():
        assert entry.name not in (*RESERVED_NAMES, "", ".", "..")
        assert not set(entry.name) & set("/\0")
        assert len(entry.name.encode()) <= 255
        assert _URL.fullmatch(entry.url)
        assert manifest.entries.url_of(entry.name) == entry.url
    reported = {problem.row for problem in manifest.problems}
    if manifest.problem_count == len(manifest.problems):
        rows = {row.number for row in read_header(content, "t")[1]}
        assert rows <= reported | {entry.row for entry in manifest.entries}


def _check_version_file(content: bytes, directory: Path) -> None:
    """What could be read is still there after a row was added, in a file without damage."""
    rows, _ = parse_rows(content)
    for row in rows:
        assert all(isinstance(value, (str, type(None))) for value in row.fields)
    (directory / "manifest.ver").write_bytes(content)
    versions = VersionFile(directory)
    assert {row.uid for row in versions.all()} == {row.uid for row in rows} - {""}
    versions.put("another", "v9", "another.mp4")
    assert versions.save() or versions.get("another", "another.mp4") is not None
    written, damage = parse_rows((directory / "manifest.ver").read_bytes())
    assert not damage or not versions.all()
    assert [row.fields for row in written] == [row.fields for row in versions.all()]
    assert Row("another", "v9", "another.mp4") in written


def _check_uids(value: tuple[bytes, list[int]], _: Path) -> None:
    """The uids do not depend on how the file arrives in chunks."""
    content, sizes = value
    whole = uids_in([content])
    assert "" not in whole.videos | whole.clips
    assert uids_in(chunks_of(content, sizes)) == whole


def chunks_of(content: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Yield the content in chunks of these sizes, and the rest in large ones."""
    start = 0
    for size in itertools.chain(sizes, itertools.repeat(LARGEST_CHUNK)):
        if start >= len(content):
            return
        yield content[start : start + size]
        start += size


LARGEST_CHUNK = 4 << 20


def _check_annotation(document: object, _: Path) -> None:
    """All uids of a JSON document are found, and nothing else."""
    wanted: tuple[set[str], set[str]] = set(), set()
    _collect(document, *wanted)
    found = uids_in([json.dumps(document).encode()])
    if isinstance(document, (dict, list)):
        assert (found.videos, found.clips) == wanted


def _collect(document: object, videos: set[str], clips: set[str]) -> None:
    if isinstance(document, list):
        for item in document:
            _collect(item, videos, clips)
    elif isinstance(document, dict):
        for key, item in document.items():
            if isinstance(item, str) and 0 < len(item.strip()) <= 128:
                (videos if key in VIDEO_KEYS else clips if key in CLIP_KEYS else set()).add(
                    item.strip().lower()
                )
            if isinstance(item, dict) and _UID.fullmatch(key):
                videos.add(key.lower())
            _collect(item, videos, clips)


_UID = re.compile(r"(grp-)?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NAMES = st.one_of(
    st.sampled_from(
        [*VIDEO_KEYS, *CLIP_KEYS, "x_video_uid", "uid", "clip_uids", UID, f"grp-{UID}"]
    ),
    st.text("ab_", max_size=4),
)
_WORDS = st.one_of(st.uuids().map(str), st.text("abc: {}[],", max_size=140), st.integers())
_ANNOTATIONS = st.recursive(
    _WORDS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_NAMES, inner, max_size=4)
    ),
    max_leaves=20,
)
_SIZES = st.lists(st.integers(1, 40), max_size=30)

TARGETS = (
    Target("manifest", st.one_of(texts(*_PIECES), damaged(_MANIFEST)), _check_manifest, 100),
    Target(
        "manifest.ver", st.one_of(texts(*_VERSION_PIECES), damaged(_VERSIONS)), _check_version_file
    ),
    Target("uids", st.tuples(texts(*_UID_PIECES), _SIZES), _check_uids),
    Target("annotations", _ANNOTATIONS, _check_annotation),
)
