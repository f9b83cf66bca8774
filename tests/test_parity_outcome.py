"""Official `ego4d` 1.7.3 and `ego4dfs prefetch` have the same outcome: answers, complete copies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kit.official import compared

pytestmark = pytest.mark.first_pass

SAID = (
    "Download Path: ",
    "Ego4D Metadata: ",
    "Manifest downloaded: ",
    "Filtered ",
    "The latest versions of all requested videos already exist",
    "Number of files to download is: ",
    "Expected size of downloaded files is ",
    "Aborting the download operation.",
)


def known_lines(stdout: str, out: Path) -> list[str]:
    """Return the lines that users of the official tool search for, in any order.

    The official "GB" are 1024³ bytes; ours says GiB.
    """
    text = re.sub(r"(?<=\d) GB\b", " GiB", stdout.replace(str(out), "OUT"))
    found = re.findall("|".join(f"(?:{re.escape(words)}[^\n(]*)" for words in SAID), text)
    return sorted({line.rstrip() for line in found})


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        (("--datasets", "viz", "--skip-s3-checks", "--no-metadata"), "y\n"),
        (("--datasets", "viz", "--skip-s3-checks", "--no-metadata"), "n\n"),
        (("--datasets", "sta_models", "--no-metadata"), "what\ny\n"),
        (("--datasets", "viz", "--manifest"), "n\n"),
    ],
)
def test_a_prompt_and_its_answer_have_the_same_outcome(both, flags, answer):
    """With -y the official --skip-s3-checks fails (fault 3), so it is answered.

    Without --no-metadata numbers differ: ours count ego4d.json, which comes with the other files.
    """
    one, other = both.directory / "official", both.directory / "ours"
    expected = known_lines(both.official(one, *flags, answer=answer), one)
    found = known_lines(both.ours(other, *flags, answer=answer), other)
    if "n\n" in answer and "what" not in answer:
        # Refused, ours has written nothing; the official tool has fetched manifests before.
        assert "Aborting the download operation." in found
        assert not [path for path in compared(one) if not path.endswith((".csv", "ego4d.json"))]
        assert compared(other) == {}
        return
    assert found == expected
    assert compared(other) == compared(one)


@pytest.mark.parametrize("flag", [(), ("--bypass-existing",), ("--skip-s3-checks",)])
def test_over_complete_copies_both_have_nothing_to_do(both, flag):
    """The official tool would fetch objects without versions again (fault 2) without our run."""
    one, other = both.directory / "official", both.directory / "ours"
    flags = ("--datasets", "sta_models", "--no-metadata")
    both.official(one, *flags)
    both.ours(other, *flags)
    before = compared(other)
    both.front.reset()
    if flag != ("--bypass-existing",):
        both.ours(one, *flags)
    expected = known_lines(both.official(one, *flags, *flag), one)
    assert known_lines(both.ours(other, *flags, *flag), other) == expected
    assert both.fetched() == []
    assert compared(one) == compared(other) == before


@pytest.mark.parametrize("is_cut", [True, False])
def test_bypass_existing_keeps_files_unless_they_are_truncated(both, is_cut):
    """The one difference: a truncated file is recognised by its size (fault 27)."""
    flags = ("--datasets", "viz", "--no-metadata")
    for run, out in ((both.official, "official"), (both.ours, "ours")):
        directory = both.directory / out
        run(directory, *flags)
        path = directory / "v2/viz" / both.sample.files["v2_1", "viz"][0].name
        whole = path.read_bytes()
        changed = whole[:-1] if is_cut else bytes(len(whole))
        path.write_bytes(changed)
        run(directory, *flags, "--bypass-existing")
        is_ours = run == both.ours
        assert path.read_bytes() == (whole if is_cut and is_ours else changed)
