"""The order of windows over ranks and workers, and an iteration that is resumed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pandas as pd
import pytest

from ego4dfs.api.shards import Order, Position, window_digest, window_list
from ego4dfs.errors import ConfigError

pytestmark = pytest.mark.first_pass

ITEMS = "a digest"


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("count", [0, 1, 7, 24])
def test_all_workers_of_all_ranks_read_everything(seed, ranks, workers, count):
    orders = [Order(count, rank, ranks, seed) for rank in range(ranks)]
    shares = [[o.indices(5, w, workers) for w in range(workers)] for o in orders]
    found = Counter(index for rank in shares for share in rank for index in share)
    assert set(found) == set(range(count))
    assert {sum(map(len, rank)) for rank in shares} == {orders[0].length}
    assert sum(found.values()) - count < ranks  # what makes them equal


def test_an_order_follows_from_seed_and_epoch_alone():
    order = Order(100, seed=7)
    assert order.indices(0) == order.indices(0) != order.indices(1)
    assert order.indices(0) != Order(100, seed=8).indices(0)
    assert sorted(order.indices(0)) == Order(100).indices(3) == list(range(100))
    code = "from ego4dfs.api.shards import Order; print(Order(100, seed=7).indices(0))"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert other.stdout.strip() == str(order.indices(0))


@pytest.mark.parametrize(("rank", "ranks"), [(-1, 2), (2, 2), (0, 0)])
def test_a_rank_must_exist(rank, ranks):
    with pytest.raises(ConfigError, match="rank="):
        Order(10, rank, ranks)


def test_a_resumed_iteration_goes_on_after_the_last_item():
    order = Order(20, 1, 2, seed=1)
    first = Position(order, ITEMS)
    with first.iteration(4, 1, 2) as indices:
        whole = list(indices)
        for _ in range(3):
            first.advance()
        state = first.state(4)
    second = Position(order, ITEMS)
    assert second.resume(state) == 4
    assert second.state(0) == state
    with second.iteration(4, 1, 2) as left:
        assert left == whole[3:]
        second.advance()
        assert second.state(4)["done"] == 4
    with second.iteration(5, 1, 2) as again:
        assert again == order.indices(5, 1, 2)
        assert second.state(5)["done"] == 0


@pytest.mark.parametrize("other", [Order(21), Order(20, 0, 2), Order(20, seed=2)])
def test_a_state_of_another_order_is_an_error(other):
    with pytest.raises(ConfigError, match="the state has"):
        Position(other, ITEMS).resume(Position(Order(20, seed=1), ITEMS).state(0))


def test_a_state_of_other_windows_is_an_error():
    windows = [("aaaa", 1.0, 2.0, "text"), ("bbbb", 2.0, 3.0, "more")]
    first, order = window_digest(windows), Order(2)
    state = Position(order, first).state(0)
    assert Position(order, window_digest([window[:3] for window in windows])).resume(state) == 0
    for others in (windows[::-1], [windows[0], ("bbbb", 2.0, 3.5)], [windows[0]] * 2):
        with pytest.raises(ConfigError, match=f"windows='{first}', not '") as caught:
            Position(order, window_digest(others)).resume(state)
        assert "same windows" in caught.value.hint


def test_a_state_of_another_worker_is_an_error():
    position = Position(Order(20), ITEMS)
    position.resume(Position(Order(20), ITEMS).state(0))
    with pytest.raises(ConfigError, match="of worker"), position.iteration(0, 1, 2):
        pass


def test_windows_are_rows_of_a_frame_or_any_sequences():
    rows = [("aaaa", 1.0, 2.0, "text"), ("bbbb", 2.0, 3.0, "more")]
    frame = pd.DataFrame(rows, columns=["video_uid", "start_s", "end_s", "text"])
    assert window_list(frame.assign(clip_uid=None)) == rows
    assert window_list(frame.drop(columns="text")) == [row[:3] for row in rows]
    assert window_list(iter(rows)) == rows
    with pytest.raises(ConfigError, match="no column video_uid, end_s"):
        window_list(frame[["start_s"]])


def test_without_torch_the_error_names_the_command():
    code = "import sys; sys.modules['torch'] = None; import ego4dfs.torch"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr.strip().endswith("pip install 'ego4dfs[torch]'")
