"""Manifests say what was written, from what and how; whatever differs from them is refused in words."""

import json
import os
from pathlib import Path

import pytest

from avpipe.errors import AvpipeError
from avpipe.io import manifest
from avpipe.io.manifest import (
    find_damage,
    made_by,
    manifest_path,
    read_json,
    read_manifest,
    result_directory,
    result_file,
    verified,
    write_json,
    write_text,
)


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def write_folder(target: Path) -> None:
    with result_directory(target) as folder:
        (folder / "a").mkdir()
        (folder / "a/x.csv").write_text("1,2\n")
        (folder / "y.txt").write_text("y\n")


def test_a_result_is_what_was_written(tmp_path):
    write_json(tmp_path / "a/x.json", {"one": 1})
    assert read_json(tmp_path / "a/x.json") == {"one": 1}
    found = read_manifest(tmp_path / "a/x.json")
    size = (tmp_path / "a/x.json").stat().st_size
    assert list(found.outputs) == ["x.json"] and found.outputs["x.json"]["bytes"] == size
    assert (found.stage, found.inputs, found.given, found.settings) == ("", {}, {}, {})


def test_every_flipped_bit_of_a_file_and_of_its_manifest_is_noticed(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"hm": 28.57})
    for hit in (path, manifest_path(path)):
        whole = hit.read_bytes()
        for bit in range(8 * len(whole)):
            flip(hit, bit)
            with pytest.raises(AvpipeError, match=r"x\.json.*Delete"):
                read_json(path)
            hit.write_bytes(whole)
    assert read_json(path) == {"hm": 28.57}


@pytest.mark.parametrize(
    ("damage", "told"),
    {
        "changed": (lambda folder: flip(folder / "a/x.csv", 0), "the sha256 of f/a/x.csv is "),
        "shorter": (lambda folder: (folder / "y.txt").write_text(""), "f/y.txt has 0 bytes, and 2 were written"),
        "gone": (lambda folder: (folder / "y.txt").unlink(), "f/y.txt is gone"),
        "more": (lambda folder: (folder / "a/z.csv").write_text("9"), "f/a/z.csv was not written with it"),
        "renamed": (lambda folder: (folder / "y.txt").rename(folder / "Y.txt"), "f/y.txt is gone"),
    }.values(),
)
def test_a_folder_has_exactly_the_files_that_were_written(tmp_path, damage, told):
    write_folder(tmp_path / "f")
    (tmp_path / "f/.snakemake_timestamp").touch()
    assert verified(tmp_path / "f") == tmp_path / "f" and find_damage(tmp_path / "f") == []
    damage(tmp_path / "f")
    with pytest.raises(AvpipeError, match=rf"f is not as it was written: {told}.*Delete it"):
        verified(tmp_path / "f")


def test_a_change_that_leaves_size_and_time_stamp_is_noticed(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "one")
    verified(path)
    stamp = path.stat()
    path.write_text("two")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(AvpipeError, match=r"the sha256 of x\.txt"):
        verified(path)


def test_an_old_file_is_read_once_while_it_stays_the_same(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    write_text(path, "one")
    os.utime(path, ns=(0, 0))
    verified(path)
    monkeypatch.setattr(manifest.hashlib, "file_digest", None)
    verified(path)
    os.utime(path, ns=(0, 10**9))
    with pytest.raises(AvpipeError, match="not callable"):
        verified(path)


def test_without_a_manifest_a_file_of_ours_is_refused_and_one_of_others_read(tmp_path):
    (tmp_path / "x.json").write_text("1")
    with pytest.raises(AvpipeError, match=r"x\.json has no x\.json\.manifest beside it.*earlier version.*Delete it"):
        read_json(tmp_path / "x.json")
    assert verified(tmp_path / "x.json", may_be_given=True) == tmp_path / "x.json"
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "gone.json")
    assert verified(tmp_path / "gone.json", may_be_given=True) == tmp_path / "gone.json"


def test_a_manifest_names_inputs_settings_and_stage(tmp_path):
    results, given = tmp_path / "results", tmp_path / "home"
    given.mkdir()
    for number, folder in enumerate(("one", "two")):
        (given / folder).mkdir()
        (given / folder / "words.csv").write_text(f"{number}")
    write_folder(results / "demo/tree")
    write_json(results / "demo/weights/c3d.json", {})
    inputs = [
        results / "demo/tree",
        results / "demo/weights/c3d.json",
        given / "one/words.csv",
        given / "two/words.csv",
    ]
    with made_by("train/1", inputs, {"epochs": 3, "source": {"path": str(given)}}):
        write_json(results / "demo/runs/a/x.json", {})
    write_json(results / "demo/y.json", {})
    found = read_manifest(results / "demo/runs/a/x.json")
    assert found.stage == "train/1" and set(found.settings) == {"epochs", "source"}
    assert found.inputs == {
        "../../tree": read_manifest(results / "demo/tree").contents,
        "../../weights/c3d.json": read_manifest(results / "demo/weights/c3d.json").contents,
    }
    assert set(found.given) == {"words.csv", "words.csv (2)"} and len(set(found.given.values())) == 2
    assert str(tmp_path) not in manifest_path(results / "demo/runs/a/x.json").read_text()
    assert read_manifest(results / "demo/y.json").stage == ""
    with made_by("train/1", inputs, {"epochs": 4, "source": {"path": str(given)}}):
        write_json(results / "demo/runs/a/x.json", {})
    changed = read_manifest(results / "demo/runs/a/x.json")
    assert changed.settings["epochs"] != found.settings["epochs"] and changed.inputs == found.inputs
    assert changed.settings["source"] == found.settings["source"] and changed.contents == found.contents


def test_results_of_another_place_stand_by_their_names_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = (tmp_path / "alice/results/demo/pack.h5").absolute()
    write_text(elsewhere, "pack")
    with made_by("train/1", [elsewhere], {}):
        write_json("results/demo/x.json", {})
    found = read_manifest("results/demo/x.json")
    assert found.inputs == {} and found.given == {"pack.h5": read_manifest(elsewhere).contents}


def test_a_damaged_input_is_refused_before_the_job(tmp_path):
    write_folder(tmp_path / "tree")
    flip(tmp_path / "tree/y.txt", 3)
    with pytest.raises(AvpipeError, match="tree is not as it was written"), made_by("train/1", [tmp_path / "tree"], {}):
        raise AssertionError("the job has begun")


def test_files_that_belong_together_share_a_manifest(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    write_json(tmp_path / "stage.json", {}, beside=[tmp_path / "model.pt"])
    flip(tmp_path / "model.pt", 5)
    with pytest.raises(AvpipeError, match=r"stage\.json is not as it was written: the sha256 of model\.pt"):
        read_json(tmp_path / "stage.json")


def test_killed_between_manifest_and_file_the_older_file_is_refused(tmp_path, monkeypatch):
    path, replace = tmp_path / "x.txt", Path.replace
    write_text(path, "old")

    def killed_once_the_manifest_is_there(self, target):
        if Path(target) == path:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed_once_the_manifest_is_there)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "newer")
    assert path.read_text() == "old"
    with pytest.raises(AvpipeError, match=r"x\.txt has 3 bytes, and 5 were written"):
        verified(path)


def test_a_failed_write_leaves_file_and_manifest_as_they_were(tmp_path):
    write_text(tmp_path / "x.txt", "old")
    with pytest.raises(ValueError, match="no"), result_file(tmp_path / "x.txt") as temporary:
        temporary.write_text("half")
        raise ValueError("no")
    assert verified(tmp_path / "x.txt").read_text() == "old"


@pytest.mark.parametrize("change", [{"version": 2}, {"format": "something"}, {"outputs": []}])
def test_a_manifest_of_another_kind_is_refused(tmp_path, change):
    write_json(tmp_path / "x.json", {})
    path = manifest_path(tmp_path / "x.json")
    record = json.loads(path.read_text()) | change
    record.pop("digest")
    path.write_text(json.dumps(record | {"digest": manifest.digest_json(record)}))
    with pytest.raises(AvpipeError, match=r"x\.json\.manifest|x\.json is not|was not read"):
        verified(tmp_path / "x.json")
