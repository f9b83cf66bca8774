"""Videos as Ego4D has them: VP9 and AAC in MP4, 30 frames a second.

Every frame has a stamp along its top edge: a row of 32 black and white cells that encode the number
of the video and the number of the frame. `read_stamp` reads it from a decoded picture, so a test
can check that it got the right frame of the right video. The rest of the picture is a moving
pattern with noise, which determines the bit rate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FRAME_RATE = 30
_CELLS = 32
_BLACK, _WHITE, _GREY = 16, 235, 128
_AUDIO_RATE_HZ = 16_000
_AUDIO_FRAME = 1024
_NOISE_PICTURES = 8
# The fastest settings of libvpx-vp9: 2.5 ms a frame at 320x180. One thread per video, because
# several videos are made in parallel, and because it makes the same bytes in every run.
_VP9 = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "threads": "1"}


@dataclass(frozen=True, slots=True)
class Clip:
    """The content of a video file; equal clips make equal bytes with one version of PyAV.

    `number` (below 65536) names the video in its stamps and seeds its pattern. `noise` is the
    amplitude (at most 40) of the noise in the picture, which is encoded with up to `bit_rate`.
    `faststart` puts the index (moov) before the pictures (mdat); without it the index is the last
    box. There is a key frame every `key_frame_s`, or more often.
    """

    number: int
    duration_s: int
    width: int = 320
    height: int = 180
    bit_rate: int = 3_000_000
    noise: int = 24
    audio: bool = True
    faststart: bool = True
    key_frame_s: int = 1

    @property
    def num_frames(self) -> int:
        """How many pictures there are."""
        return self.duration_s * FRAME_RATE


def make_all(clips: Iterable[Clip], directory: Path, *, workers: int = 2) -> dict[Clip, Path]:
    """Make each clip as a file of `directory`, unless an earlier call left it there."""
    directory.mkdir(parents=True, exist_ok=True)
    # Longest first, because the last one determines the total time.
    wanted = sorted(set(clips), key=lambda clip: -clip.num_frames)
    files = {clip: directory / _file_name(clip) for clip in wanted}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        missing = [clip for clip in wanted if not files[clip].exists()]
        for done in [pool.submit(make, clip, files[clip]) for clip in missing]:
            done.result()
    return files


def make(clip: Clip, path: Path) -> None:
    """Encode one clip; the file appears when it is complete."""
    unfinished = path.with_name(f"{path.name}.part")
    options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if clip.faststart else {})
    with av.open(str(unfinished), "w", format="mp4", options=options) as container:
        video = container.add_stream("libvpx-vp9", rate=FRAME_RATE, options=dict(_VP9))
        video.width, video.height, video.pix_fmt = clip.width, clip.height, "yuv420p"
        video.bit_rate = clip.bit_rate
        video.gop_size = clip.key_frame_s * FRAME_RATE
        streams = [video]
        sound = _sound(clip) if clip.audio else []
        if sound:
            streams.append(container.add_stream("aac", rate=_AUDIO_RATE_HZ, layout="mono"))
        for index, picture in enumerate(_pictures(clip)):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts = index
            container.mux(video.encode(frame))
            # Sound is interleaved with its pictures, as players and partial readers expect.
            while sound and sound[0].pts * FRAME_RATE <= index * _AUDIO_RATE_HZ:
                container.mux(streams[1].encode(sound.pop(0)))
        for stream in streams:
            container.mux(stream.encode(None))
    unfinished.rename(path)


def read_stamp(luma: NDArray[np.uint8]) -> tuple[int, int]:
    """Return (video number, frame number) from the brightness plane of a decoded picture."""
    height, width = luma.shape
    rows = slice(height // 48, height // 16)
    edges = np.arange(_CELLS) * width // _CELLS
    inner = max(1, width // _CELLS // 4)
    means = [luma[rows, edge + inner : edge + width // _CELLS - inner].mean() for edge in edges]
    bits = "".join("1" if mean > _GREY else "0" for mean in means)
    return int(bits[:16], 2), int(bits[16:], 2)


def _pictures(clip: Clip) -> Iterator[NDArray[np.uint8]]:
    """Yield each picture in PyAV's layout of yuv420p: brightness above two planes of colour."""
    random = np.random.default_rng(clip.number)
    x, y = np.arange(clip.width), np.arange(clip.height)[:, None]
    cell, speed = random.integers(8, 24), random.integers(1, 5)
    shape = (_NOISE_PICTURES, clip.height, clip.width)
    # All in bytes, where -1 is 255: this takes 0.5 ms less per picture than wider numbers.
    noise = random.integers(-clip.noise, clip.noise + 1, shape, dtype=np.int8).view(np.uint8)
    picture = np.full((clip.height * 3 // 2, clip.width), _GREY, np.uint8)
    picture[clip.height :] = random.integers(96, 160)
    stamp_rows = clip.height // 12
    cells = x * _CELLS // clip.width
    for index in range(clip.num_frames):
        across = ((x + speed * index) // cell * 37).astype(np.uint8)
        down = ((y + index) // cell * 61).astype(np.uint8)
        picture[: clip.height] = ((across + down) & 127) + 64 + noise[index % _NOISE_PICTURES]
        bits = (clip.number << 16 | index) >> (_CELLS - 1 - cells) & 1
        picture[:stamp_rows] = np.where(bits, _WHITE, _BLACK)
        yield picture


def _sound(clip: Clip) -> list[av.AudioFrame]:
    """Return a tone with a pitch for each video, in frames of AAC's size."""
    pitch_hz = 220 + clip.number % 32 * 20
    time_s = np.arange(clip.duration_s * _AUDIO_RATE_HZ) / _AUDIO_RATE_HZ
    wave = (np.sin(2 * np.pi * pitch_hz * time_s) * 8000).astype(np.int16)
    frames = []
    for start in range(0, len(wave), _AUDIO_FRAME):
        samples = wave[None, start : start + _AUDIO_FRAME]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = _AUDIO_RATE_HZ, start
        frames.append(frame)
    return frames


def _file_name(clip: Clip) -> str:
    """Return a name made from all inputs of the bytes, so that a file with this name is right."""
    inputs = f"{clip!r} {sorted(_VP9.items())} {av.__version__}"
    return f"{hashlib.sha256(inputs.encode()).hexdigest()[:16]}.mp4"
