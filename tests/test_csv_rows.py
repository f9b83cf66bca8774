"""The CSV reader: linear time for any quotes."""

from __future__ import annotations

import csv
import time

import pytest

from ego4dfs.manifest import parse, read_rows

HEADER = "file_uid,annotation,type,canonical_s3_location\r\n"
KEY = "s3://b/public/v2/annotations/"
ROWS = 20_000
HOSTILE = {
    "quotes inside fields": 'u{i},a"b"c,file,"' + KEY + "{i}.json\r\n",
    "quotes that stay open": 'u{i},"a,file,' + KEY + "{i}.json\r\n",
    "records of two lines that do not fit": 'u{i},"a\nb",file,' + KEY + "{i}.json,1,2,3\r\n",
    "quotes that each next line opens again": 'a",x,"b{i}\r\n',
    "equal names": "u{i},a,file,s3://b/{i}/same.json\r\n",
    "equal rows": "u,a,file,s3://b/same.json\r\n",
    "names of numbered rows": "u{i},a,file,s3://b/{i}/same~{i}.json\r\nu,a,file,s3://b/x{i}/same.json\r\n",
    "empty rows": "\r\n",
    "NULs": "\0\r\n",
}


def parsed(form, rows):
    """Return the manifest of so many rows, and the CPU time to parse it."""
    content = HEADER + "".join(form.format(i=i) for i in range(rows))
    began_s = time.process_time()
    manifest = parse(content.encode(), "t")
    return manifest, time.process_time() - began_s


@pytest.mark.fault(
    area="input",
    fault="a manifest with any number of damaged rows",
    face="all",
    sees="the usable rows; the first problems and the number of the others are logged",
    deadline="none: time in proportion to its size, a second for 20,000 rows",
)
@pytest.mark.parametrize("form", HOSTILE.values(), ids=HOSTILE)
def test_damaged_rows_take_time_in_proportion_to_their_number(form):
    _, quarter_s = parsed(form, ROWS // 4)
    manifest, all_s = parsed(form, ROWS)
    assert all_s < 10 * max(quarter_s, 0.1)  # 16 times where it is quadratic
    assert manifest.problem_count >= ROWS - 1
    assert len(manifest.problems) == 1000


def test_an_unclosed_quote_affects_only_its_own_line():
    lines = ["a,b\n", '1,"x\n', "2,y\n", "3,z\n"]
    assert [(r.number, r.fields, r.is_damaged) for r in read_rows(lines)] == [
        (1, ["a", "b"], False),
        (2, ["1", "x\n"], True),
        (3, ["2", "y"], False),
        (4, ["3", "z"], False),
    ]


def test_many_lines_in_one_pair_of_quotes_are_one_field():
    text = "x\n" * 5000
    found = list(read_rows(["a,b\n", '1,"x\n', *["x\n"] * 4999, '"\n', "2,y\n"]))
    assert [record.fields for record in found] == [["a", "b"], ["1", text], ["2", "y"]]


@pytest.mark.parametrize("quote", ["", '"'])
def test_fields_over_128_kib_are_fields(quote):
    """Python's csv refuses them by default."""
    long = "n" * 200_000
    assert csv.field_size_limit() >= 16 << 20
    found = list(read_rows(["a,b\n", f"1,{quote}{long}{quote}\n"]))
    assert [(r.fields, r.is_damaged) for r in found] == [(["a", "b"], False), (["1", long], False)]


def test_one_line_without_end_is_one_damaged_record():
    found = list(read_rows(["a,b\n", '"' + "x" * (17 << 20) + "\n", "2,y\n"]))
    assert [record.fields for record in found][-1] == ["2", "y"]


def test_bytes_that_are_not_utf_8_are_reported_by_row_in_any_field(monkeypatch):
    monkeypatch.setattr("ego4dfs.manifest.parser._CHUNK_BYTES", 16)
    good = b"video_uid,s3_path\na,s3://b/a\n"
    for cut in range(16):
        content = good + b"b" * cut + b"\xff\xc3,s3://b/b\nc,s3://b/c\n"
        assert [problem.row for problem in parse(content, "t").problems] == [3]
    assert parse("video_uid,s3_path\nä€ü€ä€ü€,s3://b/€\n".encode(), "t").problems == ()
