"""The videos of the sample, and the clips cut from them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

import numpy as np

from ego4dfs.demo.media import Clip

CONSORTIUM = "ego4d-consortium-sharing"
MILAN = "ego4d-unict-milan"
# Bucket, the `video_source` that the manifests write for it, seconds, index at front, sound.
# `ego4d-unict` is a real bucket that the official tool knows no university for.
_VIDEOS = (
    ("ego4d-cmu", "cmu", 66, True, True),
    ("ego4d-minnesota", "minnesota", 16, False, True),
    ("ego4d-unict", "unict", 10, False, False),
    (MILAN, "unict", 8, True, True),
    ("ego4d-iiith", "iiith", 7, False, True),
    ("ego4d-speac", "nus", 6, True, False),
    ("ego4d-bristol", "bristol", 6, False, True),
    (CONSORTIUM, "frl_track_1_public", 5, True, True),
)
UNVERSIONED = "ego4d-bristol"
BUCKETS = tuple(bucket for bucket, *_ in _VIDEOS)
_BENCHMARKS = ("FHO", "EM|MQ|VQ", "FHO|EM|NLQ", "EM", "AV", "EM|AV", "", "FHO|EM|goalstep")
_SCENARIOS = (
    ("Cooking", "Making a salad/sandwich"),
    ("Carpenter", "Talking to colleagues"),
    ("Crafting/knitting/sewing/drawing/painting",),
    ("Walking on street", "Car - commuting, road trip"),
    # The real ego4d.json has names with a line break in them.
    ("Working at a renovation company\n(Director of work, foreman)", "Construction"),
    ("Playing games / video games", 'Fred\'s "board game"'),
    (),
    ("Household management - caring for kids",),
)
CLIP_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One canonical video. `home` is the release whose prefix its object has, v1 or v2."""

    index: int
    uid: str
    bucket: str
    source: str
    media: Clip
    benchmarks: tuple[str, ...]
    scenarios: tuple[str, ...]
    home: str

    @property
    def location(self) -> str:
        """Where the object is; full_scale keys have no extension."""
        return f"s3://{self.bucket}/public/{self.home}/full_scale/{self.uid}"

    @property
    def has_imu(self) -> bool:
        """Whether there is an IMU file; every other video has one."""
        return self.index % 2 == 0

    @property
    def has_gaze(self) -> bool:
        """Whether there is a gaze file; two videos have one."""
        return self.index in (3, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One exported clip: CLIP_S seconds of `parent` from `start_s` on."""

    uid: str
    parent: Recording
    start_s: int
    media: Clip
    small: Clip

    @property
    def location(self) -> str:
        """Where the object is; clips keep their extension."""
        return f"s3://{self.parent.bucket}/public/{self.parent.home}/clips/{self.uid}.mp4"


class Uids:
    """UUIDs in an order that a seed determines."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def take(self) -> str:
        """Return the next one."""
        return str(uuid.UUID(bytes=self._random.bytes(16), version=4))


def derived_uid(uid: str, what: str) -> str:
    """Return the UUID of something that belongs to `uid`, always the same."""
    return str(uuid.uuid5(uuid.UUID(uid), what))


def recordings(uids: Uids) -> tuple[Recording, ...]:
    """Return the videos; the first is the longest and largest: 66 s, about 27 MB."""
    found = []
    for index, (bucket, source, duration_s, faststart, audio) in enumerate(_VIDEOS):
        clip = Clip(index + 1, duration_s, faststart=faststart, audio=audio)
        found.append(
            Recording(
                index=index,
                uid=uids.take(),
                bucket=bucket,
                source=source,
                media=_high_bit_rate(clip) if index == 0 else clip,
                benchmarks=tuple(filter(None, _BENCHMARKS[index].split("|"))),
                scenarios=_SCENARIOS[index],
                home="v2" if bucket == CONSORTIUM else "v1",
            )
        )
    return tuple(found)


def cuts(parents: tuple[Recording, ...], uids: Uids) -> tuple[Cut, ...]:
    """Return two clips of the long video and one of each of four others."""
    chosen = [(0, 10), (0, 40), (1, 3), (2, 5), (4, 1), (7, 0)]
    return tuple(
        Cut(
            uid=uids.take(),
            parent=parents[index],
            start_s=start_s,
            media=_low_bit_rate(Clip(100 + number, CLIP_S, faststart=number % 2 == 0)),
            small=small(Clip(200 + number, CLIP_S, faststart=number % 2 == 1)),
        )
        for number, (index, start_s) in enumerate(chosen)
    )


def small(clip: Clip) -> Clip:
    """Return a smaller version of a clip, with a lower bit rate."""
    return replace(clip, width=160, height=90, bit_rate=400_000, noise=4)


def _low_bit_rate(clip: Clip) -> Clip:
    return replace(clip, bit_rate=1_200_000, noise=10)


def _high_bit_rate(clip: Clip) -> Clip:
    # Fewer pixels with more bits each: both determine the encoding time.
    return replace(clip, width=256, height=144, bit_rate=5_000_000, noise=32)
