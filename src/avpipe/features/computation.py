"""Computing the features of a shard's new clips, saving finished ones as it goes."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.errors import AvpipeError, ClipFailure
from avpipe.features.registry import build_extractor, entry
from avpipe.features.requests import Companion, ShardRequest, stale_clips
from avpipe.features.store import StoredClip, write_store
from avpipe.features.types import Clip
from avpipe.inventory.probing import ProbedClip
from avpipe.inventory.status import OK, ClipStatus
from avpipe.logs import Progress
from avpipe.media.names import clip_file_name

if TYPE_CHECKING:
    from avpipe.features.engine import Lane, Outcome

SECONDS_BETWEEN_PARTS = 60.0
_LIBRARIES = ("avpipe", "torch", "torchvision", "numpy", "av", "numba", "pillow", "soxr")
_log = logging.getLogger(__name__)


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
            streams=entry(self._request.extractor).streams,
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
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()


class Computation:
    """Runs the engine over the clips that are new, saving finished ones as it goes."""

    def __init__(
        self,
        request: ShardRequest,
        parts: Parts,
        device: str,
        threads: int,
        clip_timeout_seconds: float,
        progress: Progress,
    ) -> None:
        self._request = request
        self._parts = [parts]
        self._device = device
        self._threads = threads
        self._timeout = clip_timeout_seconds
        self._progress = progress

    def run(
        self, clips: list[ProbedClip], companions: Sequence[Companion]
    ) -> Iterator[tuple[ClipStatus, StoredClip | None]]:
        """Status of each clip, with its features where it is ok; those of companions are saved for their jobs."""
        import torch

        from avpipe.features.engine import extract_together

        torch.set_num_threads(self._threads)
        wanted = {clip.clip_id: [0] for clip in clips}
        lanes = [self._lane(self._request)]
        for companion in companions:
            lacking = stale_clips(companion.store, clips, companion.request.provenance())
            try:
                lane = self._lane(companion.request) if lacking else None
            except AvpipeError as error:
                _log.info("%s is left to its own job: %s", companion.request.extractor, error)
                continue
            if lane is not None:
                for clip in lacking:
                    wanted[clip.clip_id].append(len(lanes))
                lanes.append(lane)
                self._parts.append(Parts(companion.store, companion.request))
                _log.info("%s: %d clips from the same decode", companion.request.extractor, len(lacking))
        keys = {clip.clip_id: clip.source_key() for clip in clips}
        saved_at = time.monotonic()
        outcomes = extract_together(
            lanes,
            ((self._as_input(clip), wanted[clip.clip_id]) for clip in clips),
            device=self._device,
            decode_workers=self._decode_workers(),
            clip_timeout_seconds=self._timeout,
            tick=self._progress.tick,
        )
        for done, number, outcome in outcomes:
            if not isinstance(outcome, dict | ClipFailure):
                if number == 0:
                    raise outcome
                _log.info("%s: left to its own job: %s", done.clip_id, outcome)
                continue
            stored = None
            if not isinstance(outcome, ClipFailure):
                stored = StoredClip(done.clip_id, keys[done.clip_id], outcome)
                self._parts[number].add(stored)
            if number == 0:
                yield self._status(done, outcome), stored
            if time.monotonic() - saved_at >= SECONDS_BETWEEN_PARTS:
                self._save(self._parts)
                saved_at = time.monotonic()
        self._save(self._parts[1:])

    def _lane(self, request: ShardRequest) -> Lane:
        from avpipe.features.engine import Lane, prepare_network
        from avpipe.weights import build_empty, load_weights

        extractor = build_extractor(request.extractor, dict(request.settings), request.pca)
        network = build_empty(extractor.build_network)
        if request.weights is not None:
            record = load_weights(network, request.weights)
            if record.label != request.weights_record["label"]:
                raise AvpipeError(
                    f"{request.weights} is not the file that was checked any more. Run the command again."
                )
        return Lane(extractor, prepare_network(network, self._device))

    def _status(self, clip: Clip, outcome: Outcome) -> ClipStatus:
        if isinstance(outcome, ClipFailure):
            self._progress.fell_out(clip.clip_id, outcome.reason.value, outcome.detail)
            return ClipStatus(clip.clip_id, outcome.reason.value, outcome.detail)
        self._progress.succeeded()
        return ClipStatus(clip.clip_id, OK)

    def _decode_workers(self) -> int:
        """On a CPU one thread decodes fast enough for a network that keeps the others busy."""
        if self._request.weights is None:
            return self._threads
        return 1 if self._device == "cpu" else max(2, self._threads)

    def _as_input(self, clip: ProbedClip) -> Clip:
        if self._request.prepared is not None:
            return Clip(clip.clip_id, self._request.prepared / clip_file_name(clip.clip_id))
        return Clip(clip.clip_id, clip.path, clip.start_seconds, clip.end_seconds)

    @staticmethod
    def _save(parts: Sequence[Parts]) -> None:
        for each in parts:
            each.save()


def library_versions() -> dict[str, str]:
    """The versions of everything that values may depend on."""
    from avpipe.media.ffmpeg import ffmpeg_version

    return {name: version(name) for name in _LIBRARIES} | {"ffmpeg": ffmpeg_version()}
