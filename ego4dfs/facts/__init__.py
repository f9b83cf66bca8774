"""Object metadata (size, ETag, version, time), fetched once by HEAD and kept on disk."""

from ego4dfs.facts.index import REFUSAL_VALID_S, FactsIndex

__all__ = ["REFUSAL_VALID_S", "FactsIndex"]
