"""The datasets of `ego4dfs.torch` in DataLoaders: the same bits from everywhere, in any worker."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ego4dfs import Ego4D, errors
from ego4dfs.demo.features import tensor_file
from ego4dfs.demo.media import Clip, make_all
from kit import media
from kit.cli import run_cli

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader  # noqa: E402

from ego4dfs.torch import FeatureDataset, WindowDataset, WindowStream  # noqa: E402

DATASET = "omnivore_video_swinl_fp16"
FORMS = {
    "aaaa": "index in front",
    "bbbb": "b-frames",
    "cccc": "pictures begin later",
    "dddd": "uneven times",
}
UIDS = [f"{number:032x}" for number in range(20)]
WINDOWS = [(uid, n / 4, n / 4 + 0.5, f"{uid} {n}") for n in range(4, 8) for uid in FORMS]
WORKERS = [(0, None), *((4, method) for method in ("fork", "spawn", "forkserver"))]
has = importlib.util.find_spec


def options(release, tmp_path: Path) -> dict[str, object]:
    """Return options that do not depend on variables: a forkserver keeps those of its start."""
    return {
        "version": release.version,
        "datasets": ["full_scale", DATASET],
        "cache_dir": str(tmp_path / "cache"),
        "metadata": False,
    }


@pytest.fixture
def published(release, licensee):
    release.dataset("full_scale", {f"{uid}.mp4": media.form(f) for uid, f in FORMS.items()})
    values = {uid: np.full((n + 1, 8), n, np.float16) for n, uid in enumerate(UIDS)}
    release.dataset(DATASET, {f"{uid}.pt": tensor_file(v) for uid, v in values.items()})
    return release


@pytest.fixture
def api(published, tmp_path) -> Iterator[Ego4D]:
    with Ego4D(**options(published, tmp_path)) as opened:
        yield opened


def loader(dataset, workers: int, method: str | None, **more):
    return DataLoader(
        dataset, num_workers=workers, multiprocessing_context=method, collate_fn=list, **more
    )


def items(batches) -> dict[str, torch.Tensor]:
    return {window[3]: frames for batch in batches for frames, window in batch}


@pytest.mark.parametrize(("workers", "method"), WORKERS)
def test_a_loader_returns_the_frames_of_each_window(api, workers, method):
    wanted = {w[3]: torch.from_numpy(api.frames(*w[:3])) for w in WINDOWS}
    for dataset in (WindowDataset(WINDOWS, ego4d=api), WindowStream(WINDOWS, ego4d=api)):
        found = items(loader(dataset, workers, method, batch_size=3))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        assert all(f.dtype == torch.uint8 and f.shape[3] == 3 for f in found.values())


@pytest.mark.parametrize(("workers", "method"), WORKERS)
def test_a_loader_returns_the_tensors_that_torch_load_returns(api, workers, method):
    dataset = FeatureDataset(UIDS, ego4d=api)
    found = {u: t for batch in loader(dataset, workers, method, batch_size=7) for t, u in batch}
    assert list(found) == UIDS
    for uid, values in found.items():
        with api.fs.open(f"{api.fs.config.version}/{DATASET}/{uid}.pt") as file:
            wanted = torch.load(io.BytesIO(file.read()))
        assert (values.dtype, values.shape) == (wanted.dtype, wanted.shape)
        assert torch.equal(values, wanted)


def test_the_bits_are_those_of_whole_copies_and_of_a_mount(api, published, tmp_path, mount):
    root = tmp_path / "copies"
    words = ("--version", published.version, "--datasets", "full_scale", DATASET, "--no-metadata")
    run_cli("prefetch", "-y", "-o", str(root), *words)
    mounted = mount(*words)
    wanted = items([WindowDataset(WINDOWS, ego4d=api)])
    options_of = {**options(published, tmp_path), "cache_dir": str(tmp_path / "other")}
    with Ego4D(**options_of, copies=str(root)) as copies:
        found = items([WindowDataset(WINDOWS, ego4d=copies)])
        assert not copies.fs.vfs.session.metrics.requests["get"]
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    av = pytest.importorskip("av")
    for uid, start_s, end_s, name in WINDOWS:
        path = mounted / ".ego4dfs/windows" / uid / f"{start_s}-{end_s}.mp4"
        with av.open(str(path)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        assert torch.equal(torch.from_numpy(np.stack(frames)), wanted[name])


@pytest.mark.parametrize("decoder", ["torchcodec", "decord"])
def test_other_decoders_have_the_pictures_that_they_have_of_the_whole_video(api, decoder):
    if has(decoder) is None:
        pytest.skip(f"{decoder} is not installed")
    pyav, found = (items([WindowDataset(WINDOWS, ego4d=api, decoder=d)]) for d in ("pyav", decoder))
    for name, frames in found.items():
        assert frames.shape == pyav[name].shape
        assert int((frames.int() - pyav[name].int()).abs().max()) <= 8  # rounding of colours


def test_torchcodec_is_exact_with_the_mappings_and_reads_the_window_only(
    release, licensee, tmp_path
):
    decoders = pytest.importorskip("torchcodec.decoders")
    clip = Clip(number=7, duration_s=60, bit_rate=6_000_000, key_frame_s=4)
    data = make_all([clip], tmp_path)[clip].read_bytes()
    release.dataset("full_scale", {"long.mp4": data})
    with Ego4D(version=release.version, datasets=["full_scale"], metadata=False) as api:
        mappings = api.frame_mappings("long")
        with api.fs.open(api.path("long")) as file:
            decoder = decoders.VideoDecoder(file, custom_frame_mappings=mappings)
            found = decoder.get_frames_played_in_range(30, 32)
        fetched = api.fs.vfs.session.metrics.snapshot()["bytes_fetched"]
    exact = decoders.VideoDecoder(data)
    wanted = exact.get_frames_played_in_range(30, 32)
    assert torch.equal(found.data, wanted.data)
    assert torch.equal(found.pts_seconds, wanted.pts_seconds)
    assert len(exact) == len(json.loads(mappings)["frames"]) == len(decoder)
    print(f"torchcodec with mappings: {fetched} of {len(data)} bytes")
    assert fetched < len(data) / 4


def test_an_order_is_that_of_the_seed_and_the_epoch(api):
    def order(epoch: int, **more) -> list[str]:
        stream = WindowStream(WINDOWS, ego4d=api, shuffle=True, seed=1, **more)
        stream.set_epoch(epoch)
        return [window[3] for _, window in stream]

    assert order(0) == order(0) != order(1)
    ranks = [order(0, rank=rank, world_size=2) for rank in range(2)]
    assert sorted(ranks[0] + ranks[1]) == sorted(order(0))


def test_an_epoch_reaches_workers_that_are_running(api):
    stream = WindowStream(WINDOWS, ego4d=api, shuffle=True)
    batches = loader(stream, 2, "fork", batch_size=None, persistent_workers=True)
    first = [window[3] for _, window in batches]
    stream.set_epoch(1)
    assert [window[3] for _, window in batches] != first
    stream.set_epoch(0)
    assert [window[3] for _, window in batches] == first


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_resumes_in_the_middle_of_an_epoch(api, workers):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

    def opened():
        stream = WindowStream(WINDOWS, ego4d=api, shuffle=True, seed=2)
        stream.set_epoch(3)
        return stateful(stream, batch_size=2, num_workers=workers, collate_fn=list)

    def names(batches) -> list[str]:
        return [window[3] for batch in batches for _, window in batch]

    whole = names(opened())
    first = opened()
    batches = iter(first)
    begun = [next(batches) for _ in range(2)]
    state = first.state_dict()
    resumed = opened()
    resumed.load_state_dict(state)
    assert names(begun) + names(resumed) == whole


def test_a_transform_takes_the_place_of_the_tensor(api):
    [(mean, window), *_] = WindowDataset(WINDOWS, lambda frames: frames.float().mean(), ego4d=api)
    assert window == WINDOWS[0]
    assert mean == torch.from_numpy(api.frames(*window[:3])).float().mean()
    features = FeatureDataset(UIDS, DATASET, lambda values: values.shape, ego4d=api)
    assert features[3] == (torch.Size([4, 8]), UIDS[3])


def test_a_missing_decoder_names_the_command(api, monkeypatch):
    monkeypatch.setattr("ego4dfs.torch.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"needs torchcodec: pip install 'torchcodec'"):
        WindowDataset(WINDOWS, ego4d=api, decoder="torchcodec")
    with pytest.raises(errors.ConfigError, match="one of pyav, torchcodec, decord"):
        WindowDataset(WINDOWS, ego4d=api, decoder="opencv")


def test_a_window_that_cannot_be_read_raises_its_error(api):
    dataset = WindowDataset([*WINDOWS[:2], ("none", 1, 2, "x")], ego4d=api)
    assert len(dataset.__getitems__([0, 1])) == 2
    with pytest.raises(errors.NotFound, match="none"):
        dataset.__getitems__([0, 2])
