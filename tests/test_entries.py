"""Packed entries: a tenth of the memory, without loss."""

from __future__ import annotations

import tracemalloc

import pytest

from ego4dfs.catalog import Selection
from ego4dfs.manifest import (
    CompressedBytes,
    Entries,
    Entry,
    EntryPacker,
    filtered,
    names_and_urls,
    parse,
)
from ego4dfs.manifest import entries as module
from ego4dfs.vfs.tree import ObjectFile, Tree

PLAIN = Entry(2, "a.pt", "A", "s3://b/x/a.pt", frozenset({"a"}), None, frozenset(), "")
RICH = Entry(
    *(3, "U.mp4", "U", "s3://b/ä/k?\n", frozenset({"u", "parent", "other"}), frozenset({"fho"})),
    *(frozenset({"unict"}), "narrations", frozenset({"fho:train"}), "parent", (0.1, 1e9)),
)
ODD = PLAIN._replace(row=9, name="a~2.pt", uids=frozenset(), benchmarks=frozenset())


def packed(*given: Entry) -> Entries:
    packing = EntryPacker()
    assert all(packing.add(entry) for entry in given)
    return packing.entries()


def test_packed_entries_are_unpacked_unchanged():
    found = packed(PLAIN, RICH, ODD)
    assert list(found) == [PLAIN, RICH, ODD]
    assert (found[1], found[-1], len(found)) == (RICH, ODD, 3)
    assert found[1:] == (RICH, ODD)
    assert found == [PLAIN, RICH, ODD]
    assert found != [PLAIN, RICH]
    with pytest.raises(IndexError):
        found[3]


def test_a_filter_keeps_the_order_and_can_be_filtered_again():
    found = packed(PLAIN, RICH, ODD)
    odd = filtered(found, lambda entry: entry.row != 2)
    assert list(odd) == [RICH, ODD]
    assert list(filtered(odd, lambda entry: entry.row == 9)) == [ODD]
    assert list(filtered((PLAIN, RICH), Selection(include=("a*",)).admits)) == [PLAIN]


@pytest.mark.parametrize("field", ["uid", "url", "parent"])
def test_a_row_with_a_nul_is_left_out(field):
    assert not EntryPacker().add(PLAIN._replace(**{field: "s3://b/a\0b"}))


def test_names_with_equal_hashes_are_found(monkeypatch):
    monkeypatch.setattr(module, "hash", lambda _: 7, raising=False)
    packing = EntryPacker()
    for entry in (PLAIN, RICH, ODD):
        packing.add(entry)
    assert packing.find("U.mp4") == (3, RICH.url)
    assert packing.find("a~2.pt") == (9, ODD.url)
    assert packing.find("none") is None
    found = packing.entries()
    assert [found.url_of(e.name) for e in (PLAIN, RICH, ODD)] == [PLAIN.url, RICH.url, ODD.url]
    assert found.url_of("none") is None


@pytest.mark.parametrize("many", [0, 10])
def test_a_tree_lists_packed_files_as_it_lists_others(many, monkeypatch):
    monkeypatch.setattr(module, "_MANY", many)
    found = packed(PLAIN, RICH, ODD)
    assert (names_and_urls(found) is found) == (many == 0)
    tree = Tree.of("v2", ["clips"])
    directory = tree.directory("v2/clips")
    tree.attach(directory, names_and_urls(found))
    children = tree.children(directory)
    assert list(children) == ["manifest.csv", "a.pt", "U.mp4", "a~2.pt"]
    assert len(children) == 4
    assert dict(children.items()) == dict(children)
    assert [node.path for node in children.values()] == [f"v2/clips/{name}" for name in children]
    assert tree.child(directory, "U.mp4") == ObjectFile("v2/clips/U.mp4", RICH.url)
    assert tree.child(directory, "none") is None
    assert "none" not in children


def test_large_bytes_are_stored_compressed(monkeypatch):
    monkeypatch.setattr(module, "_SMALL_BYTES", 100)
    for content in (b"", b"x" * 100, b"x" * 101):
        kept = CompressedBytes(content)
        assert (kept.size, kept.content()) == (len(content), content)


@pytest.mark.fault(
    area="input",
    fault="a manifest of a million rows",
    face="mount",
    sees="its files; 200 MB of memory, 400 MB while it is read",
    deadline="20 s",
)
def test_a_row_takes_the_memory_of_its_strings_and_little_more():
    """A million rows took 1.3 GB as objects."""
    rows, url = 20_000, "s3://ego4d-consortium-sharing/public/v2/annotations"
    lines = [f"{i:08x}-0000-4000-8000-000000000000,a,file,{url}/{i}.json" for i in range(rows)]
    content = "\n".join(["file_uid,annotation,type,canonical_s3_location", *lines]).encode()
    del lines
    tracemalloc.start()
    try:
        manifest = parse(content, "t")
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(manifest.entries) == rows
    assert now / rows < 200
    assert peak / rows < 450
    assert manifest.entries[rows - 1].name == f"{rows - 1}.json"


@pytest.mark.fault(
    area="input",
    fault="a manifest of more than 1 GiB",
    face="all",
    sees="one line with its size; the cached manifest is used",
    deadline="at once",
)
def test_an_object_too_large_for_a_manifest_is_refused_before_it_is_read(tmp_path, monkeypatch):
    from ego4dfs.catalog import ManifestCache
    from ego4dfs.errors import StoreError
    from ego4dfs.metrics import Metrics
    from ego4dfs.store import open_store

    directory = tmp_path / "ego4d-consortium-sharing/public/v2/clips"
    directory.mkdir(parents=True)
    with (directory / "manifest.csv").open("wb") as file:
        file.truncate((1 << 30) + 1)
    store = open_store(source=str(tmp_path), metrics=Metrics())
    with pytest.raises(StoreError, match="a manifest has at most 1"):
        ManifestCache(tmp_path / "kept", store).fetch("v2", "clips")
    store.close()
