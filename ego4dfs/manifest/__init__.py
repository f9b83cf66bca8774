"""Parsing of manifest.csv files, and their rows packed in memory. Pure: no disk, no network."""

from ego4dfs.manifest.csv_rows import CsvRow, read_rows
from ego4dfs.manifest.entries import (
    CompressedBytes,
    Entries,
    Entry,
    EntryPacker,
    filtered,
    names_and_urls,
)
from ego4dfs.manifest.header import LOCATION_COLUMNS, UID_COLUMNS, check
from ego4dfs.manifest.parser import (
    RESERVED_NAMES,
    Manifest,
    Problem,
    numbered,
    parse,
)

__all__ = [
    "LOCATION_COLUMNS",
    "RESERVED_NAMES",
    "UID_COLUMNS",
    "CompressedBytes",
    "CsvRow",
    "Entries",
    "Entry",
    "EntryPacker",
    "Manifest",
    "Problem",
    "check",
    "filtered",
    "names_and_urls",
    "numbered",
    "parse",
    "read_rows",
]
