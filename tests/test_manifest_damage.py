"""Malformed manifests: each problem is reported, and no row is lost without a report."""

from __future__ import annotations

import pytest

from ego4dfs.errors import ManifestError
from ego4dfs.manifest import EntryPacker, Manifest, parse

HEADER = "video_uid,type,s3_path"
UID = "8EA8BD4D-0a2b-4c5d-8e6f-0123456789ab"


def table(*rows: str, header: str = HEADER) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def names(manifest: Manifest) -> list[str]:
    return [entry.name for entry in manifest.entries]


def reported_rows(manifest: Manifest) -> list[int]:
    """Return the rows that problems name."""
    return [problem.row for problem in manifest.problems]


ROWS = (HEADER, "a,mp4,s3://b/a", "b,file,s3://b/b.pt")


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(ROWS),
        "\n".join(ROWS) + "\n",
        "\r\n".join(ROWS) + "\r\n",
        "\r".join(ROWS) + "\r",
        "\ufeff" + "\n".join(ROWS),
        "\ufeff" + "\r\n".join(ROWS) + "\r\n",
        '"video_uid","type","s3_path"\n"a","mp4","s3://b/a"\n"b","file","s3://b/b.pt"\n',
        "video_uid , type , s3_path\n a , mp4 , s3://b/a \n b , file , s3://b/b.pt\n",
    ],
)
def test_bom_line_ends_quotes_and_blanks_change_nothing(content):
    manifest = parse(content.encode(), "t")
    assert names(manifest) == ["a.mp4", "b.pt"]
    assert manifest.problems == ()


def test_newlines_commas_and_quotes_inside_quotes_are_data():
    header = "video_uid,scenarios,s3_path"
    content = table(
        'a,"[\'works at a ""renovation"" company\n(Director of work, at home)\']",s3://b/a',
        "b,\"['x',\r\n\r\n'y']\",s3://b/b",
        "c,[],s3://b/c",
        header=header,
    )
    manifest = parse(content, "t")
    assert names(manifest) == ["a.mp4", "b.mp4", "c.mp4"]
    assert [entry.row for entry in manifest.entries] == [2, 3, 4]
    assert manifest.problems == ()


def test_empty_rows_are_left_out_and_reported():
    manifest = parse(table("a,mp4,s3://b/a", "", ",,", "  ,,", "b,mp4,s3://b/b"), "v9/clips")
    assert names(manifest) == ["a.mp4", "b.mp4"]
    assert [entry.row for entry in manifest.entries] == [2, 6]
    assert reported_rows(manifest) == [3, 4, 5]
    assert str(manifest.problems[0]) == "manifest v9/clips, row 3: is empty; left out"


def test_a_short_row_that_still_has_its_location_is_kept_and_reported():
    content = table("a,s3://b/a", "b,s3://b/b,[EM]", header="video_uid,s3_path,benchmarks")
    manifest = parse(content, "t")
    assert names(manifest) == ["a.mp4", "b.mp4"]
    assert reported_rows(manifest) == [2]


def test_a_short_row_without_location_is_left_out_and_reported():
    manifest = parse(table("a", "b,mp4,s3://b/b"), "t")
    assert names(manifest) == ["b.mp4"]
    assert 2 in reported_rows(manifest)


def test_a_long_row_is_kept_and_reported():
    manifest = parse(table("a,mp4,s3://b/a,what,is,this", "b,mp4,s3://b/b"), "t")
    assert names(manifest) == ["a.mp4", "b.mp4"]
    assert reported_rows(manifest) == [2]


@pytest.mark.parametrize(
    ("header", "broken", "good"),
    [
        ("video_uid,scenarios,s3_path", '{},"[x,s3://b/{}', "{},[],s3://b/{}"),
        ("scenarios,video_uid,s3_path", '"[x,{},s3://b/{}', "[],{},s3://b/{}"),
        ("video_uid,s3_path,scenarios", '{},s3://b/{},"[x', "{},s3://b/{},[]"),
        ("video_uid,s3_path,scenarios", '{},s3://b/{},"[x', '{},s3://b/{},"[]"'),
        ("video_uid,scenarios,s3_path", '{},"[x,s3://b/{}', '{},"[y",s3://b/{}'),
        ("video_uid,type,s3_path", '{},mp4,"s3://b/{}', "{},mp4,s3://b/{}"),
        ("video_uid,type,s3_path", '{},mp4,"s3://b/{}', '{},mp4,"s3://b/{}"'),
    ],
)
@pytest.mark.parametrize("broken_at", [0, 2, 5])
def test_rows_after_an_unclosed_quote_are_not_lost(header, broken, good, broken_at):
    rows = [(broken if i == broken_at else good).format(f"u{i}", f"k{i}") for i in range(6)]
    manifest = parse(table(*rows, header=header), "t")
    found = {entry.uid: entry.url for entry in manifest.entries}
    assert {uid: url for uid, url in found.items() if uid != f"u{broken_at}"} == {
        f"u{i}": f"s3://b/k{i}" for i in range(6) if i != broken_at
    }
    assert found.get(f"u{broken_at}", f"s3://b/k{broken_at}") == f"s3://b/k{broken_at}"
    assert broken_at + 2 in reported_rows(manifest)


def test_a_header_with_an_unclosed_quote_is_still_a_header():
    assert names(parse(b'"video_uid,s3_path\na,s3://b/a\nb,s3://b/b\n', "t")) == ["a.mp4", "b.mp4"]


def test_text_after_a_closing_quote_is_read_as_lenient_readers_do():
    content = table('a,"x, y"z,s3://b/a', "b,[],s3://b/b", header="video_uid,note,s3_path")
    manifest = parse(content, "t")
    assert names(manifest) == ["a.mp4", "b.mp4"]
    assert reported_rows(manifest) == [2]


def test_two_unclosed_quotes_do_not_make_one_row_of_two():
    """Together they would be one record of the right width, with the URL of the second."""
    header = "video_uid,scenarios,s3_path"
    content = table('a,"x,s3://b/a', 'b,"y,s3://b/b', "c,[],s3://b/c", header=header)
    manifest = parse(content, "t")
    assert manifest.entries[-1].url == "s3://b/c"
    for entry in manifest.entries:
        assert entry.url == f"s3://b/{entry.uid}"
    assert {2, 3} <= set(reported_rows(manifest))


def test_a_field_beyond_the_limit_loses_only_its_row():
    huge = "x" * 200_000
    header = "video_uid,scenarios,s3_path"
    content = table(f"a,{huge},s3://b/a", "b,[],s3://b/b", header=header)
    assert "b.mp4" in names(parse(content, "t"))


def test_a_nul_loses_at_most_its_row():
    manifest = parse(table("a,mp4,s3://b/a", "\0,mp4,s3://b/b\0", "c,mp4,s3://b/c"), "t")
    assert names(manifest)[0] == "a.mp4"
    assert names(manifest)[-1] == "c.mp4"
    assert not [name for name in names(manifest) if "\0" in name]


def test_bytes_that_are_not_utf_8_are_reported_and_the_rest_is_read():
    content = table("a,mp4,s3://b/a") + b"b,mp4,s3://b/\xff\n" + b"c,mp4,s3://b/c\n"
    manifest = parse(content, "t")
    assert names(manifest) == ["a.mp4", "b.mp4", "c.mp4"]
    assert reported_rows(manifest) == [3]


@pytest.mark.parametrize(
    "location", ["", "  ", "https://b/k", "s3:/b/k", "b/k", "s3://b", "s3://b/", "s3://b/dir/"]
)
def test_a_row_without_an_s3_location_is_left_out_and_reported(location):
    manifest = parse(table(f"a,mp4,{location}", "b,mp4,s3://b/b"), "t")
    assert names(manifest) == ["b.mp4"]
    assert [(p.row, p.column) for p in manifest.problems] == [(2, "s3_path")]


def test_a_video_without_a_uid_is_left_out_and_reported():
    manifest = parse(table(",mp4,s3://b/a", "b,mp4,s3://b/b", ",file,s3://b/c.pt"), "t")
    assert names(manifest) == ["b.mp4", "c.pt"]
    assert [(p.row, p.column) for p in manifest.problems] == [(2, "video_uid")]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "nothing"),
        (b"\n\n", "nothing"),
        (b"\xef\xbb\xbf", "nothing"),
        (b"type,s3_path\nfile,s3://b/k\n", "no column holds an id"),
        (b"video_uid,type\nu,file\n", "no column holds a location"),
        (b"<!DOCTYPE html>\n<html><body>403, Forbidden</body></html>\n", "<!DOCTYPE html>"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "<?xml"),
        (b"\0\0\0\x1cftypisom", "no column holds an id"),
    ],
)
def test_a_file_without_a_usable_header_is_an_error_with_file_and_row(content, wanted):
    with pytest.raises(ManifestError) as caught:
        parse(content, "v2/full_scale")
    assert "v2/full_scale, row 1" in str(caught.value)
    assert wanted in str(caught.value)
    assert "manifest.csv" in caught.value.hint


def test_an_exact_duplicate_is_shown_once_and_reported():
    manifest = parse(table("a,mp4,s3://b/a", "c,mp4,s3://b/c", "a,mp4,s3://b/a"), "t")
    assert names(manifest) == ["a.mp4", "c.mp4"]
    assert reported_rows(manifest) == [4]
    assert "repeats row 2" in manifest.problems[0].message


def test_a_uid_with_another_object_gets_another_name_and_is_reported():
    manifest = parse(table("a,mp4,s3://b/a", "a,mp4,s3://other/a", "a,mp4,s3://other/a"), "t")
    assert names(manifest) == ["a.mp4", "a~2.mp4"]
    assert reported_rows(manifest) == [3, 4]


def test_one_basename_under_several_prefixes_is_one_file_each():
    """The official tool writes all of them to one file."""
    rows = [f"u{i},file,s3://b/{prefix}/scan.tar" for i, prefix in enumerate("abc")]
    manifest = parse(table(*rows, "d,file,s3://b/noext", "e,file,s3://b/x/noext"), "t")
    assert names(manifest) == ["scan.tar", "scan~2.tar", "scan~3.tar", "noext", "noext~2"]
    assert [entry.url for entry in manifest.entries[:3]] == [
        "s3://b/a/scan.tar",
        "s3://b/b/scan.tar",
        "s3://b/c/scan.tar",
    ]
    assert reported_rows(manifest) == [3, 4, 6]


def test_a_name_is_given_only_once():
    rows = ["1,file,s3://b/a/x.t", "2,file,s3://b/b/x.t", "3,file,s3://b/x~2.t"]
    assert names(parse(table(*rows), "t")) == ["x.t", "x~2.t", "x~2~2.t"]


def test_many_rows_of_one_name_are_not_compared_with_each_other(monkeypatch):
    """One dataset could name 26,000 files aud.wav; looks that grow with each row take minutes."""
    count, looks, taken = 1000, [], EntryPacker.find

    def counted(packing: EntryPacker, name: str) -> tuple[int, str] | None:
        looks.append(name)
        return taken(packing, name)

    monkeypatch.setattr(EntryPacker, "find", counted)
    rows = [f"u,file,s3://b/{number}/aud.wav" for number in range(count)]
    manifest = parse(table(*rows * 2), "t")
    assert names(manifest) == ["aud.wav", *(f"aud~{number}.wav" for number in range(2, count + 1))]
    assert len(looks) < 4 * count


def test_two_objects_of_one_stem_are_two_files():
    manifest = parse(table("a,file,s3://b/x.json", "b,file,s3://b/x.csv"), "t")
    assert names(manifest) == ["x.json", "x.csv"]
    assert manifest.problems == ()


def test_an_object_with_a_reserved_name_is_renamed():
    rows = ["a,file,s3://b/x/manifest.csv", "b,file,s3://b/x/manifest.ver"]
    manifest = parse(table(*rows), "t")
    assert names(manifest) == ["manifest~2.csv", "manifest~2.ver"]
    assert reported_rows(manifest) == [2, 3]


def test_an_upper_case_uid_keeps_its_name_and_is_selected_in_lower_case():
    (entry,) = parse(table(f"{UID},mp4,s3://b/{UID}"), "t").entries
    assert (entry.name, entry.uid) == (f"{UID}.mp4", UID)
    assert entry.uids == {UID.lower()}


@pytest.mark.parametrize("uid", ["a/b", "../../etc/passwd", "/etc/passwd", "x" * 252, "é" * 126])
def test_a_uid_that_cannot_be_a_file_name_is_left_out_and_reported(uid):
    manifest = parse(table(f"{uid},mp4,s3://b/a", "b,mp4,s3://b/b"), "t")
    assert names(manifest) == ["b.mp4"]
    assert reported_rows(manifest) == [2]


@pytest.mark.parametrize("key", ["x/..", "x/.", "..", "x" * 256])
def test_a_key_that_cannot_be_a_file_name_is_left_out_and_reported(key):
    manifest = parse(table(f"a,file,s3://b/{key}", "b,mp4,s3://b/b"), "t")
    assert names(manifest) == ["b.mp4"]
    assert reported_rows(manifest) == [2]


def test_a_name_that_is_made_unique_is_not_too_long_for_a_disk():
    long = "x" * 251 + ".tar"
    manifest = parse(table(f"a,file,s3://b/1/{long}", f"b,file,s3://b/2/{long}"), "t")
    assert names(manifest)[0] == long
    assert all(len(name.encode()) <= 255 for name in names(manifest))
    assert reported_rows(manifest) == [3]
