"""Index files: manifests and facts of a cache in one SQLite file, for other machines."""

from ego4dfs.index_file.exporter import ExportReport, IndexExporter
from ego4dfs.index_file.importer import Counts, ImportReport, IndexImporter
from ego4dfs.index_file.reader import BadRow, IndexReader

__all__ = [
    "BadRow",
    "Counts",
    "ExportReport",
    "ImportReport",
    "IndexExporter",
    "IndexImporter",
    "IndexReader",
]
