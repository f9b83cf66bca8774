"""The manifests and the ego4d.json of the root, which `ego4dfs verify` checks and restores."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from ego4dfs.catalog import Listing
from ego4dfs.cli.output import say
from ego4dfs.copies import Layout
from ego4dfs.datasets import MANIFEST, METADATA
from ego4dfs.prefetch import ReleaseFiles
from ego4dfs.prefetch.disk_errors import reason_of
from ego4dfs.verify import FINE, Finding, Verdict


def root_findings(layout: Layout, findings: Iterable[Finding]) -> list[Finding]:
    """Return what is wrong with the ego4d.json of the root, if that of the version is right.

    The latter is one of `findings`, or ego4d.json is not checked.
    """
    try:
        is_checked = _is_metadata_right(layout, findings)
        if not is_checked or ReleaseFiles(layout).is_root_metadata_right():
            return []
    except OSError as error:
        return [Finding(METADATA, Verdict.DAMAGED, f"cannot be read: {reason_of(error)}")]
    top = layout.root / METADATA
    if top.exists():
        reason = f"differs from {layout.relative('', METADATA)}"
        return [Finding(METADATA, Verdict.DAMAGED, reason)]
    return [Finding(METADATA, Verdict.MISSING)]


def restore(layout: Layout, findings: Iterable[Finding], listings: Sequence[Listing]) -> None:
    """Write the manifests that are missing, and the ego4d.json of the root if it is not right.

    `findings` are those after a repair. What cannot be written is named on stderr.
    """
    files = ReleaseFiles(layout)
    for listing in listings:
        if not (layout.dataset(listing.dataset) / MANIFEST).exists():
            try:
                files.manifest(listing)
            except OSError as error:
                _say_unwritten(layout.relative(listing.dataset, MANIFEST), error)
    if root_findings(layout, findings):
        try:
            files.metadata()
        except OSError as error:
            _say_unwritten(METADATA, error)


def _is_metadata_right(layout: Layout, findings: Iterable[Finding]) -> bool:
    path = layout.relative("", METADATA)
    return any(one.path == path and one.verdict in FINE for one in findings)


def _say_unwritten(path: str, error: OSError) -> None:
    say(f"ego4dfs: {path}: {reason_of(error)}", file=sys.stderr)
