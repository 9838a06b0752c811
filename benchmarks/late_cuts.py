"""Cuts early and late in a long file: what the sound before a segment costs.

For each codec, in one run: seconds of processor time to read ten seconds of sound at 5 s and near the end of a file of
ten minutes, their ratio, and what demuxing the whole file takes alone, and with decoding. The sound is noise in
stereo.

    python benchmarks/late_cuts.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ffmpeg

from avpipe.media.audio import audio_blocks
from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.source import find_audio, open_media, read_only, read_packets

SOUNDS = {
    "aac.mp4": "aac", "opus.webm": "libopus", "mp3.mp3": "libmp3lame", "mp3.mkv": "libmp3lame",
    "vorbis.webm": "libvorbis", "flac.flac": "flac", "alac.m4a": "alac", "ac3.ts": "ac3", "mp2.mpg": "mp2",
    "pcm.wav": "pcm_s16le",
}  # fmt: skip
CUT_SECONDS, EARLY_SECONDS = 10, 5


def least(rounds: int, work: Callable[[], object]) -> float:
    """Seconds of processor time of the fastest of some rounds."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def cut(path: Path, start: float) -> None:
    """Read ten seconds of sound."""
    for _ in audio_blocks(path, start_seconds=start, end_seconds=start + CUT_SECONDS):
        pass


def bare(path: Path, *, decode: bool) -> None:
    """Demux the sound, and decode it where asked for, and do nothing else."""
    with open_media(path) as container:
        stream = find_audio(container)
        assert stream is not None
        read_only(container, stream, path)
        for packet in read_packets(container, stream):
            if decode:
                stream.decode(packet)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600, help="length of the files (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the best counts (default: %(default)s)")
    chosen = parser.parse_args()
    late = chosen.seconds - 2 * CUT_SECONDS
    print(f"| | 10 s at {EARLY_SECONDS} s | 10 s at {late} s | ratio | demuxing alone | demuxing and decoding alone |")
    print("| --- | --- | --- | --- | --- | --- |")
    noise = f"anoisesrc=duration={chosen.seconds}:sample_rate=44100:seed=3:amplitude=0.3,aformat=channel_layouts=stereo"
    with tempfile.TemporaryDirectory() as folder:
        for name, codec in SOUNDS.items():
            path = Path(folder) / name
            output = ffmpeg.output(ffmpeg.input(noise, f="lavfi"), f"file:{path}", acodec=codec)
            run_ffmpeg(output, path, timeout_seconds=None)
            early_s, late_s = (least(chosen.rounds, partial(cut, path, start)) for start in (EARLY_SECONDS, late))
            alone = [least(chosen.rounds, partial(bare, path, decode=decode)) for decode in (False, True)]
            cells = [
                f"{early_s:.3f} s",
                f"{late_s:.2f} s",
                f"{late_s / early_s:.1f}",
                *(f"{each:.2f} s" for each in alone),
            ]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
