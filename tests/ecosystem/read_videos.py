"""Read two seconds of a video with one library each; `path` is a path of a mount or a URL."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import fsspec
import numpy as np

START_S, STOP_S, FRAME_RATE = 30, 32, 30
FIRST, LAST = START_S * FRAME_RATE, STOP_S * FRAME_RATE


def av_open(path: str) -> Any:
    import av

    with fsspec.open(path) as file, av.open(file) as container:
        return _pictures(container)


def av_open_path(path: str) -> Any:
    import av

    with av.open(path) as container:
        return _pictures(container)


def _pictures(container: Any) -> Any:
    stream = container.streams.video[0]
    container.seek(int(START_S / stream.time_base), stream=stream)
    found = []
    for frame in container.decode(stream):
        if frame.time >= STOP_S:
            return np.stack(found)
        if frame.time >= START_S:
            found.append(frame.to_ndarray(format="rgb24"))
    raise ValueError("the video is too short")


def opencv_path(path: str) -> Any:
    import cv2

    return _captured(cv2.VideoCapture(path))


def opencv_file(path: str) -> Any:
    import cv2

    with fsspec.open(path) as file:
        return _captured(cv2.VideoCapture(file, cv2.CAP_FFMPEG, []))


def _captured(capture: Any) -> Any:
    import cv2

    if not capture.isOpened():
        raise OSError("OpenCV cannot open it")
    capture.set(cv2.CAP_PROP_POS_MSEC, START_S * 1000)
    return np.stack([capture.read()[1] for _ in range(FIRST, LAST)])


def decord_path(path: str) -> Any:
    from decord import VideoReader

    return VideoReader(path).get_batch(range(FIRST, LAST)).asnumpy()


def decord_file(path: str) -> Any:
    from decord import VideoReader

    with fsspec.open(path) as file:
        return VideoReader(file).get_batch(range(FIRST, LAST)).asnumpy()


def imageio_path(path: str) -> Any:
    import imageio.v3 as iio

    return iio.imread(path, plugin="pyav", index=FIRST)


def imageio_file(path: str) -> Any:
    import imageio.v3 as iio

    with fsspec.open(path) as file:
        return iio.imread(file, plugin="pyav", index=FIRST)


def torchcodec_path(path: str) -> Any:
    return _decoded(path, "approximate")


def torchcodec_approximate(path: str) -> Any:
    with fsspec.open(path) as file:
        return _decoded(file, "approximate")


def torchcodec_exact(path: str) -> Any:
    with fsspec.open(path) as file:
        return _decoded(file, "exact")


def _decoded(source: Any, seek_mode: str) -> Any:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(source, seek_mode=seek_mode)
    return decoder.get_frames_played_in_range(START_S, STOP_S).data.numpy()


def pytorchvideo_path(path: str) -> Any:
    _replace_torchvision()
    from pytorchvideo.data.encoded_video import EncodedVideo

    return _clip(EncodedVideo.from_path(path, decode_audio=False))


def pytorchvideo_file(path: str) -> Any:
    _replace_torchvision()
    from pytorchvideo.data.encoded_video_pyav import EncodedVideoPyAV

    with fsspec.open(path) as file:
        return _clip(EncodedVideoPyAV(file, decode_audio=False))


def _clip(video: Any) -> Any:
    return video.get_clip(START_S, STOP_S)["video"].numpy()


def official_reader(path: str) -> Any:
    return _official_readers().PyAvReader(path, **_UNCHANGED)[FIRST // 60]["video"].numpy()


def official_dataset(path: str) -> Any:
    readers = _official_readers()
    from ego4d.research.dataset import VideoDataset

    videos = VideoDataset([path], readers.PyAvReader, _UNCHANGED)
    return videos[FIRST // 60]["video"].numpy()


def official_features(path: str) -> Any:
    _official_readers()
    from ego4d.research.dataset import LabelledFeatureDset

    return LabelledFeatureDset(path, [("features", 1)])[0][0].numpy()


_UNCHANGED = dict.fromkeys(("resize", "crop", "mean", "std")) | {
    "frame_window_size": 60,
    "stride": 60,
    "gpu_idx": -1,
}


def _official_readers() -> ModuleType:
    _replace_torchvision()
    from ego4d.research import readers

    return readers


def _replace_torchvision() -> None:
    """Replace what pytorchvideo and ego4d.research import from torchvision and do not use here.

    Current versions of torchvision have not all of it.
    """
    for module, *names in (
        ("torchvision",),
        ("torchvision.datasets",),
        ("torchvision.datasets.folder", "make_dataset"),
        ("torchvision.transforms",),
        ("torchvision.transforms._transforms_video", "CenterCropVideo"),
        ("pytorchvideo.transforms", "Normalize", "ShortSideScale"),
    ):
        replacement = ModuleType(module)
        replacement.__dict__.update(dict.fromkeys(names))
        sys.modules.setdefault(module, replacement)
