"""The embedded dataset: its plan, its clips, and the split files that are checked in."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from dataclasses import astuple, replace
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest

from avpipe.demo import zero_shot
from avpipe.demo.classes import ALL, TEST_UNSEEN, TRAIN, VAL_UNSEEN, word_vectors
from avpipe.demo.datasets import MADE_FOLDERS, SMALL, ZERO_SHOT
from avpipe.demo.render import SAMPLE_RATE_HZ, draw_variation, picture, sound
from avpipe.demo.splits import differing_files, main
from avpipe.demo.zero_shot import (
    NAMES_FILE,
    WORDS_FILE,
    ClipSpec,
    Oddity,
    demo_split,
    make_demo,
    plan_demo,
    render_clip,
)
from avpipe.gzsl.benchmark import SUBSETS
from avpipe.gzsl.class_split import ClassNames
from avpipe.gzsl.splits import read_split
from avpipe.gzsl.words import class_vectors, read_names, read_words
from avpipe.sources.settings import Synthetic

REPOSITORY = Path(__file__).parents[2]
PLAN = plan_demo()


def odd(oddity: Oddity) -> ClipSpec:
    return next(spec for spec in PLAN if spec.oddity is oddity)


def decode(path: Path) -> tuple[list[av.VideoFrame], np.ndarray]:
    """All pictures, and the sound's samples (empty without a sound track)."""
    with av.open(str(path)) as container:
        pictures = list(container.decode(video=0))
        has_sound = bool(container.streams.audio)
    if not has_sound:
        return pictures, np.empty(0)
    with av.open(str(path)) as container:
        return pictures, np.concatenate([frame.to_ndarray().mean(axis=0) for frame in container.decode(audio=0)])


def test_plan_is_in_ucfs_shape():
    assert len(PLAN) == 192 and Counter(Counter(spec.demo for spec in PLAN).values()) == {8: 24}
    assert [spec.clip_id for spec in PLAN] == sorted({spec.clip_id for spec in PLAN})
    spec = PLAN[1]
    assert str(spec.relative_path) == "BlueDiscSwellLowDrone/v_BlueDiscSwellLowDrone_g01_c02.avi"
    assert all(27 <= spec.n_frames <= 32 for spec in PLAN if spec.oddity is None)
    assert plan_demo() == PLAN


def test_small_plan_has_half_of_the_clips():
    small = plan_demo(SMALL)
    assert len(small) == 96 and Counter(Counter(spec.demo for spec in small).values()) == {4: 24}
    ordinary = {spec for spec in small if spec.oddity is None}
    assert len(ordinary) == 90 and ordinary - set(PLAN) == set(), "a clip of both plans is the same clip"


def test_every_synthetic_source_lies_somewhere():
    assert list(MADE_FOLDERS) == list(get_args(Synthetic.model_fields["dataset"].annotation))
    assert MADE_FOLDERS["zero_shot_small"] != MADE_FOLDERS["gzsl"]


@pytest.mark.parametrize("dataset", ZERO_SHOT.values(), ids=list(ZERO_SHOT))
def test_there_is_one_clip_of_each_oddity_and_no_class_has_two(dataset):
    odd_clips = [spec for spec in plan_demo(dataset) if spec.oddity]
    assert sorted(spec.oddity for spec in odd_clips) == sorted(Oddity)
    assert len({spec.demo for spec in odd_clips}) == len(Oddity)


def test_classes_allow_zero_shot_learning():
    """Each factor value of an unseen class is in three seen classes or more; unseen ones differ in three or more."""
    assert (len(TRAIN), len(VAL_UNSEEN), len(TEST_UNSEEN)) == (12, 6, 6)
    assert len(set(ALL)) == len({demo.name for demo in ALL}) == len({demo.phrase for demo in ALL}) == 24
    values = [Counter(column) for column in zip(*map(astuple, TRAIN), strict=True)]
    for demo in (*VAL_UNSEEN, *TEST_UNSEEN):
        assert all(count[value] >= 3 for count, value in zip(values, astuple(demo), strict=True))
    for unseen in (VAL_UNSEEN, TEST_UNSEEN):
        for one, other in itertools.combinations(map(astuple, unseen), 2):
            assert sum(a != b for a, b in zip(one, other, strict=True)) >= 3


def test_word_vectors_are_close_where_classes_share_factors():
    vectors = word_vectors()
    for one, other in itertools.combinations(ALL, 2):
        shared = sum(a == b for a, b in zip(astuple(one), astuple(other), strict=True))
        # Random unit vectors in 300 dimensions have cosines of about 1/sqrt(300) = 0.06; a vector has five of them.
        assert abs(float(vectors[one.phrase] @ vectors[other.phrase]) - shared / 5) < 0.25
    assert all(abs(np.linalg.norm(vector) - 1) < 1e-6 for vector in vectors.values())  # float32


def test_published_alignment_differs_in_the_demo():
    names = {demo.name: demo.phrase for demo in ALL}
    classes = ClassNames(names).names
    correct, published = (class_vectors(word_vectors(), names, classes, kind) for kind in ("correct", "published"))
    assert (correct != published).any(axis=1).sum() > 12


@pytest.mark.parametrize("dataset", ZERO_SHOT.values(), ids=list(ZERO_SHOT))
def test_split_files_in_the_repository_are_in_step_with_the_plan(dataset):
    folder = REPOSITORY / "config/splits" / dataset.name
    assert differing_files(folder, dataset) == [], "run python -m avpipe.demo.splits --write"
    assert read_split(folder, "main_split") == demo_split(dataset)


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_out_of_step_files_are_noticed_and_mended(tmp_path, capsys, name):
    shutil.copytree(REPOSITORY / "config/splits", tmp_path, dirs_exist_ok=True)
    (tmp_path / name / "class-split/all_class.txt").write_text("Other\n")
    (tmp_path / name / "class-split" / NAMES_FILE).unlink()
    assert main(["--folder", str(tmp_path)]) == 1
    assert f"class-split/all_class.txt, class-split/{NAMES_FILE}" in capsys.readouterr().err
    assert main(["--folder", str(tmp_path), "--write"]) == 0
    assert main(["--folder", str(tmp_path)]) == 0


@pytest.mark.parametrize("dataset", ZERO_SHOT.values(), ids=list(ZERO_SHOT))
def test_every_class_of_a_subset_has_a_clip_that_gives_features(dataset):
    failing = {Oddity.NO_SOUND, Oddity.TRUNCATED, Oddity.EMPTY, Oddity.SHORT}
    failed = {spec.clip_id for spec in plan_demo(dataset) if spec.oddity in failing}
    split = demo_split(dataset)
    assert set().union(*split.clips.values()) == {spec.clip_id for spec in plan_demo(dataset)}
    for subset in SUBSETS:
        left = {label for clip_id, label in split.clips[subset].items() if clip_id not in failed}
        assert left == set(split.classes[subset])
    assert {len(split.classes[f"stage_{subset}"]) for subset in ("1_val_unseen", "2_test_unseen")} == {6}


@pytest.mark.parametrize("dataset", ZERO_SHOT.values(), ids=list(ZERO_SHOT))
def test_no_scene_is_on_both_sides_of_the_split(dataset):
    split = demo_split(dataset)
    scenes = {subset: {clip.rsplit("_", 1)[0] for clip in clips} for subset, clips in split.clips.items()}
    for train in ("stage_1_train", "stage_1_val_seen", "stage_1_val_unseen"):
        for test in ("stage_2_test_seen", "stage_2_test_unseen"):
            assert not scenes[train] & scenes[test]
    assert not scenes["stage_1_train"] & scenes["stage_1_val_seen"]


def test_equal_specs_give_equal_bytes_and_clips_differ(tmp_path):
    contents = []
    for spec, name in (
        (PLAN[0], "a.avi"),
        (PLAN[0], "b.avi"),
        (PLAN[1], "c.avi"),
        (odd(Oddity.VARIABLE_RATE), "d.mp4"),
    ):
        render_clip(spec, tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1] != contents[2]
    render_clip(odd(Oddity.VARIABLE_RATE), tmp_path / "e.mp4")
    assert (tmp_path / "e.mp4").read_bytes() == contents[3]


@pytest.mark.parametrize("spec", [PLAN[2], PLAN[-1]], ids=lambda spec: spec.clip_id)
def test_ordinary_clip_is_25_fps_avi_with_a_sound_track_that_fits(tmp_path, spec):
    render_clip(spec, tmp_path / "a.avi")
    with av.open(str(tmp_path / "a.avi")) as container:
        (video,), (audio,) = container.streams.video, container.streams.audio
        assert (video.codec_context.name, audio.codec_context.name) == ("mpeg4", "mp3float")
        assert (video.average_rate, audio.rate, video.width, video.height) == (25, SAMPLE_RATE_HZ, 160, 120)
    pictures, samples = decode(tmp_path / "a.avi")
    assert [frame.pts for frame in pictures] == list(range(spec.n_frames))  # no gap, no doubled picture
    # MP3 comes in packets of 1,152 samples after a delay of 1,105: at most two packets too many.
    surplus = len(samples) - spec.n_frames / 25 * SAMPLE_RATE_HZ
    assert 0 <= surplus <= 2 * 1152
    drawn = picture(spec.demo, spec.variation, 0.0).astype(int)
    decoded = pictures[0].to_ndarray(format="rgb24").astype(int)
    assert (
        np.abs(drawn - decoded).mean() < 6
    )  # grey levels; lossy coding makes up to 3, any other clip differs by 9 or more
    assert np.abs(samples).max() > 0.1


def test_odd_clips_that_must_fail_have_the_fault_they_are_named_for(tmp_path):
    for oddity in (Oddity.NO_SOUND, Oddity.TRUNCATED, Oddity.EMPTY, Oddity.SHORT):
        render_clip(odd(oddity), tmp_path / oddity / odd(oddity).relative_path.name)
    files = {Oddity(path.parent.name): path for path in tmp_path.rglob("v_*")}
    pictures, samples = decode(files[Oddity.NO_SOUND])
    assert len(pictures) >= 27 and len(samples) == 0
    assert files[Oddity.EMPTY].stat().st_size == 0
    assert files[Oddity.TRUNCATED].stat().st_size > 1000
    for oddity in (Oddity.TRUNCATED, Oddity.EMPTY):
        with pytest.raises(av.error.InvalidDataError):
            decode(files[oddity])
    pictures, samples = decode(files[Oddity.SHORT])
    assert len(pictures) >= 16  # a window of C3D
    assert len(samples) < 0.975 * SAMPLE_RATE_HZ  # none of VGGish


def test_odd_clips_that_must_succeed_last_long_enough(tmp_path):
    render_clip(odd(Oddity.RATE_30), tmp_path / "a.avi")
    pictures, samples = decode(tmp_path / "a.avi")
    assert pictures[-1].time == pytest.approx(35 / 30, abs=1e-6) and len(samples) > 1.1 * SAMPLE_RATE_HZ
    render_clip(odd(Oddity.VARIABLE_RATE), tmp_path / "b.mp4")
    pictures, samples = decode(tmp_path / "b.mp4")
    gaps = np.diff([frame.time for frame in pictures])
    assert gaps.min() < 0.03 and gaps.max() > 0.05 and len(samples) > 1.1 * SAMPLE_RATE_HZ
    assert pictures[-1].time > 1.1


def brightest_hue(frame: np.ndarray) -> str:
    mean = frame[frame.max(axis=2).astype(int) - frame.min(axis=2) > 120].mean(axis=0) > 120
    return {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (1, 1, 0): "yellow"}[tuple(mean.astype(int))]


def loudest_frequency(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * SAMPLE_RATE_HZ / len(samples))


@pytest.mark.slow
@pytest.mark.parametrize("demo", ALL, ids=lambda demo: demo.name)
def test_each_factor_can_be_measured_in_picture_and_sound(demo):
    for seed in range(3):
        variation = draw_variation(seed, seed + 10)
        frames = [picture(demo, variation, i / 25) for i in range(25)]
        masks = np.array([frame.max(axis=2).astype(int) - frame.min(axis=2) > 120 for frame in frames])
        assert brightest_hue(frames[0]) == demo.colour
        ys, xs = np.nonzero(masks[0])
        ratio = np.ptp(xs) / np.ptp(ys)
        assert (ratio > 1.6, ratio < 1 / 1.6) == (demo.shape == "plank", demo.shape == "pole")
        moves = {
            "sway": np.ptp([np.nonzero(mask)[1].mean() for mask in masks]) / 44,
            "bounce": np.ptp([np.nonzero(mask)[0].mean() for mask in masks]) / 44,
            "swell": np.ptp(masks.sum(axis=(1, 2))) / masks.sum(axis=(1, 2)).mean(),
        }
        assert max(moves, key=moves.__getitem__) == demo.motion
        samples = sound(demo, variation, 1.2)
        assert abs(np.log(loudest_frequency(samples) / {"low": 150, "middle": 600, "high": 2400}[demo.pitch])) < 0.15
        loudness = np.sqrt((samples[: 20 * 2205].reshape(-1, 441) ** 2).mean(axis=1))  # 10 ms
        assert (np.quantile(loudness, 0.2) < 0.3 * loudness.max()) == (demo.rhythm == "beat")


def test_clips_of_a_group_share_the_scene_only():
    one, other = (zero_shot.draw_variation(1, seed) for seed in (2, 3))
    assert one.background == other.background and one.tuning == other.tuning
    assert one.centre != other.centre and one.phase != other.phase
    assert replace(one, background=0.0) != replace(draw_variation(4, 2), background=0.0)


@pytest.mark.slow
def test_dataset_folder_has_everything_and_the_same_bytes_with_any_number_of_workers(tmp_path, monkeypatch):
    few = [odd(Oddity.EMPTY), odd(Oddity.TRUNCATED), *PLAN[:3]]  # all 192 take 10 s on two cores
    split = demo_split()
    monkeypatch.setattr(zero_shot, "plan_demo", lambda dataset: few)
    monkeypatch.setattr(zero_shot, "demo_split", lambda dataset: split)
    assert make_demo(tmp_path / "one", workers=1) == few
    make_demo(tmp_path / "two", workers=2)
    contents = [
        {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    ]
    assert contents[0] == contents[1]
    videos = {name for name in contents[0] if name.startswith("videos/")}
    assert videos == {f"videos/{spec.relative_path}" for spec in few}
    names = read_names(tmp_path / "one/class-split" / NAMES_FILE)
    words = read_words(tmp_path / "one" / WORDS_FILE)
    assert np.isfinite(class_vectors(words, names, read_split(tmp_path / "one", "main_split").all_classes)).all()
