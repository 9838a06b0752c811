"""Extraction of one shard: compute what is new, reuse the rest, account for every clip."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avpipe import registry
from avpipe.devices import leased_device
from avpipe.errors import AvpipeError, ClipFailure
from avpipe.features.build import build_extractor
from avpipe.features.store import (
    StoredClip,
    read_clips,
    read_provenance,
    read_source_keys,
    read_written_by,
    write_store,
)
from avpipe.features.streaming import Outcome, stream_clips
from avpipe.inventory.probing import ProbedClip, read_probed
from avpipe.inventory.status import OK, ClipStatus, close_shard
from avpipe.io.manifest import SUFFIX, read_json, remove
from avpipe.logs import Progress
from avpipe.media.clip import Clip
from avpipe.media.decoded import DecodedShares
from avpipe.media.names import clip_file_name

if TYPE_CHECKING:
    from avpipe.features.engine import Batches
    from avpipe.features.types import Extractor

SECONDS_BETWEEN_PARTS = 60.0
_LIBRARIES = ("avpipe", "torch", "torchvision", "numpy", "av", "numba", "pillow", "soxr")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardRequest:
    """One shard to extract.

    Attributes:
        extractor: name of the extractor.
        settings: its settings, all quirks decided.
        weights: path or random:<seed>; None for an extractor without a network.
        weights_record: what `avpipe.features.checks` found out about the weights.
        pca: VGGish's PCA file, if any.
        media: how the clips were prepared, such as {"mode": "stream"}; part of the provenance.
        clips: the clips that the probe let through.
        prepared: folder of the converted clips in file mode; None: decode the sources.
        failed_before: clips that failed in a stage between probe and here.
    """

    extractor: str
    settings: Mapping[str, Any]
    weights: str | None
    weights_record: Mapping[str, Any]
    pca: str | None
    media: Mapping[str, Any]
    clips: list[ProbedClip]
    prepared: Path | None
    failed_before: Mapping[str, ClipStatus]

    def provenance(self) -> dict[str, Any]:
        """Everything besides the clips that the values depend on."""
        return make_provenance(self.extractor, self.settings, self.weights_record, self.media)


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
    parts = Parts(store, request)
    saved = parts.found()
    stored = _reusable([store, *saved], wanted, request.provenance())
    missing = [clip for clip_id, clip in wanted.items() if clip_id not in stored]
    progress = Progress(len(wanted), f"{request.extractor} clips")
    progress.reused = len(stored)
    statuses = [*request.failed_before.values(), *map(_ok_status, stored.values())]
    written_by = _versions_of(store)
    if missing:
        written_by = {}
        with leased_device(device if request.weights is not None else "cpu") as leased:
            computed = _compute(request, missing, parts, leased, threads, clip_timeout_seconds, progress)
            for clip_status, clip in computed:
                statuses.append(clip_status)
                if clip is not None:
                    stored[clip.clip_id] = clip
    progress.close()
    write_store(
        store,
        list(stored.values()),
        streams=registry.extractor(request.extractor).streams,
        provenance=request.provenance(),
        written_by=written_by or library_versions(),
    )
    close_shard(status, (clip.clip_id for clip in request.clips), statuses)
    parts.remove(saved)


def _compute(
    request: ShardRequest,
    clips: list[ProbedClip],
    parts: Parts,
    device: str,
    threads: int,
    clip_timeout_seconds: float,
    progress: Progress,
) -> Iterator[tuple[ClipStatus, StoredClip | None]]:
    """Status of each clip, with its features where it is ok; finished clips are saved as it goes."""
    extractor = build_extractor(request.extractor, dict(request.settings), request.pca)
    open_batches = cache(partial(_open_batches, request, extractor, device, threads))
    if request.weights is not None:  # before anything is decoded: the file may be another one by now
        open_batches()
    keys = {clip.clip_id: clip.source_key() for clip in clips}
    lengths = {clip.clip_id: None if request.prepared else clip.seconds for clip in clips}
    shares: dict[str, DecodedShares] = {}
    saved_at = time.monotonic()
    outcomes = stream_clips(
        extractor,
        open_batches,
        (_as_input(clip, request.prepared) for clip in clips),
        decode_workers=_decode_workers(request, device, threads),
        clip_timeout_seconds=clip_timeout_seconds,
        tick=progress.tick,
        tell=lambda clip, decoded: shares.update({clip.clip_id: decoded.shares(lengths[clip.clip_id])}),
    )
    for clip, outcome in outcomes:
        stored = None
        if not isinstance(outcome, ClipFailure):
            # Of a converted clip all is there, whatever its source lacks.
            decoded = replace(shares[clip.clip_id], pictures_share=None) if request.prepared else shares[clip.clip_id]
            stored = StoredClip(clip.clip_id, keys[clip.clip_id], outcome, decoded)
            parts.add(stored)
        yield _status(clip, outcome, stored, progress), stored
        if time.monotonic() - saved_at >= SECONDS_BETWEEN_PARTS:
            parts.save()
            saved_at = time.monotonic()


def _open_batches(request: ShardRequest, extractor: Extractor, device: str, threads: int) -> Batches:
    """The network, ready for windows; imports torch."""
    import torch

    from avpipe.features.engine import Batches, prepare_network
    from avpipe.formats.weights import build_empty, load_weights

    torch.set_num_threads(threads)
    network = build_empty(extractor.build_network)
    if request.weights is not None:
        record = load_weights(network, request.weights)
        if record.label != request.weights_record["label"]:
            raise AvpipeError(f"{request.weights} is not the file that was checked any more. Run the command again.")
    return Batches(extractor, prepare_network(network, device), device)


def _status(clip: Clip, outcome: Outcome, stored: StoredClip | None, progress: Progress) -> ClipStatus:
    if stored is None:
        assert isinstance(outcome, ClipFailure)
        progress.fell_out(clip.clip_id, outcome.reason.value, outcome.detail)
        return ClipStatus(clip.clip_id, outcome.reason.value, outcome.detail)
    progress.succeeded()
    return _ok_status(stored)


def _ok_status(clip: StoredClip) -> ClipStatus:
    return ClipStatus(clip.clip_id, OK, clip.decoded.detail, **vars(clip.decoded))


def _decode_workers(request: ShardRequest, device: str, threads: int) -> int:
    """On a CPU one thread decodes fast enough for a network that keeps the others busy."""
    if request.weights is None:
        return threads
    return 1 if device == "cpu" else max(2, threads)


def _as_input(clip: ProbedClip, prepared: Path | None) -> Clip:
    if prepared is not None:
        return Clip(clip.clip_id, prepared / clip_file_name(clip.clip_id))
    return Clip(clip.clip_id, clip.path, clip.start_seconds, clip.end_seconds)


class Parts:
    """Finished clips of a store that is not written yet, saved beside it every minute.

    Args:
        store: the store.
        request: what its job extracts.
    """

    def __init__(self, store: Path, request: ShardRequest) -> None:
        self._folder = store.parent / f".{store.stem}.parts"
        self._request = request
        self._unsaved: list[StoredClip] = []
        self._saved: list[Path] = []

    def found(self) -> list[Path]:
        """The parts that lie there."""
        return sorted(self._folder.glob("*.h5"))

    def add(self, clip: StoredClip) -> None:
        """Take a clip, to be saved with the next ones."""
        self._unsaved.append(clip)

    def save(self) -> None:
        """Save what has come since the last time."""
        if not self._unsaved:
            return
        part = self._folder / f"{os.getpid()}-{threading.get_ident()}-{len(self._saved)}.h5"
        write_store(
            part,
            self._unsaved,
            streams=registry.extractor(self._request.extractor).streams,
            provenance=self._request.provenance(),
            written_by=library_versions(),
        )
        self._saved.append(part)
        self._unsaved = []

    def remove(self, found: Sequence[Path]) -> None:
        """Remove what was saved here and these, but nothing of another job at work on the shard.

        Such as one whose Snakemake was killed.
        """
        for path in [*found, *self._saved]:
            remove(path)
        for path in self._folder.glob(f"*{SUFFIX}"):  # a writer was killed before its part was there
            if not path.with_suffix("").exists():
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def make_provenance(
    extractor: str, settings: Mapping[str, Any], weights_record: Mapping[str, Any], media: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything besides a clip's content that its features depend on."""
    return {
        "extractor": extractor,
        "stage": registry.extractor(extractor).stage,
        "settings": {key: value for key, value in settings.items() if key != "batch_size"},
        "weights": {key: value for key, value in weights_record.items() if key != "remarks"},
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
    records = {Path(path).stem: read_json(path) for path in weights_checks}
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


def library_versions() -> dict[str, str]:
    """The versions of everything that values may depend on."""
    from avpipe.media.ffmpeg import ffmpeg_version

    return {name: version(name) for name in _LIBRARIES} | {"ffmpeg": ffmpeg_version()}
