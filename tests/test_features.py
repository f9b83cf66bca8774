"""Features by uid: the arrays in `.pt` files, read many at a time and without torch."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from ego4dfs import Ego4D
from ego4dfs.api.tensors import read_tensor
from ego4dfs.demo.features import tensor_file
from ego4dfs.errors import ConfigError, MediaError, NotFound

DATASET = "omnivore_video_swinl_fp16"
COUNT = 40


def features(number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal((number + 1, 8)).astype(np.float16)


WANTED = {f"{number:032x}": features(number) for number in range(COUNT)}


def check(found: list[tuple[str, np.ndarray]]) -> None:
    for uid, values in found:
        assert values.dtype == np.float16
        np.testing.assert_array_equal(values, WANTED[uid])


def test_features_are_found_by_uid_with_one_request_each(release, licensee):
    release.dataset(DATASET, {f"{uid}.pt": tensor_file(v) for uid, v in WANTED.items()})
    with Ego4D(version=release.version, datasets=[DATASET], metadata=False) as api:
        uids = [uid.upper() for uid in list(WANTED)[::-1]]
        found = list(api.features(uids))
        assert [uid for uid, _ in found] == uids
        check([(uid.lower(), values) for uid, values in found])
        requests = api.fs.vfs.session.metrics.requests
        assert (requests["head"], requests["get"]) == (0, COUNT)
        check(list(api.features()))
        check(sorted(api.features(ordered=False), key=lambda one: one[0]))
        assert requests["get"] == COUNT


def test_the_dataset_may_be_named_and_must_be_clear(release, licensee):
    other = "slowfast8x8_r101_k400"
    for name in (DATASET, other):
        release.dataset(name, {f"{uid}.pt": tensor_file(v) for uid, v in WANTED.items()})
    uid = next(iter(WANTED))
    with Ego4D(version=release.version, datasets=[DATASET, other], metadata=False) as api:
        with pytest.raises(ConfigError, match=f"which features. {DATASET} {other} is selected"):
            api.features([uid])
        check(list(api.features([uid], other)))
    with (
        Ego4D(version=release.version, metadata=False) as api,
        pytest.raises(ConfigError, match="no dataset of features"),
    ):
        api.features([uid])


def test_each_uid_has_its_own_error(release, licensee):
    release.dataset(DATASET, {"aaaa.pt": tensor_file(features(1)), "damaged.pt": b"PK no archive"})
    with Ego4D(version=release.version, datasets=[DATASET], metadata=False) as api:
        found = dict(api.features(["aaaa", "none", "damaged"], on_error="return"))
        assert isinstance(found["none"], NotFound)
        assert isinstance(found["damaged"], MediaError)
        assert f"v{release.version[1:]}/{DATASET}/damaged.pt: it is no tensor" in str(
            found["damaged"]
        )
        assert [u for u, _ in api.features(["none", "aaaa"], on_error="omit")] == ["aaaa"]
        with pytest.raises(NotFound, match=f"none: no features of it are selected in {DATASET}"):
            list(api.features(["none"]))
        with pytest.raises(ConfigError, match="one of raise, return, omit"):
            api.features(["none"], on_error="x")


def test_a_file_that_the_store_does_not_have_is_the_error_of_its_uid(release, licensee):
    release.put(f"{DATASET}/aaaa.pt", tensor_file(features(1)))
    rows = [f"{uid},file,{release.url(f'{DATASET}/{uid}.pt')}" for uid in ("aaaa", "gone")]
    release.manifest(DATASET, "\n".join(["video_uid,type,s3_path", *rows, ""]))
    with Ego4D(version=release.version, datasets=[DATASET], metadata=False) as api:
        found = dict(api.features(["aaaa", "gone"], on_error="return"))
    assert isinstance(found["gone"], FileNotFoundError)
    np.testing.assert_array_equal(found["aaaa"], features(1))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 4), (2, 3, 4)])
def test_a_tensor_is_read_as_it_was_written(dtype, shape):
    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    found = read_tensor(tensor_file(values))
    assert (found.dtype, found.shape) == (values.dtype, shape)
    np.testing.assert_array_equal(found, values)
    assert found.flags.writeable
    assert found.flags.c_contiguous


def archive(pickled: bytes, numbers: bytes = b"", **others: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        members = {"data.pkl": pickled, "data/0": numbers, **others}
        for name, content in members.items():
            file.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def of_tensor(data: bytes, **others: bytes) -> bytes:
    """Return the archive with other members."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {n.removeprefix("archive/"): file.read(n) for n in file.namelist()}
    members = {**members, **others}
    return archive(members.pop("data.pkl"), members.pop("data/0"), **members)


def pickle_of(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return file.read("archive/data.pkl")


def repeated(pickled: bytes) -> bytes:
    """Return the pickle of a tensor of 4 x 5 numbers as one of 2**30 x 5 times its first number."""
    shape, strides = struct.pack("<ci", b"J", 4), struct.pack("<cici", b"J", 5, b"J", 1)
    assert pickled.count(shape) == pickled.count(strides) == 1
    pickled = pickled.replace(strides, struct.pack("<cici", b"J", 0, b"J", 0))
    return pickled.replace(shape, struct.pack("<ci", b"J", 1 << 30))


class Evil:
    def __reduce__(self):
        return (print, ("code of the file",))


def test_code_in_a_file_is_not_run(capsys):
    with pytest.raises(MediaError, match=r"it needs __builtin__\.print"):
        read_tensor(archive(pickle.dumps(Evil(), 2)))
    assert not capsys.readouterr().out


def test_big_endian_numbers_are_read_as_such():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    numbers = values.astype(">f4").tobytes()
    data = of_tensor(tensor_file(values), **{"data/0": numbers, "byteorder": b"big"})
    np.testing.assert_array_equal(read_tensor(data), values)


WHOLE = tensor_file(np.ones((4, 5), np.float32))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zip",
        pickle.dumps(1),
        archive(pickle.dumps({"a": 1}, 2)),
        archive(b""),
        of_tensor(WHOLE, **{"data/0": b"short"}),
        WHOLE[:-30],
        of_tensor(WHOLE, **{"data.pkl": repeated(pickle_of(WHOLE))}),
        WHOLE[: len(WHOLE) // 2] + b"\xff" * 40 + WHOLE[len(WHOLE) // 2 + 40 :],
    ],
)
def test_other_files_are_errors(data):
    with pytest.raises(MediaError, match=r"no tensor that torch\.save wrote"):
        read_tensor(data)


def test_a_compressed_archive_is_refused_whatever_it_holds():
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out,
        zipfile.ZipFile(io.BytesIO(WHOLE)) as given,
    ):
        for name in given.namelist():
            out.writestr(name, given.read(name))
    data = bytearray(packed.getvalue())
    for place in range(0, len(data), 7):
        damaged = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        with pytest.raises(MediaError):
            read_tensor(bytes(damaged))
    with pytest.raises(MediaError, match="it is compressed"):
        read_tensor(bytes(data))
