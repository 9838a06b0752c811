"""A pack comes back as it was written, its spectrograms mapped; what does not fit together or is damaged is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from dataclasses import astuple, replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from damaged_files import contiguous_arrays, outcomes
from made_packs import make_pack

from avpipe.errors import AvpipeError
from avpipe.io.hdf5_text import write_json_dataset
from avpipe.retrieval.packs import ClipSource, PackInfo, pack_writer, read_pack, write_pack
from avpipe.retrieval.packs.build import summarise_pack


def write(tmp_path, pack=None):
    path = tmp_path / "pack.h5"
    write_pack(path, make_pack() if pack is None else pack)
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_round_trip(tmp_path, dtype):
    pack = make_pack(dtype=dtype, ids=["b", "a/ü", "料理 1", "x#2"])
    got = read_pack(write(tmp_path, pack))
    for name in ("video_2d", "video_3d", "audio", "offsets", "n_frames"):
        mine, theirs = getattr(pack, name), getattr(got, name)
        assert mine.dtype == theirs.dtype and (mine == theirs).all(), name
    for name in ("ids", "captions", "eval_captions", "sources", "info"):
        assert getattr(pack, name) == getattr(got, name), name
    assert isinstance(got.sources[0], ClipSource) and isinstance(got.captions[0], tuple) and len(got) == 4
    assert [got.spectrogram(index).shape for index in range(4)] == [(30, 40), (16, 40), (45, 40), (1, 40)]


def test_equal_packs_give_equal_bytes_and_a_copy_too(tmp_path):
    first = write(tmp_path).read_bytes()
    path = write(tmp_path)
    assert path.read_bytes() == first
    write_pack(tmp_path / "copy.h5", read_pack(path))
    assert (tmp_path / "copy.h5").read_bytes() == first


def test_spectrograms_are_mapped_and_aligned_and_not_writable(tmp_path):
    pack = read_pack(write(tmp_path))
    assert isinstance(pack.audio, np.memmap) and not pack.audio.flags.writeable
    assert pack.audio.ctypes.data % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        pack.spectrogram(0)[0] = 0


def _sum_in_process(path):
    return float(read_pack(path).audio.sum(dtype=np.float64))


def test_other_processes_read_the_same(tmp_path):
    path = write(tmp_path)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_sum_in_process, (path,)) == make_pack().audio.sum(dtype=np.float64)


def test_digest_is_of_what_results_depend_on(tmp_path):
    pack = make_pack()
    assert read_pack(write(tmp_path, pack)).digest == read_pack(write(tmp_path, pack)).stored_digest == pack.digest
    same = replace(pack, sources=[ClipSource()] * 4, info=PackInfo("published pickle", 9))
    assert same.digest == pack.digest
    louder = pack.audio.copy()
    louder[-1, -1] += 1
    changed = [
        replace(pack, audio=louder),
        replace(pack, video_2d=pack.video_3d),
        replace(pack, captions=pack.captions[::-1]),
        replace(pack, ids=pack.ids[::-1]),
        replace(pack, n_frames=pack.n_frames + 1),
    ]
    assert len({each.digest for each in [pack, *changed]}) == 6


def test_visual_is_the_published_normalisation():
    zero = make_pack().video_3d
    zero[1] = 0
    pack = make_pack(video_3d=zero)
    halves = [torch.nn.functional.normalize(torch.from_numpy(each), dim=1) for each in (pack.video_2d, pack.video_3d)]
    assert pack.visual().dtype == np.float32 and not pack.visual()[1, 2048:].any()
    # Components are below 0.05, where float32 has steps of 4e-9; the sums of squares differ in order.
    np.testing.assert_allclose(pack.visual(), torch.cat(halves, 1).numpy(), rtol=0, atol=2e-8)


def test_spectrograms_in_any_order_give_the_same_file(tmp_path):
    pack = make_pack()
    expected = write(tmp_path, pack).read_bytes()
    with pack_writer(tmp_path / "other.h5", replace(pack, audio=pack.audio[:0]), np.float32) as put:
        for index in (2, 0, 3, 1):
            put(index, pack.spectrogram(index))
    assert (tmp_path / "other.h5").read_bytes() == expected


def test_writer_refuses_a_clip_twice_never_or_of_another_length(tmp_path):
    pack = make_pack()

    def attempt(*indices, cut=None):
        with pack_writer(tmp_path / "x.h5", pack, np.float32) as put:
            for index in indices:
                put(index, pack.spectrogram(index)[:cut])

    with pytest.raises(AvpipeError, match="'clip0' came twice"):
        attempt(0, 0)
    with pytest.raises(AvpipeError, match="2 of 4 clips came without a spectrogram, such as 'clip1'"):
        attempt(0, 2)
    with pytest.raises(AvpipeError, match=r"'clip0': a spectrogram of shape \[7, 40\]; expected \[30, 40\]"):
        attempt(0, cut=7)
    assert not list(tmp_path.iterdir())


def _with_nan(array):
    array = array.copy()
    array[2, 7] = np.nan
    return array


def _zero_row(array):
    array = array.copy()
    array[2] = 0
    return array


PACK = make_pack()
UNFIT = {
    "repeated ids": ({"ids": ["a", "b", "a", "c"]}, "1 ids occur more than once, such as \\['a'\\]"),
    "an empty id": ({"ids": ["a", "b", "", "c"]}, "ids are empty or hold control"),
    "a line break in an id": ({"ids": ["a", "b\n", "c", "d"]}, "control characters"),
    "a surrogate in an id": ({"ids": ["a", "b\udc80", "c", "d"]}, "control characters"),
    "one picture too few": ({"video_2d": PACK.video_2d[:3]}, "'video_2d': 3, 'video_3d': 4"),
    "one text too many": ({"captions": PACK.captions * 2}, "'captions': 8"),
    "unpooled pictures": ({"video_3d": PACK.video_3d[:, :1024]}, r"video_3d is float32 \[4, 1024\]; expected"),
    "float64 pictures": ({"video_3d": PACK.video_3d.astype(float)}, "video_3d is float64"),
    "NaN in a picture": ({"video_2d": _with_nan(PACK.video_2d)}, r"2d of clip 'clip2' \(number 2\) has nan at 7"),
    "a picture of zeros": ({"video_3d": _zero_row(PACK.video_3d)}, "1 clips have 3d features that are all zero.*clip2"),
    "NaN in sound": ({"audio": _with_nan(PACK.audio)}, "clip 'clip0': its spectrogram has nan in frame 2, band 7"),
    "float64 sound": ({"audio": PACK.audio.astype(float)}, "spectrograms are float64"),
    "offsets beyond the sound": ({"offsets": np.array([0, 30, 46, 91, 101])}, "'clip3' has 10 spectrogram frames stor"),
    "no frames": ({"offsets": np.array([0, 30, 30, 91, 92])}, "'clip1' has 0 spectrogram frames stored of 16"),
    "offsets that are no whole numbers": ({"offsets": PACK.offsets.astype(float)}, r"audio_offsets is float64 \[5\]"),
    "counts that are no whole numbers": ({"n_frames": PACK.n_frames.astype(float)}, r"audio_frames is float64 \[4\]"),
    "a text for a list of captions": ({"captions": ["a", "b", "c", "d"]}, "'clip0' has the captions 'a' and"),
    "no caption to test with": ({"eval_captions": ["", "", None, ""]}, "'clip2' has .*test with None; expected"),
    "more than there were": ({"n_frames": PACK.n_frames - 1}, "'clip0' has 30 spectrogram frames stored of 29, and 4"),
}


@pytest.mark.parametrize(("parts", "message"), UNFIT.values(), ids=UNFIT)
def test_what_does_not_fit_is_not_written(tmp_path, parts, message):
    with pytest.raises(AvpipeError, match=message):
        write(tmp_path, make_pack(**parts))
    assert not list(tmp_path.iterdir())


def test_no_clips(tmp_path):
    with pytest.raises(AvpipeError, match="has no clip with sound"):
        write(tmp_path, make_pack((), ids=[], eval_captions=[], captions=[], sources=[]))


def test_published_pictures_may_be_zero(tmp_path):
    pack = make_pack(video_3d=_zero_row(PACK.video_3d), origin="published pickle")
    assert not read_pack(write(tmp_path, pack)).visual()[2, 2048:].any()


def test_full_disk_is_noticed_before_hdf5_meets_it(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
    with pytest.raises(OSError, match=r"80,256 bytes of features, 10,000 bytes free") as caught:
        write(tmp_path)
    assert caught.value.errno == 28 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9, 0.999])
def test_a_cut_file_is_refused(tmp_path, kept):
    path = write(tmp_path)
    os.truncate(path, int(kept * path.stat().st_size))
    with pytest.raises(AvpipeError, match=r"pack\.h5 was not read: .*Delete it and run the command again"):
        read_pack(path)


def _rewrite_audio_compressed(file):
    values = file["audio"][:]
    del file["audio"]
    file.create_dataset("audio", data=values, compression="gzip")


def _replace_text(name, value):
    def change(file):
        del file[name]
        write_json_dataset(file, name, value)

    return change


def _replace_by_strings(file):
    del file["ids"]
    file.create_dataset("ids", data=PACK.ids, dtype=h5py.string_dtype())


def _numbers_for_captions(file):
    del file["captions"]
    file["captions"] = np.zeros(9, np.float32)


def _louder(file):
    file["audio"][-1, -1] += 1


def _outside(file):
    values = file["audio"][:]
    del file["audio"]
    file.create_dataset("audio", values.shape, "f4", external=[("elsewhere.bin", 0, values.nbytes)])


DAMAGE = {
    "another version": (
        lambda file: file.attrs.modify("version", 1),
        "of version 1; expected 'avpipe pack' of v",
    ),
    "no pack": (
        lambda file: file.attrs.modify("format", np.bytes_("x")),
        "is 'x' of version 2; expected 'avpipe p",
    ),
    "format of variable length": (
        lambda file: file.attrs.create("format", "avpipe pack"),
        "is None of version 2; expe",
    ),
    "a part is gone": (lambda file: file.pop("video_2d"), "was not read: .*video_2d"),
    "no digest": (lambda file: file.attrs.pop("digest"), "is damaged: .* and None was stored"),
    "other sound": (_louder, "is damaged: the digest of its contents is .* Delete it and run the command again"),
    "other ids": (_replace_text("ids", ["a", "b", "c", "d"]), "is damaged: the digest"),
    "ids that are numbers": (_replace_text("ids", [1, 2, 3, 4]), "4 ids are no text, such as"),
    "ids of variable length": (_replace_by_strings, "was not read: 'ids' has elements of variable length"),
    "text that is no bytes": (_numbers_for_captions, "was not read: 'captions' is float32, expected uint8"),
    "info is no JSON": (lambda file: file["info"].write_direct(np.zeros_like(file["info"])), "was not read"),
    "info of another kind": (_replace_text("info", {"a": 1}), "was not read"),
    "compressed sound": (_rewrite_audio_compressed, "not one uncompressed block of the file"),
    "sound in another file": (_outside, "has its numbers in other files, which are not opened"),
    "offsets": (lambda file: file["audio_offsets"].write_direct(np.array([0, 30, 46, 91, 99])), "rows 0 to 99, but t"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_and_foreign_files_are_refused(tmp_path, damage, message):
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(AvpipeError, match=message):
        read_pack(path)


def _values(path):
    pack = read_pack(path)
    arrays = (pack.video_2d, pack.video_3d, pack.audio, pack.offsets, pack.n_frames)
    texts = (pack.ids, pack.captions, pack.eval_captions, pack.sources, astuple(pack.info), pack.digest)
    return [array.tobytes() for array in arrays], texts


def test_one_wrong_byte_is_found_wherever_it_is(tmp_path):
    path = write(tmp_path)
    with h5py.File(path) as file:
        arrays = contiguous_arrays(file) * 5
    found = outcomes(path, _values, arrays=arrays)
    assert set(found) == {"equal", "refused"}, found  # equal where a byte belongs to nothing
    assert found["refused"] >= len(arrays)


def test_nothing_lies_in_the_global_heap(tmp_path):
    """HDF5 keeps what is of variable length there, without a checksum; its signature is GCOL."""
    assert b"GCOL" not in write(tmp_path).read_bytes()


def test_long_texts_and_any_characters(tmp_path):
    """More than one chunk of text; names of files that are no UTF-8 hold halves of surrogate pairs."""
    pack = make_pack(
        captions=[("パスタ" * 100_000, "\x00"), (), ("\ud83d",), ("𝄞",)], sources=[ClipSource("\udcff")] * 4
    )
    first = write(tmp_path, pack).read_bytes()
    got = read_pack(tmp_path / "pack.h5")
    assert (got.captions, got.sources, got.digest) == (pack.captions, pack.sources, pack.digest)
    assert write(tmp_path, pack).read_bytes() == first


def test_files_that_are_no_hdf5(tmp_path):
    with pytest.raises(AvpipeError, match=r"none\.h5 does not exist"):
        read_pack(tmp_path / "none.h5")
    (tmp_path / "x.pkl").write_bytes(b"\x80\x03]q\x00.")
    with pytest.raises(AvpipeError, match=r"is no pack: .*read_clip_pickle"):
        read_pack(tmp_path / "x.pkl")


def test_summary_accounts_for_every_clip():
    audio = PACK.audio.copy()
    audio[30:46] = 0  # clip1
    audio[0] = 0  # clip0 begins loud and is not silent
    info = replace(PACK.info, expected=10)
    captions = [("a", "b"), (), ("c",), ()]
    summary = summarise_pack(make_pack(audio=audio, info=info, captions=captions), window=16).to_json()
    assert (summary["expected"], summary["used"], summary["unlisted"]) == (10, 4, 5)
    assert summary["missing"] == {"no_audio": 1} and summary["missing_clips"] == PACK.info.missing
    assert summary["silent_clips"] == ["clip1"] and summary["total_seconds"] == 0.92
    assert summary["longest"] == {"clip_id": "clip2", "seconds": 0.45}
    assert summary["longer_than_window"] == {"window_frames": 16, "clips": 2, "share": 0.5}
    assert summary["captions"] == {"total": 3, "clips_without": 2} and summary["warnings"] == ["1 clip is odd"]
    assert json.loads(json.dumps(summary)) == summary
