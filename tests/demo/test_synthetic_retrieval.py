"""The embedded dataset demo_retrieval: its plan, its films, and the tables beside them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from avpipe.demo import retrieval
from avpipe.demo.render import SAMPLE_RATE_HZ
from avpipe.demo.retrieval import (
    CAPTIONS_FILE,
    CLIPS_FILE,
    FILMS_FILE,
    WORDS_FILE,
    FilmSpec,
    Oddity,
    film_captions,
    make_retrieval_demo,
    plan_films,
    render_film,
    word_vectors,
)
from avpipe.demo.scenes import COMBINATIONS, PHRASINGS, UNKNOWN_WORDS, caption, scene_sound
from avpipe.features.spectrogram import log_mel

pytestmark = pytest.mark.slow

FILMS = plan_films()
SCENES = [scene for film in FILMS for scene in film.scenes]
ODD = {film.oddity: film for film in FILMS if film.oddity}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset as written for a few films: all take 5 s on two cores."""
    folder = tmp_path_factory.mktemp("demo") / "demo_retrieval"
    _make(folder, workers=2)
    return folder


def _few() -> list[FilmSpec]:
    names = ("test_01", "train_02", "train_03")
    return [film for film in FILMS if film.oddity or film.film_id in names]


def _make(folder: Path, workers: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "plan_films", _few)
        assert make_retrieval_demo(folder, workers=workers) == _few()


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _segments(path: Path) -> list[np.ndarray]:
    """The sound of a film cut at its scenes, as float samples at 44.1 kHz."""
    film = next(film for film in FILMS if film.film_id == path.stem)
    with av.open(str(path)) as container:
        samples = np.concatenate([frame.to_ndarray().mean(axis=0) for frame in container.decode(audio=0)])
    edges = [round(scene.start_seconds * SAMPLE_RATE_HZ) for scene in film.scenes]
    return np.split(samples, edges[1:])


def test_every_combination_trains_three_times_and_is_tested_once():
    ordinary = [film for film in FILMS if film.oddity is None]
    counts = {
        subset: Counter(scene.combination for film in ordinary if film.subset == subset for scene in film.scenes)
        for subset in ("train", "test")
    }
    assert len(COMBINATIONS) == len(set(COMBINATIONS)) == 36
    assert counts == {"train": dict.fromkeys(COMBINATIONS, 3), "test": dict.fromkeys(COMBINATIONS, 1)}
    assert all(len({scene.combination for scene in film.scenes}) == 4 for film in ordinary)


def test_odd_films_come_on_top_of_the_ordinary_ones():
    assert (ODD[Oddity.NO_SOUND].subset, len(ODD[Oddity.NO_SOUND].scenes)) == ("test", 2)
    assert (ODD[Oddity.SILENT].subset, len(ODD[Oddity.SILENT].scenes)) == ("train", 1)
    scenes = Counter(film.subset for film in FILMS for _ in film.scenes)
    assert scenes == {"train": 3 * 36 + 1, "test": 36 + 2}


def test_plan_is_sorted_repeatable_and_without_doubles():
    assert plan_films() == FILMS
    names = [film.film_id for film in FILMS]
    assert names == sorted(set(names)) and len(names) == 38
    assert len({scene.clip_id for scene in SCENES}) == len(SCENES)
    assert {film.suffix for film in FILMS if film.subset == "train"} == {".avi", ".mp4"}
    assert {film.suffix for film in FILMS if film.subset == "test"} == {".avi", ".mp4"}


def test_scenes_fill_their_film_and_hold_two_windows_of_each_network():
    for film in FILMS:
        edges = [scene.start_seconds for scene in film.scenes] + [film.scenes[-1].end_seconds]
        assert edges[0] == 0
        assert edges[1:] == [scene.end_seconds for scene in film.scenes]
        # From 2.0 s on, two windows of 16 frames at 24 a second and a stride of 32 need no padding.
        assert all(50 <= scene.n_frames <= 55 for scene in film.scenes)


def test_draws_do_not_repeat_between_scenes_and_films_share_their_backdrop():
    variations = [scene.variation for scene in SCENES]
    assert len({variation.noise_seed for variation in variations}) == len(SCENES)
    for film in FILMS:
        assert len({scene.variation.background for scene in film.scenes}) == 1
    assert len({film.scenes[0].variation.background for film in FILMS}) == len(FILMS)


def test_captions_name_every_factor_and_tell_combinations_apart():
    for number in range(len(PHRASINGS)):
        assert len({caption(combination, number) for combination in COMBINATIONS}) == 36
    assert caption(COMBINATIONS[4], 0) == "a red pole sways over a deep beat that buzzes"
    assert caption(COMBINATIONS[4], 1) == "The deep beat buzzes while the red pole sways"
    assert caption(COMBINATIONS[4], 2) == "swaying to a buzzing deep beat, the pole is red"
    assert len({scene.phrasing for scene in SCENES if scene.film_id.startswith("test")}) == len(PHRASINGS)


def test_each_factor_value_has_its_own_sound():
    audible = {(each.pitch, each.rhythm, each.timbre) for each in COMBINATIONS}
    assert len(audible) == 36
    assert [len({getattr(each, name) for each in COMBINATIONS}) for name in ("pitch", "rhythm", "timbre")] == [4, 3, 3]


def test_pitch_rhythm_and_timbre_can_be_measured_in_the_sound():
    by_combination = {scene.combination: scene.variation for scene in SCENES}
    lowest_hz: dict[str, list[float]] = {}
    for combination, variation in by_combination.items():
        sound = scene_sound(combination, variation, 2.0)
        assert 0.15 < np.abs(sound).max() <= 1
        loudness = np.sqrt((sound.reshape(-1, 441) ** 2).mean(axis=1))  # 10 ms
        pauses = np.count_nonzero(np.diff((loudness > 0.3 * loudness.max()).astype(int)) == -1)
        fewest, most = {"drone": (0, 1), "beat": (5, 8), "flutter": (16, 23)}[combination.rhythm]  # in 2 s
        assert fewest <= pauses <= most, combination
        spectrum = np.abs(np.fft.rfft(sound)) ** 2
        frequencies = np.arange(len(spectrum)) / 2  # Hz
        lowest = frequencies[np.argmax(spectrum > 0.3 * spectrum.max())]
        lowest_hz.setdefault(combination.pitch, []).append(lowest)
        # Share of the power away from the fundamental: below 0.01 for one tone, 0.11 with breath, 0.87 = 7/8 with
        # eight harmonics.
        elsewhere = spectrum[np.abs(frequencies - lowest) > 100].sum() / spectrum.sum()
        assert {"ring": 0, "hiss": 1, "buzz": 2}[combination.timbre] == np.searchsorted([0.04, 0.5], elsewhere)
    low_to_high = [lowest_hz[pitch] for pitch in ("deep", "low", "high", "shrill")]
    assert all(1.5 * max(lower) < min(higher) for lower, higher in pairwise(low_to_high))


def test_words_file_has_all_words_but_the_named_ones(demo):
    header, *lines = (demo / WORDS_FILE).read_text().splitlines()
    vectors = {line.split(" ")[0]: np.array(line.split(" ")[1:], dtype=float) for line in lines}
    assert header == f"{len(vectors)} 300" and len(lines) == len(vectors)
    words = {word for scene in SCENES for word in re.findall(r"\w+", scene.caption)}
    assert words - vectors.keys() == UNKNOWN_WORDS
    assert {"The", "the"} <= vectors.keys()  # case is kept, as the published tokens keep it
    # Numbers have six decimals: 300 errors of at most 5e-7 change a length by at most 9e-6.
    assert all(abs(np.linalg.norm(vector) - 1) < 1e-5 for vector in vectors.values())
    np.testing.assert_allclose(vectors["disc"], word_vectors()["disc"], atol=5.1e-7, rtol=0)  # the same rounding


def test_clip_table_lists_every_scene_with_paths_relative_to_it(demo):
    with (demo / CLIPS_FILE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    scenes = {scene.clip_id: scene for film in _few() for scene in film.scenes}
    assert list(rows[0]) == ["clip_id", "path", "start_seconds", "end_seconds", "caption", "subset"]
    assert [row["clip_id"] for row in rows] == list(scenes)
    for row in rows:
        scene = scenes[row["clip_id"]]
        assert (demo / row["path"]).is_file() and Path(row["path"]).stem == scene.film_id
        assert (float(row["start_seconds"]), float(row["end_seconds"])) == (scene.start_seconds, scene.end_seconds)
        assert row["caption"] == scene.caption and row["subset"] == scene.film_id.split("_")[0]


def test_films_to_pretrain_on_are_ordinary_train_films_with_their_captions(demo):
    with (demo / FILMS_FILE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["clip_id"] for row in rows] == ["train_02", "train_03"]
    assert all((demo / row["path"]).is_file() for row in rows)
    captions = json.loads((demo / CAPTIONS_FILE).read_text())
    assert captions == film_captions([film for film in _few() if film.film_id in ("train_02", "train_03")])
    assert [len(captions["train_02"][key]) for key in ("start", "end", "text")] == [4, 4, 4]
    assert captions["train_02"]["text"][1] == next(s for s in SCENES if s.clip_id == "train_02_s2").caption


@pytest.mark.parametrize("name", ["train_02.avi", "train_03.mp4"])
def test_film_is_small_25_fps_video_with_sound_as_long_as_its_pictures(demo, name):
    with av.open(str(demo / "films" / name)) as container:
        (video,), (audio,) = container.streams.video, container.streams.audio
        assert (video.average_rate, audio.rate, video.width, video.height) == (25, SAMPLE_RATE_HZ, 160, 120)
        pictures = [frame.pts for frame in container.decode(video=0)]
    film = next(film for film in FILMS if film.film_id == Path(name).stem)
    assert len(pictures) == sum(scene.n_frames for scene in film.scenes)
    samples = sum(map(len, _segments(demo / "films" / name)))
    # MP3 comes in packets of 1,152 samples after a delay of 1,105, AAC in packets of 1,024 after one.
    assert 0 <= samples - film.scenes[-1].end_seconds * SAMPLE_RATE_HZ <= 2 * 1152
    assert (demo / "films" / name).stat().st_size < 1_000_000


@pytest.mark.parametrize("name", ["train_02.avi", "train_03.mp4"])
def test_sound_of_each_scene_lies_where_its_clip_is(demo, name):
    film = next(film for film in FILMS if film.film_id == Path(name).stem)
    segments = _segments(demo / "films" / name)
    drawn = [scene_sound(s.combination, s.variation, s.n_frames / 25) for s in film.scenes]
    for segment, expected in zip(segments, drawn, strict=True):
        decoded, wanted = (
            log_mel(sound[: len(expected)], SAMPLE_RATE_HZ).mean(axis=1) for sound in (segment, expected)
        )
        # dB in the mean of a band: lossy coding takes up to 12 from nearly silent high bands.
        assert np.corrcoef(decoded, wanted)[0, 1] > 0.9


def test_odd_films_have_the_fault_they_are_named_for(demo):
    with av.open(str(demo / ODD[Oddity.NO_SOUND].relative_path)) as container:
        assert not container.streams.audio
        assert len(list(container.decode(video=0))) >= 100
    (silence,) = _segments(demo / ODD[Oddity.SILENT].relative_path)
    assert len(silence) >= 2 * SAMPLE_RATE_HZ and not silence.any()
    assert not log_mel(silence, SAMPLE_RATE_HZ).any()


@pytest.mark.slow
def test_same_bytes_with_any_number_of_workers(demo, tmp_path):
    _make(tmp_path / "again", workers=1)
    assert _contents(tmp_path / "again") == _contents(demo)
    assert len(_contents(demo)) == len(_few()) + 4


def test_films_differ(demo):
    contents = _contents(demo)
    films = [data for name, data in contents.items() if name.startswith("films/")]
    assert len(set(films)) == len(films) == len(_few())


def test_render_film_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval, "encode", lambda *_: (_ for _ in ()).throw(RuntimeError("full")))
    with pytest.raises(RuntimeError, match="full"):
        render_film(FILMS[0], tmp_path / "film.avi")
    assert list(tmp_path.iterdir()) == []
