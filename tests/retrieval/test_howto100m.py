"""The published layout of HowTo100M: its list of videos, and their files in either place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avpipe.errors import AvpipeError, ClipFailure
from avpipe.formats.howto100m import read_list
from avpipe.retrieval.howto100m import HowTo100MCorpus

SPECTROGRAM = np.random.default_rng(0).uniform(-80, 0, (40, 700)).astype(np.float16)


def test_both_layouts_are_found_and_the_published_one_first(tmp_path: Path) -> None:
    corpus = HowTo100MCorpus(["food/1/abc"], tmp_path / "visual", tmp_path / "sound")
    with pytest.raises(ClipFailure, match=r"neither .*abc/abc_spec\.npz nor .*1/abc_spec\.npz"):
        corpus.locate("abc")
    beside, inside = tmp_path / "sound/food/1/abc_spec.npz", tmp_path / "sound/food/1/abc/abc_spec.npz"
    inside.parent.mkdir(parents=True)
    np.savez(beside, arr_0=SPECTROGRAM)
    (tmp_path / "visual/food/1").mkdir(parents=True)
    for kind, rows in (("2d", 7), ("3d", 11)):
        np.savez(tmp_path / f"visual/food/1/abc_{kind}.npz", features=np.zeros((rows, 2048), np.float16))
    found = corpus.locate("abc")
    assert found.extent.n_frames == 700
    assert found.extent.visual == ((7, 1.0), (11, 1.5))
    np.savez(inside, arr_0=SPECTROGRAM[:, :99])
    assert corpus.locate("abc").extent.n_frames == 99


def test_the_list(tmp_path: Path) -> None:
    path = tmp_path / "videos.txt"
    path.write_text("path\nNone/None/abc\nfood/1/def\n")
    rows = read_list(path)
    assert rows == ["abc", "food/1/def"]
    assert HowTo100MCorpus(rows, tmp_path).video_ids() == ["abc", "def"]


def test_a_byte_order_mark_is_no_part_of_the_lists_header(tmp_path: Path) -> None:
    (tmp_path / "videos.txt").write_text("path\nfood/1/abc\n", encoding="utf-8-sig")
    assert read_list(tmp_path / "videos.txt") == ["food/1/abc"]


def test_a_list_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "videos.txt").write_text("path\nfood/1/é\n", encoding="latin-1")
    with pytest.raises(AvpipeError, match=r"was not read: .*utf-8"):
        read_list(tmp_path / "videos.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video\nabc\n", "one called `path`"),
        ("", "one called `path`"),
        ("path\n", "lists no video"),
        ("path\na\n../../etc/x\n", "line 3"),
        ("path\n/etc/x\n", "line 2"),
        ('path\n""\n', "line 2"),
    ],
)
def test_a_list_of_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "videos.txt").write_text(text)
    with pytest.raises(AvpipeError, match=message):
        read_list(tmp_path / "videos.txt")
    with pytest.raises(AvpipeError, match="does not exist"):
        read_list(tmp_path / "absent.txt")
