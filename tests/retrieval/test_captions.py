"""HowTo100M's captions: both files give the same, and what is wrong in them is handled by rule and counted."""

from __future__ import annotations

import codecs
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avpipe.errors import AvpipeError
from avpipe.formats import howto100m
from avpipe.retrieval.captions import Captions, read_captions

GOOD: dict[str, Any] = {
    "abc": {"start": [0.5, 3], "end": [2.5, 7.25], "text": ["let's cut", "d’un œuf — 卵"]},
    "none": {"start": [], "end": [], "text": []},
    "-x_1": {"start": [1.0], "end": [2.0], "text": ["x"]},
}


def write(folder: Path, kind: str, content: Any) -> Path:
    path = folder / f"caption.{kind}"
    if kind == "json":
        path.write_text(json.dumps(content), encoding="utf-8")
    else:
        path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("kind", ["json", "pickle"])
def test_reads_both_files(tmp_path: Path, kind: str) -> None:
    found = read_captions(write(tmp_path, kind, GOOD))
    assert len(found) == 3
    assert found.of("abc").starts == [0.5, 3.0]
    assert found.of("abc").ends == [2.5, 7.25]
    assert found.of("abc").texts == ["let's cut", "d’un œuf — 卵"]
    assert found.first_start("-x_1") == 1.0
    assert found.of("none").texts == []
    assert found.first_start("none") is found.first_start("unknown") is None
    assert list(found.texts()) == ["let's cut", "d’un œuf — 卵", "x"]
    assert found.changes == {}


def test_a_pickle_may_hold_arrays(tmp_path: Path) -> None:
    rows = {"start": np.array([1.0, 2.0]), "end": np.array([2.0, 3.0]), "text": np.array(["a", "b"], object)}
    found = read_captions(write(tmp_path, "pickle", {"abc": rows})).of("abc")
    assert (found.starts, found.ends, found.texts) == ([1.0, 2.0], [2.0, 3.0], ["a", "b"])


@pytest.mark.parametrize("characters", [1, 7, 64, 1 << 20])
def test_json_is_read_in_chunks_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, characters: int) -> None:
    path = tmp_path / "caption.json"
    path.write_text(" \n" + json.dumps(GOOD, indent=1) + "\n ", encoding="utf-8")
    whole = read_captions(path).digest()
    monkeypatch.setattr(howto100m, "CHUNK_CHARACTERS", characters)
    assert read_captions(path).digest() == whole


def test_only_wanted_videos_are_kept(tmp_path: Path) -> None:
    found = read_captions(write(tmp_path, "json", GOOD), {"abc", "absent"})
    assert "abc" in found
    assert len(found) == 1


def test_what_is_wrong_is_handled_by_rule_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = {
        "start": [9.0, -1.0, 3.0, 5.0, float("nan"), 6.0, -3.0, 9.0, None],
        "end": [10.0, 2.0, 3.0, 4.0, 9.0, float("inf"), -2.0, 11.0, 3.0],
        "text": ["late", "negative", "empty", "backwards", "nan", "inf", "before", None, "none"],
    }
    found = read_captions(write(tmp_path, "json", {"abc": rows}))
    kept = found.of("abc")
    assert (kept.starts, kept.ends, kept.texts) == ([0.0, 9.0, 9.0], [2.0, 10.0, 11.0], ["negative", "late", ""])
    assert found.changes == {
        "start below 0 set to 0": 1,
        "dropped, ends before it starts or at once": 3,
        "dropped, time is not a number": 3,
        "videos put in order of start": 1,
    }
    assert "dropped, time is not a number: 3" in caplog.text


@pytest.mark.parametrize("kind", ["json", "pickle"])
def test_a_whole_number_beyond_float64_is_no_time(tmp_path: Path, kind: str) -> None:
    rows = {"start": [10**400, 1], "end": [5, 2], "text": ["x", "y"]}
    found = read_captions(write(tmp_path, kind, {"abc": rows}))
    assert found.of("abc").texts == ["y"]
    assert found.changes == {"dropped, time is not a number": 1}


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path: Path) -> None:
    path = write(tmp_path, "json", GOOD)
    expected = read_captions(path).digest()
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert read_captions(path).digest() == expected


@pytest.mark.parametrize("kind", ["json", "pickle"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"abc": {"start": [1], "end": [2, 3], "text": ["x"]}}, "'abc': 1 starts, 2 ends and 1 texts"),
        ({"abc": {"start": [1], "end": [2]}}, "keys \\['end', 'start'\\]"),
        ({"abc": [1, 2]}, "'abc' has a list"),
        ({"abc": {"start": 1, "end": [2], "text": ["x"]}}, "start int"),
    ],
)
def test_another_structure_is_refused(tmp_path: Path, kind: str, content: Any, message: str) -> None:
    with pytest.raises(AvpipeError, match=message):
        read_captions(write(tmp_path, kind, content))


@pytest.mark.parametrize(
    "text", ['{"abc": {"start": [1.0', '{"a": 1', "", "[]", '{"a": 1} x', "{1: 2}", "{,}", '{"a" 1}']
)
def test_damaged_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "caption.json").write_text(text)
    with pytest.raises(AvpipeError, match=r"caption\.json"):
        read_captions(tmp_path / "caption.json")


def test_a_repeated_video_is_refused(tmp_path: Path) -> None:
    entry = '"abc": {"start": [1], "end": [2], "text": ["x"]}'
    (tmp_path / "caption.json").write_text(f"{{{entry}, {entry}}}")
    with pytest.raises(AvpipeError, match="occurs twice"):
        read_captions(tmp_path / "caption.json")


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (touched,)

    with pytest.raises(AvpipeError, match="refused"):
        read_captions(write(tmp_path, "pickle", {"abc": Hostile()}))
    assert not touched.exists()


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AvpipeError, match="does not exist"):
        read_captions(tmp_path / "caption.json")


def test_half_a_surrogate_pair_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "caption.json").write_text('{"abc": {"start": [1], "end": [2], "text": ["a \\ud83d b"]}}')
    assert read_captions(tmp_path / "caption.json").of("abc").texts == ["a ? b"]


def test_the_digest_follows_every_part() -> None:
    def digest(video: str = "v", start: float = 1.0, end: float = 2.0, text: str = "x") -> str:
        captions = Captions()
        captions.add(video, [start], [end], [text])
        return captions.digest()

    assert digest() == digest()
    assert len({digest(), digest(video="w"), digest(start=0.5), digest(end=3.0), digest(text="y")}) == 5
