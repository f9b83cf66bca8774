"""Facts kept on disk: size, ETag, version and time of objects, and the indexes of videos."""

from ego4dfs.facts.index import REFUSAL_VALID_S, FactsIndex
from ego4dfs.facts.media_facts import MediaFacts
from ego4dfs.facts.media_table import IndexPlace, MediaTable

__all__ = ["REFUSAL_VALID_S", "FactsIndex", "IndexPlace", "MediaFacts", "MediaTable"]
