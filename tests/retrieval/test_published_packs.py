"""Published clip pickles are read without being run, and written so that `pickle.load` gives the published types."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from made_packs import make_pack

from avpipe.errors import AvpipeError
from avpipe.formats.pickle_writing import PlainArray, write_pickle
from avpipe.retrieval.packs import read_pack, write_pack
from avpipe.retrieval.packs.published import read_clip_pickle, write_clip_pickle

RNG = np.random.default_rng(0)
VECTOR = RNG.random(2048, np.float32)


def sound(frames=20, dtype=torch.float32):
    return torch.from_numpy(-80 * RNG.random((40, frames), np.float32)).to(dtype)


def clip(number=0, **parts):
    """A clip of the YouCook layout; None takes a part away."""
    made = {"id": f"id{number}", "2d": VECTOR, "3d": VECTOR[::-1].copy(), "audio": sound(), "caption": "cut the onion"}
    return {key: value for key, value in (made | parts).items() if value is not None}


def read(tmp_path, clips, protocol=3, **options):
    (tmp_path / "clips.pkl").write_bytes(pickle.dumps(clips, protocol))
    return read_clip_pickle(tmp_path / "clips.pkl", **options)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_youcook_layout(tmp_path, protocol):
    clips = [clip(7, audio=sound(20)), clip(3, audio=sound(33), caption="ねぎを切る")]
    pack = read(tmp_path, clips, protocol)
    assert pack.ids == ["id7", "id3"] and pack.captions == [("cut the onion",), ("ねぎを切る",)]
    assert pack.eval_captions == ["", ""] and pack.n_frames.tolist() == [20, 33]
    for index, one in enumerate(clips):
        assert (pack.spectrogram(index) == one["audio"].numpy().T).all()
    assert (pack.video_2d == VECTOR).all() and (pack.video_3d == VECTOR[::-1]).all()
    assert pack.audio.dtype == np.float32 and pack.audio.flags.c_contiguous
    info = pack.info
    assert (info.origin, info.expected, info.missing, info.warnings) == ("published pickle", 2, [], [])
    assert info.sha256 == hashlib.sha256((tmp_path / "clips.pkl").read_bytes()).hexdigest()


def test_msrvtt_layout_prefers_pooled_features(tmp_path):
    rows = RNG.random((5, 2048), np.float32)
    captions = ["a man cooks", "someone is cooking"]
    one = clip(
        **{"id": "video7010", "2d": rows, "3d": rows, "2d_pooled": VECTOR, "3d_pooled": VECTOR.astype(np.float64)},
        caption=captions,
        eval_caption="a man is cooking",
    )
    pack = read(tmp_path, [one])
    assert pack.ids == ["video7010"] and pack.captions == [tuple(captions)]
    assert pack.eval_captions == ["a man is cooking"] and pack.info.warnings == []
    assert (pack.video_2d[0] == VECTOR).all() and (pack.video_3d[0] == VECTOR).all()


def test_unpooled_features_are_pooled_by_their_maximum(tmp_path):
    rows = RNG.random((5, 2048), np.float32)
    pack = read(tmp_path, [clip(0, **{"2d": rows, "3d": rows[:1]}), clip(1)])
    assert (pack.video_2d[0] == rows.max(axis=0)).all() and (pack.video_3d[0] == rows[0]).all()
    assert len(pack.info.warnings) == 1  # one row needs no pooling
    assert pack.info.warnings[0].startswith("1 of 2 clips have visual features that are not pooled")
    assert pack.info.warnings[0].endswith("(id0)")


def test_sound_may_be_arrays_and_of_any_float(tmp_path):
    half = sound(dtype=torch.float16)
    assert read(tmp_path, [clip(audio=half), clip(1, audio=half.numpy())]).audio.dtype == np.float16
    mixed = read(tmp_path, [clip(audio=half), clip(1, audio=sound(9, torch.float64).numpy())])
    assert mixed.audio.dtype == np.float32 and (mixed.spectrogram(0) == half.numpy().T).all()
    fortran = np.asfortranarray(sound(21).numpy())
    assert (read(tmp_path, [clip(audio=fortran)]).audio == fortran.T).all()


def test_tensors_that_are_slices_of_one_long_spectrogram(tmp_path):
    whole = sound(100)
    clips = [clip(number, audio=whole[:, 30 * number : 30 * number + 25]) for number in range(3)]
    pack = read(tmp_path, clips)
    for index, one in enumerate(clips):
        assert (pack.spectrogram(index) == one["audio"].numpy().T).all()


def test_padding_is_kept(tmp_path):
    padded = sound(64)
    padded[:, 20:] = 0
    assert read(tmp_path, [clip(audio=padded)]).n_frames.tolist() == [64]


def test_torch_save_files_are_read_too(tmp_path):
    torch.save([clip(), clip(1)], tmp_path / "clips.pkl")
    assert read_clip_pickle(tmp_path / "clips.pkl").ids == ["id0", "id1"]


def test_clips_without_id_are_numbered(tmp_path):
    pack = read(tmp_path, [clip(id=None), clip(id=7), clip(id="x"), *[clip(id=None)] * 8])
    assert pack.ids == ["00", "7", "x", "03", "04", "05", "06", "07", "08", "09", "10"]
    assert pack.info.warnings[0].startswith("9 of 11 clips have no 'id' and were numbered (00, 03, 04, …)")


def test_repeated_ids_become_clips_of_their_own(tmp_path):
    same = clip(id="a", caption="first")
    pack = read(tmp_path, [same, same, clip(id="a", caption="second"), clip(id="a#3"), clip(id="b")])
    assert pack.ids == ["a", "a#2", "a#4", "a#3", "b"] and pack.captions[2] == ("second",)
    assert (pack.spectrogram(0) == pack.spectrogram(1)).all()
    assert pack.info.warnings[0].startswith("2 of 5 clips repeat an 'id'")


def test_incomplete_clips_are_listed_and_left_out(tmp_path):
    clips = [
        clip(0),
        clip(1, audio=None),
        clip(2, **{"3d": None}),
        clip(3, audio=torch.empty(40, 0)),
        clip(4, **{"2d": np.empty((0, 2048), np.float32)}),
    ]
    pack = read(tmp_path, clips)
    assert pack.ids == ["id0"] and pack.info.expected == 5
    assert [(each["clip_id"], each["reason"]) for each in pack.info.missing] == [
        ("id1", "no_audio"),
        ("id2", "no_video"),
        ("id3", "too_short"),
        ("id4", "no_video"),
    ]
    with pytest.raises(AvpipeError, match=r"none of its 1 clips has sound and both .* the first clip has \['3d', 'a"):
        read(tmp_path, [clip(id=None, caption=None, **{"2d": None})])


def test_zero_pictures_silence_and_other_units_are_kept_with_a_warning(tmp_path):
    clips = [
        clip(0, **{"2d": np.zeros(2048)}),
        clip(1, audio=torch.zeros(40, 9)),
        clip(2, audio=sound() + 10),
        clip(3, audio=sound() - 1),
        clip(4),
    ]
    warnings = read(tmp_path, clips).info.warnings
    assert [warning.split("(")[-1] for warning in warnings] == ["id0)", "id1)", "id2, id3)"]
    assert "all zero, which are kept" in warnings[0] and "digital silence" in warnings[1]
    assert "outside of -80 to 0" in warnings[2]


def test_whole_numbers_are_taken_as_text(tmp_path):
    """The published loader takes `str` of a caption."""
    clips = [clip(0, caption=7), clip(1, caption=np.int64(-8), eval_caption=9), clip(2, caption=["a", 10])]
    pack = read(tmp_path, clips)
    assert pack.captions == [("7",), ("-8",), ("a", "10")] and pack.eval_captions == ["", "9", ""]


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_for_a_pack_are_no_warning(tmp_path):
    for parts in ({"2d": np.full(2048, 1e300)}, {"audio": _bad_sound(-1e300, torch.float64)}):
        with pytest.raises(AvpipeError, match="expected"):
            read(tmp_path, [clip(**parts)])


def _bad_sound(value, dtype=torch.float32):
    audio = sound(dtype=dtype)
    audio[3, 5] = value
    return audio


BAD_VECTOR = VECTOR.copy()
BAD_VECTOR[9] = np.nan
REFUSED = {
    "NaN in sound": (
        clip(audio=_bad_sound(float("nan"))),
        r"'id0' \(number 1\): its spectrogram has nan in frame 5",
    ),
    "infinity in sound": (clip(audio=_bad_sound(float("-inf"))), "has -inf in frame 5, band 3"),
    "NaN in a picture": (clip(**{"3d": BAD_VECTOR}), r"'3d' of clip 'id0' \(number 1\) has nan at \[9\]"),
    "frames first": (clip(audio=sound().T.clone()), r"shape \[20, 40\]; expected \[40, frames\]\. Transpose it"),
    "another spectrogram": (clip(audio=torch.zeros(64, 20)), r"shape \[64, 20\]; expected \[40, frames\]\.$"),
    "sound in steps": (clip(audio=torch.zeros(40, 9, dtype=torch.int16)), r"is int16 \[40, 9\]; expected floats"),
    "sound of three axes": (clip(audio=sound()[None]), r"is float32 \[1, 40, 20\]; expected floats"),
    "sound as text": (clip(audio="x.wav"), "'audio' of clip 'id0' .* is a str; expected floats"),
    "shorter pictures": (
        clip(**{"2d": VECTOR[:512]}),
        r"'2d' of clip 'id0' .* is float32 \[512\]; expected floats",
    ),
    "pictures of three axes": (clip(**{"2d": VECTOR[None, None]}), r"is float32 \[1, 1, 2048\]"),
    "pictures as a list": (clip(**{"2d": [1.0, 2.0]}), "is a list; expected floats"),
    "an id of two parts": (clip(id=("a", 1)), "'id' of clip number 1 is a tuple"),
    "a float64 in a picture": (clip(**{"2d": np.full(2048, 1e300)}), r"'2d' .* has 1e\+300 at \[0\]; .* of float32"),
    "a float64 in unpooled pictures": (clip(**{"3d": np.full((3, 2048), -1e300)}), r"'3d' .* has -1e\+300 at \[0, 0\]"),
    "a float64 in sound": (clip(audio=_bad_sound(-1e300, torch.float64)), "has -inf in frame 5, band 3"),
    "a caption that is a number": (clip(caption=3.5), r"'caption' of clip 'id0' \(number 1\) is a float"),
    "a caption that is a truth value": (clip(caption=True), r"'caption' of clip 'id0' \(number 1\) is a bool"),
    "captions that are numbers": (
        clip(caption=["a", 3.5]),
        r"'caption' of clip 'id0' \(number 1\) is a list; expected text or a list",
    ),
    "two captions to test with": (
        clip(eval_caption=["a", "b"]),
        r"'eval_caption' of clip 'id0' \(number 1\) is a l",
    ),
    "a line break in an id": (clip(id="a\nb"), "control characters"),
    "no dict": ([1], "number 1 of its list is a list; expected a list of dicts"),
}


@pytest.mark.parametrize(("bad", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused_with_the_clip(tmp_path, bad, message):
    with pytest.raises(AvpipeError, match=message):
        read(tmp_path, [clip(5), bad])


@pytest.mark.parametrize("value", [{"a": clip()}, [], None, "x"])
def test_files_that_hold_no_list(tmp_path, value):
    with pytest.raises(AvpipeError, match=r"clips\.pkl holds a \w+( of \d)?; expected a list of dicts"):
        read(tmp_path, value)


class _Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_malicious_pickles_are_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    for bad in ([clip(), clip(1, caption=_Payload(marker))], _Payload(marker), [clip(0, audio=_Payload(marker))]):
        with pytest.raises(AvpipeError, match=r"names the global (posix|nt)\.system, which is refused"):
            read(tmp_path, bad)
    assert not marker.exists()


def test_few_bytes_cannot_ask_for_many(tmp_path):
    """One array that a thousand clips share would be written out a thousand times."""
    shared = clip(audio=np.zeros((40, 1000), np.float32))
    with pytest.raises(AvpipeError, match="written out where they are shared, exceed the 1,000,000"):
        read(tmp_path, [shared] * 1000, max_bytes=1_000_000)
    with pytest.raises(AvpipeError, match="more than the 1000 accepted"):
        read(tmp_path, [clip()], max_bytes=1000)


def test_a_cut_file_is_refused(tmp_path):
    data = pickle.dumps([clip(), clip(1)])
    for kept in (0, 10, len(data) // 2, len(data) - 1):
        (tmp_path / "clips.pkl").write_bytes(data[:kept])
        with pytest.raises(AvpipeError, match=r"clips\.pkl was not read"):
            read_clip_pickle(tmp_path / "clips.pkl")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("layout", ["youcook", "msrvtt"])
def test_written_files_have_the_published_types(tmp_path, layout, dtype):
    captions = [("one",), ("one", "二つ")[: 1 + (layout == "msrvtt")], (), ("x",)]
    pack = make_pack(dtype=dtype, captions=captions)
    write_clip_pickle(pack, tmp_path / "out.pkl", layout)
    with (tmp_path / "out.pkl").open("rb") as stream:
        clips = pickle.load(stream)
    suffix = "" if layout == "youcook" else "_pooled"
    assert type(clips) is list and len(clips) == 4
    for index, one in enumerate(clips):
        for part, video in ((f"2d{suffix}", pack.video_2d), (f"3d{suffix}", pack.video_3d)):
            assert type(one[part]) is np.ndarray and (one[part].dtype, one[part].shape) == (np.float32, (2048,))
            assert (one[part] == video[index]).all() and one[part].flags.writeable
        audio = one["audio"]
        assert type(audio) is torch.Tensor and audio.dtype == torch.float32 and audio.is_contiguous()
        assert audio.shape == (40, pack.n_frames[index]) and (pack.spectrogram(index) == audio.numpy().T).all()
        assert one["id"] == pack.ids[index]
    assert [one.get("caption") for one in clips] == (
        ["one", "one", None, "x"] if layout == "youcook" else [["one"], ["one", "二つ"], None, ["x"]]
    )
    assert [one.get("eval_caption") for one in clips] == [None] * 3 + [None if layout == "youcook" else "the fixed one"]


@pytest.mark.parametrize("layout", ["youcook", "msrvtt"])
def test_pack_to_pickle_and_back(tmp_path, layout):
    captions = [(f"caption {number}",) for number in range(4)]
    pack = make_pack(captions=captions, eval_captions=[f"test {number}" * (layout == "msrvtt") for number in range(4)])
    write_pack(tmp_path / "pack.h5", pack)
    write_clip_pickle(read_pack(tmp_path / "pack.h5"), tmp_path / "a.pkl", layout)
    back = read_clip_pickle(tmp_path / "a.pkl")
    assert back.digest == pack.digest and back.info.warnings == []
    write_clip_pickle(back, tmp_path / "b.pkl", layout)
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()


def test_frames_that_are_not_stored_are_written_as_padding(tmp_path):
    pack = make_pack(n_frames=np.array([30, 20, 45, 1]), captions=[()] * 4)
    write_clip_pickle(pack, tmp_path / "out.pkl")
    audio = read_clip_pickle(tmp_path / "out.pkl").spectrogram(1)
    assert audio.shape == (20, 40) and (audio[:16] == pack.spectrogram(1)).all() and not audio[16:].any()


def test_several_captions_do_not_fit_the_youcook_layout(tmp_path):
    with pytest.raises(AvpipeError, match=r"4 clips have several captions, such as 'clip0'.*layout msrvtt"):
        write_clip_pickle(make_pack(), tmp_path / "out.pkl")
    assert not list(tmp_path.iterdir())


def test_arrays_load_where_numpy_1_pickled_them(tmp_path):
    """numpy 1 has no numpy._core, so files name numpy.core, which numpy 2 still finds."""
    write_pickle(tmp_path / "x", iter([PlainArray(VECTOR), PlainArray(VECTOR.astype(np.float16)), "end"]))
    data = (tmp_path / "x").read_bytes()
    assert b"numpy.core.multiarray" in data and b"numpy._core" not in data
    single, half, end = pickle.loads(data)
    assert single.dtype == np.float32 and (single == VECTOR).all() and end == "end"
    assert half.dtype == np.float16 and half.dtype.isnative and (half == VECTOR.astype(np.float16)).all()
    with pytest.raises(AvpipeError, match="numpy array of int64 cannot be written"):
        write_pickle(tmp_path / "y", PlainArray(np.arange(3)))


def test_reading_needs_no_torch(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([clip()]))
    script = (
        "import sys; from avpipe.retrieval.packs.published import read_clip_pickle; "
        "print(read_clip_pickle(sys.argv[1]).ids); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "x.pkl")], check=True, capture_output=True)
    assert done.stdout == b"['id0']\n"


def _peak(function):
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory(tmp_path):
    """Reading holds the numbers twice (bytes of the file, then arrays), writing a clip at a time."""
    clips = [clip(number, audio=sound(2000)) for number in range(30)]
    path = tmp_path / "clips.pkl"
    path.write_bytes(pickle.dumps(clips))
    del clips
    size = path.stat().st_size
    assert _peak(lambda: read_clip_pickle(path)) < 2.2 * size  # and 10 % for objects around the numbers
    write_pack(tmp_path / "pack.h5", read_clip_pickle(path))
    pack = read_pack(tmp_path / "pack.h5")
    assert _peak(lambda: write_clip_pickle(pack, tmp_path / "out.pkl")) < size / 10  # some of 30 clips
