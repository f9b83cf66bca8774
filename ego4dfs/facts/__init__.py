"""What objects weigh, asked once and kept."""

from ego4dfs.facts.index import REFUSAL_KEPT_S, FactsIndex

__all__ = ["REFUSAL_KEPT_S", "FactsIndex"]
