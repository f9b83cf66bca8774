"""Config: all options, merged from flags, environment, config file and defaults, and checked once.

Defaults < JSON config file < EGO4DFS_* environment < flags (or Python arguments). `resolve` checks
the form of every value, so no other module does. The keys of the config file are those of the
official `ego4d` tool and ours; they equal the flags, with underscores.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ego4dfs import datasets
from ego4dfs.config import limits, text_files, values
from ego4dfs.config.emulation import NO_EMULATION, Emulation, emulation
from ego4dfs.config.values import MIN_CACHE_BYTES, Given, parse_size
from ego4dfs.errors import ConfigError

__all__ = [
    "FILTERS",
    "KEYS",
    "MIN_CACHE_BYTES",
    "UID_FILTERS",
    "Config",
    "Emulation",
    "default_cache_dir",
    "parse_size",
    "resolve",
]

log = logging.getLogger(__name__)

ENVIRONMENT_PREFIX = "EGO4DFS_"


def default_cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return $XDG_CACHE_HOME/ego4dfs, else ~/.cache/ego4dfs.

    A relative XDG_CACHE_HOME is ignored, as its specification requires.
    Raises ConfigError for a user without a home directory.
    """
    base = Path((os.environ if environ is None else environ).get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base / "ego4dfs"
    try:
        return Path.home() / ".cache" / "ego4dfs"
    except RuntimeError as error:
        raise ConfigError(
            "there is no home directory for the cache: HOME is not set",
            hint="name a directory with --cache-dir or EGO4DFS_CACHE_DIR",
        ) from error


UID_FILTERS = ("video_uids", "video_uid_file", "clip_uids", "uids_from")
FILTERS = (
    *UID_FILTERS,
    *("benchmarks", "universities", "annotations", "splits", "include", "exclude"),
)
"""The keys of all options that select files within datasets; UID_FILTERS are those of uids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All options, checked. An empty tuple or string means no restriction, or the default.

    Use `resolve` to make one; the constructor checks nothing.
    """

    version: str = datasets.VERSION_DEFAULT
    datasets: tuple[str, ...] = ()
    """Datasets to show; empty for all known ones."""
    benchmarks: tuple[str, ...] = ()
    universities: tuple[str, ...] = ()
    video_uids: tuple[str, ...] = ()
    """Uids of videos or clips, in lower case, from the list or the file of uids."""
    annotations: tuple[str, ...] = ()
    clip_uids: tuple[str, ...] = ()
    """Clips to select without the other clips of their videos; the videos are selected too."""
    splits: tuple[str, ...] = ()
    """Splits of the selected videos: `train`, or for one benchmark `fho:train`."""
    uids_from: str = ""
    """A file whose uids are selected: an absolute path on disk, else a path in the tree."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """Glob patterns of file names; `exclude` has priority."""
    metadata: bool = True
    """Whether ego4d.json is shown at the root."""
    manifest: bool = False
    """Whether the manifest.csv of full_scale is also shown at the root."""
    manifest_override_path: Path | None = None
    """A local manifest.csv that replaces that of the one selected dataset."""
    aws_profile_name: str = ""
    """A profile of ~/.aws; empty for the default credential chain."""
    endpoint_url: str = ""
    source: str = ""
    """URL or directory of a mirror of S3: <source>/<bucket>/<key>."""
    transport: str = "auto"
    """The library that talks to S3: auto, obstore or s3fs."""
    emulate: Emulation = NO_EMULATION
    """Latency, bandwidth and failures that are added to the store, for trying and testing."""
    limit_rate_bytes_per_s: int = 0
    """Most bytes per second that this process fetches; 0 for no limit."""
    limit_requests_per_s: float = 0.0
    """Most requests per second that this process sends to the store; 0 for no limit."""
    near: str = ""
    """The near tier, `s3://bucket/prefix`, which is read before S3; empty for none."""
    near_endpoint: str = ""
    near_profile: str = ""
    """A profile of ~/.aws for the near tier; empty for the default credential chain."""
    fill_near: bool = False
    """Whether what was fetched from S3 is written to the near tier."""
    cache_dir: Path = field(default_factory=default_cache_dir)
    cache_max_bytes: int | None = None
    """Limit of the cache; None for the limit that the cache has, else a share of the free disk."""
    eviction: str | None = None
    """Eviction policy, lru or none; None for the policy that the cache has, else lru."""
    verify: str = "auto"
    """Whether whole objects in the cache are compared with their ETags: auto or off."""
    output_directory: Path | None = None
    """The mountpoint, or the directory of the copies; absolute."""
    hedge: str = "auto"
    """Whether a second request is sent for bytes whose first one is late: auto or off."""
    copies: Path | None = None
    """A directory of prefetched copies; valid ones are read instead of the store."""
    allow_missing: bool = False
    """Whether uids that no dataset has cause a warning instead of an error."""
    assume_yes: bool = False
    bypass_existing: bool = False
    skip_s3_checks: bool = False
    retry_for_s: float = 3600.0
    """How long prefetch retries while the store does not answer."""
    libfuse: int | None = None
    """Major version of libfuse: 2 or 3, or None for the one that is found."""
    metrics: tuple[str, int] | None = None
    """Host and port where a mount serves its metrics; port 0 for a free one. None: nowhere."""
    log_format: str = "text"
    """The form of a mount's log: text or json."""

    @property
    def is_filtered(self) -> bool:
        """Whether an option of FILTERS is set, so that a part of the files may be left out."""
        return any(getattr(self, KEYS[name].field) for name in FILTERS)


@dataclass(frozen=True, slots=True)
class _Key:
    """One option: the reader of its value, and the field that it sets; none if it has no effect."""

    read: Callable[[Given], object]
    field: str


_READERS: Mapping[str, Callable[[Given], object]] = {
    "version": values.version,
    "datasets": values.dataset_names,
    "benchmarks": values.lower_case_words,
    "universities": values.universities,
    "video_uids": values.lower_case_words,
    "annotations": values.annotation_words,
    "clip_uids": values.lower_case_words,
    "splits": values.splits,
    "uids_from": values.file_or_tree_path,
    "include": values.patterns,
    "exclude": values.patterns,
    "metadata": values.flag,
    "manifest": values.flag,
    "manifest_override_path": values.file,
    "aws_profile_name": values.optional_text,
    "endpoint_url": values.endpoint,
    "source": values.source,
    "transport": values.transport,
    "emulate": emulation,
    "near": values.bucket_url,
    "near_endpoint": values.endpoint,
    "near_profile": values.optional_text,
    "fill_near": values.flag,
    "cache_dir": values.path,
    "eviction": values.eviction,
    "verify": values.auto_or_off,
    "hedge": values.auto_or_off,
    "copies": values.path,
    "output_directory": values.path,
    "allow_missing": values.flag,
    "assume_yes": values.flag,
    "bypass_existing": values.flag,
    "skip_s3_checks": values.flag,
    "libfuse": values.libfuse,
    "metrics": values.listen_address,
    "log_format": values.log_format,
}
KEYS: Mapping[str, _Key] = {
    **{name: _Key(read, name) for name, read in _READERS.items()},
    "video_uid_file": _Key(values.uid_file, "video_uids"),
    "limit_rate": _Key(limits.bytes_per_s, "limit_rate_bytes_per_s"),
    "limit_requests": _Key(limits.requests_per_s, "limit_requests_per_s"),
    "cache_size": _Key(values.cache_bytes, "cache_max_bytes"),
    "bypass_version_check": _Key(values.flag, "bypass_existing"),  # the official name
    "retry_for": _Key(values.duration, "retry_for_s"),
    "mountpoint": _Key(values.path, "output_directory"),
    "list_datasets": _Key(values.flag, ""),  # the official tool writes it into its config
}
"""Every key of a config file; with EGO4DFS_ before it in capitals, every variable."""


def resolve(
    given: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    named: Callable[[str], str] = "argument {}".format,
) -> Config:
    """Return the Config of defaults, config file, environment and `given`.

    `given` has flags or Python arguments by key; a value of None was not given. Its key
    `config_path`, else EGO4DFS_CONFIG_PATH, names the config file. `named` returns the name of a
    key of `given` for messages. Unknown versions, and datasets that are not in lower case, are
    accepted with a warning in the log.
    Raises ConfigError with the place of the wrong value and the remedy.
    """
    environ = os.environ if environ is None else environ
    given = {key: value for key, value in (given or {}).items() if value is not None}
    layers = [
        _from_file(given.pop("config_path", environ.get("EGO4DFS_CONFIG_PATH") or None)),
        dict(_from_environment(environ)),
        {key: Given(value, named(key)) for key, value in given.items()},
    ]
    _check_keys(layers[-1])
    chosen = _merge(layers)
    fields: dict[str, Any] = {KEYS[key].field: KEYS[key].read(one) for key, one in chosen.items()}
    fields.pop("", None)
    if "cache_dir" not in fields:
        fields["cache_dir"] = default_cache_dir(environ)
    config = Config(**fields)
    _check_override(config, chosen)
    _check_near(config, chosen)
    _warn(config, chosen)
    return config


def _from_file(config_path: object) -> dict[str, Given]:
    if config_path is None:
        return {}
    path = values.file(Given(config_path, "--config_path"))
    try:
        content = json.loads(text_files.text(path))
    except (OSError, ValueError, RecursionError) as error:
        hint = "the config file is one JSON object"
        raise ConfigError(f"{path} cannot be read as JSON: {error}", hint=hint) from error
    if not isinstance(content, dict):
        hint = 'write {"datasets": ["annotations"]}'
        raise ConfigError(f"{path} is not a JSON object", hint=hint)
    layer = {
        key.replace("-", "_"): Given(value, f'"{key}" in {path}', typed=True)
        for key, value in content.items()
        if value is not None
    }
    _check_keys(layer)
    return layer


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, Given]]:
    for key in KEYS:
        name = ENVIRONMENT_PREFIX + key.upper()
        if environ.get(name):
            yield key, Given(environ[name], name)


def _check_keys(layer: Mapping[str, Given]) -> None:
    for key, given in layer.items():
        if key not in KEYS:
            raise ConfigError(
                f"{given.where}: there is no such option", hint=values.closest(key, KEYS)
            )


def _merge(layers: list[dict[str, Given]]) -> dict[str, Given]:
    """Return the value of each field, by its key, from the last layer that has one."""
    chosen: dict[str, tuple[str, Given]] = {}
    for layer in layers:
        for key, given in layer.items():
            name = KEYS[key].field
            other_key, other = chosen.get(name, (key, given))
            if other_key != key and _is_empty(given):
                continue
            # A list of uids and a file of uids exclude each other, also in different layers.
            exclusive = name == "video_uids" or layer.get(other_key) is other
            differs = other_key != key and other.value != given.value and not _is_empty(other)
            if exclusive and differs:
                hint = "use only one of them"
                raise ConfigError(f"{given.where}: not allowed with {other.where}", hint=hint)
            chosen[name] = (key, given)
    return dict(chosen.values())


def _is_empty(given: Given) -> bool:
    return given.value in ([], (), "")


def _check_override(config: Config, chosen: Mapping[str, Given]) -> None:
    if config.manifest_override_path and len(config.datasets) != 1:
        where = chosen["manifest_override_path"].where
        hint = "name the dataset that this manifest belongs to with --datasets"
        raise ConfigError(f"{where}: needs exactly one dataset", hint=hint)


def _check_near(config: Config, chosen: Mapping[str, Given]) -> None:
    for key in ("fill_near", "near_endpoint", "near_profile"):
        if getattr(config, key) and not config.near:
            hint = "name its bucket with --near s3://bucket/prefix"
            raise ConfigError(f"{chosen[key].where}: there is no near tier", hint=hint)


def _warn(config: Config, chosen: Mapping[str, Given]) -> None:
    """Warn of values that are accepted but probably wrong."""
    if config.version not in datasets.VERSIONS:
        where = chosen["version"].where
        log.warning("%s: version %s is not known; using it anyway", where, config.version)
    if "datasets" not in chosen:
        return
    where = chosen["datasets"].where
    spelt = values.words(chosen["datasets"])
    for name in spelt:
        if name.lower() != name:
            log.warning("%s: datasets are lower-case; using %s for %s", where, name.lower(), name)
