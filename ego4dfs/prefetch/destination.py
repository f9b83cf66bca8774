"""Destination: the directories, manifests and recorded selections of a run into copies."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ego4dfs.catalog import Listing
from ego4dfs.copies import Layout
from ego4dfs.prefetch.disk_errors import concerns_process
from ego4dfs.prefetch.plan import Plan
from ego4dfs.prefetch.release_files import ReleaseFiles
from ego4dfs.prefetch.selection_history import Selections


class Destination:
    """Prepares a directory of copies, before files are fetched into it."""

    def __init__(self, layout: Layout, *, writes_manifests: bool = True) -> None:
        """Write below the layout's root; without manifests if those of the user are fetched."""
        self._layout = layout
        self._writes_manifests = writes_manifests

    def remember(self, plan: Plan, *, is_all: bool) -> None:
        """Record the selection: `verify` reports only its files as missing. Raises OSError.

        The files of other shards are not recorded: they may be meant for other directories.
        """
        selections = Selections(self._layout.state)
        for dataset in plan.datasets:
            names = None if is_all else [item.name for item in dataset.items]
            selections.add(self._layout.version, dataset.dataset, names)
        selections.save()

    def prepare(self, listings: Sequence[Listing], wanted: Collection[str]) -> dict[str, OSError]:
        """Create the directories and write the manifests; return the error of each that failed.

        The `wanted` datasets have files to fetch; the directory of another one may be read-only.
        One failure does not stop the others, because each dataset may be on its own disk. Raises
        OSError if no wanted dataset can be written.
        """
        failed: dict[str, OSError] = {}
        needed = frozenset(wanted or (listing.dataset for listing in listings))
        for listing in listings:
            error = self._prepare(listing, is_wanted=listing.dataset in wanted)
            if error is not None:
                failed[listing.dataset] = error
                if needed <= failed.keys() or concerns_process(error):
                    raise error
        return failed

    def _prepare(self, listing: Listing, *, is_wanted: bool) -> OSError | None:
        try:
            if is_wanted:
                self._layout.prepare_dataset(listing.dataset)
            if self._writes_manifests:
                ReleaseFiles(self._layout).manifest(listing)
        except OSError as error:
            return error
        return None
