"""What a Dask worker runs to verify: it reads the files of a part, and needs no key."""

from __future__ import annotations

from ego4dfs.cluster.part import Part
from ego4dfs.cluster.worker_task import WorkerTask, check_worker
from ego4dfs.verify import Compared, compare_items

_AT_ONCE = 16


def verify_part(part: Part) -> list[Compared]:
    """Return the comparisons of the files of a part; fewer if the run ends.

    Raises OutputError for a worker that sees another directory.
    """
    check_worker(part)
    task = WorkerTask(part)
    items = list(part.plan.items)
    found: list[Compared] = []
    while len(found) < len(items) and not task.must_end:
        some = items[len(found) : len(found) + _AT_ONCE]
        found += compare_items(part.root, some)
        task.say({"part": part.index, "checked": len(found)})
    return found
