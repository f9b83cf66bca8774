"""Elements of large JSON files, one at a time: some annotations have 2 GB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from ego4dfs.errors import ConfigError

MAX_ELEMENT_CHARACTERS = 128 << 20
"""The longest element. The annotations of one video have 30 MB at most, as far as is known."""
_CHUNK_CHARACTERS = 4 << 20
_BLANK = " \t\r\n"


class Text(Protocol):
    """A text that is read from its start to its end."""

    def read(self, characters: int, /) -> str:
        """Return the next characters, so many at most; at least one, unless the text has ended."""


class Element(NamedTuple):
    """A value at depth 2: `name` of `section`, which is empty if the file is a list."""

    section: str
    name: str | int
    value: Any


def elements(text: Text) -> Iterator[Element]:
    """Yield the elements of a list, or of each list and object that an object has.

    Other members of the object are left out. Raises ConfigError if the text is not JSON, or has an
    element that is too long.
    """
    source = _Source(text)
    if source.peek() == "[":
        yield from _elements(source, "")
    else:
        yield from _sections(source)
    source.check_end()


def _sections(source: _Source) -> Iterator[Element]:
    for section in _members(source):
        if source.peek() in ("[", "{"):
            yield from _elements(source, str(section))
        else:
            source.value()


def _elements(source: _Source, section: str) -> Iterator[Element]:
    names = _members(source) if source.peek() == "{" else _places(source)
    for name in names:
        yield Element(section, name, source.value())


def _members(source: _Source) -> Iterator[str]:
    """Yield the names of an object's members; the caller reads each value."""
    source.skip("{")
    while source.peek() != "}":
        name = source.value()
        source.skip(":")
        yield name
        source.skip_comma("}")
    source.skip("}")


def _places(source: _Source) -> Iterator[int]:
    """Yield the positions in a list; the caller reads each value."""
    source.skip("[")
    place = 0
    while source.peek() != "]":
        yield place
        place += 1
        source.skip_comma("]")
    source.skip("]")


class _Source:
    """A JSON text, of which one value is in memory at a time."""

    def __init__(self, text: Text) -> None:
        self._stream = text
        self._text, self._at, self._before = "", 0, 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Return the next character that is not blank, or an empty string at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text) or not self._read():
                return self._text[self._at : self._at + 1]

    def skip(self, expected: str) -> None:
        """Skip a character. Raises ConfigError if the next one is another."""
        if self.peek() != expected:
            raise self._damaged()
        self._at += 1

    def skip_comma(self, stop: str) -> None:
        """Skip a comma, unless `stop` is next."""
        if self.peek() != stop:
            self.skip(",")

    def check_end(self) -> None:
        """Raise ConfigError if more follows."""
        if self.peek():
            raise self._damaged()

    def value(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                value, stop = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._damaged() from None
            except ValueError:  # it is not complete yet, or damaged
                if not self._read():
                    raise self._damaged() from None
                continue
            if stop < len(self._text) or not self._read():  # the digits of a number may go on
                self._at = stop
                return value

    def _read(self) -> bool:
        """Read as much as is in memory again, and return whether there was something."""
        rest = self._text[self._at :]
        if len(rest) > MAX_ELEMENT_CHARACTERS:
            raise self._damaged()
        more = self._stream.read(max(_CHUNK_CHARACTERS, len(rest)))
        if more:
            self._before += self._at
            self._text, self._at = rest + more, 0
        return bool(more)

    def _damaged(self) -> ConfigError:
        place = self._before + self._at
        return ConfigError(f"it is not JSON that can be read, at character {place}")
