"""The tree of a download, without bytes and without network."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ego4dfs.vfs.tree import Directory, ManifestFile, ObjectFile, Tree, inode, join

METADATA = "s3://b/public/v2_1/ego4d.json"


@pytest.fixture
def tree() -> Tree:
    datasets = ("full_scale", "components/videos", "components/imu")
    return Tree.of("v2", datasets, metadata_url=METADATA, top_manifest="full_scale")


def at(tree: Tree, path: str):
    node = tree.root
    for name in path.split("/") if path else ():
        node = tree.child(node, name)
    return node


def names(tree: Tree, path: str) -> list[str]:
    return list(tree.children(at(tree, path)))


def test_the_skeleton_is_known_without_any_manifest(tree):
    assert names(tree, "") == ["v2", "ego4d.json", "manifest.csv"]
    assert names(tree, "v2") == ["ego4d.json", "full_scale", "components"]
    assert names(tree, "v2/components") == ["videos", "imu"]
    assert names(tree, "v2/full_scale") == ["manifest.csv"]


def test_the_metadata_is_one_object_in_two_places(tree):
    assert at(tree, "ego4d.json") == ObjectFile("ego4d.json", METADATA)
    assert at(tree, "v2/ego4d.json") == ObjectFile("v2/ego4d.json", METADATA)


def test_the_root_manifest_is_full_scales(tree):
    assert at(tree, "manifest.csv") == ManifestFile("manifest.csv", "full_scale")
    assert at(tree, "v2/full_scale/manifest.csv").dataset == "full_scale"


def test_metadata_and_root_manifest_exist_only_with_their_options():
    assert names(Tree.of("v1", ["clips"]), "") == ["v1"]
    assert names(Tree.of("v1", ["clips"]), "v1") == ["clips"]


def test_directories_without_a_dataset_are_attached_from_the_start(tree):
    assert tree.is_attached(tree.root)
    assert tree.is_attached(at(tree, "v2/components"))
    assert not tree.is_attached(at(tree, "v2/components/videos"))


def test_an_attached_dataset_lists_its_files_in_order_after_its_manifest(tree):
    directory = at(tree, "v2/full_scale")
    tree.attach(directory, [("b.mp4", "s3://b/b"), ("a.mp4", "s3://b/a")])
    assert tree.is_attached(directory)
    assert names(tree, "v2/full_scale") == ["manifest.csv", "b.mp4", "a.mp4"]
    assert at(tree, "v2/full_scale/a.mp4") == ObjectFile("v2/full_scale/a.mp4", "s3://b/a")
    assert at(tree, "v2/full_scale/c.mp4") is None


def test_a_file_never_replaces_a_directory_of_the_skeleton():
    tree = Tree.of("v2", ["a", "a/b"])
    tree.attach(
        at(tree, "v2/a"), [("b", "s3://b/b"), ("manifest.csv", "s3://b/m"), ("c", "s3://c")]
    )
    assert names(tree, "v2/a") == ["manifest.csv", "b", "c"]
    assert isinstance(at(tree, "v2/a/b"), Directory)
    assert isinstance(at(tree, "v2/a/manifest.csv"), ManifestFile)


@pytest.mark.parametrize("datasets", [("a", "a/b"), ("a/b", "a")])
def test_a_dataset_may_be_inside_another_in_either_order(datasets):
    tree = Tree.of("v2", datasets)
    assert (at(tree, "v2/a").dataset, at(tree, "v2/a/b").dataset) == ("a", "a/b")
    assert sorted(names(tree, "v2/a")) == ["b", "manifest.csv"]
    assert names(tree, "v2/a/b") == ["manifest.csv"]


def test_an_empty_dataset_is_attached_too(tree):
    tree.attach(at(tree, "v2/full_scale"), [])
    assert tree.is_attached(at(tree, "v2/full_scale"))
    assert names(tree, "v2/full_scale") == ["manifest.csv"]


def test_files_appear_all_at_once():
    """A reader in another thread sees none of a dataset's files or all of them."""
    tree = Tree.of("v2", ["d"])
    directory = at(tree, "v2/d")
    seen, stop = set(), threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(len(tree.children(directory)))

    looker = threading.Thread(target=look)
    looker.start()
    tree.attach(directory, ((f"{i}.mp4", f"s3://b/{i}") for i in range(20_000)))
    stop.set()
    looker.join()
    assert seen <= {1, 20_001}


@given(st.lists(st.text(max_size=30), max_size=50, unique=True))
def test_inodes_have_63_bits_are_stable_and_avoid_reserved_numbers(paths):
    numbers = [inode(path) for path in paths]
    assert numbers == [inode(path) for path in paths]
    assert len(set(numbers)) == len(paths)
    assert all(1 < number < 2**63 for path, number in zip(paths, numbers, strict=True) if path)


def test_the_root_is_inode_1():
    assert inode("") == 1


def test_join_gives_paths_without_a_leading_slash():
    assert (join("", "v2"), join("v2", "clips")) == ("v2", "v2/clips")
