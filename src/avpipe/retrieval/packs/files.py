"""A pack: all that AVLnet reads of a set of clips in one safe HDF5 file, of which spectrograms are mapped, not loaded.

Layout: `ids` [n], `video_2d` and `video_3d` [n, 2048] float32, `audio` [sum of T, 40] float32 or float16, clip i
owning the rows audio_offsets[i]:audio_offsets[i + 1], `audio_frames` [n], and JSON as UTF-8 bytes in `captions`,
`eval_captions` and `sources`, each a list of n, and in `info`, where they are from. Attributes: `format`, `version`,
and `digest` of the contents, which is compared when a pack is read. `audio` is one uncompressed block of the file,
so that all processes share one copy of it in the page cache. Equal packs give equal bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.formats.clip_pickles import MEL_BANDS, check_spectrogram
from avpipe.io.hdf5_text import (
    check_digest,
    open_format,
    read_array,
    read_json_dataset,
    read_text_attribute,
    write_format,
    write_json_dataset,
    write_text_attribute,
)
from avpipe.io.manifest import result_file
from avpipe.io.reading import MAKE_AGAIN, reading
from avpipe.io.space import require_space
from avpipe.retrieval.packs.checks import check_structure, check_visual
from avpipe.retrieval.packs.pack import ClipSource, Pack, PackInfo, digest_of_contents, sha256_of

_FORMAT, _VERSION = "avpipe pack", 2
_ALIGNMENT_BYTES = 64


def write_pack(target: str | os.PathLike[str], pack: Pack) -> None:
    """Write a pack, whole or not at all.

    Raises:
        AvpipeError: arrays that do not fit together, repeated ids, or values that are no numbers.
        OSError: the disk is full.
    """
    with pack_writer(target, pack, pack.audio.dtype) as put:
        for index in range(len(pack)):
            put(index, pack.spectrogram(index))


@contextmanager
def pack_writer(
    target: str | os.PathLike[str], pack: Pack, dtype: npt.DTypeLike
) -> Iterator[Callable[[int, npt.NDArray[np.floating]], None]]:
    """Write a pack whose spectrograms come one at a time, in any order; `pack.audio` is not read.

    Args:
        target: the HDF5 file.
        pack: all but the spectrograms.
        dtype: of the spectrograms in the file, float32 or float16.

    Yields:
        put(index, spectrogram [T, 40]), to be called once for each clip.

    Raises:
        AvpipeError: as `write_pack`, or a clip was put twice or not at all.
        OSError: the disk is full.
    """
    n_rows = int(pack.offsets[-1])
    check_structure(pack, str(target), (n_rows, MEL_BANDS), np.dtype(dtype))
    check_visual(pack, str(target))
    needed = n_rows * MEL_BANDS * np.dtype(dtype).itemsize + pack.video_2d.nbytes + pack.video_3d.nbytes
    require_space(Path(target).parent, needed, "features")
    digests = [""] * len(pack)
    with result_file(target) as temporary, _create(temporary) as file:
        audio = file.create_dataset("audio", (n_rows, MEL_BANDS), np.dtype(dtype).newbyteorder("<"))

        def put(index: int, spectrogram: npt.NDArray[np.floating]) -> None:
            begin, end = pack.offsets[index : index + 2]
            values = np.ascontiguousarray(spectrogram, audio.dtype)
            check_spectrogram(values, f"{target}, clip {pack.ids[index]!r}", int(end - begin))
            if digests[index]:
                raise AvpipeError(f"{target}: the spectrogram of clip {pack.ids[index]!r} came twice; give it once.")
            audio[begin:end] = values
            digests[index] = sha256_of(values)

        yield put
        lacking = [clip_id for clip_id, digest in zip(pack.ids, digests, strict=True) if not digest]
        if lacking:
            raise AvpipeError(
                f"{target}: {len(lacking)} of {len(pack)} clips came without a spectrogram, such as {lacking[0]!r}; "
                "give one for every clip."
            )
        _write_tables(file, pack, digest_of_contents(pack, iter(digests)))


def read_pack(source: str | os.PathLike[str]) -> Pack:
    """A pack, its spectrograms mapped from the file (read-only; copy them before they become tensors).

    All of it is read once to compare the digest, which takes about a second for each GB.

    Raises:
        AvpipeError: there is no such file, it is no pack, of another version, or damaged.
    """
    if Path(source).is_file() and not h5py.is_hdf5(source):
        raise AvpipeError(
            f"{source} is no pack: it does not start as HDF5 files do. Expected a pack of avpipe (.h5); published clip "
            "pickles are read by avpipe.retrieval.packs.published.read_clip_pickle."
        )
    with open_format(source, _FORMAT, _VERSION) as file, reading(source, f"an {_FORMAT}", MAKE_AGAIN):
        pack = Pack(
            ids=read_json_dataset(file, "ids"),
            video_2d=read_array(file, "video_2d"),
            video_3d=read_array(file, "video_3d"),
            audio=_map(source, file["audio"]),
            offsets=read_array(file, "audio_offsets"),
            n_frames=read_array(file, "audio_frames"),
            captions=[tuple(captions) for captions in read_json_dataset(file, "captions")],
            eval_captions=read_json_dataset(file, "eval_captions"),
            sources=[ClipSource(*each) for each in read_json_dataset(file, "sources")],
            info=PackInfo(**read_json_dataset(file, "info")),
        )
        stored = read_text_attribute(file, "digest")
    check_structure(pack, str(source), pack.audio.shape, pack.audio.dtype)
    check_digest(source, pack.digest, stored)
    return replace(pack, stored_digest=pack.digest)


def _create(path: Path) -> h5py.File:
    """An HDF5 file whose arrays start at multiples of what processors like to read from."""
    return h5py.File(
        path, "w", libver="latest", alignment_threshold=_ALIGNMENT_BYTES, alignment_interval=_ALIGNMENT_BYTES
    )


def _write_tables(file: h5py.File, pack: Pack, digest: str) -> None:
    """All but the spectrograms."""
    write_format(file, _FORMAT, _VERSION)
    write_text_attribute(file, "digest", digest)
    file.create_dataset("video_2d", data=pack.video_2d, dtype="<f4")
    file.create_dataset("video_3d", data=pack.video_3d, dtype="<f4")
    file.create_dataset("audio_offsets", data=pack.offsets, dtype="<i8")
    file.create_dataset("audio_frames", data=pack.n_frames, dtype="<i8")
    for name in ("ids", "captions", "eval_captions", "sources"):
        write_json_dataset(file, name, getattr(pack, name))
    write_json_dataset(file, "info", asdict(pack.info))


def _map(source: str | os.PathLike[str], audio: h5py.Dataset) -> npt.NDArray[np.floating]:
    """The spectrograms where they lie in the file."""
    offset = audio.id.get_offset()
    if audio.chunks is not None or offset is None:
        raise AvpipeError(
            f"{source}: its spectrograms are not one uncompressed block of the file, so they cannot be mapped; was "
            "it repacked? Make the pack again."
        )
    return np.memmap(source, audio.dtype, "r", offset, audio.shape)
