"""What a mount remembers of the kernel's cache: sizes and versions, of any number of windows."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from ego4dfs.mount import kernel_cache
from ego4dfs.mount.kernel_cache import KernelCache
from ego4dfs.vfs import Handle
from ego4dfs.vfs.windows import WINDOWS_DIRECTORY

FILE = "v2/clips/a.mp4"


def window(number: int) -> str:
    return f"{WINDOWS_DIRECTORY}/aaaa/{number}-{number + 1}.mp4"


def handle(path: str, size: int = 3, version: str = "1") -> Handle:
    made = Handle(path, content=bytes(size))
    made.version = version
    return made


def opened(cache: KernelCache, one: Handle) -> tuple[bool, bool]:
    """Open a file and return keep_cache and direct_io."""
    answer = SimpleNamespace()
    cache.open(one, answer)
    return answer.keep_cache, answer.direct_io


@pytest.mark.parametrize("path", [FILE, window(1)])
def test_another_size_than_the_kernel_has_is_stale_until_it_is_looked_up_again(path):
    cache = KernelCache()
    assert cache.record_size(f"/{path}", 2)
    with pytest.raises(OSError, match="Stale") as caught:
        opened(cache, handle(path))
    assert caught.value.errno == errno.ESTALE
    assert cache.record_size(f"/{path}", 3)
    opened(cache, handle(path))
    assert not cache.record_size(path, 2)
    assert cache.size(path, 0) == 3
    assert cache.record_size(path, 2, replace=True)
    assert cache.size(path, 0) == 2


@pytest.mark.parametrize("path", [FILE, window(1)])
def test_pages_are_kept_while_the_version_is_the_same(path):
    cache = KernelCache()
    cache.record_size(path, 3)
    first = handle(path)
    opened(cache, first)
    assert opened(cache, handle(path)) == (True, False)
    assert opened(cache, handle(path, version="2")) == (False, True)
    assert not cache.is_current(first)


@pytest.fixture
def few(monkeypatch) -> KernelCache:
    monkeypatch.setattr(kernel_cache, "MAX_WINDOWS", 3)
    return KernelCache()


def test_only_the_last_windows_are_remembered(few):
    few.record_size(FILE, 3)
    held = handle(window(0))
    few.record_size(window(0), 3)
    opened(few, held)
    for number in range(1, 50):
        few.record_size(window(number), 3)
        opened(few, closed := handle(window(number)))
        few.release(closed)
    remembered = [number for number in range(50) if few.size(window(number), 0)]
    assert remembered[0] == 0
    assert len(remembered) == 3
    assert few.is_current(held)
    assert few.size(FILE, 0) == 3
    few.release(held)
    for number in range(50, 53):
        few.record_size(window(number), 3)
    assert not few.size(window(0), 0)


def test_a_window_that_was_forgotten_is_looked_up_again_and_its_pages_are_dropped(few):
    few.record_size(window(0), 3)
    opened(few, first := handle(window(0)))
    few.release(first)
    for number in range(1, 4):
        few.record_size(window(number), 3)
    with pytest.raises(OSError, match="Stale"):
        opened(few, handle(window(0)))
    few.record_size(window(0), 3)
    assert opened(few, handle(window(0))) == (False, False)


def test_a_handle_that_was_not_counted_can_be_released():
    cache = KernelCache()
    cache.release(handle(FILE))
    cache.record_size(FILE, 2)
    assert cache.record_size(FILE, 3)
