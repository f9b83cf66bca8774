"""Conversion of a listing to a pandas DataFrame.

pandas takes a second to import, longer than a mount takes to start, so it is imported late.
"""

from __future__ import annotations

from typing import Any

from ego4dfs.catalog.catalog import Listing


def to_frame(listing: Listing) -> Any:
    """Return the selected entries as a DataFrame, one row each, in the manifest's order.

    Columns: `name` (file name in the dataset's directory), `uid`, `s3_uri`, `benchmarks` (a set,
    or None where the manifest has no such column), `parent_video_uid`, `start_s` and `end_s` (of
    clips: the video and the window in it) and `row` (in the manifest; its header is row 1).
    """
    import pandas as pd  # noqa: PLC0415 - see above

    return pd.DataFrame(
        {
            "name": [entry.name for entry in listing.entries],
            "uid": [entry.uid for entry in listing.entries],
            "s3_uri": [entry.url for entry in listing.entries],
            "benchmarks": [entry.benchmarks for entry in listing.entries],
            "parent_video_uid": [entry.parent or None for entry in listing.entries],
            "start_s": [entry.window[0] if entry.window else None for entry in listing.entries],
            "end_s": [entry.window[1] if entry.window else None for entry in listing.entries],
            "row": [entry.row for entry in listing.entries],
        }
    )
