"""The facts of an object by its first GET request, which also brings some of its bytes."""

from __future__ import annotations

from collections.abc import Callable

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import StoreError
from ego4dfs.session import Session
from ego4dfs.store import Fetched, ObjectFacts


def facts_by_first_get(
    session: Session, url: str, wanted: range, keep: Callable[[Fetched], None] | None = None
) -> ObjectFacts:
    """Fetch whole parts of an object of unknown facts, and return the facts that come with them.

    The parts are cached, and `keep` is called with them. Raises StoreError.
    """
    try:
        fetched = session.store.read_range(url, wanted.start, wanted.stop)
    except StoreError as error:
        if type(error) is not StoreError:
            raise
        return session.store.head(url)  # the parts may be after the end
    facts = fetched.facts
    ref = ObjectRef.of(session.store.source, url, facts.size, facts.etag)
    session.reader.put(ref, wanted.start, fetched.data)
    if keep is not None:
        keep(fetched)
    return facts.confirmed()
