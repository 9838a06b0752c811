"""An index: embeddings of a pack's clips, against which a query is one product (specs/avlnet.md §9).

Layout (HDF5): `embeddings` [n, D] float32, `ids` [n], and one JSON text per clip in `sources` (path, start, end) and
`captions`. Attributes: `format`, `version`, and `info`, JSON of the model and what the embeddings rest on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError
from avpipe.io.atomic import atomic_path
from avpipe.io.space import require_space
from avpipe.retrieval.embedding import evaluation_caption
from avpipe.retrieval.models import implementation
from avpipe.retrieval.models.base import RetrievalModel
from avpipe.retrieval.models.ragged import pool_ragged
from avpipe.retrieval.pack_checks import PUBLISHED_PICKLE
from avpipe.retrieval.packs import Pack, read_pack
from avpipe.retrieval.starts import Architecture, make_model
from avpipe.retrieval.text import MAX_WORDS
from avpipe.weights import random_seed

_FORMAT, _VERSION = "avpipe retrieval index", 1
_CLIPS_AT_ONCE = 256


@dataclass(frozen=True)
class IndexInfo:
    """What an index's embeddings rest on.

    Attributes:
        model: its name.
        embedding_dim, audio_channels, word_dim: sizes of the model.
        max_words: known words that are read of a text.
        window: spectrogram frames that are read of a sound.
        weights: path of the weights, or random:<seed>.
        weights_label: sha256 of the file, or random:<seed>.
        pack: path of the pack.
        pack_digest: SHA-256 of the pack's ids, captions and features.
        quantise: whether the pack's sound was rounded to 16 bits, which queries then are as well.
    """

    model: str
    embedding_dim: int
    audio_channels: int
    word_dim: int
    max_words: int
    window: int
    weights: str
    weights_label: str
    pack: str
    pack_digest: str
    quantise: bool


def build_index(
    pack: str | os.PathLike[str],
    *,
    model: str,
    weights: str | os.PathLike[str],
    target: str | os.PathLike[str],
    embedding_dim: int,
    audio_channels: int = 128,
    word_dim: int = 300,
    max_words: int = MAX_WORDS,
    window: int = 5120,
    device: str = "cpu",
) -> IndexInfo:
    """Embed the clips of a pack as candidates and write the index.

    Args:
        pack: path of the pack (.h5).
        model: avlnet, avlnet_text_tri or avlnet_text_fused.
        weights: path of a checkpoint or of a run's training.json (its first seed), or random:<seed> (untrained).
        target: the HDF5 file to write.
        embedding_dim, audio_channels, word_dim: sizes of the model that the weights are of.
        max_words: known words that are read of a text.
        window: spectrogram frames that are read of a sound; the rest is cut.
        device: "cpu" or "cuda".

    Returns:
        What the index says of itself.

    Raises:
        AvpipeError: the pack or the weights are not what they should be, or a size below 1.
        OSError: the disk is full.
    """
    if window < 1 or max_words < 1:
        raise AvpipeError(f"window {window} and max_words {max_words}: expected at least 1.")
    implementation(model)  # an unknown name is said before a file is read
    clips = read_pack(pack)
    network, record = make_model(Architecture(model, embedding_dim, audio_channels, word_dim), _placed(weights), 0)
    network.to(resolve_device(device)).eval()
    info = IndexInfo(
        model=model,
        embedding_dim=embedding_dim,
        audio_channels=audio_channels,
        word_dim=word_dim,
        max_words=max_words,
        window=window,
        weights=_placed(weights),
        weights_label=record.label,
        pack=str(Path(pack).resolve()),
        pack_digest=clips.digest,
        quantise=is_quantised(clips),
    )
    _write(target, clips, info, network)
    return info


def load_model(
    info: IndexInfo, *, weights: str | os.PathLike[str] | None = None, device: str = "cpu"
) -> RetrievalModel:
    """The model of an index in eval mode.

    Args:
        info: of the index.
        weights: where its weights are now; None: where they were.
        device: "cpu" or "cuda".

    Raises:
        AvpipeError: the weights are not there, are others, or do not fit the sizes.
    """
    spec = info.weights if weights is None else _placed(weights)
    architecture = Architecture(info.model, info.embedding_dim, info.audio_channels, info.word_dim)
    network, record = make_model(architecture, spec, 0)
    if record.label != info.weights_label:
        raise AvpipeError(
            f"The index was made with the weights {info.weights_label}; {spec} is {record.label}. Give the weights "
            "that it was made with, or make the index again with these."
        )
    return network.to(resolve_device(device)).eval()


def is_quantised(pack: Pack) -> bool:
    """Whether a pack's sound was rounded to 16 bits before its spectrograms were made, as published ones were."""
    if pack.info.origin == PUBLISHED_PICKLE:
        return True
    settings = pack.info.provenance.get("audio", {}).get("settings", {})
    return bool(settings.get("quantise", False))


@contextmanager
def open_index(source: str | os.PathLike[str]) -> Iterator[tuple[h5py.File, IndexInfo]]:
    """An index, opened for reading, and what it says of itself.

    Raises:
        AvpipeError: there is no such file, it is no index, or of another version, or damaged.
    """
    if not Path(source).is_file():
        raise AvpipeError(f"{source} does not exist; expected an index, made with: avpipe index PACK {source}")
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise AvpipeError(f"{source} is no index: {error}. Make one with: avpipe index PACK OUT.h5") from None
    with file:
        found = file.attrs.get("format"), file.attrs.get("version")
        if found != (_FORMAT, _VERSION):
            raise AvpipeError(
                f"{source} is {found[0]!r} of version {found[1]}; expected {_FORMAT!r} of version {_VERSION}. "
                "Make one with: avpipe index PACK OUT.h5"
            )
        yield file, IndexInfo(**json.loads(file.attrs["info"]))


def _write(target: str | os.PathLike[str], pack: Pack, info: IndexInfo, network: RetrievalModel) -> None:
    require_space(Path(target).parent, 4 * len(pack) * info.embedding_dim, "embeddings")
    with atomic_path(target) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        _write_tables(file, pack, info)
        rows = file.create_dataset("embeddings", (len(pack), info.embedding_dim), "<f4")
        for begin, embeddings in _candidates(network, pack, info.window):
            rows[begin : begin + len(embeddings)] = embeddings


def _candidates(network: RetrievalModel, pack: Pack, window: int) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Row of the first clip and the embeddings of some clips, until all are done."""
    device = next(network.parameters()).device
    reads_audio = "audio" in implementation(network.name).candidates
    visual = torch.from_numpy(pack.visual())
    with torch.inference_mode():
        for begin in range(0, len(pack), _CLIPS_AT_ONCE):
            chunk = range(begin, min(begin + _CLIPS_AT_ONCE, len(pack)))
            audio = _pool_clips(network, pack, chunk, window) if reads_audio else None
            video = visual[chunk.start : chunk.stop].to(device)
            embeddings = network.candidates_of(network.embed_pooled(audio, video))
            yield begin, embeddings.float().cpu().numpy()


def _pool_clips(network: RetrievalModel, pack: Pack, chunk: range, window: int) -> torch.Tensor:
    """The pooled sound of some clips of a pack, [clips, 8 C]."""
    sounds = [torch.from_numpy(np.array(pack.spectrogram(index)[:window])) for index in chunk]
    counts = [int(pack.n_frames[index]) for index in chunk]
    return pool_ragged(network.DAVEnet, sounds, window=window, n_frames=counts)


def _write_tables(file: h5py.File, pack: Pack, info: IndexInfo) -> None:
    text = h5py.string_dtype("utf-8")
    file.attrs["format"] = _FORMAT
    file.attrs["version"] = _VERSION
    file.attrs["info"] = json.dumps(asdict(info), sort_keys=True)
    file.create_dataset("ids", data=pack.ids, dtype=text)
    tables: dict[str, list[Any]] = {
        "sources": list(pack.sources),
        "captions": [evaluation_caption(pack, n) for n in range(len(pack))],
    }
    for name, rows in tables.items():
        file.create_dataset(name, data=[json.dumps(each) for each in rows], dtype=text)


def _placed(weights: str | os.PathLike[str]) -> str:
    """Where weights are, wherever a search is started; random:<seed> as it is."""
    return os.fspath(weights) if random_seed(os.fspath(weights)) is not None else str(Path(weights).resolve())
