"""Extraction of one shard: compute what is new, reuse the rest, account for every clip."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from avpipe.devices import leased_device
from avpipe.errors import AvpipeError, ClipFailure
from avpipe.features.registry import build_extractor, entry
from avpipe.features.store import (
    StoredClip,
    read_clips,
    read_provenance,
    read_source_keys,
    read_written_by,
    write_store,
)
from avpipe.features.types import Clip, Extractor
from avpipe.inventory.probing import ProbedClip, read_probed
from avpipe.inventory.status import OK, ClipStatus, close_shard, read_statuses
from avpipe.logs import Progress
from avpipe.media.names import clip_file_name

SECONDS_BETWEEN_PARTS = 60.0
_LIBRARIES = ("avpipe", "torch", "numpy", "av", "numba", "pillow")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardRequest:
    """One shard to extract.

    Attributes:
        extractor: name of the extractor.
        settings: its settings, all quirks decided.
        weights: path or random:<seed>.
        weights_record: what `avpipe.features.checks` found out about the weights.
        pca: VGGish's PCA file, if any.
        media: how the clips were prepared, such as {"mode": "stream"}; part of the provenance.
        clips: the clips that the probe let through.
        prepared: folder of the converted clips in file mode; None: decode the sources.
        failed_before: clips that failed in a stage between probe and here.
    """

    extractor: str
    settings: Mapping[str, Any]
    weights: str
    weights_record: Mapping[str, Any]
    pca: str | None
    media: Mapping[str, Any]
    clips: list[ProbedClip]
    prepared: Path | None
    failed_before: Mapping[str, ClipStatus]

    def provenance(self) -> dict[str, Any]:
        """Everything besides the clips that the values depend on."""
        return make_provenance(self.extractor, self.settings, self.weights_record, self.media)


def request_shard(
    extractor: str,
    *,
    probe: str,
    weights_check: str,
    converted: Sequence[str] | None,
    settings: Mapping[str, Any],
    weights: str,
    pca: str | None,
    media: Mapping[str, Any],
) -> ShardRequest:
    """Put together what a rule knows about a shard.

    Args:
        extractor: its name.
        probe: the probe table.
        weights_check: the JSON that `avpipe.features.checks` wrote.
        converted: in file mode, folder and status table of the converted clips.
        settings, weights, pca, media: as in `ShardRequest`.
    """
    folder, status = converted or (None, None)
    failed = {row.clip_id: row for row in read_statuses(status) if row.status != OK} if status else {}
    record = json.loads(Path(weights_check).read_text(encoding="utf-8"))
    prepared = Path(folder) if folder else None
    return ShardRequest(extractor, settings, weights, record, pca, media, read_probed(probe), prepared, failed)


def extract_shard(
    request: ShardRequest,
    store: str | os.PathLike[str],
    status: str | os.PathLike[str],
    *,
    device: str,
    threads: int,
    clip_timeout_seconds: float,
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
    """
    store = Path(store)
    wanted = {clip.clip_id: clip for clip in request.clips if clip.clip_id not in request.failed_before}
    parts = store.parent / f".{store.stem}.parts"
    saved = sorted(parts.glob("*.h5"))
    stored = _reusable([store, *saved], wanted, request.provenance())
    missing = [clip for clip_id, clip in wanted.items() if clip_id not in stored]
    progress = Progress(len(wanted), f"{request.extractor} clips")
    progress.reused = len(stored)
    statuses = [*request.failed_before.values(), *(ClipStatus(clip_id, OK) for clip_id in stored)]
    written_by = _versions_of(store)
    if missing:
        written_by = {}
        with leased_device(device) as leased:
            computation = _Computation(request, parts, leased, threads, clip_timeout_seconds, progress)
            for clip_status, clip in computation.run(missing):
                statuses.append(clip_status)
                if clip is not None:
                    stored[clip.clip_id] = clip
            saved += computation.saved
    progress.close()
    write_store(
        store,
        list(stored.values()),
        streams=entry(request.extractor).streams,
        provenance=request.provenance(),
        written_by=written_by or _versions(),
    )
    close_shard(status, (clip.clip_id for clip in request.clips), statuses)
    _remove_parts(parts, saved)


def clips_to_convert(
    probe: str,
    consumers: Mapping[str, Mapping[str, Any]],
    weights_checks: Sequence[str],
    media: Mapping[str, Any],
) -> set[str]:
    """The clips of a shard that an extractor has yet to read; the rest need not be converted again.

    Converted clips are deleted after use, so a shard that gains a clip would otherwise convert all of them.

    Args:
        probe: the probe table.
        consumers: extractor -> {"store": its feature store, "settings": its settings}.
        weights_checks: the checked weights of each consumer, named <extractor>.json.
        media: how clips are prepared.
    """
    clips = read_probed(probe)
    records = {Path(path).stem: json.loads(Path(path).read_text(encoding="utf-8")) for path in weights_checks}
    wanted: set[str] = set()
    for extractor, consumer in consumers.items():
        provenance = make_provenance(extractor, consumer["settings"], records[extractor], media)
        wanted |= {clip.clip_id for clip in stale_clips(Path(consumer["store"]), clips, provenance)}
    return wanted


def make_provenance(
    extractor: str, settings: Mapping[str, Any], weights_record: Mapping[str, Any], media: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything besides a clip's content that its features depend on."""
    return {
        "extractor": extractor,
        "stage": entry(extractor).stage,
        "settings": {key: value for key, value in settings.items() if key != "batch_size"},
        "weights": dict(weights_record),
        "media": dict(media),
    }


def stale_clips(store: Path, clips: list[ProbedClip], provenance: Mapping[str, Any]) -> list[ProbedClip]:
    """The clips that a store does not hold, or holds from other content or settings; reads no features."""
    try:
        if not store.exists() or read_provenance(store) != provenance:
            return clips
        keys = read_source_keys(store)
    except AvpipeError:
        return clips
    return [clip for clip in clips if keys.get(clip.clip_id) != clip.source_key()]


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


def _remove_parts(parts: Path, saved: list[Path]) -> None:
    """Remove these parts, but none of another job that works on the shard, such as one whose Snakemake was killed."""
    for path in saved:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        parts.rmdir()


class _Computation:
    """Runs the engine over the clips that are new, saving finished ones as it goes."""

    def __init__(
        self,
        request: ShardRequest,
        parts: Path,
        device: str,
        threads: int,
        clip_timeout_seconds: float,
        progress: Progress,
    ) -> None:
        self._request = request
        self._parts = parts
        self._device = device
        self._threads = threads
        self._timeout = clip_timeout_seconds
        self._progress = progress
        self.saved: list[Path] = []
        self.extractor: Extractor = build_extractor(request.extractor, dict(request.settings), request.pca)

    def run(self, clips: list[ProbedClip]) -> Iterator[tuple[ClipStatus, StoredClip | None]]:
        """Status of each clip, with its features where it is ok."""
        import torch

        from avpipe.features.engine import extract_clips, prepare_network
        from avpipe.weights import load_weights

        torch.set_num_threads(self._threads)
        network = self.extractor.build_network()
        load_weights(network, self._request.weights)
        keys = {clip.clip_id: clip.source_key() for clip in clips}
        unsaved: list[StoredClip] = []
        saved_at = time.monotonic()
        outcomes = extract_clips(
            self.extractor,
            prepare_network(network, self._device),
            (self._as_input(clip) for clip in clips),
            device=self._device,
            decode_workers=1 if self._device == "cpu" else max(2, self._threads),
            clip_timeout_seconds=self._timeout,
            tick=self._progress.tick,
        )
        for clip, outcome in outcomes:
            if isinstance(outcome, ClipFailure):
                self._progress.fell_out(clip.clip_id, outcome.reason.value, outcome.detail)
                yield ClipStatus(clip.clip_id, outcome.reason.value, outcome.detail), None
                continue
            stored = StoredClip(clip.clip_id, keys[clip.clip_id], outcome)
            unsaved.append(stored)
            self._progress.succeeded()
            yield ClipStatus(clip.clip_id, OK), stored
            if time.monotonic() - saved_at >= SECONDS_BETWEEN_PARTS:
                self._save(unsaved)
                unsaved, saved_at = [], time.monotonic()

    def _as_input(self, clip: ProbedClip) -> Clip:
        if self._request.prepared is not None:
            return Clip(clip.clip_id, self._request.prepared / clip_file_name(clip.clip_id))
        return Clip(clip.clip_id, clip.path, clip.start_seconds, clip.end_seconds)

    def _save(self, clips: list[StoredClip]) -> None:
        part = self._parts / f"{os.getpid()}-{len(self.saved)}.h5"
        write_store(
            part,
            clips,
            streams=self.extractor.streams,
            provenance=self._request.provenance(),
            written_by=_versions(),
        )
        self.saved.append(part)


def _versions_of(store: Path) -> dict[str, str]:
    """Which versions wrote a store; none where there is none."""
    try:
        return read_written_by(store) if store.exists() else {}
    except AvpipeError:
        return {}


def _versions() -> dict[str, str]:
    from avpipe.media.ffmpeg import ffmpeg_version

    return {name: version(name) for name in _LIBRARIES} | {"ffmpeg": ffmpeg_version()}
