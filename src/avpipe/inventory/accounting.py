"""The account of a dataset: every requested clip is ok or has a reason, per shard and in total."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError, Reason, one_line
from avpipe.inventory.decoding import summarise_decoding
from avpipe.inventory.repeats import find_repeats
from avpipe.inventory.status import OK, ClipStatus, count, read_statuses
from avpipe.io.manifest import read_json, write_json
from avpipe.io.names import relative_name, without_folders
from avpipe.io.tables import read_rows

_log = logging.getLogger(__name__)

DAMAGE = (Reason.MISSING, Reason.BLOCKED, Reason.TIMEOUT, Reason.DECODE_ERROR, Reason.OUT_OF_MEMORY)
"""Reasons that count towards the failure rate; the others say what a clip is, not that something went wrong."""


def account(
    probes: Sequence[str],
    statuses: Sequence[str],
    target: str | os.PathLike[str],
    *,
    folder: str = "",
    uses_repeats: bool = False,
    passed_over: Mapping[str, Any] | None = None,
) -> None:
    """Put the status tables of all stages and shards together and write the account.

    Args:
        probes, statuses, folder, uses_repeats: as in `make_account`.
        target: the JSON file to write.
        passed_over: what of the source is no clip, as `avpipe.sources.folders.Listing.passed_over` gives it.
    """
    record = make_account(probes, statuses, folder=folder, uses_repeats=uses_repeats)
    record["passed_over"] = dict(passed_over or {})
    _log.info("%d clips requested, %d ok, reasons: %s", record["requested"], record["ok"], record["reasons"])
    write_json(target, record)


def make_account(
    probes: Sequence[str], statuses: Sequence[str], *, folder: str = "", uses_repeats: bool = False
) -> dict[str, Any]:
    """What became of every clip in some stages.

    Args:
        probes: the probe table of every shard; they hold every requested clip.
        statuses: the status tables of later stages, named .../<stage>/<shard>.status.parquet.
        folder: what paths are told relative to.
        uses_repeats: clips whose content an earlier clip has are used all the same, for a given split lists them;
            else they are duplicates.

    Returns:
        `requested`, `ok` and `reasons` in total and by shard, and the `failed` clips with stage, reason and detail,
        and how much of the others was decoded (`summarise_decoding`).

    Raises:
        AssertionError: a clip is not accounted for; a bug.
    """
    repeats = {} if uses_repeats else find_repeats(probes)
    clips = {row["clip_id"]: (row.get("class_name"), row.get("path")) for probe in probes for row in read_rows(probe)}
    details = {
        clip_id: f"the same content as {first}"
        + (f", of class {clips[first][0]}" if clips[first][0] != clips[clip_id][0] else "")
        for clip_id, first in repeats.items()
    }
    later: dict[str, list[Path]] = {}
    for path in map(Path, statuses):
        later.setdefault(path.name, []).append(path)
    shards: dict[str, dict[str, Any]] = {}
    failed: list[dict[str, str]] = []
    all_rows: dict[str, list[ClipStatus]] = {}
    for probe in probes:
        shard = Path(probe).stem
        stages = {"probe_clips": read_statuses(probe)}
        for path in later.get(f"{shard}.status.parquet", ()):
            stages[f"extract_{path.parent.name}"] = read_statuses(path)
        for stage, rows in stages.items():
            all_rows.setdefault(stage, []).extend(rows)
        shards[shard], fallen = _account_shard(shard, stages, details)
        failed += fallen
    for row in failed:
        if file := clips[row["clip_id"]][1]:
            row["detail"] = row["detail"].replace(one_line(file), one_line(relative_name(file, folder)))
        row["detail"] = without_folders(row["detail"])
    failed.sort(key=lambda row: row["clip_id"])
    decoding = summarise_decoding(all_rows, {row["clip_id"] for row in failed})
    return {**_total(shards), "shards": shards, "failed": failed, **decoding}


def check_failure_rate(accounting: str | os.PathLike[str], tolerated: float, target: str | os.PathLike[str]) -> None:
    """Check that not too many clips are missing or damaged; the account itself stays, whatever comes out.

    Args:
        accounting: what `account` wrote.
        tolerated: largest share of clips with a reason in `DAMAGE`.
        target: the JSON file to write.

    Raises:
        AvpipeError: more clips are damaged than tolerated.
    """
    write_json(target, require_few_failures(read_json(accounting), tolerated) | {"tolerated": tolerated})


def require_few_failures(record: Mapping[str, Any], tolerated: float) -> dict[str, Any]:
    """The number and rate of clips that are missing or damaged in an account.

    Raises:
        AvpipeError: as `check_failure_rate`.
    """
    damaged = sum(record["reasons"].get(reason.value, 0) for reason in DAMAGE)
    rate = damaged / max(record["requested"], 1)
    if rate > tolerated:
        fallen = [row for row in record["failed"] if row["reason"] in DAMAGE]
        examples = [f"{row['clip_id']} ({row['reason']}: {row['detail']})" for row in fallen[:3]]
        raise AvpipeError(
            f"{damaged} of {record['requested']} clips ({100 * rate:.1f} %) are missing or damaged, more than "
            f"max_failure_rate allows ({100 * tolerated:g} %): {'; '.join(examples)}. All are in the dataset's "
            "accounting.json. Mend or fetch them again, or raise max_failure_rate in the dataset's settings to go on "
            "without them."
        )
    return {"damaged": damaged, "requested": record["requested"], "rate": rate}


def _account_shard(
    shard: str, stages: Mapping[str, list[ClipStatus]], repeats: Mapping[str, str]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """A clip's fate is the reason of the first stage that it failed in, else duplicate (with its detail) or ok."""
    fates: dict[str, tuple[str, ClipStatus]] = {}
    for stage, rows in stages.items():
        for row in rows:
            if row.clip_id not in fates or fates[row.clip_id][1].status == OK:
                fates[row.clip_id] = (stage, row)
    for clip_id, (_, row) in fates.items():
        if row.status == OK and clip_id in repeats:
            fates[clip_id] = ("account_clips", ClipStatus(clip_id, Reason.DUPLICATE.value, repeats[clip_id]))
    requested = len(stages["probe_clips"])
    counts = count(row.status for _, row in fates.values())
    if requested != sum(counts.values()):
        raise AssertionError(f"shard {shard}: {requested} clips requested, but {counts} accounted for")
    failed = [
        {"clip_id": clip_id, "reason": row.status, "stage": stage, "shard": shard, "detail": row.detail}
        for clip_id, (stage, row) in sorted(fates.items())
        if row.status != OK
    ]
    by_stage = {stage: {"requested": len(rows), **count(row.status for row in rows)} for stage, rows in stages.items()}
    return {"requested": requested, **counts, "stages": by_stage}, failed


def _total(shards: dict[str, dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, int] = {}
    for shard in shards.values():
        for key, value in shard.items():
            if key not in ("requested", "stages"):
                total[key] = total.get(key, 0) + value
    requested = sum(shard["requested"] for shard in shards.values())
    if requested != sum(total.values()):
        raise AssertionError(f"{requested} clips requested, but {total} accounted for")
    reasons = {reason.value: total[reason.value] for reason in Reason if reason.value in total}
    return {"requested": requested, "ok": total.get(OK, 0), "reasons": reasons}
