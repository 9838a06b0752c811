"""What is said of YAML that cannot be read: file, line, what is wrong with it."""

import subprocess
import sys

import pytest

from avpipe.config.catalogue import read_catalogue
from avpipe.config.load import load_config
from avpipe.config.yaml_files import check_config_files, read_yaml
from avpipe.errors import AvpipeError

FAULTS = {
    "a bracket that is not closed": (b"title: x\nseeds: [1, 2\nn_shards: 3\n", 3, "it began in line 2"),
    "a tab": (b"gzsl:\n\tseeds: [1]\n", 2, "a tab indents the line"),
    "a tab after spaces": (b"gzsl:\n  seeds: [1]\n \tforms: null\n", 3, "a tab indents the line"),
    "a colon too many": (b"title: one: two\n", 1, "mapping values are not allowed here"),
    "wrong indentation": (b"gzsl:\n    seeds: [1]\n  forms: null\n", 3, "expected <block end>"),
    "a quote that is not closed": (b'title: "x\nn_shards: 3\n', 3, "it began in line 1"),
    "a key twice": (b"gzsl:\n  seeds: [1]\n  forms: null\n  seeds: [2]\n", 4, "'seeds' is there already, in line 2"),
    "a key twice at the top": (b"a: 1\nb: 2\na: 3\n", 3, "'a' is there already, in line 1"),
    "Latin-1": (b"a: 1\ntitle: caf\xe9\n", 2, "not UTF-8 but the byte 0xe9"),
    "UTF-16": ("a: 1\n".encode("utf-16"), 1, "UTF-16"),
    "a null byte": (b"a: 1\nb: \x00\n", 2, r"the character 0 cannot be in YAML"),
    "a day that is none": (b"a: 1\ntitle: 2026-02-31\n", 2, "day is out of range"),
    "a tag of Python": (b"a: !!python/object:os.system {}\n", 1, "could not determine a constructor"),
    "an alias of nothing": (b"a: 1\nb: *c\n", 2, "undefined alias"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_a_file_and_a_line(tmp_path, fault):
    content, line, words = FAULTS[fault]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(AvpipeError) as error:
        read_yaml(path)
    assert str(error.value).startswith(f"{path}, line {line}: ") and words in str(error.value)
    assert str(error.value).endswith(("Mend the file.", "Save the file as UTF-8."))


@pytest.mark.parametrize(("content", "words"), [(b"- a\n", "a list"), (b"text\n", "a str"), (b"7\n", "an? int")])
def test_what_holds_no_keys(tmp_path, content, words):
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(AvpipeError, match=f"must hold keys and values.*found {words}"):
        read_yaml(tmp_path / "mine.yaml")


def test_what_cannot_be_opened_or_is_nested_without_end(tmp_path):
    with pytest.raises(AvpipeError, match=r"nope\.yaml cannot be read: No such file"):
        read_yaml(tmp_path / "nope.yaml")
    with pytest.raises(AvpipeError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "deep.yaml").write_text("[" * 5000)
    with pytest.raises(AvpipeError, match="nested too deeply"):
        read_yaml(tmp_path / "deep.yaml")


def test_a_byte_order_mark_merge_keys_and_an_empty_file_are_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: &a {x: 1}\nb: {<<: *a, <<: *a, y: 2}\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}
    path.write_text("# nothing yet\n")
    assert read_yaml(path) == {}


def test_every_file_of_settings_is_read_so(tmp_path):
    for name in ("config.yaml", "datasets/mine.yaml", "files.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a: [1\n")
    with pytest.raises(AvpipeError, match=r"config\.yaml, line 2"):
        check_config_files([tmp_path / "config.yaml"])
    with pytest.raises(AvpipeError, match=r"mine\.yaml, line 2"):
        load_config({}, tmp_path / "datasets")
    with pytest.raises(AvpipeError, match=r"files\.yaml, line 2"):
        read_catalogue(tmp_path / "files.yaml")


def test_a_file_without_a_key_is_named_before_snakemake_refuses_it(tmp_path):
    (tmp_path / "mine.yaml").write_text("# nothing yet\n")
    with pytest.raises(AvpipeError, match=r"mine\.yaml has no key"):
        check_config_files([tmp_path / "mine.yaml"])
    (tmp_path / "mine.yaml").write_text("{}\n")
    (tmp_path / "mine.json").write_text('{\n\t"a": 1\n}\n')
    check_config_files([tmp_path / "mine.yaml", tmp_path / "mine.json"])


@pytest.mark.parametrize(
    "arguments",
    [["-n", "--configfile", "good.yaml", "bad.yaml", "--cores", "2"], ["--configfiles=bad.yaml", "x"]],
)
def test_the_files_of_a_command_line(tmp_path, arguments):
    (tmp_path / "good.yaml").write_text("a: 1\n")
    (tmp_path / "bad.yaml").write_text("a: 1\n\tb: 2\n")
    code = "from avpipe.config.yaml_files import check_given_files; check_given_files()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stderr.startswith("bad.yaml, line 2: ")
