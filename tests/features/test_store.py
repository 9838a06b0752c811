import errno
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from avpipe.errors import AvpipeError
from avpipe.features.store import StoredClip, read_clips, read_pooled, read_provenance, read_source_keys, write_store
from avpipe.features.types import Features


def clip(clip_id, windows, seed=0):
    rows = np.random.default_rng(seed).standard_normal((windows, 4)).astype(np.float32)
    times = np.arange(2.0 * windows).reshape(windows, 2)
    return StoredClip(clip_id, f"key of {clip_id}", {"video": Features(rows, rows.mean(axis=0), times)})


def write(path, clips):
    write_store(path, clips, streams={"video": 4}, provenance={"stage": "x/1"}, written_by={"torch": "1"})


def test_round_trip_with_clips_of_different_lengths(tmp_path):
    clips = [clip("ü b\n", 3, 1), clip("a", 1, 2), clip("c", 40, 3)]
    write(tmp_path / "s.h5", clips)
    back = list(read_clips(tmp_path / "s.h5"))
    assert [each.clip_id for each in back] == ["a", "c", "ü b\n"]
    for each in clips:
        (same,) = [other for other in back if other.clip_id == each.clip_id]
        assert same.source_key == each.source_key
        for field in ("values", "pooled", "times"):
            np.testing.assert_array_equal(getattr(same.streams["video"], field), getattr(each.streams["video"], field))
    ids, pooled = read_pooled(tmp_path / "s.h5", "video")
    assert pooled.shape == (3, 4) and ids[0] == "a"
    np.testing.assert_array_equal(pooled[0], clips[1].streams["video"].pooled)
    assert read_provenance(tmp_path / "s.h5") == {"stage": "x/1"}
    assert read_source_keys(tmp_path / "s.h5")["a"] == "key of a"


def test_the_same_clips_in_any_order_give_the_same_bytes(tmp_path):
    clips = [clip("a", 2), clip("b", 5), clip("c", 1)]
    write(tmp_path / "1.h5", clips)
    write(tmp_path / "2.h5", clips[::-1])
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_an_empty_shard_is_a_store_too(tmp_path):
    write(tmp_path / "s.h5", [])
    assert list(read_clips(tmp_path / "s.h5")) == []
    ids, pooled = read_pooled(tmp_path / "s.h5", "video")
    assert ids == [] and pooled.shape == (0, 4)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_store_is_named(tmp_path, damage):
    path = tmp_path / "s.h5"
    write(path, [clip("a", 50)])
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(AvpipeError, match=r"s\.h5 is not as it was written: .*Delete it"):
        read_source_keys(path)


def test_a_full_disk_is_met_before_hdf5_meets_it(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="1,000 bytes free") as caught:
        write(tmp_path / "s.h5", [clip("a", 40)])
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())
