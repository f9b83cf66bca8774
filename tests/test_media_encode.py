"""An encoded cut has the pictures of its window only, at their times, and its sound."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from ego4dfs.errors import ConfigError, MediaError, StoreUnavailable
from ego4dfs.media import cut, read_index
from ego4dfs.media.encode import Encoder
from ego4dfs.media.encode_files import reader_of
from kit import media
from kit.clips import pictures

pytestmark = pytest.mark.first_pass

MIN_PSNR_DB = 34.0
"""Of each picture; those of the samples are small and have noise, which costs most."""
RATE_HZ = 16_000
WINDOWS = [(1.5, 2.5), (1.51, 2.77), (0.9, 1.2), (3.2, 4.2)]


def index_of(data: bytes) -> Any:
    return read_index(len(data), lambda offset, length: data[offset : offset + length])


def encode(data: bytes, window: tuple[float, float], **more: Any) -> bytes:
    """Return the MP4 of a window, encoded anew."""
    made = cut(index_of(data), *window)
    with tempfile.TemporaryFile() as file:
        done = Encoder().encode(made, reader_of(io.BytesIO(data)), file, **more)
        written = b"".join(done.content(reader_of(file)))
    assert len(written) == done.size
    return written


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))


def sound(data: bytes) -> tuple[float, np.ndarray]:
    """Return when sound begins, and its samples of the first channel."""
    with av.open(io.BytesIO(data)) as container:
        frames = [(frame.time, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    return frames[0][0], np.concatenate([samples for _, samples in frames])


def shift(one: np.ndarray, other: np.ndarray) -> int:
    """Return by how many samples one sound is later than another, which is as long."""
    middle = slice(200, len(other) - 200)
    at = range(-100, 101)
    matches = [np.dot(np.roll(one, -by)[middle], other[middle]) for by in at]
    return at[int(np.argmax(matches))]


def varied(
    times: Sequence[int],
    *,
    size: tuple[int, int] = (64, 48),
    pix_fmt: str = "yuv420p",
    codec: str = "libx264",
    color_range: int = 0,
) -> bytes:
    """Return a video without sound, with pictures at these milliseconds."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height = size
        stream.pix_fmt, stream.gop_size = pix_fmt, 8
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.color_range = color_range
        for number, time in enumerate(times):
            grey = np.full((size[1], size[0], 3), 40 + 3 * number, np.uint8)
            grey[: size[1] // 2] = 250
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def with_sound(
    parts: Iterable[tuple[int, np.ndarray]], *, codec: str = "aac", rate: int = RATE_HZ
) -> bytes:
    """Return a video of four seconds with these samples, at these times in samples."""
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as container:
        video = container.add_stream("mpeg4", rate=30)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        stream = container.add_stream(codec, rate=rate, layout="mono")
        for number in range(120):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start, samples in parts:
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(7).integers(-9000, 9000, samples, np.int16)


# --- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", media.FORMS)
def test_the_pictures_are_those_that_the_whole_file_has_in_the_window(form):
    data = media.form(form)
    whole, tick_s = pictures(data), 1 / index_of(data).video.timescale
    for start_s, stop_s in WINDOWS:
        wanted = [p for p in whole if start_s - tick_s / 2 <= p[0] < stop_s - tick_s / 2]
        found = pictures(encode(data, (start_s, stop_s)))
        assert len(found) == len(wanted)
        for (time, picture), (found_time, found_picture) in zip(wanted, found, strict=True):
            assert abs(found_time - (time - start_s)) <= tick_s
            assert psnr(found_picture, picture) >= MIN_PSNR_DB


@pytest.mark.parametrize("form", ["b-frames", "open groups of pictures", "vp9"])
def test_the_file_has_no_other_pictures(form):
    """The first one can be decoded alone, and programs that ignore edit lists present no more."""
    data = encode(media.form(form), (1.51, 2.51))
    index = index_of(data)
    with av.open(io.BytesIO(data), options={"ignore_editlist": "1"}) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30
    assert len(index.video.samples) == 30
    assert index.video.samples.is_key[0]
    assert media.key_frames(index.video).times[0] == index.video.shown.start


def test_times_that_vary_are_kept():
    times = [0, 10, 33, 40, 95, 100, 300, 310, 345, 500, 501, 640, 660, 900, 950, 1200]
    data = encode(varied(times), (0.04, 0.9))
    found = [round(1000 * time) for time, _ in pictures(data)]
    assert found == [time - 40 for time in times if 40 <= time < 900]


def test_rotation_is_kept():
    def turned(tkhd: bytes) -> bytes:
        matrix = [0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30]
        cells = b"".join(cell.to_bytes(4, "big", signed=True) for cell in matrix)
        return tkhd[:-44] + cells + tkhd[-8:]

    data = media.replaced(media.form("no sound"), "moov/trak/tkhd", turned)
    with av.open(io.BytesIO(encode(data, (1, 2)))) as container:
        frame = next(container.decode(video=0))
    with av.open(io.BytesIO(data)) as container:
        whole = next(container.decode(video=0))
    assert frame.rotation == whole.rotation != 0


@pytest.mark.parametrize(
    ("size", "pix_fmt", "written"),
    [
        ((64, 48), "yuv420p10le", "yuv420p"),
        ((64, 48), "yuv444p", "yuv420p"),
        ((63, 47), "yuv444p", "yuv444p"),
        ((64, 48), "yuvj420p", "yuvj420p"),
    ],
)
def test_pixels_are_those_that_decoders_have(size, pix_fmt, written):
    source = varied(range(0, 1000, 40), size=size, pix_fmt=pix_fmt)
    data = encode(source, (0.2, 0.8))
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(video=0))
    with av.open(io.BytesIO(source)) as container:
        whole = [frame for frame in container.decode(video=0) if 0.2 <= frame.time < 0.8]
    assert {frame.format.name for frame in frames} == {written}
    assert {(frame.width, frame.height) for frame in frames} == {size}
    for frame, other in zip(frames, whole, strict=True):
        assert psnr(frame.to_ndarray(format="rgb24"), other.to_ndarray(format="rgb24")) > 34


def test_a_damaged_picture_is_an_error():
    """The others would be fewer than the window has."""
    data = bytearray(media.form("h264"))
    samples = index_of(bytes(data)).video.samples
    start, size = int(samples.offsets[50]), int(samples.sizes[50])
    data[start : start + size] = bytes(size)
    with pytest.raises(MediaError, match=r"pictures can be decoded|cannot be encoded"):
        encode(bytes(data), (1.5, 2.5))


# --- sound --------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
def test_sound_is_that_of_the_window_to_the_sample(window):
    """FFmpeg presents what AAC needs to fill its last frame, less than 1024 samples, too."""
    data = media.form("index in front")
    _, whole = sound(data)
    encoded = encode(data, window)
    begins_s, found = sound(encoded)
    first, last = (round(time * RATE_HZ) for time in window)
    wanted = whole[first : min(last, len(whole))]
    assert begins_s == 0
    assert len(wanted) <= len(found) < len(wanted) + 1024
    assert shift(found[: len(wanted)], wanted) == 0
    track = index_of(encoded).tracks[1]
    assert len(track.shown) == len(wanted)


def with_a_gap(data: bytes) -> bytes:
    """Return a video whose sound is silent for the second from its middle on."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream_from_template(source.streams.audio[0])
        video = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux():
            if packet.dts is not None:
                is_later = packet.stream.type == "audio" and packet.pts >= 2 * RATE_HZ
                packet.pts += RATE_HZ * is_later
                packet.dts += RATE_HZ * is_later
                packet.stream = stream if packet.stream.type == "audio" else video
                container.mux(packet)
    return file.getvalue()


def test_a_gap_in_the_sound_is_silence():
    _, whole = sound(media.form("index in front"))
    begins_s, found = sound(encode(with_a_gap(media.form("index in front")), (1, 3.9)))
    assert begins_s == 0
    assert np.abs(found[round(1.1 * RATE_HZ) : round(1.9 * RATE_HZ)]).max() < 0.01
    later = found[round(2.1 * RATE_HZ) : round(2.9 * RATE_HZ)]
    assert shift(later, whole[round(2.1 * RATE_HZ) :][: len(later)]) == 0


def test_sound_of_another_rate_than_aac_has_is_resampled():
    rate = 10_000
    parts = [(start, noise(1000)) for start in range(0, 4 * rate, 1000)]
    data = encode(with_sound(parts, codec="pcm_s16le", rate=rate), (1, 3))
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.audio[0].rate == 48_000
    begins_s, found = sound(data)
    assert begins_s == 0
    assert abs(len(found) / 48_000 - 2) < 1024 / 48_000


# --- errors -------------------------------------------------------------------------------------


def test_an_error_of_the_store_is_raised_as_it_is(capfd):
    def fail(_offset: int, _length: int) -> bytes:
        raise StoreUnavailable("no answer")

    made = cut(index_of(media.form("index in front")), 1, 3)
    with tempfile.TemporaryFile() as file, pytest.raises(StoreUnavailable, match="no answer"):
        Encoder().encode(made, fail, file)
    assert capfd.readouterr() == ("", "")


class Full(io.BytesIO):
    """A file on a full disk."""

    def write(self, _: Any) -> int:
        raise OSError("no space left")


def test_an_error_of_the_disk_is_raised_as_it_is(capfd):
    data = media.form("index in front")
    made = cut(index_of(data), 1, 3)
    with pytest.raises(OSError, match="no space left"):
        Encoder().encode(made, reader_of(io.BytesIO(data)), Full())
    assert capfd.readouterr() == ("", "")


def test_the_caller_can_stop_it_after_each_frame():
    seen: list[float] = []

    def stop(time: float) -> None:
        seen.append(time)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(media.form("no sound"), (1, 3), on_time=stop)
    assert len(seen) == 3


def test_without_pyav_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match="--exact needs PyAV") as caught:
        Encoder()
    assert caught.value.hint == "pip install 'ego4dfs[video]'"


def test_without_the_encoder_the_remedy_is_named(monkeypatch):
    def fail(*_: object) -> Callable[..., object]:
        raise av.codec.codec.UnknownCodecError("libx264")

    monkeypatch.setattr(av.codec, "Codec", fail)
    with pytest.raises(ConfigError, match="has no encoder libx264"):
        Encoder()
