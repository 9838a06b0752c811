"""A small benchmark of given features, laid out as the published ones are, and a project that uses it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from project import Project, new_project, small_settings, write_split

from avpipe.formats.avca_pickles import NamedFeatures, write_feature_pickle
from avpipe.gzsl.caches import write_caches
from avpipe.gzsl.splits import Split, read_split
from avpipe.gzsl.tree import NAMES_SUFFIX, PooledFeatures, write_tree
from avpipe.gzsl.tree_reading import read_tree
from avpipe.gzsl.words import read_names, read_words, write_names, write_words

ROLES = {
    "alpha": "train", "beta": "train", "gamma": "train",
    "delta": "val_unseen", "epsilon": "val_unseen",
    "zeta": "test_unseen", "eta": "test_unseen",
}  # fmt: skip
AUDIO_DIM, VIDEO_DIM, WORD_DIM = 8, 12, 300
TINY_AVCA = {"embeddings_hidden_size": 16, "decoder_hidden_size": 16}
TINY_TRAINING = {"epochs": 2, "batches_per_epoch": 2, "batch_size": 8}


def published_settings(**gzsl) -> dict:
    """Settings of a dataset of given features that trains at once; `methods` come on top of tiny AVCA and ALE."""
    defaults = {"class_split": None, "word_vectors": None, "benchmarks": [{"split": "main_split"}]}
    settings = small_settings(**defaults, training=TINY_TRAINING)
    methods = settings["gzsl"]["methods"] | {"avca": TINY_AVCA} | gzsl.get("methods", {})
    settings["gzsl"] |= gzsl | {"methods": methods}
    return settings | {"source": {"kind": "published", "path": "UCF"}, "weights": {}}


def published_project(folder: Path, **gzsl) -> Project:
    """A project beside which UCF/ lies, nothing run yet."""
    project = new_project(folder, published_settings(**gzsl))
    write_benchmark(folder / "UCF")
    return project


def write_benchmark(root: Path) -> None:
    """UCF: the split main_split, cls_features as a tree of .h5 files; two clips of each group share a source."""
    clips = {label: [f"v_{label}_g{n // 2:02d}_c{n % 2:02d}" for n in range(6)] for label in ROLES}
    write_split(root / "class-split", "main_split", clips, ROLES)
    names_file = root / "class-split" / f"ucf{NAMES_SUFFIX}"
    write_names(names_file, {label: f"the {label}" for label in ROLES})
    words_file = root.parent / "word_embeddings_ucf_normed.npy"
    generator = np.random.default_rng(1)
    write_words(words_file, {f"the {label}": generator.standard_normal(WORD_DIM).astype("f4") for label in ROLES})
    split = read_split(root, "main_split")
    audio, video = pooled(split, AUDIO_DIM), pooled(split, VIDEO_DIM)
    write_tree(root, split, "cls_features", audio, video, words_file=words_file, names_file=names_file)
    words_file.unlink()  # the tree has it


def pooled(split: Split, dimension: int) -> PooledFeatures:
    """Random features of every clip of a split, around a centre of its class."""
    generator = np.random.default_rng(dimension)
    centres = {label: generator.standard_normal(dimension) for label in split.all_classes}
    labels = {clip: label for rows in split.clips.values() for clip, label in rows.items()}
    rows = [centres[label] + 0.3 * generator.standard_normal(dimension) for label in labels.values()]
    return PooledFeatures(tuple(labels), np.array(rows, np.float32))


def add_caches(root: Path, split_name: str, folder: str) -> None:
    """A split without csv files, and the tree's features once more as its caches in `folder`."""
    for path in (root / "class-split" / "main_split").glob("*.txt"):
        target = root / "class-split" / split_name / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_text(path.read_text())
    names = read_names(root / "class-split" / f"ucf{NAMES_SUFFIX}")
    words = read_words(tree_words(root))
    write_caches(read_tree(root, "cls_features", "main_split"), names, words, root / folder, split_name)


def tree_words(root: Path) -> Path:
    """The class vectors of the tree."""
    return next((root / "features" / "cls_features" / "text").iterdir())


def write_pickle(path: Path, split: Split, shift: int = 0) -> None:
    """A split's features as one pickle; `shift` makes its labels wrong."""
    audio, video = pooled(split, AUDIO_DIM), pooled(split, VIDEO_DIM)
    labels = {clip: split.all_classes.index(label) for rows in split.clips.values() for clip, label in rows.items()}
    ids = np.array([labels[clip] + shift for clip in audio.clip_ids])
    write_feature_pickle(path, NamedFeatures(audio.clip_ids, ids, audio.values, video.values))
