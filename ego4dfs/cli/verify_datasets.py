"""The datasets that `ego4dfs verify` checks if none is named."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import PurePosixPath

from ego4dfs.cli.output import say
from ego4dfs.copies import Layout
from ego4dfs.errors import os_error_text
from ego4dfs.prefetch import Selections
from ego4dfs.verify import datasets_below


def datasets_to_check(layout: Layout) -> tuple[tuple[str, ...], Mapping[str, OSError]]:
    """Return the datasets with copies, and the directories that cannot be read, with the errors.

    A dataset that `prefetch` has selected has copies, even if its directory is gone: they are
    missing. Names on stderr the directories that are not checked, or have no manifest.
    """
    below = datasets_below(layout)
    selected = {
        name
        for name in Selections(layout.state).datasets(layout.version)
        if not any(PurePosixPath(name).is_relative_to(one) for one in below.unreadable)
    }
    unreadable = {name: os_error_text(e) for name, e in below.unreadable.items()}
    for name, reason in (below.skipped | unreadable).items():
        shown = layout.relative_directory(name)
        if name not in selected:
            say(f"ego4dfs: {shown} was not checked: {reason}", file=sys.stderr)
        elif layout.dataset(name).is_dir():
            say(f"ego4dfs: {shown}: {reason}; verify --repair writes it", file=sys.stderr)
        else:
            say(f"ego4dfs: {shown}: {reason}", file=sys.stderr)
    return tuple(sorted(selected.union(below.datasets))), below.unreadable
