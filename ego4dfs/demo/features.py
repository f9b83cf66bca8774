"""Feature files as `torch.save` writes them, without torch.

The format is torch's zip serialisation, described in PyTorch's "Serialization semantics" note and
in `torch/serialization.py`: a zip archive, nothing compressed, of

    archive/data.pkl    a protocol 2 pickle of the tensor, its numbers left out as "storage 0"
    archive/byteorder   "little"
    archive/data/0      the numbers
    archive/version     "3"

Each member starts at a multiple of 64 bytes, reached by an extra field of padding, so that
`torch.load(..., mmap=True)` can map the numbers in place. torch 2.13 reads these files.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 64
_PADDING_FIELD = 0x4246  # "FB", as torch writes it
_LOCAL_HEADER_SIZE = 30
_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage"}


def tensor_file(values: NDArray[np.float32] | NDArray[np.float16]) -> bytes:
    """Return the bytes of a `.pt` file that `torch.load` reads as a tensor of these values.

    Raises KeyError for other kinds of numbers than float32 and float16.
    """
    members = {
        "data.pkl": _pickled_tensor(_STORAGES[values.dtype.name], values.shape),
        "byteorder": b"little",
        "data/0": values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes(),
        "version": b"3\n",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(f"archive/{name}")
            before = buffer.tell() + _LOCAL_HEADER_SIZE + len(member.filename)
            padding = -(before + 4) % _ALIGNMENT
            member.extra = struct.pack("<HH", _PADDING_FIELD, padding) + b"Z" * padding
            archive.writestr(member, content)
            member.extra = b""  # the directory at the end needs no padding
    return buffer.getvalue()


def _pickled_tensor(storage: str, shape: tuple[int, ...]) -> bytes:
    """Return a pickle of `torch._utils._rebuild_tensor_v2(storage 0, 0, shape, strides, ...)`."""
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return b"".join(
        (
            b"\x80\x02",  # protocol 2
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"((",  # the arguments, of which the first is the storage's persistent id
            _text("storage"),
            f"ctorch\n{storage}\n".encode(),
            _text("0"),
            _text("cpu"),
            _integer(math.prod(shape)),
            b"tQ",  # the id is complete: look it up
            _integer(0),  # offset in the storage
            b"(" + b"".join(map(_integer, shape)) + b"t",
            b"(" + b"".join(map(_integer, strides)) + b"t",
            b"\x89",  # requires_grad=False
            b"ccollections\nOrderedDict\n)R",  # no backward hooks
            b"tR.",
        )
    )


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _integer(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)
