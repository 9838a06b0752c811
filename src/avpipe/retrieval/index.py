"""An index: embeddings of a pack's clips, against which a query is one product (docs/retrieval.md, Searching).

Layout (HDF5): `embeddings` [n, D] float32 in chunks with checksums, which HDF5 compares when it reads them, and JSON as
UTF-8 bytes in `ids`, `sources` (path, start, end) and `captions`, each a list of n, and in `info`, the model and what
the embeddings rest on. Attributes: `format` and `version`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from avpipe import versions
from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError
from avpipe.features.shard import library_versions
from avpipe.formats.weights import RANDOM_PREFIX, random_seed
from avpipe.io.hdf5_text import open_format, read_json_dataset, write_format, write_json_dataset
from avpipe.io.manifest import result_file, verified
from avpipe.io.reading import reading
from avpipe.io.space import require_space
from avpipe.retrieval.embedding import Reading, evaluation_caption, pool_segments, segments_of
from avpipe.retrieval.initial_weights import Architecture, make_model
from avpipe.retrieval.models import implementation
from avpipe.retrieval.models.base import RetrievalModel
from avpipe.retrieval.packs import ClipSource, Pack, read_pack
from avpipe.retrieval.packs.checks import PUBLISHED_PICKLE
from avpipe.retrieval.packs.pack import random_extractors
from avpipe.retrieval.text import MAX_WORDS

_FORMAT, _VERSION = "avpipe retrieval index", 2
_CLIPS_AT_ONCE = 256  # also the rows of a chunk, so that each is written in one go
_ROWS_AT_ONCE = 16384  # a multiple of the above, so that no chunk is read twice
_MAKE_AGAIN = "Make one with: avpipe index PACK OUT.h5"


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
        provenance: `stage`, the index's version; `libraries`, their versions; `pack`, what its features rest on. Empty
            in indexes of before.
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
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def random_weights(self) -> list[str]:
        """Networks that are untrained, as "avlnet (random:0)": the model and the extractors of the pack."""
        model = [f"{self.model} ({self.weights_label})"] if self.weights_label.startswith(RANDOM_PREFIX) else []
        return model + random_extractors(self.provenance.get("pack", {}))

    def describe(self) -> str:
        """Model, weights and versions in a line, and that weights are random."""
        libraries = self.provenance.get("libraries", {}).items()
        made_with = ", ".join(f"{name} {version}" for name, version in libraries) or "unknown versions"
        text = f"{self.model}, weights {self.weights_label}; clips of pack {self.pack_digest}; made with {made_with}"
        if not self.random_weights:
            return text
        return f"{text}\nRANDOM WEIGHTS: {', '.join(self.random_weights)}: untrained: hits mean nothing"


@dataclass(frozen=True, eq=False)
class Index:
    """An index that is open for reading; n clips.

    Attributes:
        path: its file.
        info: what it says of itself.
        ids: of the clips.
        sources: where each clip lies.
        captions: of each clip the one to test with, or the first; "" if it has none.
    """

    path: str
    info: IndexInfo
    ids: list[str]
    sources: list[ClipSource]
    captions: list[str]
    _embeddings: h5py.Dataset

    def __len__(self) -> int:
        """Clips."""
        return len(self.ids)

    def embeddings(self) -> Iterator[npt.NDArray[np.float32]]:
        """The rows, some thousands at a time, float32 [..., D]; an index may be larger than memory.

        Raises:
            AvpipeError: rows that were damaged.
        """
        for begin in range(0, len(self), _ROWS_AT_ONCE):
            with reading(self.path, f"an {_FORMAT}", _MAKE_AGAIN):
                rows = self._embeddings[begin : begin + _ROWS_AT_ONCE]
            yield rows


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
        provenance={
            "stage": versions.RETRIEVAL_INDEX,
            "libraries": library_versions(),
            "pack": clips.info.provenance,
        },
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
def open_index(source: str | os.PathLike[str]) -> Iterator[Index]:
    """An index, opened for reading.

    Raises:
        AvpipeError: there is no such file, it is no index, or of another version, or damaged.
    """
    if Path(source).is_file():
        verified(source, may_be_given=True)
    with open_format(source, _FORMAT, _VERSION, _MAKE_AGAIN) as file:
        with reading(source, f"an {_FORMAT}", _MAKE_AGAIN):
            index = _read_tables(file, str(source))
        yield index


def _read_tables(file: h5py.File, source: str) -> Index:
    """All but the embeddings, which are looked at from outside."""
    info = IndexInfo(**read_json_dataset(file, "info"))
    odd = [each.name for each in fields(info) if type(getattr(info, each.name)).__name__ != each.type.split("[")[0]]
    if odd:
        raise ValueError(f"{', '.join(odd)} in its info are of another type than expected")
    sources = [ClipSource(*each) for each in read_json_dataset(file, "sources")]
    index = Index(
        source, info, read_json_dataset(file, "ids"), sources, read_json_dataset(file, "captions"), file["embeddings"]
    )
    n = len(index)
    if index._embeddings.shape != (n, info.embedding_dim) or index._embeddings.dtype != np.float32 or n == 0:
        raise ValueError(
            f"embeddings {index._embeddings.dtype} {list(index._embeddings.shape)} for {n} clips, expected float32 "
            f"[{n}, {info.embedding_dim}]"
        )
    if {len(index.sources), len(index.captions)} != {n}:
        raise ValueError(f"{n} ids, {len(index.sources)} sources and {len(index.captions)} captions")
    if not all(isinstance(text, str) for text in (*index.ids, *index.captions)):
        raise ValueError("ids or captions that are no text")
    return index


def _write(target: str | os.PathLike[str], pack: Pack, info: IndexInfo, network: RetrievalModel) -> None:
    require_space(Path(target).parent, 4 * len(pack) * info.embedding_dim, "embeddings")
    with result_file(target) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        _write_tables(file, pack, info)
        rows = file.create_dataset(
            "embeddings",
            (len(pack), info.embedding_dim),
            "<f4",
            chunks=(min(len(pack), _CLIPS_AT_ONCE), info.embedding_dim),
            fletcher32=True,
        )
        for begin, embeddings in _candidates(network, pack, info.window):
            rows[begin : begin + len(embeddings)] = embeddings


def _candidates(network: RetrievalModel, pack: Pack, window: int) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Row of the first clip and the embeddings of some clips, until all are done."""
    device = next(network.parameters()).device
    reads_audio = "audio" in implementation(network.name).candidates
    visual, reading = torch.from_numpy(pack.visual()), Reading(window, max_words=0, long_clips="cut")
    with torch.inference_mode():
        for begin in range(0, len(pack), _CLIPS_AT_ONCE):
            chunk = range(begin, min(begin + _CLIPS_AT_ONCE, len(pack)))
            audio = pool_segments(network, pack, segments_of(pack, reading, chunk), window) if reads_audio else None
            video = visual[chunk.start : chunk.stop].to(device)
            embeddings = network.candidates_of(network.embed_pooled(audio, video))
            yield begin, embeddings.float().cpu().numpy()


def _write_tables(file: h5py.File, pack: Pack, info: IndexInfo) -> None:
    write_format(file, _FORMAT, _VERSION)
    write_json_dataset(file, "info", asdict(info))
    write_json_dataset(file, "ids", pack.ids)
    write_json_dataset(file, "sources", pack.sources)
    write_json_dataset(file, "captions", [evaluation_caption(pack, n) for n in range(len(pack))])


def _placed(weights: str | os.PathLike[str]) -> str:
    """Where weights are, wherever a search is started; random:<seed> as it is."""
    return os.fspath(weights) if random_seed(os.fspath(weights)) is not None else str(Path(weights).resolve())
