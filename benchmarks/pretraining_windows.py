"""Reading windows of long videos for pre-training: bytes and windows per second, three ways.

  whole    the published procedure: numpy.load of a video's three files, then slices
  layout   avpipe on the same files: the windows are read by their place
  stores   avpipe on its own feature stores, where a spectrogram is contiguous in time

Videos of made-up numbers are written to a temporary folder, as float16: 2-D 1 row and 3-D 1.5 rows a second of 2048,
spectrogram 100 frames a second of 40; HowTo100M's videos last 6.5 minutes on average. All give the same windows.

Each way runs twice. Warm: the files are in the page cache, so the work is measured. Dropped: the kernel was asked to
forget the files before each round, which it need not do, and a disk may have a cache of its own; so a disk that is
really cold cannot be forced here. "from disk" is what the kernel says that it fetched (/proc/self/io).

example: python benchmarks/pretraining_windows.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from avpipe.features.store import StoredClip, write_store
from avpipe.features.types import Features
from avpipe.retrieval.howto100m import HowTo100MCorpus
from avpipe.retrieval.settings import Windows
from avpipe.retrieval.store_corpus import STREAMS, StoreCorpus
from avpipe.retrieval.window_source import WindowSource
from avpipe.retrieval.windows import Extent, draw_windows, generator
from avpipe.training.runtime import keep_freed_memory

RATES = {"video_2d": 1.0, "video_3d": 24 / 16, "audio": 100.0}
WIDTHS = {"video_2d": 2048, "video_3d": 2048, "audio": 40}
VIDEOS_OF_A_STORE = 16
VIDEOS_OF_A_STEP = 128


class Measured(NamedTuple):
    """One round: seconds, bytes asked for, bytes that came from the disk."""

    seconds: float
    asked: int
    from_disk: int


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=390, help="of a video (default: %(default)s)")
    parser.add_argument("--per-video", type=int, nargs="+", default=[32, 1], help="windows (default: 32 and 1)")
    parser.add_argument("--audio-frames", type=int, default=1000, help="of a window (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of avpipe's (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made (default: the system's)")
    return parser.parse_args()


def main() -> None:
    """Make the videos, read them."""
    chosen = parse_arguments()
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does; it helps all
    print(f"numpy {np.__version__}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        ids = make_videos(folder, chosen.videos, chosen.seconds)
        files = [path for path in folder.rglob("*.*") if path.is_file()]
        for per_video in chosen.per_video:
            settings = Windows(per_video=per_video, audio_frames=chosen.audio_frames).resolved("published")
            print(f"{chosen.videos} videos of {chosen.seconds} s, {per_video} windows of {chosen.audio_frames} frames")
            report(folder, ids, files, settings, chosen)


def make_videos(folder: Path, videos: int, seconds: int) -> list[str]:
    """Write the same videos in the published layout and as feature stores; their ids."""
    ids = [f"video{index:05}" for index in range(videos)]
    for begin in range(0, videos, VIDEOS_OF_A_STORE):
        shard = ids[begin : begin + VIDEOS_OF_A_STORE]
        for kind, stream in STREAMS.items():
            clips = []
            for index, video_id in enumerate(shard, start=begin):
                values = made_rows(index, kind, seconds)
                write_published(folder / "layout" / video_id, video_id, kind, values)
                times = np.arange(len(values))[:, None] / RATES[kind] + [0, 1 / RATES[kind]]
                features = Features(values, np.zeros(WIDTHS[kind], np.float32), times)
                clips.append(StoredClip(video_id, video_id, {stream: features}))
            target = folder / "stores" / f"{kind}_{begin}.h5"
            write_store(target, clips, streams={stream: WIDTHS[kind]}, provenance={"stage": "made"}, written_by={})
    os.sync()
    return ids


def made_rows(index: int, kind: str, seconds: int) -> npt.NDArray[np.float16]:
    """Numbers that stand for features, [seconds * rate, width]."""
    random = np.random.default_rng([index, list(STREAMS).index(kind)])
    shape = (int(seconds * RATES[kind]), WIDTHS[kind])
    return random.integers(0, 0x3C00, shape, np.uint16).view(np.float16)  # from 0 to 1


def write_published(folder: Path, video_id: str, kind: str, values: npt.NDArray[np.float16]) -> None:
    """One of a video's three files."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "audio":
        np.savez(folder / f"{video_id}_spec.npz", arr_0=np.ascontiguousarray(values.T))
    else:
        np.savez(folder / f"{video_id}_{kind[-2:]}.npz", features=values)


def report(folder: Path, ids: list[str], files: list[Path], settings: Windows, chosen: argparse.Namespace) -> None:
    """Time the three ways, warm and dropped, and check that they agree."""
    stores = {kind: sorted((folder / "stores").glob(f"{kind}_*.h5")) for kind in STREAMS}
    layout = HowTo100MCorpus(ids, folder / "layout")
    ways: list[tuple[str, int, Callable[[], tuple[torch.Tensor, torch.Tensor, int]]]] = [
        ("whole", 1, lambda: read_whole(folder / "layout", ids, settings))
    ]
    for threads in dict.fromkeys([1, chosen.threads]):
        for name, corpus in (("layout", layout), ("stores", StoreCorpus(stores, videos=ids))):
            source = WindowSource(corpus, settings, threads=threads)
            ways.append((name, threads, lambda source=source: read_source(source)))
    expected = ways[0][2]()
    warm: list[list[Measured]] = [[] for _ in ways]
    dropped: list[list[Measured]] = [[] for _ in ways]
    for _ in range(chosen.rounds):  # rounds alternate, so that other load on the machine does not decide
        for index, (_, _, way) in enumerate(ways):
            dropped[index].append(measured(way, files))
            warm[index].append(measured(way, []))
    for index, (name, threads, way) in enumerate(ways):
        found = way()
        is_equal = torch.equal(found[0], expected[0]) and torch.allclose(found[1], expected[1], rtol=1e-6, atol=1e-8)
        label = f"{name}, {threads} thread(s)" + ("" if is_equal else " DIFFERENT WINDOWS")
        show(label, min(warm[index]), min(dropped[index]), len(ids), settings.per_video)


def show(name: str, warm: Measured, dropped: Measured, videos: int, per_video: int) -> None:
    """A line of figures."""
    step = warm.asked / videos * VIDEOS_OF_A_STEP
    print(
        f"  {name:20} {warm.asked / 1e6:7.1f} MB asked for ({step / 1e6:6.0f} MB a step of {VIDEOS_OF_A_STEP} videos); "
        f"warm {videos * per_video / warm.seconds:7.0f} windows/s; dropped {videos * per_video / dropped.seconds:6.0f} "
        f"windows/s, {dropped.from_disk / 1e6:.0f} MB from disk",
        flush=True,
    )


def measured(way: Callable[[], tuple[torch.Tensor, torch.Tensor, int]], files: Sequence[Path]) -> Measured:
    """One round, after the kernel was asked to forget `files`."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    disk, began = bytes_from_disk(), time.perf_counter()
    asked = way()[2]
    return Measured(time.perf_counter() - began, asked, bytes_from_disk() - disk)


def bytes_from_disk() -> int:
    """What this process made the kernel fetch."""
    rows = Path("/proc/self/io").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("read_bytes"))


def read_source(source: WindowSource) -> tuple[torch.Tensor, torch.Tensor, int]:
    """All videos by avpipe: audio, video and bytes read."""
    before = source.bytes_read
    batch = source.batch(seed=0, epoch=0, items=range(source.n_items))
    return torch.stack(batch.audio), batch.video, source.bytes_read - before


def read_whole(folder: Path, ids: Sequence[str], settings: Windows) -> tuple[torch.Tensor, torch.Tensor, int]:
    """All videos by the published procedure: whole arrays, pictures as float32, a slice and a maximum each."""
    audio, video, n_bytes = [], [], 0
    for video_id in ids:
        spectrogram = np.load(folder / video_id / f"{video_id}_spec.npz")["arr_0"]
        rows = {kind: np.load(folder / video_id / f"{video_id}_{kind}.npz")["features"] for kind in ("2d", "3d")}
        n_bytes += spectrogram.nbytes + sum(each.nbytes for each in rows.values())
        extent = Extent(spectrogram.shape[1], ((len(rows["2d"]), 1.0), (len(rows["3d"]), 1.5)))
        windows = draw_windows(settings, extent, None, generator(0, 0, video_id))
        padded = np.zeros((len(windows), settings.audio_frames, spectrogram.shape[0]), spectrogram.dtype)
        for target, window in zip(padded, windows, strict=True):
            part = spectrogram[:, slice(*window.frames)].T
            target[: len(part)] = part
        audio.append(torch.from_numpy(padded))
        halves = []
        for kind, rate in (("2d", 1.0), ("3d", 1.5)):
            whole = torch.from_numpy(rows[kind]).float()
            spans = [slice(int(w.seconds[0] * rate), int(w.seconds[1] * rate) + 1) for w in windows]
            halves.append(torch.stack([torch.nn.functional.normalize(whole[s].amax(0), dim=0) for s in spans]))
        video.append(torch.cat(halves, dim=1))
    return torch.cat(audio), torch.cat(video), n_bytes


if __name__ == "__main__":
    main()
