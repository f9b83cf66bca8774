"""`ego4dfs prefetch`: what it copies, what it says, what it asks for and what it leaves alone."""

from __future__ import annotations

from mountkit import MIB, seeded
from prefetchkit import data_of, tree

FILES = {
    "narration.json": b'{"a": 1}' * 1000,
    "nothing.json": b"",
    "middle.pt": seeded("middle", 3 * MIB + 17),
    "large.mp4": seeded("large", 40 * MIB + 1),
    **{f"small{i}.pt": seeded(str(i), 20_000 + i) for i in range(40)},
}


def test_copies_are_the_objects_where_the_official_tool_puts_them(prefetch, release, tmp_path):
    manifest = release.dataset("annotations", FILES)
    release.metadata(b'{"videos": []}')
    prefetch("-y")
    found = tree(tmp_path / "out")
    assert data_of(found, release, "annotations") == FILES
    assert found[f"{release.version}/annotations/manifest.csv"] == manifest
    assert found["ego4d.json"] == found[f"{release.version}/ego4d.json"] == b'{"videos": []}'
    assert not [path for path in found if path.endswith(".part")]
    assert (tmp_path / "out/.ego4dfs").stat().st_mode & 0o777 == 0o700


def test_a_second_run_asks_for_the_manifests_and_nothing_else(prefetch, release, front):
    release.dataset("annotations", FILES)
    release.metadata(b"{}")
    prefetch("-y")
    front.reset()
    done = prefetch("-y")
    asked = [(method, path.rpartition("/")[2]) for method, path, _ in front.log]
    assert sorted(asked) == [("GET", "manifest.csv"), ("HEAD", "ego4d.json")]
    assert "The latest versions of all requested videos already exist" in done.stdout
