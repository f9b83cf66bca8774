"""Conversion of a listing to a pandas DataFrame.

pandas takes a second to import, longer than a mount takes to start, so it is imported late.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ego4dfs.catalog.catalog import Listing
from ego4dfs.catalog.metadata import OF_CONTENT, OF_VIDEO, STREAMS, Fields, Metadata
from ego4dfs.manifest import Entry
from ego4dfs.manifest.header import read_header

DESCRIBED_COLUMNS = ("duration_s", *STREAMS, *OF_VIDEO)
"""What ego4d.json says of the video or the clip of a row."""


def to_frame(listing: Listing, metadata: Metadata) -> Any:
    """Return the selected entries as a DataFrame, one row each, in the manifest's order.

    Columns: `name` (file name in the dataset's directory), `uid`, `s3_uri`, `benchmarks` (a set,
    or None where the manifest has no such column), `parent_video_uid`, `start_s` and `end_s` (of
    clips: the video and the window in it) and `row` (in the manifest; its header is row 1); then
    DESCRIBED_COLUMNS, and all other columns of the manifest, as text. Values that nothing says are
    missing: `pandas.isna` is true.
    """
    import pandas as pd  # noqa: PLC0415 - see above

    entries = listing.entries
    columns: dict[str, list[Any]] = {
        "name": [entry.name for entry in entries],
        "uid": [entry.uid for entry in entries],
        "s3_uri": [entry.url for entry in entries],
        "benchmarks": [entry.benchmarks for entry in entries],
        "parent_video_uid": [entry.parent or None for entry in entries],
        "start_s": [entry.window[0] if entry.window else None for entry in entries],
        "end_s": [entry.window[1] if entry.window else None for entry in entries],
        "row": [entry.row for entry in entries],
    }
    described = [_described(entry, metadata) for entry in entries]
    found = {name: [each.get(name) for each in described] for name in DESCRIBED_COLUMNS}
    for name, texts in _texts(listing, entries).items():
        if name in found:  # of videos that ego4d.json does not have
            pairs = zip(found[name], texts, strict=True)
            found[name] = [text if value is None else value for value, text in pairs]
        elif name not in columns:
            found[name] = texts
    return pd.DataFrame({**columns, **found})


def _described(entry: Entry, metadata: Metadata) -> Fields:
    """Return what ego4d.json says of a row; of a clip, also what it has from its video."""
    clip = metadata.clips.get(entry.uid.lower())
    if clip is None:
        uids = (entry.uid.lower(), entry.parent, *sorted(entry.uids))
        return next((metadata.videos[uid] for uid in uids if uid in metadata.videos), {})
    parent = metadata.videos.get(str(entry.parent or clip.get("video_uid")), {})
    window = entry.window or (clip.get("start_s"), clip.get("end_s"))
    seconds = [one for one in window if isinstance(one, int | float)]
    return {
        **{name: parent.get(name) for name in OF_CONTENT},
        **clip,
        "duration_s": seconds[1] - seconds[0] if len(seconds) == len(window) else None,
    }


def _texts(listing: Listing, entries: Sequence[Entry]) -> dict[str, list[str | None]]:
    """Return all columns of the manifest, for these entries; empty fields are None."""
    header, rows = read_header(listing.content, listing.dataset)
    wanted = {entry.row for entry in entries}
    fields = {row.number: row.fields for row in rows if row.number in wanted}
    of_rows = [[*fields.get(entry.row, ()), *[""] * len(header)] for entry in entries]
    return {
        name: [row[number].strip() or None for row in of_rows] for number, name in enumerate(header)
    }
