"""Windows of long videos: both corpora against whole arrays and the published rule, and every video accounted for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avpipe.errors import AvpipeError
from avpipe.features.store import StoredClip, write_store
from avpipe.features.types import Features
from avpipe.inventory.status import ClipStatus
from avpipe.retrieval.captions import Captions
from avpipe.retrieval.corpus import Corpus, scan
from avpipe.retrieval.howto100m import HowTo100MCorpus
from avpipe.retrieval.settings import Windows
from avpipe.retrieval.store_corpus import StoreCorpus
from avpipe.retrieval.text import WordTable
from avpipe.retrieval.window_source import WindowSource
from avpipe.retrieval.windows import Window, draw_windows, generator

SECONDS = {"long": 60, "brief": 3, "medium": 25}
"""Durations of the videos made here: one is shorter than any window."""

WORDS = WordTable(["pan", "cut", "egg"], np.arange(9, dtype=np.float32).reshape(3, 3) + 1)
Arrays = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    """id -> spectrogram [F, 40], 2-D rows [n, 2048] and 3-D rows [m, 2048], all float16, at the published rates."""
    random = np.random.default_rng(0)
    made = {}
    for name, seconds in SECONDS.items():
        shapes = ((100 * seconds + 1, 40), (seconds, 2048), (3 * seconds // 2, 2048))
        made[name] = tuple(random.standard_normal(shape).astype(np.float16) for shape in shapes)
    return made  # type: ignore[return-value]


def published_layout(folder: Path, arrays: Arrays) -> HowTo100MCorpus:
    for name, (audio, rows_2d, rows_3d) in arrays.items():
        video = folder / "food" / "7" / name
        video.mkdir(parents=True)
        np.savez(video / f"{name}_spec.npz", arr_0=np.ascontiguousarray(audio.T))
        np.savez(video / f"{name}_2d.npz", features=rows_2d)
        np.savez(video / f"{name}_3d.npz", features=rows_3d)
    return HowTo100MCorpus([f"food/7/{name}" for name in arrays], folder)


def store(path: Path, stream: str, rows: dict[str, np.ndarray], rate: float, *, stage: str = "x/1") -> Path:
    clips = []
    for name, values in rows.items():
        start = np.arange(len(values)) / rate
        times = np.column_stack([start, start + 1 / rate])
        features = Features(values, np.zeros(values.shape[1], np.float32), times)
        clips.append(StoredClip(name, f"key of {name}", {stream: features}))
    width = next(iter(rows.values())).shape[1] if rows else 1
    write_store(path, clips, streams={stream: width}, provenance={"stage": stage}, written_by={})
    return path


def feature_stores(folder: Path, arrays: Arrays, **options: Any) -> StoreCorpus:
    kinds = (("audio", "audio", 100.0), ("video_2d", "video", 1.0), ("video_3d", "video", 24 / 16))
    stores: dict[str, list[Path]] = {}
    for position, (kind, stream, rate) in enumerate(kinds):
        shards = [dict(list(arrays.items())[:2]), dict(list(arrays.items())[2:]), {}]
        stores[kind] = [
            store(folder / f"{kind}_{i}.h5", stream, {name: each[position] for name, each in shard.items()}, rate)
            for i, shard in enumerate(shards)
        ]
    return StoreCorpus(stores, **options)


@pytest.fixture(params=[published_layout, feature_stores], ids=["published layout", "feature stores"])
def corpus(request: pytest.FixtureRequest, tmp_path: Path, arrays: Arrays) -> Corpus:
    make: Callable[[Path, Arrays], Corpus] = request.param
    return make(tmp_path, arrays)


def settings(**changes: Any) -> Windows:
    return Windows.model_validate({"per_video": 5, "audio_frames": 1000, **changes})


def spoken() -> Captions:
    captions = Captions()
    captions.add("long", [0.0, 2.0, 20.0, 58.0], [2.0, 4.0, 40.5, 59.5], ["cut the egg", "Pan", "pan", "so"])
    captions.add("brief", [0.5], [2.5], ["egg"])
    captions.add("medium", [1.0], [9.0], ["cut"])
    return captions


def expected_vision(rows: np.ndarray, rate: float, window: Window) -> torch.Tensor:
    """The published rule on the whole array, with torch."""
    start, end = window.seconds
    chosen = torch.from_numpy(rows).float()[int(start * rate) : int(end * rate) + 1]
    return torch.nn.functional.normalize(chosen.max(dim=0).values, dim=0)


@pytest.mark.parametrize("drawn", ["random", "captions"])
def test_batches_are_the_windows_of_the_whole_arrays(corpus: Corpus, arrays: Arrays, drawn: str) -> None:
    chosen = settings(drawn=drawn).resolved("corrected")
    source = WindowSource(corpus, chosen, spoken(), WORDS, threads=2)
    items = [2, 0, 1]
    batch = source.batch(seed=3, epoch=1, items=items)
    assert len(batch.audio) == len(batch.n_frames) == len(batch.video) == 15
    extents = {name: corpus.locate(name).extent for name in arrays}
    at = 0
    for video_id in [source.video_ids[item] for item in items]:
        audio, rows_2d, rows_3d = arrays[video_id]
        said = spoken().of(video_id) if drawn == "captions" else None
        for window in draw_windows(chosen, extents[video_id], said, generator(3, 1, video_id)):
            first, stop = window.frames
            whole = torch.zeros(1000, 40, dtype=torch.float16)
            whole[: stop - first] = torch.from_numpy(audio[first:stop])
            assert torch.equal(batch.audio[at], whole)
            assert batch.n_frames[at] == stop - first
            halves = [expected_vision(rows_2d, 1.0, window), expected_vision(rows_3d, 1.5, window)]
            # The maximum is exact; norms of 2048 float32 numbers are summed in another order: a few units of 6e-8.
            torch.testing.assert_close(batch.video[at], torch.cat(halves), rtol=1e-6, atol=1e-8)
            assert batch.text is not None
            np.testing.assert_array_equal(batch.text[at], WORDS.matrix(window.text, 20))
            at += 1


def test_both_corpora_give_the_same(tmp_path: Path, arrays: Arrays) -> None:
    batches = []
    for make in (published_layout, feature_stores):
        source = WindowSource(make(tmp_path / make.__name__, arrays), settings())
        items = [source.video_ids.index(name) for name in arrays]
        batches.append(source.batch(seed=1, epoch=0, items=items))
    assert all(torch.equal(a, b) for a, b in zip(batches[0].audio, batches[1].audio, strict=True))
    assert torch.equal(batches[0].video, batches[1].video)
    assert batches[0].n_frames == batches[1].n_frames
    assert batches[0].text is batches[1].text is None


def test_a_batch_depends_on_seed_epoch_and_items_alone(corpus: Corpus) -> None:
    one, other = (WindowSource(corpus, settings(), threads=threads) for threads in (1, 4))
    for epoch in range(3):
        one.batch(seed=1, epoch=epoch, items=[0, 1])
    first, second = (source.batch(seed=1, epoch=3, items=[2, 0]) for source in (one, other))
    assert all(torch.equal(a, b) for a, b in zip(first.audio, second.audio, strict=True))
    assert torch.equal(first.video, second.video)
    # A video's windows do not depend on what else is in its batch, so not on how processes share one either.
    alone = other.batch(seed=1, epoch=3, items=[0])
    assert all(torch.equal(a, b) for a, b in zip(first.audio[5:], alone.audio, strict=True))
    elsewhere = other.batch(seed=1, epoch=4, items=[2, 0])
    assert not all(torch.equal(a, b) for a, b in zip(first.audio, elsewhere.audio, strict=True))


def test_permuted_windows_keep_their_sound(corpus: Corpus) -> None:
    plain = WindowSource(corpus, settings())
    permuted = plain.permuted(1)
    first, second = (source.batch(seed=1, epoch=0, items=[0, 1, 2]) for source in (plain, permuted))
    assert all(torch.equal(a, b) for a, b in zip(first.audio, second.audio, strict=True))
    assert not torch.equal(first.video, second.video)
    assert sorted(first.video.tolist()) == sorted(second.video.tolist())
    assert torch.equal(permuted.batch(seed=1, epoch=0, items=[0, 1, 2]).video, second.video)
    assert permuted.n_items == plain.n_items and permuted.fingerprint() != plain.fingerprint()


def test_bytes_read_are_those_of_the_windows(corpus: Corpus) -> None:
    source = WindowSource(corpus, settings(per_video=1), threads=1)
    source.batch(seed=1, epoch=0, items=[source.video_ids.index("long")])
    # 1000 frames of 40, at most 11 rows of 2-D and 17 of 3-D of 2048, all float16; the whole video has 850,000.
    assert 1000 * 40 * 2 + 26 * 4096 <= source.bytes_read <= 1000 * 40 * 2 + 28 * 4096


def test_every_video_is_accounted_for(tmp_path: Path, arrays: Arrays) -> None:
    whole, rows_2d, rows_3d = arrays["brief"]
    damaged = {
        **arrays,
        "narrow": (whole[:, :39], rows_2d, rows_3d),
        "silent": (whole[:0], rows_2d, rows_3d),
        "blind": (whole, rows_2d[:0], rows_3d),
        "other_network": (whole, rows_2d, rows_3d[:, :512]),
        "cut": arrays["brief"],
        "gone": arrays["brief"],
    }
    published_layout(tmp_path, damaged)
    folder = tmp_path / "food" / "7"
    (folder / "cut" / "cut_3d.npz").write_bytes((folder / "brief" / "brief_3d.npz").read_bytes()[:5000])
    (folder / "gone" / "gone_2d.npz").unlink()
    found = scan(HowTo100MCorpus([f"food/7/{name}" for name in [*damaged, "long"]], tmp_path))
    assert found.usable == list(arrays)
    assert {each.clip_id: each.status for each in found.excluded} == {
        "narrow": "decode_error",
        "silent": "no_audio",
        "blind": "no_video",
        "other_network": "decode_error",
        "cut": "decode_error",
        "gone": "missing",
        "long": "duplicate",
    }


def test_a_corpus_without_a_usable_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AvpipeError, match=r"None of 1 videos can be trained on.*abc: missing"):
        scan(HowTo100MCorpus(["food/7/abc"], tmp_path))


def test_a_file_that_is_lost_later_fails_the_run(tmp_path: Path, arrays: Arrays) -> None:
    source = WindowSource(published_layout(tmp_path, arrays), settings())
    (tmp_path / "food/7/brief/brief_2d.npz").unlink()
    with pytest.raises(AvpipeError, match="brief was whole when the run began"):
        source.batch(seed=0, epoch=0, items=[0, 1, 2])


def test_stores_say_why_a_video_has_no_features(tmp_path: Path, arrays: Arrays) -> None:
    feature_stores(tmp_path, arrays)
    stores = {kind: [tmp_path / f"{kind}_{i}.h5" for i in (0, 1)] for kind in ("audio", "video_2d", "video_3d")}
    stores["audio"].pop()  # medium has no sound
    failed = [ClipStatus("absent", "decode_error", "damaged at 3 s")]
    found = scan(StoreCorpus(stores, videos=["long", "absent", "medium"], failed=failed))
    assert found.usable == ["long"]
    assert found.excluded[0] == ClipStatus("absent", "decode_error", "damaged at 3 s")
    assert (found.excluded[1].clip_id, found.excluded[1].status) == ("medium", "no_audio")


def test_a_duplicate_is_left_out_though_its_features_are_there(tmp_path: Path, arrays: Arrays) -> None:
    feature_stores(tmp_path, arrays)
    stores = {kind: [tmp_path / f"{kind}_{i}.h5" for i in (0, 1)] for kind in ("audio", "video_2d", "video_3d")}
    again = ClipStatus("medium", "duplicate", "the same content as long")
    found = scan(StoreCorpus(stores, videos=["long", "medium"], failed=[again]))
    assert (found.usable, found.excluded) == (["long"], [again])


def test_other_rates_follow_the_times(tmp_path: Path, arrays: Arrays) -> None:
    audio, rows_2d, _ = arrays["long"]
    dense = np.repeat(rows_2d, 3, axis=0)
    stores = {
        "audio": [store(tmp_path / "a.h5", "audio", {"long": audio}, 100.0)],
        "video_2d": [store(tmp_path / "b.h5", "video", {"long": rows_2d}, 1.0)],
        "video_3d": [store(tmp_path / "c.h5", "video", {"long": dense, "one": dense[:1]}, 3.0)],
    }
    source = WindowSource(StoreCorpus(stores, videos=["long"]), settings(per_video=8))
    assert source._corpus.locate("long").extent.visual == ((60, 1.0), (180, 3.0))
    batch = source.batch(seed=0, epoch=0, items=[0])
    # Rows repeated three times at three times the rate: seconds s to e + 1/3 of the same pictures.
    assert torch.equal(batch.video[:, :2048], batch.video[:, 2048:])


def test_the_rate_24_by_16_is_exact(tmp_path: Path, arrays: Arrays) -> None:
    # A hair below 1.5, int(2 * rate) would be 2 instead of 3.
    source = WindowSource(feature_stores(tmp_path, arrays), settings())
    assert [rate for name in arrays for _, rate in source._corpus.locate(name).extent.visual] == [1.0, 1.5] * 3


def test_a_video_in_two_stores_or_a_foreign_file_is_refused(tmp_path: Path, arrays: Arrays) -> None:
    feature_stores(tmp_path, arrays)
    stores = {kind: [tmp_path / f"{kind}_{i}.h5" for i in (0, 1)] for kind in ("audio", "video_2d", "video_3d")}
    with pytest.raises(AvpipeError, match="one store of audio"):
        StoreCorpus({**stores, "audio": [*stores["audio"], stores["audio"][0]]})
    with pytest.raises(AvpipeError, match="no stream 'audio'"):
        StoreCorpus({**stores, "audio": stores["video_2d"]})
    with pytest.raises(AvpipeError, match="does not exist"):
        StoreCorpus({**stores, "audio": [tmp_path / "absent.h5"]})


def test_videos_without_usable_captions_are_left_out(tmp_path: Path, arrays: Arrays) -> None:
    captions = Captions()
    captions.add("long", [1.0], [7.0], ["x"])
    captions.add("brief", [8.0], [9.0], ["behind the end"])
    corpus = published_layout(tmp_path, arrays)
    source = WindowSource(corpus, settings(drawn="captions"), captions)
    assert source.video_ids == ["long"]
    assert {each.clip_id: each.status for each in source.excluded} == {"brief": "too_short", "medium": "missing"}
    kept = WindowSource(corpus, settings(drawn="captions", lacking_video="zeros"), captions)
    assert kept.video_ids == ["long", "brief"]
    batch = kept.batch(seed=0, epoch=0, items=[1])
    assert batch.n_frames == [0] * 5
    assert not batch.video.any()
    assert not torch.stack(batch.audio).any()


def test_captions_are_needed_for_windows_around_them(corpus: Corpus) -> None:
    with pytest.raises(AvpipeError, match=r"retrieval\.captions"):
        WindowSource(corpus, settings(drawn="captions"))


def test_the_fingerprint_follows_what_batches_depend_on(tmp_path: Path, arrays: Arrays) -> None:
    corpus = published_layout(tmp_path / "a", arrays)
    later = Captions()
    later.add("long", [1.0], [9.0], ["pan"])
    fewer = HowTo100MCorpus(["food/7/long", "food/7/brief"], tmp_path / "a")
    longer = published_layout(tmp_path / "b", {**arrays, "brief": arrays["medium"]})
    vectors = WordTable(WORDS.words, WORDS.vectors + 1)
    around = settings(drawn="captions")
    same = [WindowSource(corpus, settings(), threads=threads).fingerprint() for threads in (1, 2)]
    different = [
        same[0],
        WindowSource(corpus, settings(per_video=6)).fingerprint(),
        WindowSource(fewer, settings()).fingerprint(),
        WindowSource(longer, settings()).fingerprint(),
        WindowSource(corpus, around, spoken()).fingerprint(),
        WindowSource(corpus, around, later).fingerprint(),
        WindowSource(corpus, around, spoken(), WORDS).fingerprint(),
        WindowSource(corpus, around, spoken(), WORDS, 7).fingerprint(),
        WindowSource(corpus, around, spoken(), vectors).fingerprint(),
        WindowSource(feature_stores(tmp_path / "c", arrays), settings()).fingerprint(),
    ]
    assert same[0] == same[1]
    assert len(set(different)) == len(different)


def test_words_absorbed_by_a_window_follow_its_own(tmp_path: Path, arrays: Arrays) -> None:
    corpus = published_layout(tmp_path, {"long": arrays["long"]})
    captions = Captions()
    captions.add("long", [0.0, 2.0], [2.0, 4.0], ["cut the egg", "Pan pan"])
    source = WindowSource(corpus, settings(drawn="captions", per_video=2, without_replacement=True), captions, WORDS, 3)
    texts = source.batch(seed=0, epoch=0, items=[0]).text
    assert texts is not None
    pan, cut, egg = WORDS.vectors
    found = {tuple(map(tuple, text.tolist())) for text in texts}
    assert found == {tuple(map(tuple, rows)) for rows in ([cut, egg, pan], [pan, cut, egg])}
