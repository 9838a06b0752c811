"""What planning finds out from manifests: whether a result is what its job would make now."""

import hashlib
import os
from pathlib import Path

import pytest

from avpipe.io.manifest import made_by, manifest_path, result_directory, write_text
from avpipe.io.provenance import PlannedJob, has_manifest, recorded_sha256, stale_results

SETTINGS = {"rate": [25.0, 8], "device": "cpu"}


@pytest.fixture(autouse=True)
def made(tmp_path, monkeypatch):
    """out/x.txt, made from out/source.txt and words.txt, and the folder out/tree, made from out/x.txt."""
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("words")
    Path("split").mkdir()
    with made_by("list/1", [], {}):
        write_text("out/source.txt", "clips")
    with made_by("extract/1", ["out/source.txt", "words.txt", "split"], SETTINGS):
        write_text("out/x.txt", "features")
    with made_by("tree/1", ["out/x.txt"], {}), result_directory("out/tree") as folder:
        (folder / "a.h5").write_text("a")


def job(**other) -> PlannedJob:
    given = {
        "outputs": ["out/x.txt"],
        "inputs": ["out/source.txt", "words.txt", "split"],
        "stage": "extract/1",
        "settings": SETTINGS,
        "not_compared": {"device"},
    }
    return PlannedJob(**given | other)


def tree() -> PlannedJob:
    return job(outputs=["out/tree"], inputs=["out/x.txt"], stage="tree/1", settings={})


def edit_later(path: Path) -> None:
    """Change a file and leave its size, not within the same tick of the clock as its manifest."""
    path.write_text("b")
    later = manifest_path("out/tree").stat().st_mtime + 1
    os.utime(path, (later, later))


def told(planned: PlannedJob) -> list[str]:
    return [each.why for each in stale_results(planned)]


def test_what_its_job_would_make_is_not_stale():
    assert told(job()) == told(tree()) == []
    assert told(job(settings={"rate": (25.0, 8), "device": "cuda"})) == []  # a tuple is a list in JSON


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"stage": "extract/2"}, "it was made by extract/1, and now there is extract/2"),
        ({"settings": {"rate": [24.0, 8]}}, "it was made with other settings (rate)"),
        ({"settings": {}}, "it was made with other settings (rate)"),
        ({"settings": {**SETTINGS, "crf": 6}}, "it was made with other settings (crf)"),
        ({"not_compared": ()}, None),
        ({"inputs": ["out/source.txt", "split"]}, "it was made from other files (words.txt)"),
        ({"inputs": ["out/source.txt", "words.txt", "split", "out/tree"]}, "it was made from other files (tree)"),
    ],
)
def test_other_plans_are_told(other, expected):
    assert told(job(**other)) == ([expected] if expected else [])


def test_a_source_that_was_exchanged_with_its_manifest_is_told():
    with made_by("list/1", [], {}):
        write_text("out/source.txt", "other clips")
    assert told(job()) == ["it was made from other files (source.txt)"]


def test_a_small_given_file_is_compared_by_content_and_a_large_one_by_name(monkeypatch):
    Path("words.txt").write_text("other")
    assert told(job()) == ["it was made from other files (words.txt)"]
    monkeypatch.setattr("avpipe.io.provenance._MOST_BYTES", 3)
    assert told(job()) == []


def test_a_source_that_was_deleted_after_use_is_not_missed():
    Path("out/source.txt").unlink()
    assert told(job()) == []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda: Path("out/tree/a.h5").unlink(), "tree/a.h5 is gone"),
        (lambda: Path("out/tree/a.h5").write_text("ab"), "tree/a.h5 has 2 bytes, and 1 were written"),
        (lambda: Path("out/tree/b.h5").write_text("b"), "tree/b.h5 was not written with it"),
        (lambda: edit_later(Path("out/tree/a.h5")), "the sha256 of tree/a.h5 is"),
        (lambda: manifest_path("out/tree").write_text("{"), "the manifest of tree"),
    ],
)
def test_damage_of_a_folder_is_told_with_the_file(damage, expected):
    damage()
    (found,) = stale_results(tree())
    assert found.is_damaged and expected in found.why


def test_without_any_manifest_nothing_is_known_and_with_one_each_result_needs_its_own():
    both = job(outputs=["out/x.txt", "out/y.txt"])
    Path("out/y.txt").write_text("")
    assert told(both) == ["its manifest is gone"]
    manifest_path("out/x.txt").unlink()
    assert not has_manifest(both.outputs) and told(both) == []


def test_the_digest_of_a_source_is_known_where_it_is_what_the_result_was_made_from():
    assert recorded_sha256(["out/tree"], "out/x.txt") == hashlib.sha256(b"features").hexdigest()
    assert recorded_sha256(["out/x.txt"], "words.txt") == hashlib.sha256(b"words").hexdigest()
    assert recorded_sha256(["out/tree"], "words.txt") is None
    Path("words.txt").write_text("other")
    assert recorded_sha256(["out/x.txt"], "words.txt") is None
    assert recorded_sha256(["out/new.txt"], "out/x.txt") is None
    manifest_path("out/x.txt").write_text("{")
    assert recorded_sha256(["out/tree"], "out/x.txt") is None
