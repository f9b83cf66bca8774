"""What a filesystem shows, as text and as a table for notebooks; without opening it."""

from __future__ import annotations

from html import escape

from ego4dfs.config import FILTERS, KEYS, Config
from ego4dfs.text import human_size, masked, printable

_MOST_NAMED = 5


def as_text(config: Config) -> str:
    """Return one line; secrets in URLs are masked."""
    return f"<Ego4DFileSystem {', '.join(f'{name}: {value}' for name, value in _rows(config))}>"


def as_html(config: Config) -> str:
    """Return a table; everything in it is escaped."""
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in _rows(config)
    )
    return f"<table><caption>Ego4DFileSystem</caption>{rows}</table>"


def _rows(config: Config) -> list[tuple[str, str]]:
    limit = f", at most {human_size(config.cache_max_bytes)}" if config.cache_max_bytes else ""
    rows = {
        "version": config.version,
        "datasets": " ".join(config.datasets) or "all",
        **{name: _filter(config, name) for name in FILTERS},
        "cache": f"{config.cache_dir}{limit}",
        "copies": str(config.copies or ""),
        "source": config.source or config.endpoint_url,
    }
    return [(name, masked(printable(value))) for name, value in rows.items() if value]


def _filter(config: Config, name: str) -> str:
    """Return the value of a filter as text; a list of many is counted."""
    field = KEYS[name].field
    if name != field:
        return ""  # another name of the same option
    value = getattr(config, field)
    if isinstance(value, str):
        return value
    return " ".join(value) if len(value) <= _MOST_NAMED else f"{len(value)} values"
