"""What users of fsspec call, beyond the contract of the tree."""

from __future__ import annotations

import errno
import inspect
import io
import os
import pickle

import fsspec
import pandas as pd
import pytest
from fsspec import AbstractFileSystem

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.config import KEYS
from ego4dfs.errors import ConfigError
from ego4dfs.filesystem import Ego4DFileSystem
from kit.data import seeded

FILES = {
    "table.csv": b"a,b\n1,2\n3,4\n",
    "large.pt": seeded("fsspec", 2 * BLOCK_SIZE + 99),
    "other.pt": b"other",
    "empty.json": b"",
}


@pytest.fixture
def options(licensee, release) -> dict[str, object]:
    release.dataset("annotations", FILES)
    release.metadata(b"{}")
    return {"version": release.version, "datasets": ["annotations"]}


@pytest.fixture
def fs(open_fs, options):
    return open_fs(**options)


@pytest.fixture
def top(release) -> str:
    return f"{release.version}/annotations"


def test_the_entry_point_gives_the_class_and_opens_nothing(licensee):
    """Neither the version nor the key is checked before the first use."""
    assert fsspec.get_filesystem_class("ego4d") is Ego4DFileSystem
    fs = fsspec.filesystem("ego4d", version="v999", skip_instance_cache=True)
    assert fs._opened is None


def test_a_wrong_option_is_reported_at_once():
    with pytest.raises(ConfigError, match="of ego4d://"):
        fsspec.filesystem("ego4d", verzion="v1")


def test_ls_gives_names_or_details(fs, top):
    assert sorted(fs.ls(top, detail=False)) == sorted(
        f"{top}/{name}" for name in ("manifest.csv", *FILES)
    )
    details = {info["name"]: info for info in fs.ls(top, detail=True)}
    for name, data in FILES.items():
        assert details[f"{top}/{name}"]["size"] == len(data)
        assert details[f"{top}/{name}"]["type"] == "file"
    assert fs.ls(f"{top}/other.pt", detail=False) == [f"{top}/other.pt"]


def test_info_says_where_the_bytes_come_from(fs, top, release):
    info = fs.info(f"ego4d://{top}/other.pt")
    assert info["s3_uri"] == release.url("annotations/other.pt")
    assert info["ETag"]
    assert fs.info("")["type"] == fs.info(top)["type"] == "directory"


def test_exists_and_kinds(fs, top):
    assert fs.exists(f"{top}/other.pt")
    assert not fs.exists(f"{top}/nothing.pt")
    assert not fs.exists(f"{top}/other.pt/below")
    assert (fs.isdir(top), fs.isfile(top)) == (True, False)
    assert (fs.isdir(f"{top}/other.pt"), fs.isfile(f"{top}/other.pt")) == (False, True)
    assert (fs.isdir("nowhere"), fs.isfile("nowhere")) == (False, False)


def test_find_glob_and_walk_see_the_whole_tree(fs, top, release):
    files = sorted([f"{top}/{name}" for name in ("manifest.csv", *FILES)])
    assert fs.find(top) == files
    assert fs.find("") == sorted([*files, "ego4d.json", f"{release.version}/ego4d.json"])
    assert sorted(fs.glob(f"{top}/*.pt")) == [f"{top}/large.pt", f"{top}/other.pt"]
    assert sorted(fs.glob("**/other.*")) == [f"{top}/other.pt"]
    walked = {path: (sorted(dirs), len(names)) for path, dirs, names in fs.walk("")}
    assert walked == {
        "": ([release.version], 1),
        release.version: (["annotations"], 1),
        top: ([], len(files)),
    }


def test_du_sums_sizes(fs, top):
    manifest = fs.size(f"{top}/manifest.csv")
    assert fs.du(top) == manifest + sum(map(len, FILES.values()))
    assert fs.du(top, total=False)[f"{top}/large.pt"] == len(FILES["large.pt"])
    assert fs.sizes([f"{top}/other.pt", f"{top}/empty.json"]) == [5, 0]


def test_du_counts_a_file_of_unknown_size_as_nothing(fs, top, release):
    listed = fs.cat_file(f"{top}/manifest.csv").decode()
    release.manifest("annotations", f"{listed}x,file,{release.url('missing.json')}\n")
    fs.close()
    assert f"{top}/missing.json" in fs.ls(top, detail=False)
    assert fs.info(f"{top}/missing.json")["size"] is None
    assert fs.du(top) == fs.size(f"{top}/manifest.csv") + sum(map(len, FILES.values()))


def test_an_open_file_seeks_reads_and_reads_into_buffers(fs, top):
    data = FILES["large.pt"]
    with fs.open(f"{top}/large.pt") as file:
        assert (file.size, file.readable(), file.seekable(), file.writable()) == (
            len(data),
            True,
            True,
            False,
        )
        assert file.read(10) == data[:10]
        assert file.seek(-20, os.SEEK_END) == len(data) - 20
        assert file.read() == data[-20:]
        assert file.read(5) == b""
        file.seek(BLOCK_SIZE - 50)
        buffer = bytearray(100)
        assert file.readinto(buffer) == 100
        assert buffer == data[BLOCK_SIZE - 50 : BLOCK_SIZE + 50]
        assert file.tell() == BLOCK_SIZE + 50
        file.seek(3, os.SEEK_CUR)
        assert file.read(4) == data[BLOCK_SIZE + 53 : BLOCK_SIZE + 57]
        file.seek(len(data) - 3)
        assert file.readinto(buffer) == 3
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_text_and_buffered_reading(fs, top):
    with fs.open(f"{top}/table.csv", "r") as file:
        assert file.readlines() == ["a,b\n", "1,2\n", "3,4\n"]
    with io.BufferedReader(fs.open(f"{top}/large.pt")) as file:
        assert file.read() == FILES["large.pt"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        *((None, None), (0, 10), (5, None), (None, 7), (-10, None), (-10, -3), (3, -3)),
        *((10, 5), (0, 10**9), (10**9, None), (-(10**9), 4), (0, 0)),
        *((BLOCK_SIZE - 1, BLOCK_SIZE + 1), (-BLOCK_SIZE - 5, -BLOCK_SIZE + 5)),
    ],
)
def test_cat_file_is_a_slice(fs, top, start, end):
    data = FILES["large.pt"]
    assert fs.cat_file(f"{top}/large.pt", start, end) == data[start:end]


def test_cat_of_one_and_of_many(fs, top):
    assert fs.cat(f"{top}/other.pt") == b"other"
    both = fs.cat([f"{top}/other.pt", f"{top}/empty.json"])
    assert both == {f"{top}/other.pt": b"other", f"{top}/empty.json": b""}


def test_cat_ranges_gives_each_range_or_its_error(fs, top):
    paths = [f"{top}/large.pt", f"{top}/nothing", f"{top}/other.pt"]
    first, missing, last = fs.cat_ranges(paths, [5, 0, -3], [BLOCK_SIZE * 2, 1, None])
    assert first == FILES["large.pt"][5 : 2 * BLOCK_SIZE]
    assert isinstance(missing, FileNotFoundError)
    assert last == b"her"
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, 0, 1, on_error="raise")


def test_head_tail_and_blocks(fs, top):
    data = FILES["large.pt"]
    assert fs.head(f"{top}/large.pt", 30) == data[:30]
    assert fs.tail(f"{top}/large.pt", 30) == data[-30:]
    assert fs.read_block(f"{top}/table.csv", 5, 3, b"\n") == b"3,4\n"
    assert fs.read_bytes(f"{top}/other.pt", 1, 3) == b"th"
    assert fs.read_text(f"{top}/other.pt") == "other"


def test_get_and_download_make_plain_files(fs, top, tmp_path):
    fs.get(top, str(tmp_path / "copy"), recursive=True)
    for name, data in FILES.items():
        assert (tmp_path / "copy" / name).read_bytes() == data
    fs.get_file(f"{top}/other.pt", str(tmp_path / "one"))
    fs.download(f"{top}/other.pt", str(tmp_path / "two"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == b"other"


def test_fingerprints_change_with_the_bytes(fs, top, release, options):
    path = f"{top}/other.pt"
    before = (fs.ukey(path), fs.checksum(path), fs.modified(path))
    assert (fs.ukey(path), fs.checksum(path), fs.modified(path)) == before
    assert fs.ukey(path) != fs.ukey(f"{top}/large.pt")
    assert before[2].tzinfo is not None


def test_url_chaining_opens_and_caches(options, top, tmp_path):
    with fsspec.open(f"ego4d://{top}/other.pt", **options) as file:
        assert file.read() == b"other"
    with fsspec.open(
        f"filecache::ego4d://{top}/table.csv",
        ego4d=options,
        filecache={"cache_storage": str(tmp_path / "fc")},
    ) as file:
        assert file.read() == FILES["table.csv"]


WRITES = {
    **dict.fromkeys(("mkdir", "makedir", "makedirs", "mkdirs", "rmdir", "touch"), ("p",)),
    **dict.fromkeys(("rm", "rm_file", "_rm", "delete"), ("p",)),
    **dict.fromkeys(("mv", "move", "rename", "cp", "copy", "cp_file"), ("p", "q")),
    **dict.fromkeys(("pipe_file", "pipe", "write_bytes"), ("p", b"x")),
    "write_text": ("p", "x"),
    **dict.fromkeys(("put", "put_file", "upload"), ("/etc/hostname", "p")),
}
READS = {
    *("cat", "cat_file", "cat_ranges", "checksum", "clear_instance_cache", "created", "current"),
    *("disk_usage", "download", "du", "end_transaction", "exists", "expand_path", "find"),
    *("from_dict", "from_json", "fsid", "get", "get_file", "get_mapper", "glob", "head", "info"),
    *("invalidate_cache", "isdir", "isfile", "lexists", "listdir", "ls", "mirror_sync_methods"),
    *("modified", "open", "read_block", "read_bytes", "read_text", "sign", "size", "sizes"),
    *("start_transaction", "stat", "tail", "to_dict", "to_json", "transaction_type", "tree"),
    *("ukey", "unstrip_protocol", "walk"),
}


def test_every_call_of_fsspec_is_known_as_a_read_or_a_write():
    """A new way to write in a later fsspec must be refused too."""
    calls = {
        name
        for name in dir(AbstractFileSystem)
        if not name.startswith("_") and callable(getattr(AbstractFileSystem, name))
    }
    assert calls - READS - WRITES.keys() == set()


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("target", ["other.pt", "new.pt"])
def test_every_write_is_refused_as_a_read_only_disk_would(fs, top, name, target):
    arguments = [f"{top}/{target}" if a == "p" else a for a in WRITES[name]]
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
        getattr(fs, name)(*arguments)
    assert caught.value.errno == errno.EROFS
    assert fs.cat_file(f"{top}/other.pt") == b"other"


@pytest.mark.parametrize("mode", ["wb", "ab", "xb", "r+b", "w", "a"])
def test_every_mode_that_writes_is_refused(fs, top, mode):
    with pytest.raises(OSError) as caught:  # noqa: PT011
        fs.open(f"{top}/other.pt", mode)
    assert caught.value.errno == errno.EROFS
    with pytest.raises(OSError) as caught, fs.transaction:  # noqa: PT011
        fs.open(f"{top}/other.pt", mode)
    assert caught.value.errno == errno.EROFS


def test_a_filesystem_travels_to_other_processes(fs, top):
    fs.ls(top)
    copy = pickle.loads(pickle.dumps(fs))  # noqa: S301
    try:
        assert copy.cat_file(f"{top}/other.pt") == b"other"
    finally:
        copy.close()


def test_a_forked_child_reads_on_its_own(fs, top):
    assert fs.cat_file(f"{top}/other.pt") == b"other"
    pid = os.fork()
    if not pid:
        try:
            right = fs.cat_file(f"{top}/large.pt") == FILES["large.pt"]
            os._exit(0 if right and fs.cat_file(f"{top}/other.pt") == b"other" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert fs.cat_file(f"{top}/large.pt") == FILES["large.pt"]


def test_pandas_reads_from_it(fs, top, options):
    with fs.open(f"{top}/table.csv") as file:
        assert pd.read_csv(file)["b"].tolist() == [2, 4]
    frame = pd.read_csv(f"ego4d://{top}/table.csv", storage_options=options)
    assert frame["a"].tolist() == [1, 3]


def test_the_name_of_a_file_is_listed_without_a_request(fs, top):
    name = next(path for path in fs.ls(top, detail=False) if not path.endswith("manifest.csv"))
    before = dict(fs.vfs.session.metrics.requests)
    assert fs.ls(name, detail=False) == [name]
    assert fs.vfs.session.metrics.requests == before


def test_every_option_of_the_configuration_is_a_keyword_with_a_line_of_help():
    keys = {*KEYS, "config_path"}
    found = inspect.signature(Ego4DFileSystem).parameters
    named = {name: each for name, each in found.items() if each.kind is each.KEYWORD_ONLY}
    assert set(named) == keys
    assert {each.default for each in named.values()} == {None}
    help_text = inspect.getdoc(Ego4DFileSystem.__init__)
    assert {key for key in keys if f"\n    {key}: " in help_text} == keys


@pytest.mark.parametrize("key", [*KEYS, "config_path"])
def test_every_option_is_read(key):
    with pytest.raises(ConfigError, match="ego4d://" if key in KEYS else "config_path"):
        Ego4DFileSystem(**{key: object()})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(("datset", "datasets"), ("verzion", "version"), ("cache-dir", "cache_dir")),
        *(
            ("Video_uid", "video_uids"),
            ("profile", "aws_profile_name"),
            ("endpoint", "endpoint_url"),
        ),
    ],
)
def test_an_option_that_is_misspelt_is_refused(name, meant):
    with pytest.raises(ConfigError, match=f"{name} of ego4d://: there is no such option") as raised:
        Ego4DFileSystem(**{name: "x"})
    assert meant in raised.value.hint


FOREIGN = {
    "block_size": 0,
    "cache_type": "readahead",
    "cache_options": {},
    "asynchronous": False,
    "use_listings_cache": True,
    "listings_expiry_time": 5,
    "max_paths": 10,
    "batch_size": 4,
    "skip_instance_cache": True,
    "hf": {"token": "t"},
    "anon": True,
    "token": None,
    "key": "k",
    "timeout": 5,
    "client_kwargs": {},
    "headers": {},
    "loop": None,
}


def test_options_of_fsspec_and_of_libraries_change_nothing(options, top):
    fs = fsspec.filesystem("ego4d", **options, **FOREIGN)
    assert fs.config == Ego4DFileSystem(**options).config
    assert fs.cat_file(f"{top}/other.pt") == b"other"
    with fs.open(f"{top}/other.pt", block_size=0, cache_type="none") as file:
        assert file.read() == b"other"
    fs.close()
    with fsspec.open(f"ego4d://{top}/other.pt", **options, block_size=2**20, hf={}) as file:
        assert file.read() == b"other"


@pytest.mark.parametrize("form", ["ego4d://{}//{}", "/{}/{}/", "{}/./{}", "ego4d:////{}///{}//"])
def test_empty_names_in_a_path_mean_nothing(fs, top, form):
    path = form.format(top, "other.pt")
    assert fs._strip_protocol(path) == f"{top}/other.pt"
    assert fs._strip_protocol([path]) == [f"{top}/other.pt"]
    assert fs.info(path)["name"] == f"{top}/other.pt"
    assert fs.exists(path)
    assert fs.cat(path) == b"other"
    assert fs.cat_ranges([path], [0], [2]) == [b"ot"]
    assert [found.rpartition("/")[2] for found in fs.find(path)] == ["other.pt"]
    directory = form.format(top, "")
    assert set(fs.ls(directory, detail=False)) >= {f"{top}/other.pt"}
    assert fs.glob(form.format(top, "oth*").rstrip("/")) == [f"{top}/other.pt"]
