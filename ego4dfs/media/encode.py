"""Encoding of a cut anew, as H.264 and AAC: the result has only the pictures of its window.

PyAV is imported when it is used, because it is an optional dependency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from ego4dfs.errors import ConfigError, MediaError
from ego4dfs.media.cut import Cut, cut
from ego4dfs.media.encode_files import GuardedFile, PieceReader, reader_of
from ego4dfs.media.index import MediaIndex
from ego4dfs.media.locate import Read
from ego4dfs.media.parser import read_index
from ego4dfs.media.track import Track

_VIDEO_CODEC, _SOUND_CODEC = "libx264", "aac"
_CRF = "18"
_FORMATS = ("yuv420p", "yuvj420p")
"""Pixels that every decoder of H.264 has; others are converted to the first of these."""
_ODD_FORMAT = "yuv444p"  # the others need an even width and height
_COLOURS = ("color_range", "color_primaries", "color_trc", "colorspace")
_BIT_RATE = 96_000  # of each channel of sound
_OTHER_RATE_HZ = 48_000  # for sound whose rate AAC does not have
_PLACE_BYTES = 44  # the end of `tkhd`: the display matrix, the width and the height


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes cuts anew. Safe from several threads.

    `threads` is how many threads one cut is encoded with; 0 is as many as there are CPUs.
    """

    threads: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError if PyAV or its encoder of H.264 is missing."""
        try:
            _av().codec.Codec(_VIDEO_CODEC, "w")
        except ValueError as error:  # UnknownCodecError
            raise ConfigError(
                f"the PyAV that is installed has no encoder {_VIDEO_CODEC}",
                hint="pip install --force-reinstall --only-binary av 'ego4dfs[video]'",
            ) from error

    def encode(
        self,
        made: Cut,
        read: Read,
        file: BinaryIO,
        on_time: Callable[[float], None] = lambda _: None,
    ) -> Cut:
        """Encode a cut into an empty file, and return an MP4 made of ranges of that file.

        `read` returns bytes of the whole video; it is called as `Cut.content` does. The MP4 has the
        first video track, with its display matrix, and all sound; its times are those of the cut.
        `on_time` gets the time of each frame. Raises MediaError if a picture of the cut cannot be
        decoded, and what `read`, `file` and `on_time` raise.
        """
        # The media data is not needed: the index is in front of it.
        source = read_index(made.size, lambda start, size: made.header[start:][:size].ljust(size))
        pieces, sink = PieceReader(made.content(read)), GuardedFile(file)
        try:
            sounds = self._encode(pieces, sink, source, on_time)
        except (_av().error.FFmpegError, ValueError) as error:
            _raise_first(pieces.error, sink.error)
            reason = getattr(error, "strerror", "") or error
            raise MediaError(f"it cannot be encoded: {reason}") from error
        _raise_first(pieces.error, sink.error)
        index = _as_presented(read_index(file.seek(0, 2), reader_of(file)), source.video, sounds)
        return cut(index, 0, max(track.shown.stop / track.timescale for track in index.tracks))

    def _encode(
        self,
        pieces: PieceReader,
        sink: GuardedFile,
        index: MediaIndex,
        on_time: Callable[[float], None],
    ) -> list[_Sound]:
        track = index.video
        scale = str(track.timescale)
        options = {"video_track_timescale": scale, "movie_timescale": scale}
        with (
            _av().open(pieces, format="mp4") as video,
            _av().open(sink, "w", format="mp4", container_options=options) as out,
        ):
            # Without its size a stream makes PyAV crash (17.1) or raise something else (12.0).
            _raise_first(pieces.error, sink.error)
            shown, heard = video.streams.video[0], video.streams.audio
            if any(stream.codec_context is None for stream in (shown, *heard)):
                raise MediaError("it has a codec that the installed PyAV cannot decode")
            shown.thread_type, shown.codec_context.thread_count = "AUTO", self.threads
            pictures = _Pictures(out, shown, track.timescale, self.threads)
            tracks = (one for one in index.tracks if one.kind == "soun")
            sounds = [_Sound(out, *pair) for pair in zip(heard, tracks, strict=True)]
            encoders: dict[int, _Pictures | _Sound] = {shown.index: pictures}
            encoders |= zip((stream.index for stream in heard), sounds, strict=True)
            for packet in video.demux(shown, *heard):
                _raise_first(pieces.error, sink.error)
                for frame in packet.decode():
                    encoders[packet.stream.index].add(frame)
                    on_time(frame.time)
            for encoder in encoders.values():
                encoder.close()
        expected = len(track.presented(track.shown.start, track.shown.stop))
        if pictures.count != expected:
            raise MediaError(f"{pictures.count} of its {expected} pictures can be decoded")
        return [sound for sound in sounds if sound.shown_s[0] < sound.shown_s[1]]


class _Pictures:
    """Encodes the pictures of a video."""

    def __init__(self, out: Any, source: Any, timescale: int, threads: int) -> None:
        given = source.codec_context
        self._out = out
        self._stream = out.add_stream(
            _VIDEO_CODEC, rate=source.average_rate or 30, options={"crf": _CRF}
        )
        context = self._stream.codec_context
        context.width, context.height = given.width, given.height
        context.pix_fmt = given.pix_fmt if given.pix_fmt in _FORMATS else _FORMATS[0]
        if given.width % 2 or given.height % 2:
            context.pix_fmt = _ODD_FORMAT
        context.time_base = Fraction(1, timescale)
        context.thread_count = threads
        if given.sample_aspect_ratio:
            context.sample_aspect_ratio = given.sample_aspect_ratio
        for name in _COLOURS:
            setattr(context, name, getattr(given, name))
        self.count = 0

    def add(self, frame: Any) -> None:
        """Encode a picture."""
        wanted = self._stream.codec_context.pix_fmt
        picture = frame if frame.format.name == wanted else frame.reformat(format=wanted)
        picture.pict_type = 0  # otherwise the key frames would be those of the source
        self._out.mux(self._stream.encode(picture))
        self.count += 1

    def close(self) -> None:
        """Write what the encoder still has."""
        self._out.mux(self._stream.encode(None))


class _Sound:
    """Encodes one track of sound, each sample at its time.

    Gaps become silence, because the encoder has no times of its own, and what overlaps is left out.
    """

    def __init__(self, out: Any, source: Any, track: Track) -> None:
        self._out, self._rate, self._layout = out, source.rate, source.layout.name
        rates = _av().codec.Codec(_SOUND_CODEC, "w").audio_rates
        rate = self._rate if self._rate in rates else _OTHER_RATE_HZ
        self._stream = out.add_stream(_SOUND_CODEC, rate=rate, layout=self._layout)
        self._channels = len(source.layout.channels)
        self._stream.bit_rate = _BIT_RATE * self._channels
        self._planar = _av().AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        self._stop = round(track.shown.stop / track.timescale * self._rate)
        self._tolerance = 2 * source.time_base * self._rate  # times are rounded to ticks
        self._next = 0  # the time of the next sample
        self._start: int | None = None

    def add(self, frame: Any) -> None:
        """Encode a frame of sound."""
        start = round(frame.pts * frame.time_base * self._rate)
        for part in self._planar.resample(frame):
            samples = part.to_ndarray()
            if self._start is None:
                self._start = self._next = max(0, start)
            gap = start - self._next
            if gap > self._tolerance:
                self._silence(gap)
            elif -gap > self._tolerance:
                samples = samples[:, -gap:]
            self._write(samples)
            start += part.samples

    def _silence(self, samples: int) -> None:
        while samples > 0:  # in pieces, because a gap may be long
            size = min(samples, self._rate)
            self._write(np.zeros((self._channels, size), np.float32))
            samples -= size

    def _write(self, samples: Any) -> None:
        samples = np.ascontiguousarray(samples[:, : max(0, self._stop - self._next)])
        if not samples.shape[1]:
            return
        frame = _av().AudioFrame.from_ndarray(samples, format="fltp", layout=self._layout)
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        frame.pts = self._next
        self._next += samples.shape[1]
        self._out.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still has."""
        if self._start is not None:
            self._out.mux(self._stream.encode(None))

    @property
    def shown_s(self) -> tuple[float, float]:
        """When its first sample begins and its last one ends; equal if it has none."""
        start = self._next if self._start is None else self._start
        return start / self._rate, self._next / self._rate


def _as_presented(index: MediaIndex, source: Track, sounds: Iterable[_Sound]) -> MediaIndex:
    """Return an index whose video is placed and ends as `source`, and whose sound has no padding.

    FFmpeg presents what fills the last frame of sound, too.
    """
    video = index.video
    tkhd = video.boxes.tkhd[:-_PLACE_BYTES] + source.boxes.tkhd[-_PLACE_BYTES:]
    shown_s = (source.shown.start / source.timescale, source.shown.stop / source.timescale)
    boxes = replace(video.boxes, tkhd=tkhd)
    tracks = [replace(video, shown=range(*map(video.ticks, shown_s)), boxes=boxes)]
    others = (track for track in index.tracks if track.kind == "soun")
    for track, sound in zip(others, sounds, strict=True):
        tracks.append(replace(track, shown=range(*map(track.ticks, sound.shown_s))))
    return replace(index, tracks=tuple(tracks))


def _raise_first(*errors: BaseException | None) -> None:
    for error in errors:
        if error is not None:
            raise error


def _av() -> Any:
    """Import PyAV. Raises ConfigError if it is not installed."""
    try:
        import av  # noqa: PLC0415 - it is optional, and takes 0.1 s to import
    except ImportError as error:
        raise ConfigError(
            "--exact needs PyAV, which is not installed", hint="pip install 'ego4dfs[video]'"
        ) from error
    return av
