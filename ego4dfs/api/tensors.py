"""Feature files (`.pt`) as numpy arrays, without torch: the one tensor that `torch.save` wrote.

The format is torch's zip serialisation, which torch writes since version 1.6. No code of a file is
run: its pickle may name only what a tensor of numbers needs.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ego4dfs.errors import MediaError

_DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_PICKLE = "/data.pkl"
# What zipfile, pickle and numpy raise for damaged bytes.
_DAMAGE = (
    OSError,
    *(zipfile.BadZipFile, pickle.UnpicklingError, NotImplementedError, RuntimeError),
    *(ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError, MemoryError),
)


def read_tensor(data: bytes) -> NDArray[Any]:
    """Return the tensor of a `.pt` file as a new array, with its shape, numbers and their type.

    Raises MediaError if the file is damaged, or is something else than one dense tensor.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _tensor(archive)
    except _DAMAGE as error:
        raise MediaError(f"it is no tensor that torch.save wrote: {error}") from error


def _tensor(archive: zipfile.ZipFile) -> NDArray[Any]:
    if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
        raise ValueError("it is compressed")  # torch compresses nothing
    [name] = [name for name in archive.namelist() if name.endswith(_PICKLE)]
    found = _Unpickler(archive, name.removesuffix(_PICKLE)).load()
    if not isinstance(found, np.ndarray):
        raise TypeError(f"it holds a {type(found).__name__}")
    return found


class _Unpickler(pickle.Unpickler):
    """Rebuilds a tensor from the members of an archive."""

    def __init__(self, archive: zipfile.ZipFile, directory: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{directory}{_PICKLE}")))
        self._archive = archive
        self._directory = directory
        names = archive.namelist()
        order = f"{directory}/byteorder"
        is_big = order in names and archive.read(order) == b"big"
        self._order = ">" if is_big else "<"

    def find_class(self, module: str, name: str, /) -> Any:
        """Return one of the few names that a tensor needs."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return np.dtype(self._order + _DTYPES[name])
        raise pickle.UnpicklingError(f"it needs {module}.{name}")

    def persistent_load(self, pid: Any, /) -> NDArray[Any]:
        """Return the numbers of a storage."""
        _, dtype, key, _, count = pid
        numbers = np.frombuffer(self._archive.read(f"{self._directory}/data/{key}"), dtype)
        return numbers[:count]


def _rebuilt(
    numbers: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> NDArray[Any]:
    """Return a copy of some numbers of a storage, in the byte order of this machine."""
    if math.prod(shape) > len(numbers):
        raise ValueError(f"its storage has fewer numbers than its shape {shape}")
    size = numbers.itemsize
    strided = np.ndarray(
        shape, numbers.dtype, numbers.tobytes(), offset * size, [step * size for step in strides]
    )
    native: NDArray[Any] = strided.astype(numbers.dtype.newbyteorder("="), order="C")
    return native
