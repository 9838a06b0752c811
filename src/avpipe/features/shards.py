"""Extraction of one shard: compute what is new, reuse the rest, account for every clip."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from avpipe.config.models import ShareDecode
from avpipe.devices import leased_device, wants_gpu
from avpipe.errors import AvpipeError
from avpipe.features.claims import claim
from avpipe.features.computation import Computation, Parts, library_versions
from avpipe.features.registry import entry
from avpipe.features.requests import Companion, ShardRequest, make_provenance, stale_clips
from avpipe.features.store import StoredClip, read_clips, read_provenance, read_written_by, write_store
from avpipe.inventory.probing import ProbedClip, read_probed
from avpipe.inventory.status import OK, ClipStatus, close_shard, read_statuses
from avpipe.logs import Progress

_log = logging.getLogger(__name__)


def extract_job(extractor: str, inputs: Any, outputs: Any, params: Any, threads: int) -> None:
    """What every extraction rule does.

    Args:
        extractor: its name.
        inputs: `probe`, the probe table; `weights`, the JSON that `avpipe.features.checks` wrote; `converted`, in
            file mode, folder and status table of the converted clips, else empty.
        outputs: `store` and `status`.
        params: `settings`, `weights`, `pca` and `media` as in `ShardRequest`; `batch_size` or None;
            `device`, `timeout` and `share_decode` as in `extract_shard`; `others`, every extractor of the dataset ->
            its "settings", "weights", "media" and "weights_check".
        threads: CPU threads.
    """
    folder, status = inputs.converted or (None, None)
    failed = {row.clip_id: row for row in read_statuses(status) if row.status != OK} if status else {}
    request = ShardRequest(
        extractor=extractor,
        settings=dict(params.settings) | ({} if params.batch_size is None else {"batch_size": params.batch_size}),
        weights=params.weights,
        weights_record=_read_json(inputs.weights),
        pca=params.pca,
        media=params.media,
        clips=read_probed(inputs.probe),
        prepared=Path(folder) if folder else None,
        failed_before=failed,
    )
    extract_shard(
        request,
        outputs.store,
        outputs.status,
        device=params.device,
        threads=threads,
        clip_timeout_seconds=params.timeout,
        companions=_companions(request, Path(outputs.store), params.others),
        share_decode=params.share_decode,
    )


def _companions(request: ShardRequest, store: Path, extractors: Mapping[str, Mapping[str, Any]]) -> list[Companion]:
    """The other extractors that look at the same pictures."""
    companions = []
    for name, known in extractors.items():
        both_look = all("video" in entry(each).streams for each in (name, request.extractor))
        checked = Path(known["weights_check"]).exists()
        if name != request.extractor and both_look and checked and known["media"] == request.media:
            other = replace(
                request,
                extractor=name,
                settings=known["settings"],
                weights=known["weights"],
                weights_record=_read_json(known["weights_check"]),
                pca=None,
            )
            companions.append(Companion(other, store.parents[1] / name / store.name))
    return companions


def _read_json(path: str | os.PathLike[str]) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def extract_shard(
    request: ShardRequest,
    store: str | os.PathLike[str],
    status: str | os.PathLike[str],
    *,
    device: str,
    threads: int,
    clip_timeout_seconds: float,
    companions: Sequence[Companion] = (),
    share_decode: ShareDecode = "never",
) -> None:
    """Bring a shard's feature store and status table up to date.

    Clips whose content and provenance match are kept. Finished clips are saved every minute beside the store, so
    that a killed job goes on where it was. Torch is imported only if there is something to compute.

    Args:
        request: what to extract.
        store: the feature store to write.
        status: the status table to write.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads for the network; decoding runs beside it.
        clip_timeout_seconds: longest decoding time of a clip.
        companions: extractors that read the same pictures.
        share_decode: whether to compute what they lack of these clips as well, from the same decode, and save it for
            their own jobs: "always", "never", or "auto", on a GPU, where decoding is what takes the time.
    """
    store = Path(store)
    can_share = bool(companions) and (share_decode == "always" or (share_decode == "auto" and wants_gpu(device)))
    with contextlib.ExitStack() as claims:
        # First of all: what another job computes for this one is there once its claim is free.
        if can_share and not _claimed(claims, store, wait=True):
            can_share = False
        wanted = {clip.clip_id: clip for clip in request.clips if clip.clip_id not in request.failed_before}
        parts = Parts(store, request)
        saved = parts.found()
        stored = _reusable([store, *saved], wanted, request.provenance())
        missing = [clip for clip_id, clip in wanted.items() if clip_id not in stored]
        progress = Progress(len(wanted), f"{request.extractor} clips")
        progress.reused = len(stored)
        statuses = [*request.failed_before.values(), *(ClipStatus(clip_id, OK) for clip_id in stored)]
        written_by = _versions_of(store)
        if missing:
            written_by = {}
            free = [each for each in companions if can_share and _claimed(claims, each.store, wait=False)]
            with leased_device(device if request.weights is not None else "cpu") as leased:
                computation = Computation(request, parts, leased, threads, clip_timeout_seconds, progress)
                for clip_status, clip in computation.run(missing, free):
                    statuses.append(clip_status)
                    if clip is not None:
                        stored[clip.clip_id] = clip
        progress.close()
        write_store(
            store,
            list(stored.values()),
            streams=entry(request.extractor).streams,
            provenance=request.provenance(),
            written_by=written_by or library_versions(),
        )
        close_shard(status, (clip.clip_id for clip in request.clips), statuses)
        parts.remove(saved)


def _claimed(claims: contextlib.ExitStack, store: Path, *, wait: bool) -> bool:
    """Whether a store is this job's until `claims` are closed."""
    lock = claim(store, wait=wait)
    if lock is not None:
        claims.callback(lock.release)
    return lock is not None


def clips_to_convert(
    probe: str,
    consumers: Mapping[str, Mapping[str, Any]],
    weights_checks: Sequence[str],
) -> set[str]:
    """The clips of a shard that an extractor has yet to read; the rest need not be converted again.

    Converted clips are deleted after use, so a shard that gains a clip would otherwise convert all of them.

    Args:
        probe: the probe table.
        consumers: extractor -> {"store": its feature store, "settings": its settings, "media": how its clips are
            prepared}.
        weights_checks: the checked weights of each consumer, named <extractor>.json.
    """
    clips = read_probed(probe)
    records = {Path(path).stem: json.loads(Path(path).read_text(encoding="utf-8")) for path in weights_checks}
    wanted: set[str] = set()
    for extractor, consumer in consumers.items():
        provenance = make_provenance(extractor, consumer["settings"], records[extractor], consumer["media"])
        wanted |= {clip.clip_id for clip in stale_clips(Path(consumer["store"]), clips, provenance)}
    return wanted


def _reusable(
    stores: list[Path], wanted: Mapping[str, ProbedClip], provenance: Mapping[str, Any]
) -> dict[str, StoredClip]:
    found: dict[str, StoredClip] = {}
    for store in stores:
        try:
            if not store.exists() or read_provenance(store) != provenance:
                continue
            found |= {
                clip.clip_id: clip
                for clip in read_clips(store)
                if clip.clip_id in wanted and wanted[clip.clip_id].source_key() == clip.source_key
            }
        except AvpipeError as error:
            _log.warning("Not reused: %s", error)
    return found


def _versions_of(store: Path) -> dict[str, str]:
    """Which versions wrote a store; none where there is none."""
    try:
        return read_written_by(store) if store.exists() else {}
    except AvpipeError:
        return {}
