"""Recent: the last used values in limited memory."""

from __future__ import annotations

import pytest

from ego4dfs.runtime.recent import Recent

pytestmark = pytest.mark.first_pass


def kept(memory: Recent[str]) -> str:
    return "".join(key for key in "abcdef" if key in memory)


def test_what_was_used_longest_ago_makes_room():
    memory: Recent[str] = Recent(10)
    for key in "abc":
        assert memory.put(key, key.upper(), 4) == key.upper()
    assert kept(memory) == "bc"
    assert (memory.get("b"), memory.get("a")) == ("B", None)
    memory.put("d", "D", 4)
    assert kept(memory) == "bd"


def test_a_new_value_takes_the_place_and_the_size_of_the_old_one():
    memory: Recent[str] = Recent(10)
    for key in "bc":
        memory.put(key, "", 4)
    memory.put("b", "B", 6)
    assert (kept(memory), memory.get("b")) == ("bc", "B")
    memory.put("b", "", 7)
    assert kept(memory) == "b"
    memory.put("b", "", 1)
    memory.put("d", "", 9)
    assert kept(memory) == "bd"


def test_a_value_above_the_limit_is_not_kept_and_takes_no_room():
    memory: Recent[str] = Recent(10)
    memory.put("a", "", 10)
    memory.put("b", "", 11)
    assert kept(memory) == "a"
    memory.put("a", "", 11)
    assert kept(memory) == ""


def test_without_sizes_the_limit_is_a_number_of_values():
    memory: Recent[str] = Recent(3)
    for key in "abcde":
        memory.put(key, "")
    assert kept(memory) == "cde"
