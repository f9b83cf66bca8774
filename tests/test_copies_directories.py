"""Directories of copies: which links are followed, and which are reported."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ego4dfs.copies.directory_fds import Directories
from kit.own_process import descriptors_below

ANOTHER = 12345  # the id of a user who is neither root nor the owner


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/v2").mkdir(parents=True)
    (tmp_path / "elsewhere/videos").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def reported() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def opened(root, reported):
    made: list[Directories] = []

    def open_one() -> Directories:
        made.append(Directories(root, lambda path, reason: reported.append((path, reason))))
        return made[-1]

    yield open_one
    for directories in made:
        directories.close()


def test_a_link_that_exists_at_the_start_is_followed(root, opened, reported):
    (root / "v2/components").symlink_to(root.parent / "elsewhere")
    directories = opened()
    videos = directories.below("v2/components/videos")
    assert os.fstat(videos).st_ino == (root.parent / "elsewhere/videos").stat().st_ino
    assert directories.subdirectories("v2") == ["v2/components"]
    assert reported == []


def test_a_link_of_another_user_is_not_followed(root, opened, reported):
    (root / "v2/clips").symlink_to(root.parent / "elsewhere")
    os.lchown(root / "v2/clips", ANOTHER, ANOTHER)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        opened().below("v2/clips")
    assert ("v2/clips", f"is a link that another user made (uid {ANOTHER})") in reported


def test_a_link_of_the_owner_of_the_root_is_followed(root, opened, reported):
    os.chown(root, ANOTHER, ANOTHER)
    (root / "v2/clips").symlink_to(root.parent / "elsewhere")
    os.lchown(root / "v2/clips", ANOTHER, ANOTHER)
    assert opened().below("v2/clips")
    assert reported == []


def test_a_link_without_a_target_is_reported(root, opened, reported):
    (root / "v2/clips").symlink_to("nowhere")
    opened()
    reason = "is a link that cannot be followed (No such file or directory)"
    assert reported[0] == ("v2/clips", reason)


def test_a_link_that_is_made_later_is_not_followed(root, opened, reported):
    directories = opened()
    (root / "v2/clips").symlink_to(root.parent / "elsewhere")
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        directories.below("v2/clips")
    assert reported == [
        ("v2/clips", "is a link that did not exist at the start, or not a directory")
    ]


def test_hidden_directories_are_not_listed_and_missing_ones_are_empty(root, opened, reported):
    (root / "v2/.hidden").mkdir()
    (root / "v2/clips").mkdir()
    (root / "v2/file").touch()
    directories = opened()
    assert directories.subdirectories("") == ["v2"]
    assert directories.subdirectories("v2") == ["v2/clips"]
    assert directories.subdirectories("v2/missing") == []
    assert reported == []


def test_after_the_close_nothing_can_be_opened(opened):
    directories = opened()
    directories.close()
    with pytest.raises(OSError, match="closed") as caught:
        directories.below("")
    assert caught.value.errno == errno.EBADF


def test_a_link_to_itself_is_reported(root, opened, reported):
    (root / "v2/clips").symlink_to("clips")
    directories = opened()
    assert reported[0][0] == "v2/clips"
    assert reported[0][1].startswith("is a link that cannot be followed")
    assert directories.subdirectories("v2") == ["v2/clips"]


@pytest.mark.parametrize(("depth", "is_followed"), [(3, True), (4, False)])
def test_links_are_followed_down_to_the_depth_of_datasets(root, opened, depth, is_followed):
    parent = root.joinpath(*"abcd"[: depth - 1])
    parent.mkdir(parents=True)
    (parent / "link").symlink_to(root.parent / "elsewhere")
    directories = opened()
    path = str((parent / "link").relative_to(root))
    if is_followed:
        assert directories.subdirectories(path) == [f"{path}/videos"]
    else:
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            directories.below(path)


def test_a_directory_that_two_threads_open_at_once_is_kept_open_once(root, opened, monkeypatch):
    directories, real = opened(), os.open
    others: list[int] = []

    def opened_by_another_first(name, *arguments, **keywords):
        monkeypatch.setattr(os, "open", real)
        (root / "v2/clips").mkdir()
        others.append(directories.below("v2/clips"))
        return real(name, *arguments, **keywords)

    directories.below("v2")
    monkeypatch.setattr(os, "open", opened_by_another_first)
    assert [directories.below("v2/clips")] == others
    assert descriptors_below(root / "v2/clips") == [str(root / "v2/clips")]


def test_a_directory_that_cannot_be_opened_is_reported(root, opened, reported, monkeypatch):
    directories = opened()
    (root / "v2/clips").mkdir()

    def refuse(name, *_arguments, **_keywords):
        raise PermissionError(errno.EACCES, "Permission denied", name)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        with pytest.raises(PermissionError):
            directories.below("v2/clips")
    assert reported == [("v2/clips", "cannot be opened (Permission denied)")]
