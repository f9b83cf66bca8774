"""The header of a manifest.csv: reading it, and checking that it has the required columns.

Pure: no disk, no network.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import partial

from ego4dfs.errors import ManifestError
from ego4dfs.manifest.csv_rows import CsvRow, read_rows

UID_COLUMNS = ("file_uid", "video_uid", "exported_clip_uid", "clip_uid")
LOCATION_COLUMNS = ("canonical_s3_location", "s3_path", "path")

_LINE_CHARACTERS = 16 << 20  # read at a time from a file without line ends


def read_header(content: bytes, name: str) -> tuple[list[str], Iterator[CsvRow]]:
    """Return the column names of a manifest.csv, and its other rows.

    Raises ManifestError if there is no usable header; `name` is the manifest's name in it.
    """
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", errors="replace", newline="")
    rows = read_rows(iter(partial(text.readline, _LINE_CHARACTERS), ""))
    first = next(rows, CsvRow(1, [], is_damaged=False))
    header = [column.strip() for column in first.fields]
    _check_header(header, name)
    return header, rows


def check(content: bytes, name: str) -> None:
    """Raise ManifestError if there is no usable header, without reading the other rows.

    A web page that a proxy returned in place of the manifest has none.
    """
    read_header(content, name)


def _check_header(header: Sequence[str], name: str) -> None:
    for what, wanted in (("an id", UID_COLUMNS), ("a location", LOCATION_COLUMNS)):
        if not any(column in header for column in wanted):
            shown = ", ".join(header)[:120] or "nothing"
            if shown.startswith("<"):
                raise ManifestError(
                    f"manifest {name}, row 1: begins with {shown[:40]}: a web page, not a manifest",
                    hint="something else answered in place of its manifest.csv, such as the sign-in"
                    " page of this network: look with a browser, or check the proxy",
                )
            raise ManifestError(
                f"manifest {name}, row 1: no column holds {what}; found {shown}",
                hint=f"expected one of {', '.join(wanted)}: is this file a manifest.csv?",
            )
