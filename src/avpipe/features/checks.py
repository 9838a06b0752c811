"""Check a weights file before any clip is decoded: does it fit the network, and what is its digest.

`python -m avpipe.features.checks`, with a JSON list of the arguments of `check_weights` on its standard input, prints
a JSON list of what is wrong with each, null where nothing is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.io.atomic import write_text
from avpipe.io.manifest import write_json

_log = logging.getLogger(__name__)


def check_weights(
    extractor: str,
    weights: str | None,
    pca: str | os.PathLike[str] | None,
    target: str | os.PathLike[str],
    *,
    digests: Mapping[str, list[str]],
) -> None:
    """Load weights into their network once and write what they are.

    Args:
        extractor: its name.
        weights: path of the published file, or random:<seed>; None for an extractor without a network.
        pca: VGGish's PCA file, if its settings use one.
        target: the JSON file to write: label and sha256 of the weights, the PCA's sha256, and remarks on files
            that are not the published ones.
        digests: for the extractor and its PCA, "<extractor>_pca": known digests of the published
            file, or their beginnings.

    Raises:
        AvpipeError: a file is not readable, its keys or shapes are not the network's, or it is a wrong one.
    """
    files = {}
    label = "none"
    if weights is not None:
        label, sha256 = (weights, None) if weights.startswith("random:") else _load(extractor, weights)
        files[extractor] = (weights, sha256)
    if pca is not None:
        _check_pca(extractor, pca)
        files[f"{extractor}_pca"] = (str(pca), hashlib.sha256(Path(pca).read_bytes()).hexdigest())
    remarks = {}
    for key, (path, sha256) in files.items():
        remark = _remark(path, sha256, digests[key])
        if remark is not None:
            remarks[key] = remark
            _log.warning("%s: %s", path, remark)
    sha256_of = {key: sha256 for key, (_, sha256) in files.items()}
    write_json(
        target,
        {
            "label": label,
            "sha256": sha256_of.get(extractor),
            "pca_sha256": sha256_of.get(f"{extractor}_pca"),
            "remarks": remarks,
        },
    )


def find_faults(requests: Sequence[Mapping[str, Any]], passed: Path) -> list[str]:
    """What is wrong with some weight files; each is loaded once, in a process of its own, until it changes.

    Args:
        requests: for each, `extractor`, `weights`, `pca` and `digests` as in `check_weights`.
        passed: folder that remembers the files that were in order.
    """
    marks = {_mark(request, passed): request for request in requests}
    unknown = {mark: request for mark, request in marks.items() if not mark.exists()}
    if not unknown:
        return []
    done = subprocess.run(
        [sys.executable, "-m", "avpipe.features.checks"],
        input=json.dumps(list(unknown.values())),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise AvpipeError(f"The weights could not be checked: {done.stderr.strip()[-2000:]}")
    faults = json.loads(done.stdout)
    for mark, fault in zip(unknown, faults, strict=True):
        if fault is None:
            write_text(mark, "")
    return [fault for fault in faults if fault is not None]


def judge_digest(sha256: str, published: list[str]) -> str | None:
    """What to say of a file by its digest; None: it is the published one, or nobody published its digest."""
    if not published or any(sha256.startswith(digest) for digest in published):
        return None
    return f"not the published file: its sha256 is {sha256}, that of the published one begins with {published[0]}"


def _mark(request: Mapping[str, Any], passed: Path) -> Path:
    """A file whose name stands for what is checked and the state of the files."""
    paths = [Path(path) for path in (request["weights"], request["pca"]) if path is not None]
    states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    known = json.dumps([dict(request), states], sort_keys=True)
    return passed / hashlib.sha256(known.encode()).hexdigest()


def _main() -> None:
    faults: list[str | None] = []
    for request in json.load(sys.stdin):
        with tempfile.TemporaryDirectory() as folder:
            try:
                check_weights(**request, target=Path(folder) / "checked.json")
                faults.append(None)
            except AvpipeError as error:
                faults.append(str(error))
    json.dump(faults, sys.stdout)


def _remark(path: str, sha256: str | None, published: list[str]) -> str | None:
    if sha256 is None:
        return None
    if not published:
        _log.info("%s: sha256 %s; the publisher names none to compare it with", path, sha256)
    return judge_digest(sha256, published)


def _load(extractor: str, weights: str) -> tuple[str, str | None]:
    """Label and digest of a file that fits; imports torch, which random weights need not wait for."""
    from avpipe.features.build import build_extractor
    from avpipe.formats.weights import build_empty, load_weights

    record = load_weights(build_empty(build_extractor(extractor).build_network), weights)
    return record.label, record.sha256


def _check_pca(extractor: str, pca: str | os.PathLike[str]) -> None:
    """Read the PCA file, which says what is wrong with it."""
    from avpipe.features.build import build_extractor

    build_extractor(extractor, pca=pca).settings_record()


if __name__ == "__main__":
    _main()
