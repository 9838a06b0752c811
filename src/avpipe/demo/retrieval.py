"""The embedded dataset demo_retrieval: films of several scenes with captions, that the pipeline makes for itself.

`plan_films` decides, `render_film` draws one film, `make_retrieval_demo` writes everything. The plan is the same
on every machine, and the same library versions give the same bytes. A film without a sound track and one of
digital silence are out of the ordinary, so that every run meets them.
"""

from __future__ import annotations

import csv
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avpipe.demo.classes import WORD_DIMENSION, random_unit_vector
from avpipe.demo.encode import encode
from avpipe.demo.render import Variation, name_seed, picture
from avpipe.demo.scenes import (
    COMBINATIONS,
    PHRASINGS,
    UNKNOWN_WORDS,
    Combination,
    caption,
    scene_sound,
    scene_variation,
)
from avpipe.io.atomic import atomic_directory, atomic_path, write_text
from avpipe.retrieval.text import tokenise

FILM_FOLDER = "films"
CLIPS_FILE = "clips.csv"
FILMS_FILE = "films.csv"
CAPTIONS_FILE = "captions.json"
WORDS_FILE = "words.vec"

FRAMES_PER_SECOND = 25
_TRAIN_SCENES_PER_COMBINATION = 3
_SCENES_PER_FILM = 4
_FEWEST_FRAMES, _MOST_FRAMES = 50, 55  # 2.0 to 2.2 s: two frames of ResNet-152, two whole windows of ResNeXt-101
_MP4_EVERY = 3  # of the films; the others are .avi


class Oddity(StrEnum):
    """How a film departs from the ordinary: without a sound track, or with one of digital silence."""

    NO_SOUND = "no_sound"
    SILENT = "silent"


@dataclass(frozen=True)
class SceneSpec:
    """One scene of a film, which is one clip of the dataset.

    Attributes:
        clip_id: <film id>_s<N>, N from 1.
        film_id: its film.
        combination: of the factors.
        phrasing: of the caption, from 0.
        first_frame, n_frames: where it lies in the film, pictures at 25 per second.
    """

    clip_id: str
    film_id: str
    combination: Combination
    phrasing: int
    first_frame: int
    n_frames: int

    @property
    def start_seconds(self) -> float:
        """Time of its first picture in the film."""
        return self.first_frame / FRAMES_PER_SECOND

    @property
    def end_seconds(self) -> float:
        """Time at which the next scene starts."""
        return (self.first_frame + self.n_frames) / FRAMES_PER_SECOND

    @property
    def caption(self) -> str:
        """Its caption."""
        return caption(self.combination, self.phrasing)

    @property
    def variation(self) -> Variation:
        """What is drawn for this scene, from its film's name and its own."""
        return scene_variation(self.film_id, self.clip_id)


@dataclass(frozen=True)
class FilmSpec:
    """One film of the plan.

    Attributes:
        film_id: <subset>_<NN>, or <subset>_<oddity>.
        subset: train or test.
        scenes: in their order in time.
        oddity: None for an ordinary film.
        suffix: of its file, which decides the container.
    """

    film_id: str
    subset: str
    scenes: tuple[SceneSpec, ...]
    oddity: Oddity | None
    suffix: str

    @property
    def relative_path(self) -> Path:
        """films/<film id> with its suffix."""
        return Path(FILM_FOLDER) / f"{self.film_id}{self.suffix}"


def plan_films() -> list[FilmSpec]:
    """The 38 films, sorted by film id; pure.

    27 films train, with each of the 36 combinations in three scenes of different films; 9 test, with each
    combination in one scene, so that the gallery has no duplicates. The two odd films come on top of these.
    """
    train = [combination for combination in COMBINATIONS for _ in range(_TRAIN_SCENES_PER_COMBINATION)]
    ordinary = [
        _film(f"{subset}_{number:02}", subset, combinations, ".avi" if number % _MP4_EVERY else ".mp4")
        for subset, pool in (("train", train), ("test", list(COMBINATIONS)))
        for number, combinations in enumerate(_dealt(pool, subset), start=1)
    ]
    odd = [
        _film("test_no_sound", "test", [COMBINATIONS[4], COMBINATIONS[22]], ".avi", Oddity.NO_SOUND),
        _film("train_silent", "train", [COMBINATIONS[13]], ".avi", Oddity.SILENT),
    ]
    return sorted([*ordinary, *odd], key=lambda film: film.film_id)


def _dealt(pool: list[Combination], subset: str) -> list[list[Combination]]:
    """The pool in films of four different combinations, shuffled by a seed that depends on the subset's name."""
    draw = np.random.default_rng(name_seed(f"demo_retrieval {subset}"))
    while True:
        order = [pool[index] for index in draw.permutation(len(pool))]
        films = [order[start : start + _SCENES_PER_FILM] for start in range(0, len(order), _SCENES_PER_FILM)]
        if all(len(set(film)) == _SCENES_PER_FILM for film in films):
            return films


def _film(
    film_id: str, subset: str, combinations: list[Combination], suffix: str, oddity: Oddity | None = None
) -> FilmSpec:
    scenes, first_frame = [], 0
    for number, combination in enumerate(combinations, start=1):
        clip_id = f"{film_id}_s{number}"
        n_frames = _FEWEST_FRAMES + name_seed(f"{clip_id} frames") % (_MOST_FRAMES - _FEWEST_FRAMES + 1)
        phrasing = name_seed(f"{clip_id} phrasing") % len(PHRASINGS)
        scenes.append(SceneSpec(clip_id, film_id, combination, phrasing, first_frame, n_frames))
        first_frame += n_frames
    return FilmSpec(film_id, subset, tuple(scenes), oddity, suffix)


def make_retrieval_demo(folder: str | os.PathLike[str], *, workers: int | None = None) -> list[FilmSpec]:
    """Write the dataset: `folder`/films/<film>, and beside it

    - clips.csv: clip_id, path, start_seconds, end_seconds, caption, subset; one row per scene;
    - films.csv: clip_id, path; the ordinary train films whole, to pre-train on;
    - captions.json: of those films, {film id: {"start": […], "end": […], "text": […]}}, as HowTo100M has them;
    - words.vec: vectors of the captions' words in word2vec's text format, but for `UNKNOWN_WORDS`.

    Paths in tables are relative to them. The folder appears whole or not at all and replaces an older one. Takes
    some seconds.

    Args:
        folder: belongs to the dataset alone.
        workers: threads (FFmpeg and numpy leave Python's lock); None: one per core.

    Returns:
        The plan that was carried out.
    """
    films = plan_films()
    with atomic_directory(folder) as temporary, ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        list(pool.map(lambda film: render_film(film, temporary / film.relative_path), films))
        write_text(temporary / CLIPS_FILE, _clip_table(films))
        to_pretrain_on = [film for film in films if film.subset == "train" and film.oddity is None]
        write_text(temporary / FILMS_FILE, _film_table(to_pretrain_on))
        write_text(temporary / CAPTIONS_FILE, json.dumps(film_captions(to_pretrain_on), indent=1) + "\n")
        write_text(temporary / WORDS_FILE, _word2vec_text(word_vectors()))
    return films


def render_film(film: FilmSpec, path: str | os.PathLike[str]) -> None:
    """Draw and encode one film; equal specs give equal bytes with the same library versions."""
    n_frames = sum(scene.n_frames for scene in film.scenes)
    pictures = (
        picture(scene.combination, scene.variation, frame / FRAMES_PER_SECOND)
        for scene in film.scenes
        for frame in range(scene.n_frames)
    )
    with atomic_path(path) as temporary:
        encode(temporary, pictures, range(n_frames), Fraction(1, FRAMES_PER_SECOND), _sound(film))


def _sound(film: FilmSpec) -> npt.NDArray[np.float32] | None:
    if film.oddity is Oddity.NO_SOUND:
        return None
    sound = np.concatenate(
        [scene_sound(scene.combination, scene.variation, scene.n_frames / FRAMES_PER_SECOND) for scene in film.scenes]
    )
    return np.zeros_like(sound) if film.oddity is Oddity.SILENT else sound


def film_captions(films: list[FilmSpec]) -> dict[str, dict[str, list[float] | list[str]]]:
    """Captions with their times in seconds, per film."""
    return {
        film.film_id: {
            "start": [scene.start_seconds for scene in film.scenes],
            "end": [scene.end_seconds for scene in film.scenes],
            "text": [scene.caption for scene in film.scenes],
        }
        for film in films
    }


def word_vectors() -> dict[str, npt.NDArray[np.float64]]:
    """word -> float64 [300] of unit length, for every word that a caption may have but `UNKNOWN_WORDS`, sorted."""
    captions = (caption(combination, number) for combination in COMBINATIONS for number in range(len(PHRASINGS)))
    words = {word for each in captions for word in tokenise(each)}
    return {word: random_unit_vector(word) for word in sorted(words - UNKNOWN_WORDS)}


def _clip_table(films: list[FilmSpec]) -> str:
    header = ("clip_id", "path", "start_seconds", "end_seconds", "caption", "subset")
    rows = [
        (
            scene.clip_id,
            film.relative_path.as_posix(),
            scene.start_seconds,
            scene.end_seconds,
            scene.caption,
            film.subset,
        )
        for film in films
        for scene in film.scenes
    ]
    return _csv([header, *rows])


def _film_table(films: list[FilmSpec]) -> str:
    return _csv([("clip_id", "path"), *((film.film_id, film.relative_path.as_posix()) for film in films)])


def _csv(rows: list[tuple[object, ...]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _word2vec_text(vectors: dict[str, npt.NDArray[np.float64]]) -> str:
    lines = (f"{word} {' '.join(f'{number:.6f}' for number in vector)}" for word, vector in vectors.items())
    return f"{len(vectors)} {WORD_DIMENSION}\n" + "".join(f"{line}\n" for line in lines)
