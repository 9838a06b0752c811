"""What the jobs of rules/features.smk do: checking weights, extracting features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avpipe.features.checks import check_weights
from avpipe.features.shard import ShardRequest, extract_shard
from avpipe.inventory.probing import read_probed
from avpipe.inventory.status import OK, read_statuses
from avpipe.io.manifest import read_json
from avpipe.locks import sole_writer

__all__ = ["check_weights", "extract_features"]


def extract_features(extractor: str, inputs: Any, outputs: Any, params: Any, threads: int) -> None:
    """What every extraction rule does.

    Args:
        extractor: its name.
        inputs: `probe`, the probe table; `weights`, the JSON that `avpipe.features.checks` wrote; `converted`, in
            file mode, folder and status table of the converted clips, else empty.
        outputs: `store` and `status`.
        params: `settings`, `weights`, `pca` and `media` as in `ShardRequest`; `batch_size` or None;
            `device` and `timeout` as in `extract_shard`.
        threads: CPU threads.

    Raises:
        AvpipeError: another job extracts the shard, or as `extract_shard`.
    """
    folder, status = inputs.converted or (None, None)
    failed = {row.clip_id: row for row in read_statuses(status) if row.status != OK} if status else {}
    request = ShardRequest(
        extractor=extractor,
        settings=dict(params.settings) | ({} if params.batch_size is None else {"batch_size": params.batch_size}),
        weights=params.weights,
        weights_record=read_json(inputs.weights),
        pca=params.pca,
        media=params.media,
        clips=read_probed(inputs.probe),
        prepared=Path(folder) if folder else None,
        failed_before=failed,
    )
    store = Path(outputs.store)
    with sole_writer(store.with_name(f".{store.stem}.lock"), f"{store}"):
        extract_shard(
            request,
            outputs.store,
            outputs.status,
            device=params.device,
            threads=threads,
            clip_timeout_seconds=params.timeout,
        )
