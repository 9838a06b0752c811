"""The published folder tree of a benchmark, written from pooled features; `tree_reading` reads it."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError, Reason, listed
from avpipe.formats.class_files import write_class_file
from avpipe.gzsl.benchmark import SUBSETS
from avpipe.gzsl.class_split import FOLDER_NAMES, find_folder, read_all_classes, write_class_lists
from avpipe.gzsl.splits import Availability, Split, match_clips, read_classes, read_split, write_class_split
from avpipe.gzsl.tree_files import safe_name
from avpipe.gzsl.words import class_vectors, odd_vectors, read_names, read_tables, read_words, write_names
from avpipe.io.atomic import write_bytes
from avpipe.io.manifest import result_directory
from avpipe.schema.gzsl import ClassClips, SubsetClips, TreeClips

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]
NAMES_SUFFIX = "_w2v_class_names.csv"


@dataclass(frozen=True)
class PooledFeatures:
    """One modality's pooled features of a dataset.

    Attributes:
        clip_ids: n unique names, in any order.
        values: float32 [n, d], one row per clip.
    """

    clip_ids: tuple[str, ...]
    values: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.clip_ids):
            raise ValueError(f"{len(self.clip_ids)} clip ids for values of shape {self.values.shape}")
        if len(set(self.clip_ids)) != len(self.clip_ids):
            raise ValueError("a clip id occurs twice")

    def rows(self) -> dict[str, int]:
        """clip id -> row of `values`."""
        return {clip: row for row, clip in enumerate(self.clip_ids)}


def write_tree(
    root: StrPath,
    split: Split,
    feature_set: str,
    audio: PooledFeatures,
    video: PooledFeatures,
    *,
    words_file: StrPath,
    names_file: StrPath,
    reasons: Mapping[str, str] | None = None,
) -> TreeClips:
    """Write `root`/class-split and `root`/features/<feature_set> in the published layout; see `write_features`."""
    folder = Path(root) / "features" / safe_name(feature_set)
    summary = write_features(folder, split, audio, video, words_file=words_file, names_file=names_file, reasons=reasons)
    write_class_split(split, root)
    names_file = Path(names_file)
    target = Path(root) / FOLDER_NAMES[0] / _published_name(names_file, "", NAMES_SUFFIX)
    write_bytes(target, names_file.read_bytes())
    return summary


def publish_class_split(source: StrPath, split_name: str, names_files: Sequence[StrPath], target: StrPath) -> None:
    """Write a split, read and checked, as the folder `target` in the published layout, with its table of names.

    A split whose csv files are not all there, as in copies of VGGSound's without large files, is published as it is:
    its class lists suffice for features that are published by class.

    Args:
        source: the folder that has the split, as for `read_split`.
        split_name: of the split.
        names_files: the `<dataset>_w2v_class_names.csv` to put beside it, and tables that lie over it.
        target: a folder called class-split; it appears whole or not at all.
    """
    names_file = Path(names_files[0])
    folder = find_folder(source) / split_name
    has_clips = all((folder / f"{subset}.csv").is_file() for subset in SUBSETS if subset != "stage_2_train")
    with whole_class_split(target) as root:
        if has_clips:
            write_class_split(read_split(source, split_name), root)
        else:
            names = read_all_classes(source)
            write_class_lists(root, split_name, names.names, read_classes(source, split_name, names))
            for path in folder.glob("*.csv"):
                write_bytes(root / FOLDER_NAMES[0] / split_name / path.name, path.read_bytes())
        name = _published_name(names_file, "", NAMES_SUFFIX)
        if len(names_files) > 1:
            write_names(root / FOLDER_NAMES[0] / name, read_tables(names_files))
        else:
            write_bytes(root / FOLDER_NAMES[0] / name, names_file.read_bytes())


@contextmanager
def whole_class_split(target: StrPath) -> Iterator[Path]:
    """A folder to write class-split/ in, which then becomes `target`, whole or not at all."""
    target = Path(target)
    if target.name != FOLDER_NAMES[0]:
        raise ValueError(f"{target} must be called {FOLDER_NAMES[0]}")
    with result_directory(target) as temporary:
        yield temporary
        written = temporary / FOLDER_NAMES[0]
        for path in written.iterdir():
            path.rename(temporary / path.name)
        written.rmdir()


def write_features(
    folder: StrPath,
    split: Split,
    audio: PooledFeatures,
    video: PooledFeatures,
    *,
    words_file: StrPath,
    names_file: StrPath,
    reasons: Mapping[str, str] | None = None,
) -> TreeClips:
    """Write the feature set `folder` (…/features/<feature_set>) in the published layout; equal input, equal bytes.

    A clip is used only if both modalities have it. Rows are in order of clip id, the same in audio and video.
    The feature set appears whole or not at all and replaces an older one.

    Args:
        folder: of the feature set.
        split: which clips belong where.
        audio, video: pooled features; clips outside the split are ignored.
        words_file: the word vectors, `word_embeddings_<dataset>_normed.npy`; checked and copied.
        names_file: the `<dataset>_w2v_class_names.csv`; checked.
        reasons: clip id -> why it has no features, from the status tables; a clip without a reason is counted
            as "no_audio", "no_video" or "missing", by what there is of it.

    Raises:
        AvpipeError: a subset has no usable clip, a class no word vector, a name cannot be a file's, or features
            are not finite.
    """
    words_file = Path(words_file)
    for name in (split.name, *split.used_classes):
        safe_name(name, ".h5")
    words = class_vectors(read_words(words_file), read_names(names_file), split.all_classes, used=split.used_classes)
    remarks = odd_vectors(words, split.all_classes, split.used_classes)
    for remark in remarks:
        log.warning("Class vectors of %s are %s.", words_file, remark)
    features = {"audio": audio, "video": video}
    for modality, pooled in features.items():
        _check_finite(modality, pooled)
    rows = {modality: pooled.rows() for modality, pooled in features.items()}
    both = match_clips(split, rows["audio"].keys() & rows["video"].keys())
    counts = _count(split, both, rows, reasons or {})
    _check_no_empty_subset(counts)
    with result_directory(folder) as temporary:
        for subset in SUBSETS:
            _write_subset(temporary, subset, split, both, features, rows)
        (temporary / "text").mkdir()
        shutil.copyfile(words_file, temporary / "text" / _published_name(words_file, "word_embeddings_", "_normed.npy"))
    dimensions = {modality: pooled.values.shape[1] for modality, pooled in features.items()}
    subsets = {subset: _total(classes) for subset, classes in counts.items()}
    return TreeClips(
        split=split.name, split_digest=split.digest, dimensions=dimensions, subsets=subsets, odd_vectors=remarks
    )


def _published_name(path: Path, prefix: str, suffix: str) -> str:
    """The name under which a file of the user's is found in the published layout."""
    if path.name.startswith(prefix) and path.name.endswith(suffix):
        return path.name
    return f"{prefix}{path.stem}{suffix}"


def _check_finite(modality: str, pooled: PooledFeatures) -> None:
    finite = np.isfinite(pooled.values).all(axis=1)
    if not finite.all():
        bad = [pooled.clip_ids[row] for row in np.flatnonzero(~finite)]
        raise AvpipeError(
            f"The {modality} features of these clips are not finite: {listed(bad)}. Expected finite numbers; "
            "extract them again, and check the weights."
        )


def _count(
    split: Split, both: Availability, rows: Mapping[str, Mapping[str, int]], reasons: Mapping[str, str]
) -> dict[str, dict[str, ClassClips]]:
    counts: dict[str, dict[str, ClassClips]] = {}
    for subset in SUBSETS:
        expected = Counter(split.clips[subset].values())
        used = Counter(split.clips[subset][clip] for clip in both.present[subset])
        missing: dict[str, Counter[str]] = {name: Counter() for name in split.classes[subset]}
        for clip in both.missing[subset]:
            missing[split.clips[subset][clip]][reasons.get(clip) or _guess_reason(clip, rows)] += 1
        counts[subset] = {
            name: ClassClips(expected=expected[name], used=used[name], missing=dict(sorted(missing[name].items())))
            for name in split.classes[subset]
        }
    return counts


def _total(classes: dict[str, ClassClips]) -> SubsetClips:
    missing: Counter[str] = Counter()
    for clips in classes.values():
        missing.update(clips.missing)
    return SubsetClips(
        expected=sum(clips.expected for clips in classes.values()),
        used=sum(clips.used for clips in classes.values()),
        missing=dict(sorted(missing.items())),
        classes=classes,
    )


def _check_no_empty_subset(counts: Mapping[str, Mapping[str, ClassClips]]) -> None:
    """A class without clips is told in the results; a subset without any leaves nothing to train on or to test."""
    for subset, classes in counts.items():
        if any(count.used for count in classes.values()):
            continue
        reasons = Counter(reason for count in classes.values() for reason in Counter(count.missing).elements())
        told = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
        raise AvpipeError(
            f"No clip of {subset} has both audio and video features ({told}). Expected at least one; the status "
            "tables and eval.json of the features say why. Get more clips, or use another split."
        )


def _guess_reason(clip: str, rows: Mapping[str, Mapping[str, int]]) -> str:
    if clip in rows["video"]:
        return Reason.NO_AUDIO.value
    if clip in rows["audio"]:
        return Reason.NO_VIDEO.value
    return Reason.MISSING.value


def _write_subset(
    folder: Path,
    subset: str,
    split: Split,
    both: Availability,
    features: Mapping[str, PooledFeatures],
    rows: Mapping[str, Mapping[str, int]],
) -> None:
    by_class: dict[str, list[str]] = {name: [] for name in split.classes[subset]}
    for clip in sorted(both.present[subset]):
        by_class[split.clips[subset][clip]].append(clip)
    for modality, pooled in features.items():
        target = folder / modality / subset
        target.mkdir(parents=True)
        for name, clips in by_class.items():
            selected = [rows[modality][both.present[subset][clip]] for clip in clips]
            write_class_file(target / safe_name(name, ".h5"), clips, pooled.values[selected])
