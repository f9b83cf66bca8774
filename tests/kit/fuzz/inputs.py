"""Generators of input: damaged copies of valid files, and texts made of pieces that matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

LARGE = 100_000
"""Characters of a repeated text: time that grows with their square is seen."""

_PLACES = 1 << 20


@dataclass(frozen=True)
class Edit:
    """One change at `place`, a fraction of the length in 2**20ths: `removed` bytes become `put`."""

    place: int
    removed: int
    put: bytes

    def apply(self, content: bytes) -> bytes:
        """Return the content with this change."""
        at = self.place * len(content) // _PLACES
        return content[:at] + self.put + content[at + self.removed :]


_PUT = st.one_of(
    st.binary(max_size=4),
    st.sampled_from([b"\0", b"\xff", b"\0" * 64, b"\xff" * 8, b'"', b"\r", b"\n", b"\x80"]),
)
_PLACE = st.integers(0, _PLACES - 1)
SAME_LENGTH = st.binary(min_size=1, max_size=8).flatmap(
    lambda put: st.builds(Edit, _PLACE, st.just(len(put)), st.just(put))
)
"""Changes that move nothing, as damage on a disk."""
EDITS = st.one_of(SAME_LENGTH, st.builds(Edit, _PLACE, st.integers(0, 5000), _PUT))


def edited(content: bytes, edits: Sequence[Edit]) -> bytes:
    """Return the content after all changes."""
    for edit in edits:
        content = edit.apply(content)
    return content


def damaged(*contents: bytes) -> st.SearchStrategy[bytes]:
    """Return copies of these contents with one to eight changes."""
    edits = st.lists(EDITS, min_size=1, max_size=8)
    return st.builds(edited, st.sampled_from(contents), edits)


def soup(*pieces: str) -> st.SearchStrategy[str]:
    """Return texts of these pieces and of any characters."""
    return st.lists(st.one_of(st.sampled_from(pieces), st.text(max_size=6)), max_size=40).map(
        "".join
    )


def large(*pieces: str) -> st.SearchStrategy[str]:
    """Return texts of up to LARGE characters: a few pieces again and again, and others around."""
    some = st.lists(st.sampled_from(pieces), min_size=1, max_size=5).map("".join)
    length = st.sampled_from([1, 1000, LARGE])  # smaller ones are the simpler examples
    return st.builds(_repeated, some, some, some, length)


def _repeated(first: str, again: str, last: str, length: int) -> str:
    return first + again * (length // max(1, len(again))) + last


def texts(*pieces: str) -> st.SearchStrategy[bytes]:
    """Return encoded texts of these pieces, few of them large; some in another encoding."""
    encoded = st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16"])
    return st.builds(_encoded, st.one_of(*[soup(*pieces)] * 19, large(*pieces)), encoded)


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "replace")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.sampled_from(["", "\ud800", "a\0b", "x" * 5000, "9" * 5000, "1e999", 10**30]),
)
"""Values of any JSON type."""

DOCUMENTS = st.recursive(
    VALUES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
