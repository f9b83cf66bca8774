"""Sources of options, their precedence, and the messages for invalid values."""

import ast
import json
from pathlib import Path

import pytest

from ego4dfs import config
from ego4dfs.config import Config, parse_size, resolve
from ego4dfs.errors import ConfigError

GIB = 2**30


@pytest.fixture
def config_file(tmp_path):
    def write(content):
        path = tmp_path / "config.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture
def uid_file(tmp_path):
    path = tmp_path / "uids.txt"
    path.write_text("AAA bbb\n\tccc,bbb\r\n")
    return path


def refused(given=None, environ=None, **options):
    with pytest.raises(ConfigError) as caught:
        resolve({**(given or {}), **options}, environ=environ or {})
    return str(caught.value), caught.value.hint


# Defaults and precedence


def test_nothing_given_is_the_default():
    settled = resolve(environ={})
    assert settled == Config()
    assert settled.version == "v2_1"
    assert settled.metadata
    assert settled.datasets == ()


def test_a_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        Config().version = "v1"


def test_flags_beat_environment_beats_file_beats_default(config_file):
    path = config_file({"version": "v1", "transport": "s3fs", "benchmarks": ["EM"]})
    environ = {"EGO4DFS_VERSION": "v2", "EGO4DFS_TRANSPORT": "obstore"}
    settled = resolve({"config_path": path, "version": "v2_1"}, environ=environ)
    assert (settled.version, settled.transport) == ("v2_1", "obstore")
    assert (settled.benchmarks, settled.universities) == (("em",), ())


def test_an_empty_list_is_given_and_wins(config_file):
    path = config_file({"benchmarks": ["EM"]})
    assert resolve({"config_path": path, "benchmarks": []}, environ={}).benchmarks == ()


def test_none_and_empty_variables_count_as_not_given(config_file):
    path = config_file({"version": None, "benchmarks": None})
    given = {"config_path": path, "version": None}
    assert resolve(given, environ={"EGO4DFS_VERSION": ""}) == Config()


def test_the_environment_may_name_the_config_file(config_file):
    environ = {"EGO4DFS_CONFIG_PATH": str(config_file({"version": "v1"}))}
    assert resolve(environ=environ).version == "v1"


def test_a_variable_that_is_not_an_option_is_ignored():
    assert resolve(environ={"EGO4DFS_DEBUG": "1", "EGO4DFS_OTHER": "x"}) == Config()


@pytest.mark.parametrize("spelt", ["1", "true", "YES", "on"])
def test_variables_spell_true(spelt):
    assert resolve(environ={"EGO4DFS_ALLOW_MISSING": spelt}).allow_missing


@pytest.mark.parametrize("spelt", ["0", "false", "No", "off"])
def test_variables_spell_false(spelt):
    assert not resolve(environ={"EGO4DFS_METADATA": spelt}).metadata


def test_every_key_can_be_a_variable(tmp_path):
    """Each of them is read: a wrong value is refused under the variable's name."""
    free_texts = {"benchmarks", "video_uids", "annotations", "aws_profile_name", "source"}
    free_texts |= {"clip_uids"}
    paths = {"cache_dir", "copies", "output_directory", "mountpoint"}
    for key in set(config.KEYS) - free_texts - paths:
        name = f"EGO4DFS_{key.upper()}"
        message, _ = refused(environ={name: "\0 ../nonsense"})
        assert message.startswith(name), message


# The config file


def test_all_official_keys_are_accepted(config_file):
    official = {
        "output_directory": "/data",
        "assume_yes": True,
        "version": "v2",
        "datasets": ["annotations"],
        "benchmarks": ["EM"],
        "aws_profile_name": "ego4d",
        "metadata": False,
        "manifest": True,
        "bypass_version_check": True,
        "skip_s3_checks": True,
        "video_uids": ["ABC"],
        "universities": ["unict"],
        "annotations": True,
        "list_datasets": False,
        "manifest_override_path": None,
    }
    settled = resolve({"config_path": config_file(official)}, environ={})
    assert settled == Config(
        output_directory=Path("/data"),
        assume_yes=True,
        version="v2",
        datasets=("annotations",),
        benchmarks=("em",),
        aws_profile_name="ego4d",
        metadata=False,
        manifest=True,
        bypass_existing=True,
        skip_s3_checks=True,
        video_uids=("abc",),
        universities=("unict",),
    )


@pytest.mark.parametrize(
    "key", ["benchmarks", "annotations", "video_uids", "clip_uids", "universities", "splits"]
)
def test_words_of_any_case_are_the_same(key):
    settled = resolve({key: ["CMU", "cmu", "Unict"]}, environ={})
    assert getattr(settled, key) == ("cmu", "unict")


def test_list_datasets_of_an_official_config_has_no_effect(config_file):
    path = config_file({"list_datasets": True})
    assert resolve({"config_path": path}, environ={}) == resolve(environ={})


FILTERS = {"benchmarks", "universities", "annotations", "splits", "include", "exclude"}
FILTERS |= {"video_uids", "video_uid_file", "clip_uids", "uids_from"}
VALUES = {
    **{key: ["x"] for key in FILTERS},
    "datasets": ["x"],
    **dict.fromkeys(("metadata", "manifest", "allow_missing", "list_datasets"), True),
    **dict.fromkeys(("assume_yes", "bypass_existing", "bypass_version_check"), True),
    **dict.fromkeys(("cache_dir", "copies", "output_directory", "mountpoint", "source"), "/x"),
    "universities": ["cmu"],
    "uids_from": "x.json",
    "version": "v1",
    "aws_profile_name": "x",
    "endpoint_url": "http://x",
    "transport": "s3fs",
    "emulate": "rtt=30ms",
    "limit_rate": "200MB/s",
    "limit_requests": "500/s",
    "eviction": "none",
    "verify": "off",
    "hedge": "off",
    "skip_s3_checks": True,
    "libfuse": 3,
    "metrics": 9785,
    "log_format": "json",
    "near": "s3://x",
    "near_endpoint": "http://x",
    "near_profile": "x",
    "fill_near": True,
    "cache_size": "1GiB",
    "retry_for": "1h",
}
"""A value of each key that is not the default; files are made by the test."""


@pytest.mark.parametrize("key", config.KEYS)
def test_each_filter_and_nothing_else_makes_a_config_filtered(key, tmp_path):
    """A new option must be added to VALUES, and to FILTERS if it selects files."""
    file = tmp_path / "uids"
    file.write_text("x")
    given = {**VALUES, "video_uid_file": file, "manifest_override_path": file}
    settled = resolve({"datasets": ["x"], "near": "s3://x", key: given[key]}, environ={})
    assert settled.is_filtered is (key in FILTERS)


def test_no_other_module_lists_filters():
    """Others use Config.is_filtered or its FILTERS, so they include a new filter too.

    Three names are no list of filters: options that are spelt with underscores, for one.
    """
    root = Path(config.__file__).parents[1]
    modules = [path for path in root.rglob("*.py") if path.parent.name not in {"config", "demo"}]
    assert len(modules) > 100
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
                names = {getattr(item, "value", None) for item in node.elts}
                assert len(names & FILTERS) < 4, f"{path}:{node.lineno}"


def test_our_keys_are_accepted_with_dashes_too(config_file):
    path = config_file({"cache-size": "1GiB", "cache_dir": "/c", "libfuse": 3})
    settled = resolve({"config_path": path}, environ={})
    assert (settled.cache_max_bytes, settled.cache_dir, settled.libfuse) == (GIB, Path("/c"), 3)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ({"dataset": ["x"]}, '"dataset" in {}: there is no such option', "did you mean datasets?"),
        (
            {"datasets": "full_scale clips"},
            "\"datasets\" in {}: expected a list, got 'full_scale clips'",
            'write ["full_scale", "clips"]',
        ),
        ({"datasets": [1]}, '"datasets" in {}: expected a list of strings, got 1', ""),
        ({"video_uids": {"a": 1}}, '"video_uids" in {}: expected a list', ""),
        ({"metadata": "no"}, "\"metadata\" in {}: expected true or false, got 'no'", ""),
        ({"version": 2}, '"version" in {}: expected a string, got 2', ""),
        ({"cache_size": True}, '"cache_size" in {}: expected a size, got True', "50GiB"),
        ({"cache_size": 2.5}, '"cache_size" in {}: expected a size, got 2.5', "50GiB"),
        ({"output_directory": 5}, '"output_directory" in {}: expected a path, got 5', ""),
        ({"universities": ["unitc"]}, '"universities" in {}: expected a known university', "unict"),
        ("{", "{} cannot be read as JSON", "the config file is one JSON object"),
        ("[]", "{} is not a JSON object", 'write {"datasets": ["annotations"]}'),
    ],
)
def test_a_wrong_config_file_is_named_with_its_key(config_file, content, message, hint):
    path = config_file(content)
    text, remedy = refused(config_path=path)
    assert message.replace("{}", str(path)) in text
    assert hint in remedy


def test_a_missing_config_file_is_named(tmp_path):
    text, _ = refused(config_path=tmp_path / "none.json")
    assert text == f"--config_path: there is no file {tmp_path / 'none.json'}"


# Uids


def test_uids_are_lower_case_and_unique():
    given = {"video_uids": ["AB", "ab,Cd", ""]}
    assert resolve(given, environ={}).video_uids == ("ab", "cd")


def test_uids_come_from_a_file(uid_file):
    assert resolve({"video_uid_file": uid_file}, environ={}).video_uids == ("aaa", "bbb", "ccc")


@pytest.mark.parametrize("content", [b"", b" \n\t", b",\n"])
def test_an_empty_uid_file_is_refused(tmp_path, content):
    path = tmp_path / "uids"
    path.write_bytes(content)
    text, hint = refused(video_uid_file=path)
    assert text == f"argument video_uid_file: {path} contains no uids"
    assert hint


def test_a_uid_file_must_exist_and_be_text(tmp_path):
    assert "there is no file" in refused(video_uid_file=tmp_path / "none")[0]
    assert "there is no file" in refused(video_uid_file=tmp_path)[0]
    (tmp_path / "video").write_bytes(b"\x00\x00\x00\x18ftypisom")
    assert "cannot read" in refused(video_uid_file=tmp_path / "video")[0]


def test_uids_and_a_file_of_uids_exclude_each_other(config_file, uid_file):
    text, hint = refused(video_uids=["a"], video_uid_file=uid_file)
    assert text == "argument video_uid_file: not allowed with argument video_uids"
    path = config_file({"video_uids": ["a"]})
    text, _ = refused(config_path=path, video_uid_file=uid_file)
    assert text == f'argument video_uid_file: not allowed with "video_uids" in {path}'
    assert hint == "use only one of them"


@pytest.mark.parametrize("first", ["video_uids", "video_uid_file"])
def test_an_empty_list_of_uids_does_not_exclude_a_file_of_uids(config_file, uid_file, first):
    content = {"video_uids": [], "video_uid_file": str(uid_file)}
    ordered = {first: content.pop(first), **content}
    given = {"config_path": config_file(ordered)}
    assert resolve(given, environ={}).video_uids == ("aaa", "bbb", "ccc")


LISTS = (
    *("datasets", "benchmarks", "universities", "video_uids", "clip_uids", "splits"),
    *("annotations", "include", "exclude"),
)


@pytest.mark.parametrize("value", ["", " ", ",", [""], [" ", ","], ("",)])
@pytest.mark.parametrize("key", LISTS)
def test_a_list_without_a_word_does_not_select_everything(key, value):
    """It is that of an unset variable: `--video_uids "$UID"` would fetch all videos."""
    text, hint = refused(**{key: value})
    assert text == f"argument {key}: expected a word, got {value!r}"
    assert hint == "name one, or leave out the option"


def test_a_list_without_a_word_in_a_config_file_is_refused(config_file):
    path = config_file({"video_uids": [""]})
    text, _ = refused(config_path=path)
    assert text == f"\"video_uids\" in {path}: expected a word, got ['']"


def test_an_empty_name_of_a_config_file_is_refused():
    assert refused(config_path="")[0] == "--config_path: expected a path, got ''"


def test_an_empty_variable_names_no_config_file():
    assert resolve(environ={"EGO4DFS_CONFIG_PATH": ""}) == Config()


# Names


def test_words_may_be_separated_by_commas_and_blanks():
    assert resolve({"datasets": ["clips,imu", "viz,"]}, environ={}).datasets == (
        "clips",
        "imu",
        "viz",
    )
    environ = {"EGO4DFS_DATASETS": "clips, imu viz"}
    assert resolve(environ=environ).datasets == ("clips", "imu", "viz")


def test_the_order_of_datasets_is_kept_without_duplicates():
    given = {"datasets": ["viz", "clips", "viz/"]}
    assert resolve(given, environ={}).datasets == ("viz", "clips")


def test_an_upper_case_dataset_is_lowered_with_a_warning(caplog):
    assert resolve({"datasets": ["Full_Scale"]}, environ={}).datasets == ("full_scale",)
    assert caplog.messages == [
        "argument datasets: datasets are lower-case; using full_scale for Full_Scale"
    ]


def test_an_unknown_dataset_is_accepted_because_only_the_store_knows(caplog):
    """If it does not exist, opening it says so and suggests a name."""
    given = {"datasets": ["full-scale", "zzz"]}
    assert resolve(given, environ={}).datasets == ("full-scale", "zzz")
    assert caplog.messages == []


def test_an_unknown_version_is_accepted_with_a_warning(caplog):
    assert resolve({"version": "V3"}, environ={}).version == "v3"
    assert caplog.messages == ["argument version: version v3 is not known; using it anyway"]


def test_universities_must_be_known_in_any_case():
    assert resolve({"universities": ["UNICT,cmu"]}, environ={}).universities == ("unict", "cmu")
    text, hint = refused(universities=["unitc"])
    assert text == "argument universities: expected a known university, got 'unitc'"
    assert hint == "did you mean unict?"
    assert "bristol, cmu, cmu_africa" in refused(universities=["zzz"])[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"datasets": ["../x"]}, "argument datasets: '../x' cannot be the name of a dataset"),
        ({"version": "2"}, "argument version: '2' is not a version of Ego4D"),
        ({"version": ""}, "argument version: expected a string, got ''"),
        ({"transport": "ftp"}, "argument transport: expected one of auto, obstore, s3fs, got"),
        ({"libfuse": 4}, "argument libfuse: expected one of auto, 2, 3, got '4'"),
        ({"metrics": "host"}, "argument metrics: expected HOST:PORT, got 'host'"),
        ({"metrics": "0:9785"}, "argument metrics: expected HOST:PORT, got '0:9785'"),
        ({"metrics": "65536"}, "argument metrics: expected HOST:PORT, got '65536'"),
        ({"metrics": "::1:9785"}, "argument metrics: expected HOST:PORT, got '::1:9785'"),
        ({"metrics": True}, "argument metrics: expected HOST:PORT, got True"),
        ({"emulate": "latency=3ms"}, "argument emulate: expected rtt, rate, fail or seed, got"),
        ({"emulate": "rtt=30"}, "argument emulate: expected a round-trip time up to 10s, such as"),
        ({"emulate": "rtt=11s"}, "argument emulate: expected a round-trip time up to 10s, such as"),
        ({"emulate": "rate=1KB/s"}, "argument emulate: expected a rate of at least 1MB/s, such"),
        ({"emulate": "rate=fast"}, "argument emulate: expected a rate of at least 1MB/s, such"),
        (
            {"emulate": "fail=503"},
            "argument emulate: expected one of 500, 503, cut and a share, such",
        ),
        ({"emulate": "fail=404:1%"}, "argument emulate: expected one of 500, 503, cut and a share"),
        ({"emulate": "fail=503:0%"}, "argument emulate: expected one of 500, 503, cut and a share"),
        ({"emulate": "fail=cut:60%,fail=500:41%"}, "argument emulate: expected failures of at"),
        ({"emulate": "seed=-1"}, "argument emulate: expected a whole number, such as seed=7, got"),
        ({"endpoint_url": "localhost:1"}, "argument endpoint_url: expected a URL, got"),
        ({"cache_dir": ""}, "argument cache_dir: expected a path, got ''"),
        ({"cache_dir": "a\0b"}, "argument cache_dir: expected a path without NUL"),
        ({"cache_dir": "~nobody-here/x"}, "argument cache_dir: "),
        ({"cache_size": "1MiB"}, "argument cache_size: expected a size of at least 64MiB, got"),
        ({"cache_size": "12 parsecs"}, "argument cache_size: '12 parsecs' is not a size"),
        ({"metadata": "perhaps"}, "argument metadata: expected true or false, got"),
        ({"bogus": 1}, "argument bogus: there is no such option"),
        (
            {"mountpoint": "a", "output_directory": "b"},
            "argument output_directory: not allowed with argument mountpoint",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(given, message):
    assert refused(given)[0].startswith(message)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("9785", ("127.0.0.1", 9785)),
        (9785, ("127.0.0.1", 9785)),
        (":0", ("127.0.0.1", 0)),
        (" 0.0.0.0:80 ", ("0.0.0.0", 80)),  # noqa: S104 - nothing is bound
        ("host.example:65535", ("host.example", 65535)),
        ("[::1]:9785", ("::1", 9785)),
        ("", None),
    ],
)
def test_metrics_are_served_on_loopback_unless_a_host_is_named(given, address):
    assert config.resolve({"metrics": given}, environ={}).metrics == address


def test_the_caller_chooses_the_names_of_arguments():
    with pytest.raises(ConfigError, match=r"^--version: "):
        resolve({"version": "2"}, environ={}, named="--{}".format)


# Paths, sizes and the rest


def test_paths_are_absolute_and_the_tilde_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    settled = resolve({"output_directory": "~/ego4d", "cache_dir": "c"}, environ={})
    assert settled.output_directory == Path("/home/me/ego4d")
    assert settled.cache_dir == tmp_path / "c"


def test_mountpoint_is_the_output_directory():
    assert resolve({"mountpoint": "/m"}, environ={}).output_directory == Path("/m")
    same = {"mountpoint": "/m", "output_directory": "/m"}
    assert resolve(same, environ={}).output_directory == Path("/m")


def test_a_flag_for_the_mountpoint_beats_the_files_output_directory(config_file):
    path = config_file({"output_directory": "/from-file"})
    settled = resolve({"config_path": path, "mountpoint": "/m"}, environ={})
    assert settled.output_directory == Path("/m")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"EGO4DFS_CACHE_DIR": "/big/cache", "XDG_CACHE_HOME": "/x"}, "/big/cache"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/ego4dfs"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/ego4dfs"),
        ({}, "/home/me/.cache/ego4dfs"),
    ],
)
def test_the_default_cache_directory(monkeypatch, environ, expected):
    monkeypatch.setenv("HOME", "/home/me")
    assert resolve(environ=environ).cache_dir == Path(expected)


def test_a_manifest_override_needs_exactly_one_dataset(tmp_path):
    path = tmp_path / "manifest.csv"
    path.touch()
    given = {"manifest_override_path": path, "datasets": ["clips"]}
    assert resolve(given, environ={}).manifest_override_path == path
    for names in ([], ["clips", "imu"]):
        text, hint = refused(manifest_override_path=path, datasets=names)
        assert text == "argument manifest_override_path: needs exactly one dataset"
        assert "--datasets" in hint


def test_a_source_is_a_url_or_a_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve({"source": "memory://s3/"}, environ={}).source == "memory://s3"
    assert resolve({"source": "mirror"}, environ={}).source == str(tmp_path / "mirror")
    assert resolve({"source": tmp_path}, environ={}).source == str(tmp_path)
    assert resolve({"source": ""}, environ={}).source == ""


def test_an_endpoint_is_a_url_without_a_trailing_slash():
    given = {"endpoint_url": "http://127.0.0.1:8333/"}
    assert resolve(given, environ={}).endpoint_url == "http://127.0.0.1:8333"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50GiB", 50 * GIB),
        ("500MB", 500_000_000),
        ("1.5TiB", 3 * 2**39),
        ("1073741824", GIB),
        (" 2 gib ", 2 * GIB),
        ("0.1KB", 100),
        ("7B", 7),
        ("0.0001KiB", 0),
        ("12345678901234567890TiB", 12345678901234567890 * 2**40),
    ],
)
def test_sizes_are_parsed(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "1e9", "1,5GiB", "5 PB", "50G", ".5GiB", "٣"])
def test_invalid_sizes_are_refused(text):
    with pytest.raises(ConfigError, match="is not a size") as caught:
        parse_size(text)
    assert caught.value.hint.startswith("write it like 50GiB")
