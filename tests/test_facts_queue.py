"""The queue of unwritten facts: what is written once, later, or not at all."""

from __future__ import annotations

import pytest

from ego4dfs.facts import write_queue
from ego4dfs.facts.write_queue import WriteQueue
from ego4dfs.store import ObjectFacts
from kit.processes import wait_until

FACTS, NEWER = ObjectFacts(1, "e", "", 0), ObjectFacts(2, "f", "", 0)


class Table:
    """Records what is written; `during` runs while it writes."""

    def __init__(self) -> None:
        self.is_locked = False
        self.writes: list[tuple[dict, dict]] = []
        self.during = lambda: None

    def apply(self, changes, confirmed) -> bool:
        self.writes.append((dict(changes), dict(confirmed)))
        self.during()
        return not self.is_locked


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def queue(table):
    made = WriteQueue(table)
    yield made
    table.is_locked = False
    made.close()


def test_changes_are_written_once_there_is_a_batch(table, queue):
    assert queue.add("a", FACTS) == 1
    assert queue.confirm("b", FACTS) == 2
    queue.write_batches(3)
    assert table.writes == []
    assert queue.confirm("c", FACTS) == 3
    queue.write_batches(3)
    assert table.writes == [({"a": FACTS}, {"b": FACTS, "c": FACTS})]
    queue.flush()
    assert len(table.writes) == 1


def test_a_confirmation_is_part_of_facts_that_are_not_written_yet(table, queue):
    queue.add("a", FACTS)
    queue.confirm("a", NEWER)
    queue.flush()
    assert table.writes == [({"a": NEWER}, {})]


def test_a_deletion_is_not_undone_by_a_confirmation(table, queue):
    queue.confirm("a", FACTS)
    queue.add("a", None)
    queue.confirm("a", FACTS)
    assert queue.is_changed("a")
    queue.flush()
    assert table.writes == [({"a": None}, {})]
    assert not queue.is_changed("a")


def test_a_change_during_a_write_is_written_after_it(table, queue):
    table.during = lambda: len(table.writes) == 1 and queue.add("a", NEWER)
    queue.add("a", FACTS)
    queue.flush()
    queue.flush()
    assert table.writes == [({"a": FACTS}, {}), ({"a": NEWER}, {})]


def test_only_the_latest_changes_are_kept_while_the_table_is_locked(table, queue, monkeypatch):
    monkeypatch.setattr(write_queue, "_MAX_CHANGES", 2)
    table.is_locked = True
    for name in "abc":
        queue.add(name, FACTS)
        queue.confirm(f"{name}{name}", FACTS)
        queue.flush()
    table.is_locked = False
    queue.flush()
    assert table.writes == [({"b": FACTS, "c": FACTS}, {"bb": FACTS, "cc": FACTS})]


@pytest.mark.parametrize("write", [WriteQueue.flush, lambda queue: queue.write_batches(1)])
def test_changes_are_written_after_the_table_was_locked_during_a_write(
    table, queue, monkeypatch, write
):
    monkeypatch.setattr(write_queue, "LOCKED_S", 0.0)

    def locked_once() -> None:
        table.is_locked = len(table.writes) == 1

    table.during = locked_once
    queue.add("a", FACTS)
    queue.confirm("b", FACTS)
    write(queue)
    table.is_locked = False
    wait_until(lambda: not queue._count())
    assert table.writes == [({"a": FACTS}, {"b": FACTS})] * 2


def test_an_empty_queue_is_not_written_later(table, queue):
    queue.flush()
    assert queue._timer is None
    assert table.writes == []


def test_after_the_close_nothing_is_deferred(table, queue):
    table.is_locked = True
    queue.add("a", FACTS)
    queue.close()
    queue.add("b", FACTS)
    queue.flush()
    assert queue._timer is None


def test_a_function_is_called_once_the_changes_of_its_urls_are_written(table, queue):
    called = []
    queue.when_written(["a"], lambda: called.append("nothing is unwritten"))
    queue.add("a", FACTS)
    queue.when_written(["b"], lambda: called.append("nothing of b is"))
    queue.when_written(["a", "b"], lambda: called.append("a is written"))
    table.is_locked = True
    queue.flush()
    assert called == ["nothing is unwritten", "nothing of b is"]
    table.is_locked = False
    queue.flush()
    assert called[2:] == ["a is written"]
    queue.flush()
    assert len(called) == 3


def test_a_function_waits_for_a_change_during_a_write(table, queue):
    called = []

    def change() -> None:
        queue.add("a", NEWER)
        queue.when_written(["a"], lambda: called.append(len(table.writes)))
        table.during = lambda: None

    table.during = change
    queue.add("a", FACTS)
    queue.flush()
    assert called == []
    queue.flush()
    assert called == [2]
