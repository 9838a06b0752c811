"""Packs from feature stores of several shards: every wanted clip is in the pack or listed with its reason."""

from __future__ import annotations

import json
import pickle
import tracemalloc

import numpy as np
import pytest
from made_packs import make_pack

from avpipe.errors import AvpipeError, Reason
from avpipe.features.store import StoredClip, write_store
from avpipe.features.types import Features
from avpipe.inventory import probing
from avpipe.inventory.status import ClipStatus, close_shard
from avpipe.io.tables import write_rows
from avpipe.retrieval.packs import ClipSource, read_pack, write_pack
from avpipe.retrieval.packs.build import build_pack, import_pack

EXTRACTORS = {"video_2d": "resnet152", "video_3d": "resnext101", "audio": "spectrogram"}
DIMENSIONS = {"video_2d": 2048, "video_3d": 2048, "audio": 40}
MIN_FRAMES = 16


def features(part, clip_id, frames):
    """Drawn from the clip's name, so that a test knows what belongs where."""
    rng = np.random.default_rng([*clip_id.encode(), *part.encode()])
    rows = rng.random((frames, DIMENSIONS[part]), np.float32)
    if part == "audio":
        rows = rows * 0 if clip_id.startswith("silent") else -80 * rows
    pooled = rows.mean(axis=0) if part == "audio" else rows.max(axis=0)
    return Features(rows, pooled, np.zeros((frames, 2)))


class Dataset:
    """Stores, probe and status tables as the pipeline leaves them."""

    def __init__(self, folder, shards, *, failed=(), probe_failed=(), keys=None, dtype=np.float32, pictures=2):
        """`shards`: clip id -> spectrogram frames for each; `failed`: (part, clip id, reason)."""
        self.folder = folder
        self.stores = {part: [] for part in EXTRACTORS}
        self.probes, self.statuses = [], []
        for number, clips in enumerate(shards):
            name = f"{number:03d}"
            self.probes.append(str(folder / "probe" / f"{name}.parquet"))
            rows = [self._probe_row(clip_id, dict(probe_failed)) for clip_id in clips]
            write_rows(self.probes[-1], probing.SCHEMA, rows)
            for part, extractor in EXTRACTORS.items():
                lost = {clip_id: reason for each, clip_id, reason in failed if each == part}
                probed = [clip_id for clip_id in clips if clip_id not in dict(probe_failed)]
                self.stores[part].append(str(folder / extractor / f"{name}.h5"))
                self.statuses.append(str(folder / extractor / f"{name}.status.parquet"))
                stored = [
                    StoredClip(
                        clip_id,
                        (keys or {}).get((part, clip_id), f"key of {clip_id}"),
                        {"audio" if part == "audio" else "video": self._cast(part, clip_id, clips, pictures, dtype)},
                    )
                    for clip_id in probed
                    if clip_id not in lost
                ]
                write_store(
                    self.stores[part][-1],
                    stored,
                    streams={"audio" if part == "audio" else "video": DIMENSIONS[part]},
                    provenance={"stage": f"{extractor}/1"},
                    written_by={},
                )
                statuses = [
                    ClipStatus(clip_id, lost[clip_id].value, f"{part} of {clip_id}")
                    if clip_id in lost
                    else ClipStatus(clip_id, "ok")
                    for clip_id in probed
                ]
                close_shard(self.statuses[-1], probed, statuses)

    @staticmethod
    def _cast(part, clip_id, clips, pictures, dtype):
        made = features(part, clip_id, clips[clip_id] if part == "audio" else pictures)
        return Features(made.values.astype(dtype), made.pooled, made.times)

    @staticmethod
    def _probe_row(clip_id, failed):
        status = failed[clip_id].value if clip_id in failed else "ok"
        detail = "probe" if clip_id in failed else ""
        row = dict.fromkeys(probing.SCHEMA.names)
        return row | {
            "clip_id": clip_id,
            "status": status,
            "detail": detail,
            "class_name": "x",
            "path": f"videos/{clip_id}.mp4",
            "start_seconds": 1.5,
            "source_sha256": f"digest of {clip_id.rstrip('_')}",
        }

    def build(self, clips, **options):
        """The pack and its summary."""
        target, summary = self.folder / "pack.h5", self.folder / "pack.json"
        paths = {"stores": self.stores, "probes": self.probes, "statuses": self.statuses}
        build_pack(
            **(paths | options),
            captions=clips if isinstance(clips, dict) else dict.fromkeys(clips, ()),
            min_audio_frames=MIN_FRAMES,
            window=30,
            target=target,
            summary=summary,
        )
        return read_pack(target), json.loads(summary.read_text(encoding="utf-8"))


SHARDS = ({"c": 40, "short": 15, "mute": 20, "gone": 20}, {"a": 20, "silent": 30, "other": 50, "dark": 20}, {"b": 16})
FAILED = (("audio", "mute", Reason.NO_AUDIO), ("video_3d", "dark", Reason.NO_VIDEO), ("audio", "dark", Reason.TIMEOUT))
WANTED = ["c", "a", "b", "short", "mute", "gone", "silent", "dark"]


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path, SHARDS, failed=FAILED, probe_failed=(("gone", Reason.MISSING),))


def test_complete_clips_are_rows_and_the_others_listed(dataset):
    pack, summary = dataset.build(dict.fromkeys(WANTED, ()) | {"a": ("Boil the pasta", "パスタ")})
    assert pack.ids == ["a", "b", "c"] and pack.n_frames.tolist() == [20, 16, 40]
    for index, clip_id in enumerate(pack.ids):
        assert (pack.spectrogram(index) == features("audio", clip_id, len(pack.spectrogram(index))).values).all()
        assert (pack.video_2d[index] == features("video_2d", clip_id, 2).pooled).all()
        assert (pack.video_3d[index] == features("video_3d", clip_id, 2).pooled).all()
    assert pack.captions == [("Boil the pasta", "パスタ"), (), ()] and pack.eval_captions == ["", "", ""]
    assert pack.sources[1] == ClipSource("videos/b.mp4", 1.5, None)
    info = pack.info
    assert (info.origin, info.expected) == ("extracted", 8) and info.provenance["audio"] == {"stage": "spectrogram/1"}
    assert {row["clip_id"]: row["reason"] for row in info.missing} == {
        "dark": "no_video",
        "gone": "missing",
        "mute": "no_audio",
        "short": "too_short",
        "silent": "no_audio",
    }
    details = {row["clip_id"]: row["detail"] for row in info.missing}
    assert details["silent"] == "digital silence of 0.3 s" and details["mute"] == "audio of mute"
    assert details["short"].startswith("15 spectrogram frames (0.15 s), at least 16 are asked for")
    assert summary["used"] + sum(summary["missing"].values()) == summary["expected"] == len(WANTED)
    assert summary["unlisted"] == 0 and summary["longer_than_window"]["clips"] == 1


@pytest.mark.parametrize(
    ("wanted", "used", "gone"),
    [
        (["a", "a_", "b"], ["a", "b"], {"a_"}),
        (["a_", "b", "b__"], ["b"], {"a_", "b__"}),  # a is in another subset
        (["b", "b_", "b__"], ["b"], {"b_", "b__"}),
    ],
)
def test_one_content_is_in_one_pack_and_once(tmp_path, wanted, used, gone):
    """Clips that end in _ have the content of the one without."""
    pack, summary = Dataset(tmp_path, ({"a_": 20, "b": 16, "b__": 16}, {"a": 20, "b_": 16})).build(wanted)
    assert pack.ids == used and {each["clip_id"] for each in summary["missing_clips"]} == gone
    assert summary["missing"] == {"duplicate": len(gone)} and summary["expected"] == len(wanted)


def test_order_of_shards_and_of_wanted_clips_makes_no_difference(tmp_path):
    contents = []
    for number, (shards, wanted) in enumerate([(SHARDS, ["a", "b", "c"]), (SHARDS[::-1], ["c", "a", "b"])]):
        dataset = Dataset(tmp_path / str(number), shards)
        dataset.build(wanted)
        contents.append((dataset.folder / "pack.h5").read_bytes())
    assert contents[0] == contents[1]


def test_half_precision_stays(tmp_path):
    pack, _ = Dataset(tmp_path, SHARDS, dtype=np.float16).build(["a", "c"])
    assert pack.audio.dtype == np.float16
    assert (pack.spectrogram(1) == features("audio", "c", 40).values.astype(np.float16)).all()


def test_source_digests_change_the_record(tmp_path):
    keys = {(part, "a"): "another" for part in EXTRACTORS}
    packs = [Dataset(tmp_path / str(n), SHARDS, keys=each).build(["a"])[0] for n, each in enumerate([None, keys])]
    assert packs[0].info.sha256 != packs[1].info.sha256 and packs[0].digest == packs[1].digest


def test_clips_that_nobody_knows_or_that_are_wanted_twice(dataset):
    with pytest.raises(AvpipeError, match=r"1 of 2 wanted clips are not in the source, such as \['nobody'\]"):
        dataset.build(["a", "nobody"])


def test_no_complete_clip(dataset):
    with pytest.raises(AvpipeError, match=r"none of the 2 wanted clips.*\{'no_audio': 2\}"):
        dataset.build(["mute", "silent"])
    assert not (dataset.folder / "pack.h5").exists()


@pytest.mark.parametrize("part", EXTRACTORS)
def test_stores_that_contradict_the_tables(tmp_path, part):
    dataset = Dataset(tmp_path, SHARDS)
    with pytest.raises(AvpipeError, match=f"stores of {part} .* lack 1 clips, such as 'b', .* ok. Run the command"):
        dataset.build(["a", "b"], stores=dataset.stores | {part: dataset.stores[part][:2]})
    stale = Dataset(tmp_path / "stale", SHARDS, keys={(part, "a"): "older"})
    with pytest.raises(AvpipeError, match="have features of another version of 1 clips, such as 'a'"):
        stale.build(["a", "b"])


def test_features_of_different_settings(dataset):
    path = dataset.stores["video_2d"][1]
    stored = [StoredClip("a", "key of a", {"video": features("video_2d", "a", 2)})]
    write_store(path, stored, streams={"video": 2048}, provenance={"stage": "resnet152/2"}, written_by={})
    with pytest.raises(AvpipeError, match="hold video_2d features of different settings or weights"):
        dataset.build(["a", "b"])


def test_features_that_are_no_numbers_or_zero(dataset):
    path = dataset.stores["video_2d"][2]
    for value, message in (
        (np.nan, "2d of clip 'b' .* has nan at 0"),
        (0, "2d features that are all zero.*'b'"),
    ):
        row = np.full((1, 2048), value, np.float32)
        stored = [StoredClip("b", "key of b", {"video": Features(row, row[0], np.zeros((1, 2)))})]
        write_store(path, stored, streams={"video": 2048}, provenance={"stage": "resnet152/1"}, written_by={})
        with pytest.raises(AvpipeError, match=message):
            dataset.build(["a", "b"])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_spectrograms(tmp_path):
    """60 clips of 640 KB: a few of them at a time, and the visual vectors (16 KB a clip)."""
    shards = [{f"clip{10 * shard + number}": 4000 for number in range(10)} for shard in range(6)]
    dataset = Dataset(tmp_path, shards)
    clips = [clip_id for shard in shards for clip_id in shard]
    tracemalloc.start()
    pack, _ = dataset.build(clips)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pack) == 60 and peak < pack.audio.nbytes / 4


def test_given_files_become_packs(tmp_path):
    vector = np.ones(2048, np.float32)
    clips = [{"id": f"v{n}", "2d": vector, "3d": vector, "audio": np.full((40, 20 + n), -9.0)} for n in range(3)]
    (tmp_path / "test.pkl").write_bytes(pickle.dumps(clips))
    target, summary = tmp_path / "out" / "pack.h5", tmp_path / "out" / "pack.json"
    import_pack(tmp_path / "test.pkl", window=21, target=target, summary=summary, expected=5)
    pack, record = read_pack(target), json.loads(summary.read_text(encoding="utf-8"))
    assert pack.ids == ["v0", "v1", "v2"] and pack.info.expected == 5
    assert (record["used"], record["expected"], record["unlisted"]) == (3, 5, 2)
    assert record["longer_than_window"]["clips"] == 1 and record["digest"] == pack.digest
    with pytest.raises(AvpipeError, match=r"test\.pkl has 3 clips, more than the 2 that are expected"):
        import_pack(tmp_path / "test.pkl", window=21, target=target, summary=summary, expected=2)


def test_a_given_pack_is_taken_as_it_is(tmp_path):
    write_pack(tmp_path / "given.h5", make_pack())
    import_pack(tmp_path / "given.h5", window=16, target=tmp_path / "pack.h5", summary=tmp_path / "pack.json")
    assert (tmp_path / "pack.h5").read_bytes() == (tmp_path / "given.h5").read_bytes()
    with pytest.raises(AvpipeError, match=r"nothing\.pkl does not exist"):
        import_pack(tmp_path / "nothing.pkl", window=16, target=tmp_path / "x.h5", summary=tmp_path / "x.json")
