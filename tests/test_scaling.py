"""scripts/scale: what the simulation counts, and that docs/concepts/scale.md has its tables."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from scaling import __main__ as command
from scaling import design, page
from scaling.measured import MIB, PAGE, measured
from scaling.simulate import Item, Tiers, Workload, simulate

pytestmark = pytest.mark.first_pass

ITEMS, PARENTS, SIZE, INDEX = 400, 40, 10.0, 3.0
ALL = ITEMS * SIZE + PARENTS * INDEX
WORK = Workload(
    name="w",
    items=ITEMS,
    item=Item(size=SIZE, requests=2),
    parents=PARENTS,
    parent=Item(size=INDEX, requests=1),
    epochs=3,
    division="each",
)


def far(division, nodes, node_bytes, near_bytes=0.0):
    tiers = Tiers(node_bytes=node_bytes, near_bytes=near_bytes)
    return [one.far_bytes for one in simulate(replace(WORK, division=division), nodes, tiers)]


@pytest.fixture(scope="module")
def results():
    return design.results(page.figures())


def test_nodes_that_read_everything_fetch_it_once_each():
    assert far("each", 1, ALL) == [ALL, 0, 0]
    assert far("each", 3, ALL) == [3 * ALL, 0, 0]
    (first, *_) = simulate(WORK, 3, Tiers(node_bytes=ALL, near_bytes=0))
    assert first.far_requests == 3 * (2 * ITEMS + PARENTS)


def test_a_cache_of_half_the_data_serves_half_of_a_later_epoch():
    work = replace(WORK, parents=0)
    tiers = Tiers(node_bytes=ITEMS * SIZE / 2, near_bytes=0)
    assert [one.far_bytes for one in simulate(work, 1, tiers)] == [
        ITEMS * SIZE,
        ITEMS * SIZE / 2,
        ITEMS * SIZE / 2,
    ]


def test_fixed_shards_make_one_cache_and_other_divisions_do_not():
    assert far("fixed", 4, ALL / 4) == [ALL, 0, 0]
    first, second, _ = far("anew", 4, ALL / 4)
    assert first >= ALL
    assert second > ALL / 2


@pytest.mark.parametrize("division", ["each", "anew", "fixed"])
def test_with_a_near_tier_each_byte_comes_from_s3_once(division):
    assert far(division, 5, ALL / 10, near_bytes=ALL) == [ALL, 0, 0]
    work = replace(WORK, division=division)
    alone = simulate(work, 5, Tiers(node_bytes=ALL / 10, near_bytes=0))
    near = simulate(work, 5, Tiers(node_bytes=ALL / 10, near_bytes=ALL))
    for one, other in zip(near, alone, strict=True):
        assert one.far_bytes + one.near_bytes == other.far_bytes
        assert one.far_requests + one.near_requests == other.far_requests


def test_what_a_full_near_tier_has_no_room_for_comes_from_s3_each_time():
    first, second, _ = far("each", 2, 0, near_bytes=ALL / 2)
    assert first > ALL
    assert second == pytest.approx(ALL, rel=0.02)


def test_nodes_that_are_not_simulated_do_what_the_second_one_does():
    work = replace(WORK, items=ITEMS * 40, parents=PARENTS * 40)
    wanted = simulate(work, 5, Tiers(node_bytes=design.NODE_CACHE_BYTES, near_bytes=0))
    found = design._traffic(work, 5, 0.0)
    assert [one.far_bytes for one in found] == pytest.approx([one.far_bytes for one in wanted])


def test_figures_come_from_the_page_and_a_row_that_is_not_there_is_named():
    text = PAGE.read_text()
    found = measured(text)
    assert MIB < found.window_bytes < 10 * MIB
    assert found.feature_requests >= 1
    with pytest.raises(KeyError, match="ls -l of 10,000 files"):
        measured(text.replace("| ls -l of 10,000 files", "| other"))


def test_the_page_has_the_tables_of_the_simulation(results):
    written = page.PAGE.read_text()
    made = page.tables(page.figures(), results)
    assert written == page.page_with_tables(written, made), "run: scripts/scale --write"
    with pytest.raises(ValueError, match="no place for the table traffic"):
        page.page_with_tables(written.replace("<!-- traffic", "<!-- other"), made)


def test_the_command_prints_or_writes_the_tables(results, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(design, "results", lambda _: results)
    monkeypatch.setattr(sys, "argv", ["scripts/scale"])
    assert command.main() == 0
    printed = capsys.readouterr().out
    assert printed == "\n".join(page.tables(page.figures(), results).values())
    copy, picture = tmp_path / "scale.md", tmp_path / "scale.png"
    copy.write_text(page.page_with_tables(page.PAGE.read_text(), {"traffic": "old"}))
    monkeypatch.setattr(command, "PAGE", copy)
    monkeypatch.setattr(command, "PICTURE", picture)
    monkeypatch.setattr(sys, "argv", ["scripts/scale", "--write"])
    assert command.main() == 0
    assert copy.read_text() == page.PAGE.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")
