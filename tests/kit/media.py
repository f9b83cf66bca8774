"""Videos of many forms, made with PyAV or box by box, and patches of their boxes."""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from ego4dfs.media import Track
from ego4dfs.media.sample_tables import Integers
from kit.data import seeded

RATE = 30
SECONDS = 4
_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}


def encode(
    codec: str = "mpeg4",
    *,
    audio: bool = True,
    movflags: str = "",
    options: Mapping[str, str] | None = None,
    first_picture_s: float = 0,
    lost_every: int | None = None,
    file_format: str = "mp4",
) -> bytes:
    """Return a video of SECONDS, 64x48, with a key frame every 12 frames, and noise as sound.

    `first_picture_s` is when the pictures begin; the sound begins at 0. Without each picture of
    `lost_every`, they are not evenly spaced.
    """
    random = np.random.default_rng(1)
    slope = np.add.outer(np.arange(72), np.arange(64)) * 2
    flags = {"fflags": "+bitexact"} | ({"movflags": movflags} if movflags else {})
    with tempfile.TemporaryDirectory(prefix="media-") as directory:
        path = Path(directory) / "video"
        with av.open(str(path), "w", format=file_format, options=flags) as container:
            video = container.add_stream(
                codec, rate=RATE, options={"sc_threshold": "1000000000", **(options or {})}
            )
            video.width, video.height, video.pix_fmt, video.gop_size = 64, 48, "yuv420p", 12
            sound = container.add_stream("aac", rate=16_000, layout="mono") if audio else None
            for number in range(SECONDS * RATE):
                picture = slope + 3 * number + random.integers(0, 8, slope.shape)
                if lost_every and number % lost_every == 1:
                    continue
                frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="yuv420p")
                frame.pts = number + round(first_picture_s * RATE)
                container.mux(video.encode(frame))
            if sound is not None:
                for start in range(0, SECONDS * 16_000, 1024):
                    noise = random.integers(-9000, 9000, (1, 1024), np.int16)
                    frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
                    frame.sample_rate, frame.pts = 16_000, start
                    container.mux(sound.encode(frame))
            for stream in container.streams:
                container.mux(stream.encode(None))
        return path.read_bytes()


FORMS: Mapping[str, Callable[[], bytes]] = {
    "index in front": functools.partial(encode, movflags="+faststart"),
    "index at the end": encode,
    "no sound": functools.partial(encode, audio=False),
    "vp9": functools.partial(encode, "libvpx-vp9", options={"deadline": "realtime"}),
    "b-frames": functools.partial(encode, options={"bf": "2"}),
    "h264": functools.partial(encode, "libx264", options={"preset": "veryfast"}),
    "open groups of pictures": functools.partial(
        encode, "libx264", options={"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3"}
    ),
    "negative offsets": functools.partial(
        encode, "libx264", movflags="+negative_cts_offsets", options={"preset": "veryfast"}
    ),
    "uneven times": functools.partial(encode, lost_every=3),
    "pictures begin later": functools.partial(encode, first_picture_s=0.7),
    "quicktime": functools.partial(encode, file_format="mov"),
    "co64": lambda: with_co64(form("index at the end")),
    "index twice": lambda: form("index in front") + moov_of(form("index in front")),
    "long sizes": lambda: with_long_sizes(form("index at the end")),
}
"""Forms whose index can be used."""


@functools.cache
def form(name: str) -> bytes:
    """Return a video of one of FORMS, made once in each process."""
    return FORMS[name]()


def box(kind: str, *parts: bytes) -> bytes:
    """Return a box."""
    body = b"".join(parts)
    return (8 + len(body)).to_bytes(4, "big") + kind.encode() + body


def table(kind: str, *rows: Sequence[int], width: int = 4, version: int = 0) -> bytes:
    """Return a full box with a count and rows of numbers, which may be negative."""
    cells = (n.to_bytes(width, "big", signed=n < 0) for row in rows for n in row)
    return box(kind, bytes([version, 0, 0, 0]), len(rows).to_bytes(4, "big"), *cells)


def stsz(*sizes: int, constant: int = 0) -> bytes:
    """Return a box stsz; with `constant` bytes for each sample, `sizes` is their number."""
    count = sizes[0] if constant else len(sizes)
    listed = b"" if constant else b"".join(size.to_bytes(4, "big") for size in sizes)
    return box("stsz", bytes(4), constant.to_bytes(4, "big"), count.to_bytes(4, "big"), listed)


def moov(*tracks: bytes, timescale: int = 1000, more: bytes = b"") -> bytes:
    """Return an index of these tracks."""
    mvhd = box("mvhd", bytes(12), timescale.to_bytes(4, "big"), bytes(84))
    return box("moov", mvhd, *tracks, more)


def trak(
    *tables: bytes, kind: str = "vide", timescale: int = 30, edts: bytes = b"", number: int = 1
) -> bytes:
    """Return a track with these boxes in its sample table."""
    tkhd = box("tkhd", bytes(12), number.to_bytes(4, "big"), bytes(68))
    mdhd = box("mdhd", bytes(12), timescale.to_bytes(4, "big"), bytes(8))
    hdlr = box("hdlr", bytes(8), kind.encode(), bytes(13))
    stbl = box("stbl", table("stsd"), *tables)
    return box("trak", tkhd, edts, box("mdia", mdhd, hdlr, box("minf", box("vmhd"), stbl)))


def long_video(seconds: int, seed: int, *, group: int = 128) -> bytes:
    """Return a video at the rate of full_scale, 550 kB/s, and with its spacing of key frames.

    Its index is right, at the end for odd seeds, and its pictures are random bytes.
    """
    random = np.random.default_rng(seed)
    count = seconds * RATE
    sizes = random.integers(12_000, 24_000, count)
    sizes[::group] = 60_000
    file_type, data = box("ftyp", b"isom", bytes(4)), random.bytes(int(sizes.sum()))
    runs = [(number,) for number in range(1, count + 1, group)]

    def index(offset: int) -> bytes:
        stts, stsc = table("stts", (count, 1)), table("stsc", (1, count, 1))
        places = table("stco", (offset,))
        return moov(trak(stts, table("stss", *runs), stsz(*sizes.tolist()), stsc, places))

    before = len(file_type) + (0 if seed % 2 else len(index(0)))
    parts = [box("mdat", data), index(before + 8)]
    return b"".join([file_type, *(parts if seed % 2 else reversed(parts))])


class KeyFrames(NamedTuple):
    """The key frames of a track in decoding order: presentation times in ticks, byte offsets.

    `stop` is where the last sample after the last key frame stops.
    """

    times: Integers
    offsets: Integers
    stop: int


def key_frames(track: Track) -> KeyFrames:
    """Return the key frames; of a track without `stss` all samples."""
    samples = track.samples
    keys = np.flatnonzero(samples.is_key)
    last = slice(int(keys[-1]) if len(keys) else 0, None)
    stops = samples.offsets[last] + samples.sizes[last]
    stop = int(stops.max()) if len(stops) else 0
    return KeyFrames(samples.present[keys], samples.offsets[keys], stop)


def apart() -> bytes:
    """Return a video of 4 s whose sound follows all of its pictures, and whose index is last.

    It has 40 pictures of 64 KiB, of which each tenth is a key frame, and as many pieces of sound.
    """
    count, sample_bytes = 40, 64 << 10
    size = stsz(count, constant=sample_bytes)
    tables = (size, table("stts", (count, 3)), table("stsc", (1, count, 1)))
    keys = table("stss", *[(number,) for number in range(1, count + 1, 10)])
    file_type = box("ftyp", b"isom", bytes(4))
    first, track_bytes = len(file_type) + 8, count * sample_bytes
    index = moov(
        trak(*tables, keys, table("stco", (first,))),
        trak(*tables, table("stco", (first + track_bytes,)), kind="soun", number=2),
    )
    return file_type + box("mdat", seeded("apart", 2 * track_bytes)) + index


def edits(*rows: tuple[int, int, int]) -> bytes:
    """Return an edit list of (duration, media time, rate as a fixed-point number)."""
    return box("edts", table("elst", *rows))


def boxes(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, int, int]]:
    """Yield the path, the start and the stop of each box, containers before what is in them."""
    stop = len(data) if stop is None else stop
    while start + 8 <= stop:
        length, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        body = start + 8
        if length == 1:
            length, body = int.from_bytes(data[body : body + 8], "big"), body + 8
        yield kind.decode("latin-1"), start, start + length
        if kind in _CONTAINERS:
            for path, inner_start, inner_stop in boxes(data, body, start + length):
                yield f"{kind.decode()}/{path}", inner_start, inner_stop
        start += length


def moov_of(data: bytes) -> bytes:
    """Return the index of a video."""
    return next(data[start:stop] for path, start, stop in boxes(data) if path == "moov")


def replaced(data: bytes, path: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return a copy in which all boxes of a path are changed, and the sizes of those around them.

    What follows the index moves: offsets stay right only if the index is at the end.
    """
    spans = [(start, stop) for found, start, stop in boxes(data) if found == path]
    for start, stop in reversed(spans):
        new = change(data[start:stop])
        grown = bytearray(data[:start] + new + data[stop:])
        for found, first, last in boxes(data):
            if first < start and stop <= last and path.startswith(found):
                grown[first : first + 4] = (last - first + len(new) - stop + start).to_bytes(
                    4, "big"
                )
        data = bytes(grown)
    return data


def with_co64(data: bytes) -> bytes:
    """Return a video, whose index is at the end, with offsets of 64 bits."""

    def long(stco: bytes) -> bytes:
        offsets = np.frombuffer(stco, ">u4", offset=16)
        return box("co64", stco[8:16], offsets.astype(">u8").tobytes())

    return replaced(data, "moov/trak/mdia/minf/stbl/stco", long)


def with_long_sizes(data: bytes) -> bytes:
    """Return a video whose index, which is at the end, has a box size of 64 bits."""
    index = moov_of(data)
    assert data.endswith(index)
    long = (1).to_bytes(4, "big") + b"moov" + (len(index) + 8).to_bytes(8, "big") + index[8:]
    return data.removesuffix(index) + long


def decoded(data: bytes, start_s: float, stop_s: float) -> list[tuple[str, float, bytes]]:
    """Return kind, time and content of each frame of [start_s, stop_s), decoded after a seek.

    Packets that cannot be decoded are left out.
    """
    found = []
    with av.open(io.BytesIO(data)) as container:
        container.seek(round(start_s * av.time_base))
        for packet in container.demux():
            with suppress(av.error.InvalidDataError):
                for frame in packet.decode():
                    if start_s <= frame.time < stop_s:
                        kind = packet.stream.type
                        found.append((kind, frame.time, frame.to_ndarray().tobytes()))
    return sorted(found)
