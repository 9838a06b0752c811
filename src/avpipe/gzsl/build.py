"""From feature stores to the folder tree of a split."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from avpipe.features.store import read_pooled
from avpipe.gzsl.splits import read_split
from avpipe.gzsl.tree import PooledFeatures, write_features
from avpipe.inventory.accounting import make_account, require_few_failures
from avpipe.io.atomic import write_json


def build_tree(
    *,
    class_split: str | os.PathLike[str],
    split: str,
    words: str | os.PathLike[str],
    probes: Sequence[str],
    statuses: Sequence[str],
    stores: Mapping[str, Sequence[str]],
    tree: str | os.PathLike[str],
    summary: str | os.PathLike[str],
    max_failure_rate: float = 1.0,
) -> None:
    """Build one feature set of a split's tree and say what it rests on.

    Args:
        class_split: the split in the published layout.
        split: its name.
        words: the class vectors.
        probes: the probe tables of all shards.
        statuses: the status tables of the feature set's extractors, all shards.
        stores: "video" and "audio" -> the feature stores of all shards.
        tree: the feature set's folder to write.
        summary: the JSON file to write: clips expected, used and missing, per subset and class.
        max_failure_rate: largest tolerated share of missing or damaged clips.

    Raises:
        AvpipeError: more are missing or damaged; nothing is built.
    """
    account = make_account(probes, statuses)
    require_few_failures(account, max_failure_rate)
    result = write_features(
        tree,
        read_split(class_split, split),
        _pooled(stores["audio"], "audio"),
        _pooled(stores["video"], "video"),
        words_file=words,
        names_file=next(Path(class_split).glob("*_w2v_class_names.csv")),
        reasons={row["clip_id"]: row["reason"] for row in account["failed"]},
    )
    write_json(summary, result.to_record())


def _pooled(paths: Sequence[str], stream: str) -> PooledFeatures:
    """The pooled features of one stream, all shards."""
    clip_ids: list[str] = []
    values = []
    for path in paths:
        ids, rows = read_pooled(path, stream)
        clip_ids += ids
        values.append(rows)
    return PooledFeatures(tuple(clip_ids), np.concatenate(values))
