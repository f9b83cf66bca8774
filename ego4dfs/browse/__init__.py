"""Pages for a browser: the videos of a selection with their narrations and annotations."""

from ego4dfs.browse.pages import BrowserPages, open_pages

__all__ = ["BrowserPages", "open_pages"]
