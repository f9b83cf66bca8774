"""Offline copies: objects as plain files in the official layout, their journal, reads from them.

prefetch fills such a directory, verify checks it, and a mount serves from it.
"""

from ego4dfs.copies.journal import Journal
from ego4dfs.copies.layout import Layout, unusable
from ego4dfs.copies.record import Record
from ego4dfs.copies.rule import State
from ego4dfs.copies.serving import Copies, Copy
from ego4dfs.copies.shard_journal import ShardJournal, open_whole

__all__ = [
    "Copies",
    "Copy",
    "Journal",
    "Layout",
    "Record",
    "ShardJournal",
    "State",
    "open_whole",
    "unusable",
]
