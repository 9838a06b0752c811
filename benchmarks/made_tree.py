"""A benchmark's folder in the published layout, with the real split files and generated features.

What is real: the clips, classes and class vectors of the split, taken from the published files, and the lengths of
the feature vectors. What is generated: the features. A class has a centre that is a fixed, nonlinear image of its class
vector plus a part that is its own; a clip lies around the centre, and what is below zero is cut off. So something can
be learned about classes that were not trained on, but not all, and the same arguments give the same numbers.

The folder with the real files has <dataset>/class-split and w2v_features/word_embeddings_*_normed.npy.

example: python benchmarks/made_tree.py path/to/gzsl made --dataset UCF --features cls
"""

from __future__ import annotations

import argparse
import shutil
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.gzsl.class_split import find_folder
from avpipe.gzsl.splits import Split, read_split
from avpipe.gzsl.tree import PooledFeatures, write_features
from avpipe.gzsl.tree_files import MODALITIES, only_file
from avpipe.gzsl.words import class_vectors, read_names, read_words
from avpipe.io.atomic import atomic_directory

WORDS = {"UCF": "ucf", "ActivityNet": "activity"}
"""Dataset -> how the file of its class vectors is called (docs/methods.md, Feature files)."""

_HIDDEN = 256  # units between a class vector and its centre
_SHARED, _OWN, _SPREAD = 1.0, 1.0, 2.5  # deviations: centre's image of the vector, its own part, clips around it


@dataclass(frozen=True)
class FeatureKind:
    """A published feature set: its name, the split it goes with, and the lengths of its vectors."""

    name: str
    split: str
    widths: dict[str, int]


KINDS = {
    "main": FeatureKind("main_features", "main_split", {"audio": 512, "video": 512}),
    "cls": FeatureKind("cls_features", "cls_split", {"audio": 128, "video": 4096}),
}


def make_tree(source: Path, target: Path, dataset: str, features: str, *, seed: int = 0) -> Path:
    """Write one feature set of a dataset.

    Args:
        source: the folder with the real split files.
        target: gets <dataset>/class-split and <dataset>/features/<feature set>; other feature sets there stay.
        dataset: "UCF" or "ActivityNet"; VGGSound's training clips are not published.
        features: "main" or "cls".
        seed: of the features.

    Returns:
        The dataset's folder, `target`/<dataset>.

    Raises:
        AvpipeError: an unknown dataset, or a file that is absent or malformed.
    """
    if dataset not in WORDS:
        raise AvpipeError(f"The dataset {dataset!r} cannot be made; expected one of {', '.join(WORDS)}.")
    kind, folder = KINDS[features], target / dataset
    class_split = find_folder(source / dataset)
    words_file = only_file(source / "w2v_features", f"word_embeddings_{WORDS[dataset]}_normed.npy")
    names_file = only_file(class_split, "*_w2v_class_names.csv")
    split = read_split(class_split, kind.split)
    words = class_vectors(read_words(words_file), read_names(names_file), split.all_classes, used=split.used_classes)
    if not (folder / "class-split").exists():
        with atomic_directory(folder / "class-split") as temporary:
            shutil.copytree(class_split, temporary, dirs_exist_ok=True)
    audio, video = (make_features(split, words, modality, kind.widths[modality], seed) for modality in MODALITIES)
    feature_set = folder / "features" / kind.name
    write_features(feature_set, split, audio, video, words_file=words_file, names_file=names_file)
    return folder


def make_features(split: Split, words: npt.NDArray[np.float32], modality: str, width: int, seed: int) -> PooledFeatures:
    """Features [n, width] of every clip of a split, none below zero.

    Args:
        split: clips and classes.
        words: [n_classes, d_w], the vector of every class.
        modality: part of what seeds the draws, as each clip's class is.
        width: length of a vector.
        seed: the rest of it.
    """
    clips = {clip: label for subset in split.clips.values() for clip, label in subset.items()}
    by_class: dict[str, list[str]] = {}
    for clip, label in clips.items():
        by_class.setdefault(label, []).append(clip)
    rows, names = [], []
    image = _image(words.shape[1], width, np.random.default_rng([seed, zlib.crc32(modality.encode())]))
    for label in sorted(by_class):
        generator = np.random.default_rng([seed, zlib.crc32(f"{modality} {label}".encode())])
        shared = _SHARED * _nonlinear(words[split.all_classes.index(label)], *image)
        centre = shared + _OWN * generator.standard_normal(width, np.float32)
        around = _SPREAD * generator.standard_normal((len(by_class[label]), width), np.float32)
        rows.append(np.maximum(centre + around, 0))
        names += sorted(by_class[label])
    return PooledFeatures(tuple(names), np.concatenate(rows))


def _image(
    d_words: int, width: int, generator: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The two matrices of the map from class vectors of length 1 to centres with entries of about N(0, 1)."""
    first = generator.standard_normal((d_words, _HIDDEN), np.float32)
    second = generator.standard_normal((_HIDDEN, width), np.float32) * np.float32((2 / _HIDDEN) ** 0.5)
    return first, second


def _nonlinear(
    vector: npt.NDArray[np.float32], first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    centre: npt.NDArray[np.float32] = np.maximum(vector @ first, 0) @ second
    return centre


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder with the published split files and class vectors")
    parser.add_argument("target", type=Path, help="where to write; gets a folder named after the dataset")
    parser.add_argument("--dataset", choices=list(WORDS), default="UCF", help="default: %(default)s")
    parser.add_argument(
        "--features", choices=list(KINDS), default="main",
        help="main: SeLaVi's sizes, main_split; cls: those of VGGish and C3D, cls_split (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the features (default: %(default)s)")
    chosen = parser.parse_args()
    began = time.perf_counter()
    folder = make_tree(chosen.source, chosen.target, chosen.dataset, chosen.features, seed=chosen.seed)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(
        f"{folder}: {size / 1e6:.0f} MB in all, written in {time.perf_counter() - began:.1f} s; features are generated"
    )


if __name__ == "__main__":
    main()
