"""Which tests run in this process for which package: for branch coverage and mutations."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SOURCES = {
    "errors": ["errors.py", "text.py"],
    "facts": ["facts/*.py", "sqlite.py"],
    "cache": ["cache/*.py"],
    "reader": ["reader/*.py", "blocks.py"],
    "store-errors": [
        *("store/classify.py", "store/obstore_errors.py", "store/response_checks.py"),
        *("store/retry.py", "store/breaker.py", "store/bucket_limits.py", "store/etag.py"),
        *("store/region_cache.py", "store/region_probe.py"),
    ],
    "copies": ["copies/*.py"],
    "media": [
        *("media/*.py", "vfs/video.py", "vfs/window_file.py", "cli/clip.py"),
        *("vfs/index_cache.py", "vfs/windows.py", "cli/video_argument.py"),
    ],
    "windows": [
        *("annotations/*.py", "catalog/window_files.py", "catalog/clip_parents.py"),
        *("catalog/video_entries.py", "prefetch/cache_run.py"),
        *("prefetch/cache_warmer.py", "prefetch/index_warmer.py", "prefetch/windows.py"),
        *("cli/prefetch_indexes.py", "cli/prefetch_windows.py"),
    ],
    "api": ["api/*.py"],
    "index-file": ["index_file/*.py", "cli/index.py"],
}
"""The modules of each package, below `ego4dfs`."""

TESTS = {
    "errors": ["test_errors.py", "test_hostile_text.py", "test_output.py", "test_text.py"],
    "facts": [
        *("test_facts*.py", "test_sqlite.py", "test_forks.py", "test_media_facts.py"),
        *("test_near_facts.py", "test_index_file.py"),
    ],
    "cache": [
        *("test_cache*.py", "test_edited_databases.py", "test_eviction.py", "test_forks.py"),
        "test_prefetch_to_cache.py",
    ],
    "reader": [
        *("test_reader*.py", "test_flights.py", "test_window.py", "test_background_verifier.py"),
        *("test_etag_verifier.py", "test_blocks.py", "test_deadlines.py", "test_video_window.py"),
        *("test_video_reads.py", "test_shared_fetches.py", "test_window_costs.py"),
    ],
    "store-errors": [
        *("test_store_classify.py", "test_store_re*.py", "test_store_breaker.py"),
        *("test_store_answers.py", "test_store_etag.py", "test_store_cre*.py"),
        "test_deadlines_store.py",
    ],
    "copies": [
        *("test_copies*.py", "test_journal*.py", "test_foreign_records.py", "test_prefetch_p*.py"),
        *("test_prefetch_names.py", "test_prefetch_state.py", "test_name_collisions.py"),
        *("test_folder.py", "test_prefetch_shards.py", "test_verify_shards.py"),
    ],
    "media": [
        *("test_media_*.py", "test_video.py", "test_window_file.py", "test_clip*.py"),
        *("test_index_cache.py", "test_vfs_windows.py", "test_ego4d.py", "test_frame_mappings.py"),
    ],
    "windows": [
        *("test_annotation*.py", "test_prefetch_videos.py", "test_prefetch_to_cache.py"),
        "test_clip_windows.py",
    ],
    "api": [
        *("test_ego4d*.py", "test_features.py", "test_frame_mappings.py", "test_shards.py"),
        "test_window_prefetch.py",
    ],
    "index-file": ["test_index_file.py"],
}
"""The files with its tests; `test_fuzz_findings.py` belongs to each."""


def sources(package: str) -> list[Path]:
    """Return the modules of a package."""
    patterns = SOURCES[package]
    return sorted({path for pattern in patterns for path in (ROOT / "ego4dfs").glob(pattern)})


def tests(package: str) -> list[Path]:
    """Return the files with tests of a package."""
    patterns = [*TESTS[package], "test_fuzz_findings.py"]
    return sorted({path for pattern in patterns for path in (ROOT / "tests").glob(pattern)})
