"""The embedded datasets demo_gzsl and demo: small videos in UCF-101's shape that the pipeline makes for itself.

`plan_demo` decides, `render_clip` draws one clip, `make_demo` writes everything. The plan is the same on
every machine, and the same library versions give the same bytes. Six clips are out of the ordinary, so that
every run meets them. demo has half of the clips of demo_gzsl: one of each scene instead of two.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path

import numpy as np

from avpipe.demo.classes import ALL, TEST_UNSEEN, TRAIN, VAL_UNSEEN, DemoClass, word_vectors
from avpipe.demo.datasets import FULL, N_GROUPS, ZeroShotDataset
from avpipe.demo.encode import encode
from avpipe.demo.render import Variation, draw_variation, name_seed, picture, sound
from avpipe.gzsl.benchmark import SUBSETS
from avpipe.gzsl.splits import STAGE_2_PARTS, Split, write_class_split
from avpipe.gzsl.words import write_names, write_words
from avpipe.io.atomic import atomic_directory, atomic_path
from avpipe.io.manifest import result_directory

SPLIT_NAME = "main_split"
VIDEO_FOLDER = "videos"
WORDS_FILE = "word_embeddings_demo_normed.npy"
NAMES_FILE = "demo_w2v_class_names.csv"
_FEWEST_FRAMES, _MOST_FRAMES = 27, 32  # 1.08 s is surely one window of VGGish, 32 frames are two of C3D
_SHORT_FRAMES = 20  # 0.8 s: a window of C3D (0.64 s), none of VGGish (0.975 s)


class Oddity(StrEnum):
    """How a clip departs from the ordinary; the last two must give features all the same."""

    NO_SOUND = "no_sound"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    SHORT = "short"
    RATE_30 = "rate_30"
    VARIABLE_RATE = "variable_rate"


# By class, group and clip, or the group's last clip where it has fewer. Spread over subsets, so that each accounts
# for something; no class loses more than one clip, and none the only one that a subset has of it.
_ODDITIES = {
    (TRAIN[0], 1, 2): Oddity.NO_SOUND,
    (VAL_UNSEEN[0], 2, 1): Oddity.TRUNCATED,
    (TEST_UNSEEN[0], 4, 2): Oddity.EMPTY,
    (TRAIN[3], 2, 2): Oddity.SHORT,
    (TRAIN[6], 1, 1): Oddity.RATE_30,
    (TEST_UNSEEN[3], 1, 1): Oddity.VARIABLE_RATE,
}


@dataclass(frozen=True)
class ClipSpec:
    """One clip of the plan.

    Attributes:
        clip_id: v_<Class>_g<NN>_c<MM>, as in UCF-101.
        demo: its class.
        group: from 1; clips of a group share the scene.
        clip: from 1, within the group.
        n_frames: number of pictures.
        oddity: None for an ordinary clip.
    """

    clip_id: str
    demo: DemoClass
    group: int
    clip: int
    n_frames: int
    oddity: Oddity | None

    @property
    def relative_path(self) -> Path:
        """<Class>/<clip id>.avi; .mp4 where time stamps vary, or where a cut must leave nothing that can be decoded."""
        in_mp4 = self.oddity in (Oddity.TRUNCATED, Oddity.VARIABLE_RATE)
        return Path(self.demo.name) / f"{self.clip_id}.{'mp4' if in_mp4 else 'avi'}"

    @property
    def variation(self) -> Variation:
        """What is drawn for this clip, from its names alone."""
        return draw_variation(name_seed(f"{self.demo.name} g{self.group:02}"), name_seed(self.clip_id))


def plan_demo(dataset: ZeroShotDataset = FULL) -> list[ClipSpec]:
    """The clips, sorted by clip id; pure.

    Args:
        dataset: demo_gzsl has 192, 8 of each of 24 classes; demo has 96, 4 of each.
    """
    oddities = {
        (demo, group, min(clip, dataset.clips_per_group)): oddity for (demo, group, clip), oddity in _ODDITIES.items()
    }
    specs = []
    for demo in ALL:
        for group in range(1, N_GROUPS + 1):
            for clip in range(1, dataset.clips_per_group + 1):
                clip_id = f"v_{demo.name}_g{group:02}_c{clip:02}"
                oddity = oddities.get((demo, group, clip))
                n_frames = _FEWEST_FRAMES + name_seed(f"{clip_id} frames") % (_MOST_FRAMES - _FEWEST_FRAMES + 1)
                if oddity is Oddity.SHORT:
                    n_frames = _SHORT_FRAMES
                elif oddity is Oddity.RATE_30:
                    n_frames = 36  # 1.2 s
                specs.append(ClipSpec(clip_id, demo, group, clip, n_frames, oddity))
    return sorted(specs, key=lambda spec: spec.clip_id)


def demo_split(dataset: ZeroShotDataset = FULL) -> Split:
    """The class split of the plan, every clip in it, odd ones too: a split lists what ought to be there.

    Of classes trained in stage 1, groups 1 and 2 train, 3 validates, 4 tests; of classes unseen in stage 1,
    groups 1 to 3 validate and 4 tests; of classes never trained, all test. Unlike in UCF, no scene is on both
    sides.
    """
    trained = {demo.name for demo in TRAIN}
    unseen = {demo.name for demo in VAL_UNSEEN}
    clips: dict[str, dict[str, str]] = {subset: {} for subset in SUBSETS}
    for spec in plan_demo(dataset):
        name = spec.demo.name
        if name not in trained | unseen:
            subset = "stage_2_test_unseen"
        elif spec.group == N_GROUPS:
            subset = "stage_2_test_seen"
        elif name in unseen:
            subset = "stage_1_val_unseen"
        else:
            subset = "stage_1_val_seen" if spec.group == N_GROUPS - 1 else "stage_1_train"
        clips[subset][spec.clip_id] = name
        if subset in STAGE_2_PARTS:
            clips["stage_2_train"][spec.clip_id] = name
    classes = {subset: tuple(sorted(set(clips[subset].values()))) for subset in SUBSETS}
    return Split(SPLIT_NAME, tuple(sorted(demo.name for demo in ALL)), classes, clips)


def write_demo_split(root: str | os.PathLike[str], dataset: ZeroShotDataset = FULL) -> None:
    """Write `root`/class-split: the lists of `demo_split` and the table of word2vec names."""
    write_class_split(demo_split(dataset), root)
    write_names(Path(root) / "class-split" / NAMES_FILE, {demo.name: demo.phrase for demo in ALL})


def make_demo(
    folder: str | os.PathLike[str], dataset: ZeroShotDataset = FULL, *, workers: int | None = None
) -> list[ClipSpec]:
    """Write a dataset: `folder`/videos/<Class>/<clip>, `folder`/class-split/…,
    `folder`/word_embeddings_demo_normed.npy.

    The folder appears whole or not at all and replaces an older one. Takes some seconds.

    Args:
        folder: belongs to the dataset alone.
        dataset: which.
        workers: threads (FFmpeg and numpy leave Python's lock); None: one per core.

    Returns:
        The plan that was carried out.
    """
    specs = plan_demo(dataset)
    with atomic_directory(folder) as temporary, ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        with result_directory(temporary / VIDEO_FOLDER) as videos:
            list(pool.map(lambda spec: render_clip(spec, videos / spec.relative_path), specs))
        write_demo_split(temporary, dataset)
        write_words(temporary / WORDS_FILE, word_vectors())
    return specs


def render_clip(spec: ClipSpec, path: str | os.PathLike[str]) -> None:
    """Draw and encode one clip; equal specs give equal bytes with the same library versions."""
    path = Path(path)
    with atomic_path(path) as temporary:
        if spec.oddity is Oddity.EMPTY:
            temporary.touch()
            return
        ticks, time_base = _time_stamps(spec)
        variation = spec.variation
        duration = float((ticks[-1] + 1) * time_base) if spec.oddity is not Oddity.VARIABLE_RATE else 1.2
        encode(
            temporary,
            (picture(spec.demo, variation, float(tick * time_base)) for tick in ticks),
            ticks,
            time_base,
            None if spec.oddity is Oddity.NO_SOUND else sound(spec.demo, variation, duration),
        )
        if spec.oddity is Oddity.TRUNCATED:  # without its index, which comes last, nothing of an MP4 can be decoded
            temporary.write_bytes(temporary.read_bytes()[: temporary.stat().st_size // 2])


def _time_stamps(spec: ClipSpec) -> tuple[list[int], Fraction]:
    """Time stamps of a clip's pictures and the length of a tick in seconds."""
    if spec.oddity is Oddity.RATE_30:
        return list(range(spec.n_frames)), Fraction(1, 30)
    if spec.oddity is Oddity.VARIABLE_RATE:  # between 20 and 60 ms, as a phone in the dark; 1.2 s in all
        gaps = np.random.default_rng(name_seed(spec.clip_id)).integers(20, 61, spec.n_frames)
        ticks = np.concatenate([[0], np.cumsum(gaps)])
        return [int(tick) for tick in ticks if tick < 1180], Fraction(1, 1000)
    return list(range(spec.n_frames)), Fraction(1, 25)
