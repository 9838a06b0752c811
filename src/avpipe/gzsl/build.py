"""From feature stores to the folder tree of a split."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from avpipe.features.registry import EXTRACTORS
from avpipe.features.store import read_pooled
from avpipe.gzsl.splits import read_split
from avpipe.gzsl.tree import PooledFeatures, write_features
from avpipe.io.atomic import write_json


def build_tree(
    *,
    class_split: str | os.PathLike[str],
    split: str,
    words: str | os.PathLike[str],
    accounting: str | os.PathLike[str],
    stores: Mapping[str, Sequence[str]],
    tree: str | os.PathLike[str],
    summary: str | os.PathLike[str],
) -> None:
    """Build one feature set of a split's tree and say what it rests on.

    Args:
        class_split: the split in the published layout.
        split: its name.
        words: the class vectors.
        accounting: the dataset's account, for the reasons of clips without features.
        stores: "video" and "audio" -> the feature stores of all shards.
        tree: the feature set's folder to write.
        summary: the JSON file to write: clips expected, used and missing, per subset and class.
    """
    failed = json.loads(Path(accounting).read_text(encoding="utf-8"))["failed"]
    result = write_features(
        tree,
        read_split(class_split, split),
        _pooled(stores["audio"]),
        _pooled(stores["video"]),
        words_file=words,
        names_file=next(Path(class_split).glob("*_w2v_class_names.csv")),
        reasons={row["clip_id"]: row["reason"] for row in failed},
    )
    write_json(summary, result.to_record())


def _pooled(paths: Sequence[str]) -> PooledFeatures:
    """The pooled features of all shards; an extractor with one stream needs no name of it."""
    clip_ids: list[str] = []
    values = []
    for path in paths:
        extractor = Path(path).parent.name
        (stream,) = EXTRACTORS[extractor].streams
        ids, rows = read_pooled(path, stream)
        clip_ids += ids
        values.append(rows)
    return PooledFeatures(tuple(clip_ids), np.concatenate(values))
