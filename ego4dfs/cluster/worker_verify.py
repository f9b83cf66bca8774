"""What a Dask worker runs to verify: it reads the files of a part, and needs no key."""

from __future__ import annotations

from collections.abc import Sequence

from ego4dfs.cluster.part import Part
from ego4dfs.cluster.worker_task import WorkerTask, check_worker
from ego4dfs.copies.etag_trust import EvidenceRow
from ego4dfs.verify import Evidence, Finding, check_items

_AT_ONCE = 16


def verify_part(argument: tuple[Part, Sequence[EvidenceRow]]) -> list[Finding]:
    """Return the findings of the files of a part; fewer if the run ends.

    Raises OutputError for a worker that sees another directory.
    """
    part, rows = argument
    check_worker(part)
    task = WorkerTask(part)
    items, evidence = list(part.plan.items), Evidence(rows)
    found: list[Finding] = []
    while len(found) < len(items) and not task.must_end:
        some = items[len(found) : len(found) + _AT_ONCE]
        found += check_items(part.root, some, evidence)
        task.say({"part": part.index, "checked": len(found)})
    return found
