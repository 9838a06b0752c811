"""A table of somebody's own videos for retrieval: odd ones, made here, and segments of real ones where they are."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from project import Project, new_project
from real_media import SHARED

from avpipe.features.store import StoredClip, read_clips
from avpipe.retrieval import models
from avpipe.retrieval.packs import Pack, read_pack

sys.path.append(str(Path(__file__).parents[1] / "features"))
from odd_media import H264, Build, changed, contents, copied, film, share, variable_rate

SIZES = {"embedding_dim": 16, "audio_channels": 4}
WINDOW = 200  # spectrogram frames that the models read: 2 s
BATCH = 4
PCM = f"{H264} -c:a pcm_s16le"
DAMAGED = ("zero_bytes", "corrupt")
"""Files that cannot be used until `mend` replaces them. Their ids are of one shard, so that few jobs run then."""
REPEATED, UNKNOWN, JAPANESE = "fry the onions", "qwerty zxcvb", ("玉ねぎを炒める", "魚を焼く")
WORDS = ("fry", "the", "onions", "slice", "a", "fish", "boat", "turns", "man", "plays")


@dataclass(frozen=True)
class OwnClip:
    """A row of the table and what becomes of it.

    Attributes:
        file: the video; relative to the project where it is made, absolute where it is real.
        subset: train or test.
        caption: one.
        reason: why it cannot be used; "" where it can.
        build: makes the video; None for a real one.
        start, end: the segment in seconds; None: the whole file.
    """

    file: str
    subset: str
    caption: str
    reason: str = ""
    build: Build | None = None
    start: float | None = None
    end: float | None = None

    @property
    def clip_id(self) -> str:
        """As a table without ids has it."""
        stem = Path(self.file).stem
        return stem if self.start is None else f"{stem}_{self.start:g}_{self.end:g}"


def made(
    seconds: float = 1.0, hz: int = 440, audio: str | None = "", options: str = PCM, rate_hz: int = 16_000
) -> Build:
    """A film whose colours and tone go with `hz`; `audio` is another sound, or None for no track."""
    picture = f"testsrc2=size=160x120:rate=25:duration={seconds},hue=h={hz % 360}"
    tone = f"sine=frequency={hz}:sample_rate={rate_hz}:duration={seconds}"
    return film(picture, tone if audio == "" else audio, options)


def sound(seconds: float) -> str:
    return f"sine=frequency=440:sample_rate=16000:duration={seconds}"


MADE = [
    *(OwnClip(f"train{n}.mkv", "train", "slice a fish", build=made(1 + n / 10, 300 + 170 * n)) for n in range(4)),
    OwnClip("silent_train.mkv", "train", "slice a fish", "no_audio", made(1.0, 460, "anullsrc=r=16000:cl=mono:d=1")),
    OwnClip("no_track.mkv", "test", "slice the onions", "no_audio", made(audio=None)),
    OwnClip("silence.mkv", "test", "slice the onions", "no_audio", made(audio="anullsrc=r=16000:cl=mono:d=1")),
    OwnClip("one_sample.mkv", "test", "slice a fish", "too_short", made(audio=f"{sound(1)},atrim=end_sample=1")),
    OwnClip("blip.mkv", "test", "slice a fish", "too_short", made(audio=sound(0.1))),
    OwnClip("zero_bytes.mkv", "test", "slice a fish", "decode_error", contents(b"")),
    OwnClip("corrupt.mkv", "test", "slice a fish", "decode_error", changed(made(4), share(0.5))),
    OwnClip("sound_44khz.mkv", "test", REPEATED, build=made(1.2, 500, rate_hz=44_100)),
    OwnClip("stereo.mkv", "test", REPEATED, build=made(1.2, 600, options=f"{PCM} -ac 2")),
    OwnClip("long.mkv", "test", UNKNOWN, build=made(2.5, 700)),
    OwnClip("short.mkv", "test", "fry a fish", build=made(0.6, 800)),
    OwnClip("portrait.mp4", "test", JAPANESE[0],
            build=copied(made(1.0, 900, options=H264), "", "-display_rotation 90")),
    OwnClip("variable.mp4", "test", JAPANESE[1], build=variable_rate),
]  # fmt: skip

BOAT, UCF, MUTE = "vfr_19.62fps_aac.mp4", "ucf_like_with_audio.avi", ("no_audio_28fps.mp4", "no_audio_30fps.mp4")


def real_clips() -> list[OwnClip]:
    """Segments of the real files; none where they are absent."""
    if not SHARED.is_dir():
        return []
    segments = [
        *((BOAT, "train", 4.0 * n, "the boat turns", "") for n in range(2)),
        *((BOAT, "test", 9.0 + 4.0 * n, "a boat", "") for n in range(2)),
        (UCF, "train", 0.5, "a man plays", ""),
        (UCF, "test", 4.0, "the man", ""),
        (MUTE[0], "train", 1.0, "a man plays", "no_audio"),
        (MUTE[1], "test", 1.0, "a man plays", "no_audio"),
    ]
    return [
        OwnClip(str(SHARED / file), subset, caption, reason, None, start, start + 1.2)
        for file, subset, start, caption, reason in segments
    ]


RESULTS = "results/small"
EVAL = f"{RESULTS}/eval.json"
PACK = f"{RESULTS}/retrieval/packs/test.h5"
PICKLE = f"{RESULTS}/retrieval/published/test.pkl"
INDEX = f"{RESULTS}/retrieval/index/fine_tuned/test.h5"
AGAIN = "results/again/eval.json"
RUNS = ("zero_shot", "fine_tuned", "text")


@dataclass(frozen=True)
class Own:
    """The project, run to its end.

    Attributes:
        project: never changed, only copied.
        clips: the rows of its table.
        refusal: exit status and output of the first run, in which too many files were damaged.
        left: what that run had made of `EVAL` and of the runs' evaluations.
    """

    project: Project
    clips: list[OwnClip]
    refusal: tuple[int, str]
    left: set[str]

    def path(self, name: str) -> Path:
        return self.project.folder / name

    def read(self, name: str) -> Any:
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def of(self, subset: str, *, used: bool | None = None) -> list[OwnClip]:
        """The clips of a subset: all, those that can be used, or the others."""
        return [clip for clip in self.clips if clip.subset == subset and used in (None, not clip.reason)]

    def result(self, run: str, record: str = EVAL) -> dict:
        (result,) = (each for each in self.read(record)["results"] if each["run"] == run)
        return result

    def pack(self, subset: str) -> Pack:
        return read_pack(self.path(f"{RESULTS}/retrieval/packs/{subset}.h5"))

    def stored(self, extractor: str) -> dict[str, StoredClip]:
        folder = self.path(f"{RESULTS}/features/{extractor}")
        return {clip.clip_id: clip for store in sorted(folder.glob("*.h5")) for clip in read_clips(store)}


def write_table(folder: Path, clips: list[OwnClip]) -> None:
    """The table as docs/retrieval.md asks for it."""
    with (folder / "clips.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "start_seconds", "end_seconds", "subset", "caption"])
        writer.writerows([clip.file, clip.start, clip.end, clip.subset, clip.caption] for clip in clips)


def settings() -> dict:
    """A dataset with all runs that need no published file."""
    return {
        "source": {"kind": "table", "path": "clips.csv"},
        "n_shards": 2,
        "weights": {"resnet152": "random:0", "resnext101": "random:0"},
        # Networks of the published size on two processors: few windows, and no places in batches that stay empty.
        "features": {"resnet152": {"batch_size": 2}, "resnext101": {"stride_frames": 32, "batch_size": 1}},
        "retrieval": {
            "subsets": {"train": {}, "test": {}},
            "audio_frames": WINDOW,
            "word_vectors": "words.txt",
            "runs": {
                "zero_shot": {"weights": "random:0", **SIZES},
                "fine_tuned": {"weights": "start.pth", "epochs": 2, "batch_size": BATCH, **SIZES},
                "text": {"model": "avlnet_text_tri", "weights": "random:0", **SIZES},
            },
        },
    }


def write_project(folder: Path) -> tuple[Project, list[OwnClip]]:
    """A project with the table, its made videos, word vectors and a checkpoint to start from; nothing run yet."""
    project = new_project(folder, settings())
    clips = [*MADE, *real_clips()]
    for clip in MADE:
        if clip.build is not None:
            clip.build(folder / clip.file)
    write_table(folder, clips)
    vectors = np.random.default_rng(0).normal(size=(len(WORDS), 8))
    rows = [" ".join([word, *map(str, vector.round(4))]) for word, vector in zip(WORDS, vectors, strict=True)]
    (folder / "words.txt").write_text("\n".join([f"{len(WORDS)} 8", *rows]) + "\n")
    torch.manual_seed(5)
    torch.save(models.build("avlnet", **SIZES).state_dict(), folder / "start.pth")
    return project, clips


def mend(project: Project) -> None:
    """Put whole videos in the place of the damaged ones."""
    for number, name in enumerate(DAMAGED):
        made(1.0, 1000 + 90 * number)(project.folder / f"{name}.mkv")


def change(project: Project, **values) -> None:
    """Change keys of the dataset small."""
    found = project.settings()
    found["datasets"]["small"] |= values
    write_settings(project, found)


def change_runs(project: Project, **values) -> None:
    """Change settings of the dataset's runs: name -> what differs."""
    found = project.settings()
    for name, changes in values.items():
        found["datasets"]["small"]["retrieval"]["runs"][name] |= changes
    write_settings(project, found)


def add_dataset(project: Project, name: str, values: dict) -> None:
    """Add a dataset to the project."""
    found = project.settings()
    found["datasets"][name] = values
    write_settings(project, found)


def write_settings(project: Project, found: dict) -> None:
    (project.folder / "small.yaml").write_text(yaml.safe_dump(found))
