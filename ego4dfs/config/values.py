"""Readers of option values: each checks and converts one value of a flag, config key or variable.

Every error is a ConfigError that begins with where the value was given, because a wrong value may
come from a flag, the config file or the environment. Only the readers of paths access the disk.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ego4dfs import datasets
from ego4dfs.config import text_files
from ego4dfs.errors import ConfigError
from ego4dfs.text import is_http_url

UNITS: Mapping[str, int] = {
    "": 1,
    "B": 1,
    **{unit: 1000**power for power, unit in enumerate(("KB", "MB", "GB", "TB"), start=1)},
    **{unit: 1024**power for power, unit in enumerate(("KIB", "MIB", "GIB", "TIB"), start=1)},
}
_PATTERN = re.compile(r"(?:\[!?\]?[^\]]*\]|[^,])+")
MIN_CACHE_BYTES = 64 * 2**20
_WHITESPACE = str.maketrans("\n\t\v\f\r\u2028\u2029\ufeff\xa0", " " * 9)
_ADDRESS = re.compile(r"(?:(?:\[([0-9a-fA-F:.%]+)\]|([^\s:/@\[\]]*)):)?(\d{1,5})", re.ASCII)
_BUCKET_URL = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9._=-]+)*", re.ASCII)
_MAX_PORT = 65535
LOOPBACK = "127.0.0.1"
_PATH_BYTES = 4096  # of Linux
_SHOWN = 200
"""Characters of a wrong value in a message."""
SIZE_HINT = "write it like 50GiB (1024³), 500MB (1000²), 1.5TiB, or as a number of bytes"


@dataclass(frozen=True, slots=True)
class Given:
    """One value as it was given.

    `where` names its place in messages. `typed` is True for JSON, which has lists, numbers and
    booleans, so that a string in their place is a mistake.
    """

    value: object
    where: str
    typed: bool = False

    def invalid(self, expected: str, hint: str = "") -> ConfigError:
        """Return the error that says what was expected instead."""
        got = _shown(self.value)
        return ConfigError(f"{self.where}: expected {expected}, got {got}", hint=hint)


def _shown(value: object) -> str:
    """Return a value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def parse_size(text: str) -> int:
    """Return the number of bytes of a size such as `50GiB`, `500MB`, `1.5TiB` or `1073741824`.

    GB is 1000³ and GiB 1024³. Case and spaces are ignored, a fraction of a byte is dropped. Raises
    ConfigError for anything else, also for a single letter: `50G` is ambiguous.
    """
    found = re.fullmatch(r"(\d{1,20})(?:\.(\d{1,20}))?\s*([a-zA-Z]*)", text.strip(), re.ASCII)
    scale = UNITS.get(found[3].upper()) if found else None
    if found is None or scale is None:
        raise ConfigError(f"{_shown(text)} is not a size", hint=SIZE_HINT)
    fraction = found[2] or ""
    return int(found[1] + fraction) * scale // int(10 ** len(fraction))


def closest(word: str, choices: Iterable[str]) -> str:
    """Return a hint that names the choice that was probably meant, else all choices.

    Two are named if both have the word: `profile` may be meant for S3 or for the near tier.
    """
    choices, word = sorted(choices), word.lower()
    close = difflib.get_close_matches(word, choices, n=2)
    meant = close if all(word in choice.split("_") for choice in close) else close[:1]
    return f"did you mean {' or '.join(meant)}?" if meant else f"choose from: {', '.join(choices)}"


def text(given: Given) -> str:
    """Read a string that is not empty."""
    if not isinstance(given.value, str) or not given.value.strip():
        raise given.invalid("a string")
    return given.value.strip()


def optional_text(given: Given) -> str:
    """Read a string; an empty one means not given."""
    return text(given) if given.value != "" else ""


def flag(given: Given) -> bool:
    """Read a boolean; outside JSON also the words true, false, yes, no, on, off, 1 and 0."""
    if isinstance(given.value, bool):
        return given.value
    spelt = {"1": True, "true": True, "yes": True, "on": True}
    spelt |= {"0": False, "false": False, "no": False, "off": False}
    if given.typed or str(given.value).strip().lower() not in spelt:
        raise given.invalid("true or false")
    return spelt[str(given.value).strip().lower()]


def _split_at_commas(text: str) -> list[str]:
    return text.split(",")


def words(given: Given, *, parts: Callable[[str], list[str]] = _split_at_commas) -> tuple[str, ...]:
    """Read a list of words, without duplicates, in order.

    `parts` splits each item, at commas by default. JSON must have a list: the official tool
    treats a string there as a list of its letters. An empty list has no words; items without a
    word, as of an unset variable, are a mistake: they would select everything.
    """
    items = given.value
    if isinstance(items, str):
        if given.typed:
            raise given.invalid("a list", f"write [{_quoted(items)}]")
        items = items.split()
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise given.invalid("a list")
    for item in items:
        if not isinstance(item, str):
            raise Given(item, given.where).invalid("a list of strings")
    split = (word.strip() for item in items for word in parts(item))
    found = tuple(dict.fromkeys(word for word in split if word))
    if not found and (items or isinstance(given.value, str)):
        raise given.invalid("a word", "name one, or leave out the option")
    return found


def annotation_words(given: Given) -> tuple[str, ...]:
    """Read a list of words in lower case; a boolean, as the official tool stores it, means all."""
    return () if isinstance(given.value, bool) else lower_case_words(given)


def lower_case_words(given: Given) -> tuple[str, ...]:
    """Read a list of words, such as benchmarks or uids, and convert it to lower case."""
    return tuple(dict.fromkeys(word.lower() for word in words(given)))


def universities(given: Given) -> tuple[str, ...]:
    """Read a list of known university ids."""
    names = lower_case_words(given)
    for name in names:
        if name not in datasets.UNIVERSITY_BUCKETS:
            hint = closest(name, datasets.UNIVERSITY_BUCKETS)
            raise Given(name, given.where).invalid("a known university", hint)
    return names


def dataset_names(given: Given) -> tuple[str, ...]:
    """Read a list of dataset names, as `datasets.normalise`; unknown names are accepted."""
    names = words(given)
    try:
        return tuple(dict.fromkeys(datasets.normalise(name) for name in names))
    except ConfigError as error:
        raise _with_place(error, given) from None


def version(given: Given) -> str:
    """Read a version of Ego4D; unknown versions are accepted."""
    spelt = text(given)
    try:
        return datasets.check_version(spelt)
    except ConfigError as error:
        raise _with_place(error, given) from None


def path(given: Given) -> Path:
    """Read a path and make it absolute, since a daemon changes directory; `~` is expanded."""
    value = given.value
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise given.invalid("a path")
    if "\0" in os.fspath(value):
        raise given.invalid("a path without NUL characters")
    try:
        is_too_long = len(os.fsencode(value)) >= _PATH_BYTES
    except UnicodeEncodeError:
        raise given.invalid("a path that can be encoded") from None
    if is_too_long:
        raise given.invalid(f"a path of less than {_PATH_BYTES} bytes")
    try:
        return Path(os.path.abspath(Path(value).expanduser()))  # noqa: PTH100 - resolve() follows links
    except RuntimeError as error:
        raise ConfigError(f"{given.where}: {error}", hint="write the path without ~") from None
    except OSError as error:
        hint = "write an absolute path, or start in a directory that exists"
        raise ConfigError(f"{given.where}: {error.strerror}", hint=hint) from None


def file(given: Given) -> Path:
    """Read the path of a file that must exist."""
    found = path(given)
    # Not is_file(): the pipe of a shell's <(command) is accepted too.
    if not _exists(found) or found.is_dir():
        raise ConfigError(f"{given.where}: there is no file {found}", hint="check the path")
    return found


def uid_file(given: Given) -> tuple[str, ...]:
    """Read the uids in a file, which whitespace or commas separate."""
    found = file(given)
    try:
        content = text_files.text(found)
    except ConfigError as error:
        raise _with_place(error, given) from error
    except (OSError, UnicodeDecodeError) as error:
        hint = "one uid on each line, as plain text"
        raise ConfigError(f"{given.where}: cannot read {found}: {error}", hint=hint) from error
    if not content.translate(_WHITESPACE).isprintable():
        hint = "one uid on each line, as plain text"
        raise ConfigError(f"{given.where}: cannot read {found}: it is not a text file", hint=hint)
    has_uids = content.replace(",", " ").strip()
    uids = lower_case_words(Given(content, given.where)) if has_uids else ()
    if not uids:
        hint = "write one uid per line, or omit the option to select all"
        raise ConfigError(f"{given.where}: {found} contains no uids", hint=hint)
    return uids


def splits(given: Given) -> tuple[str, ...]:
    """Read a list of splits: `train`, or for one benchmark `fho:train`."""
    found = lower_case_words(given)
    for word in found:
        if not re.fullmatch(r"(\w+:)?\w+", word, re.ASCII):
            raise Given(word, given.where).invalid("a split", "write train or fho:train")
    return found


def patterns(given: Given) -> tuple[str, ...]:
    """Read a list of glob patterns of file names; a comma in brackets is part of a pattern."""
    found = words(given, parts=_PATTERN.findall)
    for pattern in found:
        if "/" in pattern:
            hint = "choose the directory with --datasets"
            raise Given(pattern, given.where).invalid("a pattern of file names", hint)
    return found


def file_or_tree_path(given: Given) -> str:
    """Read the path of a file on disk, made absolute, or else a path of the tree."""
    spelt = path(given)
    if not _exists(spelt):
        return os.fspath(text(given)).strip("/")
    if spelt.is_dir():
        raise given.invalid("a file")
    return str(spelt)


def _exists(path: Path) -> bool:
    """Return whether a file exists; False also for a name that is too long."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises for some names


def cache_bytes(given: Given) -> int:
    """Read the limit of the cache: a string with a unit, or an integer number of bytes."""
    value = given.value
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise given.invalid("a size", SIZE_HINT)
    try:
        size = parse_size(value) if isinstance(value, str) else value
    except ConfigError as error:
        raise _with_place(error, given) from None
    if size < MIN_CACHE_BYTES:
        raise given.invalid("a size of at least 64MiB", SIZE_HINT)
    return size


def duration(given: Given) -> float:
    """Read a time such as 30s, 10m, 2h or 1d, or a number of seconds, as seconds."""
    text = str(given.value).strip().lower()
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd]?)", text, re.ASCII)
    if found is None or isinstance(given.value, bool):
        raise given.invalid("a duration", "write it like 30s, 10m, 2h or 1d; 0 means no retries")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def endpoint(given: Given) -> str:
    """Read the URL of an S3 server; an empty string means Amazon's."""
    url = optional_text(given)
    if url and not is_http_url(url):
        raise given.invalid("a URL", "write it like http://127.0.0.1:8333")
    return url.rstrip("/")


def bucket_url(given: Given) -> str:
    """Read the URL of a bucket, or of a prefix in it; an empty string means none."""
    url = optional_text(given).rstrip("/")
    if url and _BUCKET_URL.fullmatch(url) is None:
        hint = "write it like s3://bucket/prefix, with letters, digits and ._=- only"
        raise given.invalid("the URL of a bucket", hint)
    return url


def listen_address(given: Given) -> tuple[str, int] | None:
    """Read HOST:PORT, or only a port of this machine (loopback); an empty string means none.

    An IPv6 address is in brackets. A JSON number is a port.
    """
    if given.value == "":
        return None
    found = _ADDRESS.fullmatch(str(given.value).strip())
    if found is None or isinstance(given.value, bool) or int(found[3]) > _MAX_PORT:
        raise given.invalid("HOST:PORT", "write 9100 or 127.0.0.1:9100; port 0 finds a free one")
    if found[2] and found[2].isdecimal():  # `0` is 0.0.0.0: all addresses of the machine
        raise given.invalid("HOST:PORT", "write 0.0.0.0:9100 for all addresses of this machine")
    return found[1] or found[2] or LOOPBACK, int(found[3])


def source(given: Given) -> str:
    """Read the URL or directory of a mirror; an empty string means Amazon S3."""
    if isinstance(given.value, os.PathLike) or (given.value and "://" not in str(given.value)):
        return str(path(given))
    return optional_text(given).rstrip("/")


def one_of(given: Given, choices: Iterable[str]) -> str:
    """Read one of several words."""
    word, choices = text(given).lower(), tuple(choices)
    if word not in choices:
        raise given.invalid(f"one of {', '.join(choices)}")
    return word


def transport(given: Given) -> str:
    """Read the name of the library that talks to S3."""
    return one_of(given, ("auto", "obstore", "s3fs"))


def eviction(given: Given) -> str:
    """Read the eviction policy of the cache: lru, or none to keep the oldest blocks."""
    return one_of(given, ("lru", "none"))


def auto_or_off(given: Given) -> str:
    """Read whether something is done where it is of use: auto or off."""
    return one_of(given, ("auto", "off"))


def log_format(given: Given) -> str:
    """Read the form of a mount's log: text or json."""
    return one_of(given, ("text", "json"))


def libfuse(given: Given) -> int | None:
    """Read the major version of libfuse to use; None for `auto`."""
    word = one_of(Given(str(given.value), given.where), ("auto", "2", "3"))
    return None if word == "auto" else int(word)


def _with_place(error: ConfigError, given: Given) -> ConfigError:
    return ConfigError(f"{given.where}: {error}", hint=error.hint)


def _quoted(items: str) -> str:
    return ", ".join(f'"{word}"' for word in re.split(r"[\s,]+", items) if word)
