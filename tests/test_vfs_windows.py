"""Windows of videos as files of the tree: the bytes of `clip`, few requests, and their errors."""

from __future__ import annotations

import io
import random
from concurrent.futures import ThreadPoolExecutor

import av
import fsspec
import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.cli import main
from ego4dfs.errors import (
    AccessDenied,
    NotFound,
    ObjectChanged,
    ObjectMissing,
    StoreUnavailable,
)
from ego4dfs.reader import GROUP_REQUEST_BYTES
from ego4dfs.vfs import VFS
from kit import media
from kit.data import seeded
from kit.gateway import Gateway

NAMES = {"aaaa": "index in front", "bbbb": "index at the end", "dddd": "pictures begin later"}
LONG = "eeee"


@pytest.fixture(scope="module")
def long_video() -> bytes:
    return media.long_video(60, 1)


@pytest.fixture
def gateway(server, licensee, monkeypatch):
    """A gateway between the tree and the server."""
    with Gateway(server.endpoint_url) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        yield between


@pytest.fixture
def published(release, long_video):
    files = {f"{name}.mp4": media.form(form) for name, form in NAMES.items()}
    files |= {f"{LONG}.mp4": long_video, "ffff.mp4": media.encode(movflags="+frag_keyframe")}
    release.dataset("full_scale", files | {"gggg.mp4": seeded("no video", 1000)})
    release.dataset("video_540ss", {"aaaa.mp4": media.form("no sound")})
    release.dataset("clips", {"cccc.mp4": media.form("vp9")})
    return release


@pytest.fixture
def vfs(open_tree, published) -> VFS:
    return open_tree(version=published.version, datasets=["full_scale"], metadata=False)


def path_of(uid: str, name: str) -> str:
    return f".ego4dfs/windows/{uid}/{name}"


def content(vfs: VFS, uid: str, name: str) -> bytes:
    """Read a window as whole-file readers do: from its start to its end, in small reads."""
    handle = vfs.open(path_of(uid, name))
    step = 32 << 10
    return b"".join(vfs.read(handle, offset, step) for offset in range(0, handle.size, step))


def gets(vfs: VFS) -> int:
    return int(vfs.session.metrics.requests["get"])


@pytest.mark.parametrize("uid", [*NAMES, LONG])
@pytest.mark.parametrize("times", ["1-2", "1.25-3.5"])
def test_it_has_the_bytes_that_clip_writes(vfs, published, uid, times, tmp_path, capsys):
    file = tmp_path / "clip.mp4"
    words = ["--version", published.version, "-o", str(file)]
    assert main(["clip", uid, *times.split("-"), *words]) == 0, capsys.readouterr().err
    assert content(vfs, uid, f"{times}.mp4") == file.read_bytes()
    fs = fsspec.filesystem(
        "ego4d", version=published.version, datasets=["full_scale"], skip_instance_cache=True
    )
    with fs.open(path_of(uid, f"{times}.mp4")) as opened:
        assert opened.read() == file.read_bytes()
    assert fs.info(path_of(uid, f"{times}.mp4"))["size"] == file.stat().st_size
    fs.close()


def pictures(data: bytes) -> list[tuple[float, bytes]]:
    with av.open(io.BytesIO(data)) as container:
        return [(frame.time, frame.to_ndarray().tobytes()) for frame in container.decode(video=0)]


@pytest.mark.parametrize("uid", NAMES)
def test_a_decoder_finds_the_pictures_of_the_whole_video(vfs, uid):
    rng, whole = random.Random(uid), pictures(media.form(NAMES[uid]))
    first = whole[0][0]
    for _ in range(8):
        start = rng.randrange(round(first * 1000), 3000)
        end = start + rng.randrange(100, 1000)
        found = pictures(content(vfs, uid, f"{start / 1000}-{end / 1000}.mp4"))
        assert [picture for _, picture in found] == [
            picture for time, picture in whole if start / 1000 - 1e-4 <= time < end / 1000 - 1e-4
        ]


def test_a_cold_window_costs_one_request_after_the_index_and_little_more_than_it_needs(
    vfs, long_video
):
    assert content(vfs, LONG, "20-22.mp4")
    # Pictures of a GOP of 4 s, and 2 s, in requests at once; the index is in front or at the end.
    needed = vfs.stat(path_of(LONG, "20-22.mp4")).size
    requests = -(-needed // GROUP_REQUEST_BYTES) + 1
    assert gets(vfs) <= 2 + requests
    assert vfs.session.metrics.requests["head"] == 0
    fetched = vfs.session.metrics.bytes_fetched
    assert fetched <= needed + BLOCK_SIZE + 9 * PART_SIZE + 2 * PART_SIZE
    before = gets(vfs)
    windows = [f"{start}-{start + 2}.mp4" for start in (1, 8, 33, 50)]
    for name in windows:
        needed += vfs.stat(path_of(LONG, name)).size
        assert content(vfs, LONG, name)
    assert gets(vfs) - before <= requests * len(windows)
    assert vfs.session.metrics.bytes_fetched - BLOCK_SIZE - 9 * PART_SIZE <= 1.5 * needed
    assert needed < len(long_video) / 2


def test_a_second_open_fetches_nothing_and_parses_nothing(vfs, monkeypatch):
    first = content(vfs, LONG, "20-22.mp4")
    before = vfs.session.metrics.snapshot()["requests"]
    monkeypatch.setattr("ego4dfs.media.find_index", None)
    monkeypatch.setattr("ego4dfs.media.cut_inside", None)
    assert content(vfs, LONG, "20-22.mp4") == first
    assert vfs.stat(path_of(LONG, "20.0-22.mp4")).size == len(first)
    assert vfs.session.metrics.snapshot()["requests"] == before


def test_concurrent_opens_fetch_each_byte_once(vfs):
    names = [f"{start}-{start + 2}.mp4" for start in (5, 6, 7, 8)] * 4
    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(lambda name: content(vfs, LONG, name), names))
    for name, data in zip(names, found, strict=True):
        assert data == content(vfs, LONG, name)
    distinct = vfs.session.metrics.bytes_fetched
    assert distinct <= sum(map(len, found[:4])) + BLOCK_SIZE + 11 * PART_SIZE


def test_no_listing_shows_windows_and_directories_have_attributes(vfs):
    for directory in (".ego4dfs", ".ego4dfs/windows", ".ego4dfs/windows/aaaa"):
        assert vfs.stat(directory).is_dir
        assert vfs.listdir(directory) == []
    assert ".ego4dfs" not in [entry.name for entry in vfs.listdir("")]
    with pytest.raises(IsADirectoryError):
        vfs.open(".ego4dfs/windows/aaaa")
    with pytest.raises(NotADirectoryError):
        vfs.stat(path_of("aaaa", "1-2.mp4/x"))


def test_attributes_are_those_of_the_video_except_for_the_size(vfs, published):
    found = vfs.stat(path_of("aaaa", "1-2.mp4"))
    video = vfs.stat(f"{published.version}/full_scale/aaaa.mp4")
    assert (found.mtime_ns, found.is_dir, found.is_known) == (video.mtime_ns, False, True)
    assert found.inode == vfs.stat(path_of("aaaa", "1-2.mp4")).inode != video.inode


def test_times_have_the_forms_of_clip(vfs):
    names = ["1-2.5.mp4", "1.0-2.50.mp4", "0:01-0:02.5.mp4", "00:00:01-00:00:02.5.mp4"]
    assert len({content(vfs, "aaaa", name) for name in names}) == 1


@pytest.mark.parametrize(
    ("uid", "name", "reason"),
    [
        ("zzzz", "1-2.mp4", "no video zzzz in full_scale"),
        ("cccc", "1-2.mp4", "no video cccc in full_scale"),
        ("aaaa.mp4", "1-2.mp4", "no video aaaa.mp4 in"),
        ("aaaa", "1-2", "it is not the name of a window; write it like 600-602.mp4"),
        ("aaaa", "12.mp4", "it is not the name of a window"),
        ("aaaa", "1-2-3.mp4", "its end: '2-3' is not a time"),
        ("aaaa", " 1 - 2 .mp4", "it is not the name of a window"),
        ("aaaa", "x-2.mp4", "its start: 'x' is not a time"),
        ("aaaa", "nan-2.mp4", "its start: 'nan' is not a time"),
        ("aaaa", "2-1.mp4", "2.0 s to 1.0 s is not a window"),
        ("aaaa", "2-2.mp4", "2.0 s to 2.0 s is not a window"),
        ("aaaa", "4.1-4.2.mp4", "it starts after the end of the video, 4.000 s"),
        ("aaaa", "1-600.mp4", "it ends after the end of the video, 4.000 s"),
        ("dddd", "0-0.5.mp4", "it ends before the first picture"),
        ("ffff", "1-2.mp4", "full_scale/ffff.mp4 has no usable index: it is fragmented"),
        ("gggg", "1-2.mp4", "full_scale/gggg.mp4 has no usable index"),
    ],
)
def test_what_is_no_window_does_not_exist_and_the_status_says_why(vfs, uid, name, reason):
    for attempt in (vfs.stat, vfs.open):
        with pytest.raises(NotFound) as caught:
            attempt(path_of(uid, name))
        assert reason in str(caught.value)
        assert str(caught.value).startswith(f".ego4dfs/windows/{uid}")
    assert vfs.status()["last_error"] == str(caught.value)
    assert vfs.status()["errors"] == 2


def test_other_names_in_the_hidden_directory_do_not_exist(vfs):
    names = ("x", "status.json", "windowsx/aaaa", "windows/.git", "windows/aaaa/.Trash-0")
    for path in (f".ego4dfs/{name}" for name in names):
        with pytest.raises(NotFound):
            vfs.stat(path)
    assert vfs.status()["errors"] == 0


@pytest.mark.parametrize(
    ("datasets", "uid", "dataset", "name"),
    [
        ([], "aaaa", "full_scale", "index in front"),
        ([], "cccc", "clips", "vp9"),
        (["clips"], "cccc", "clips", "vp9"),
        (["full_scale", "video_540ss"], "aaaa", "full_scale", "index in front"),
        (["video_540ss", "full_scale"], "aaaa", "video_540ss", "no sound"),
        (["video_540ss", "full_scale"], "bbbb", "full_scale", "index at the end"),
    ],
)
def test_the_first_dataset_that_has_the_uid_counts(
    open_tree, published, datasets, uid, dataset, name
):
    published.dataset("annotations", {"a.json": b"{}"})
    vfs = open_tree(version=published.version, datasets=datasets, metadata=False)
    node = vfs.resolve(path_of(uid, "1-2.mp4"))
    assert node.video == f"{published.version}/{dataset}/{uid}.mp4"
    found = pictures(content(vfs, uid, "1-2.mp4"))
    whole = pictures(media.form(name))
    assert [p for _, p in found] == [p for time, p in whole if 1 <= time < 2]


def test_a_filter_leaves_out_the_windows_of_other_videos(open_tree, published):
    vfs = open_tree(version=published.version, datasets=["full_scale"], video_uids=["aaaa"])
    assert content(vfs, "aaaa", "1-2.mp4")
    with pytest.raises(NotFound, match="no video bbbb"):
        vfs.stat(path_of("bbbb", "1-2.mp4"))


def test_a_replaced_video_is_an_error_for_open_windows_and_new_for_the_next_open(vfs, published):
    handle = vfs.open(path_of("eeee", "20-22.mp4"))
    published.put("full_scale/eeee.mp4", media.form("index in front"))
    with pytest.raises(ObjectChanged):
        vfs.read(handle, 0, handle.size)
    with pytest.raises(NotFound, match="after the end"):
        vfs.open(path_of("eeee", "20-22.mp4"))
    found = [p for _, p in pictures(content(vfs, "eeee", "1-2.mp4"))]
    assert found == [p for t, p in pictures(media.form("index in front")) if 1 <= t < 2]


def test_a_video_that_was_replaced_before_its_index_is_read_is_opened_again(vfs, published):
    path = f"{published.version}/full_scale/eeee.mp4"
    vfs.stat(path)
    published.put("full_scale/eeee.mp4", media.form("index in front"))
    assert content(vfs, "eeee", "1-2.mp4")


def test_without_a_connection_what_was_read_is_served_and_the_rest_is_a_store_error(
    gateway, open_tree, published
):
    vfs = open_tree(version=published.version, datasets=["full_scale"], metadata=False)
    data = content(vfs, LONG, "20-22.mp4")
    gateway.stop()
    assert content(vfs, LONG, "20-22.mp4") == data
    assert vfs.stat(path_of(LONG, "40-42.mp4")).size
    with pytest.raises(StoreUnavailable):
        content(vfs, LONG, "40-42.mp4")
    with pytest.raises(StoreUnavailable):
        vfs.stat(path_of("aaaa", "1-2.mp4"))
    gateway.start()


@pytest.mark.parametrize(("hidden", "kind"), [(True, AccessDenied), (False, ObjectMissing)])
def test_a_refused_video_has_the_error_of_the_video(gateway, open_tree, release, hidden, kind):
    gateway.faults.hide_missing = hidden
    rows = f"video_uid,type,s3_path\naaaa,file,{release.url('full_scale/aaaa.mp4')}\n"
    release.manifest("full_scale", rows)
    vfs = open_tree(version=release.version, datasets=["full_scale"], metadata=False)
    for attempt in (vfs.stat, vfs.open):
        with pytest.raises(kind):
            attempt(path_of("aaaa", "1-2.mp4"))


def test_a_dataset_that_is_refused_is_an_error_only_if_no_other_has_the_video(
    gateway, open_tree, release
):
    gateway.faults.hide_missing = True
    release.dataset("clips", {"cccc.mp4": media.form("vp9")})
    release.dataset("annotations", {"a.json": b"{}"})
    release.metadata(b"{}")
    vfs = open_tree(version=release.version)
    assert content(vfs, "cccc", "1-2.mp4")
    with pytest.raises(AccessDenied, match="full_scale"):
        vfs.stat(path_of("aaaa", "1-2.mp4"))


def test_a_window_of_a_copy_requests_nothing(gateway, open_tree, published, tmp_path):
    words = ["--version", published.version, "--datasets", "full_scale", "-o", str(tmp_path / "c")]
    assert main(["prefetch", "-y", "--no-metadata", "--video_uids", LONG, *words]) == 0
    options = {"version": published.version, "datasets": ["full_scale"], "metadata": False}
    vfs = open_tree(**options, copies=tmp_path / "c")
    copied = content(vfs, LONG, "20-22.mp4")
    assert vfs.session.metrics.bytes_fetched == 0
    assert copied == content(open_tree(**options), LONG, "20-22.mp4")
