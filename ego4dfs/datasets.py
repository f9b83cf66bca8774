"""Ego4D's own names: its datasets, versions, universities and files.

They are constants, so that they need neither credentials nor network. Ego4D adds datasets, so
unknown names are accepted, and the store decides which exist.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from ego4dfs.errors import ConfigError

PRIMARY = "full_scale"
"""The dataset of the videos themselves; its manifest has the splits of all videos."""
CLIPS = "clips"
"""The dataset whose manifest has the parent videos of all clips."""
VIDEO_DATASETS = (PRIMARY, CLIPS)
"""Where a uid of a video or clip is searched, in this order, if no dataset is named."""
METADATA = "ego4d.json"
"""The primary metadata of a version, beside its datasets."""
MANIFEST = "manifest.csv"
"""The list of a dataset's files, in its directory."""
MANIFEST_VER = "manifest.ver"
"""The official tool's record of what it downloaded, in a dataset's directory."""

VERSION_DEFAULT = "v2_1"
VERSIONS = ("v1", "v2", "v2_1")

# The first bucket is the current one; the others still have objects that manifests refer to.
UNIVERSITY_BUCKETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bristol": ("ego4d-bristol",),
        "cmu": ("ego4d-cmu",),
        "cmu_africa": ("ego4d-universityaf",),
        "fair": ("ego4d-fair",),
        "frl_track_1_public": ("ego4d-consortium-sharing",),
        "georgiatech": ("ego4d-georgiatech",),
        "iiith": ("ego4d-iiith",),
        "indiana": ("ego4d-indiana",),
        "kaust": ("ego4d-kaust",),
        "minnesota": ("ego4d-minnesota",),
        "nus": ("ego4d-speac",),
        "sfu": ("ego4d-sfu",),
        "unc": ("ego4d-unc",),
        "uniandes": ("ego4d-university-sa",),
        "unict": ("ego4d-unict-milan", "ego4d-unict"),
        "upenn": ("ego4d-penn",),
        "utokyo": ("ego4d-utokyo",),
    }
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset: its name, which is also its directory, and a description of one line."""

    name: str
    description: str


@cache
def known() -> tuple[Dataset, ...]:
    """Return all known datasets, in the order in which they are shown."""
    with Path(__file__).with_name("datasets.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Dataset(row["dataset"], row["description"]) for row in csv.DictReader(file))


def known_names() -> tuple[str, ...]:
    """Return the names of `known()`."""
    return tuple(dataset.name for dataset in known())


def normalise(name: str) -> str:
    """Return a dataset name in the form of manifests and directories.

    That is lower case, without surrounding whitespace and trailing slashes. Raises ConfigError for
    a name that cannot be a directory below the version: it becomes a part of object keys and local
    paths, and must not lead out of them.
    """
    clean = name.strip().rstrip("/").lower()
    parts = clean.split("/")
    is_path = not any(part in {"", ".", ".."} for part in parts)
    if not is_path or len(clean) > _NAME_MAX or _UNPRINTABLE.search(clean):
        raise ConfigError(
            f"{name[:_NAME_MAX]!r} cannot be the name of a dataset",
            hint="names look like full_scale or components/videos; see --list-datasets",
        )
    return clean


def suggest(name: str) -> str:
    """Return the known dataset that was probably meant, or an empty string."""
    names = {_squash(known_name): known_name for known_name in known_names()}
    meant = _squash(name)
    close = difflib.get_close_matches(meant, names, n=1, cutoff=0.7)
    if not close and len(meant) > 3:  # shorter prefixes match by accident
        close = [known_name for known_name in names if known_name.startswith(meant)]
    return names[close[0]] if close else ""


def check_version(text: str) -> str:
    """Return the version in lower case, without surrounding whitespace.

    Versions that are not in VERSIONS are accepted, because Ego4D will release more.
    Raises ConfigError if the text does not look like a version.
    """
    version = text.strip().lower()
    if not _VERSION.fullmatch(version):
        raise ConfigError(
            f"{text[:_NAME_MAX]!r} is not a version of Ego4D",
            hint=f"versions look like {', '.join(VERSIONS[:-1])} or {VERSIONS[-1]}",
        )
    return version


def version_directory(version: str) -> str:
    """Return the directory of a version: v2 and v2_1 share one, as in a download."""
    return version.partition("_")[0]


def has_clips(name: str) -> bool:
    """Return whether the videos of a dataset are clips, which were cut from those of full_scale."""
    return name.startswith("clip")


def university_of_bucket(bucket: str) -> str:
    """Return the university whose videos are in the bucket, or an empty string."""
    return _UNIVERSITIES.get(bucket, "")


def _squash(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_NAME_MAX = 255  # as a directory's
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\\]")
_VERSION = re.compile(r"v[0-9]+(_[0-9]+)?")
_UNIVERSITIES = {bucket: name for name, buckets in UNIVERSITY_BUCKETS.items() for bucket in buckets}
