"""What FFmpeg's decoders of sound need before a cut, and which damage they refuse.

`python tests/tools/decoder_starts.py film.mp4` takes the sound of a file, puts noise over it, and makes a minute of it
in many codecs. At random places of each, a flushed decoder is given 0, 1, 2, ... packets from before the place, and its
samples from there on are compared bit for bit with those of a decoder that began at the file's start. Then single
packets are damaged, and counted is how many the decoder refuses (docs/odd_media.md, Sound before a segment).
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import imageio_ffmpeg

CODECS = {
    "pcm.wav": "pcm_s16le", "float.mkv": "pcm_f32le", "adpcm.wav": "adpcm_ima_wav", "ms.wav": "adpcm_ms",
    "qt.mov": "adpcm_ima_qt", "flac.mkv": "flac", "alac.m4a": "alac", "wavpack.mkv": "wavpack", "tta.tta": "tta",
    "mp3.mp3": "libmp3lame", "320k.mkv": "libmp3lame -b:a 320k", "32k.mkv": "libmp3lame -ar 48000 -b:a 32k",
    "8k.mp3": "libmp3lame -ar 8000 -ac 1 -b:a 8k", "vorbis.ogg": "libvorbis", "vorbis.mkv": "libvorbis -q:a 0",
    "opus.webm": "libopus", "voice.ogg": "libopus -b:a 16k -ac 1 -application voip", "aac.mp4": "aac",
    "plain_aac.mp4": "aac -aac_pns 0", "ac3.mkv": "ac3", "eac3.mkv": "eac3", "mp2.mkv": "mp2", "wma.asf": "wmav2",
    "nellymoser.flv": "nellymoser -ar 22050 -ac 1",
}  # fmt: skip
BEFORE = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 64)
COMPARED_PACKETS, DAMAGED_BYTES, FOR_GOOD = 120, 64, -1


def make(source: Path, target: Path, options: str) -> None:
    """A minute of a file's sound with noise over it."""
    noise = "anoisesrc=duration=60:sample_rate=44100:seed=3:amplitude=0.1"
    mixed = "[0:a][1:a]amix=inputs=2:duration=shortest,aformat=channel_layouts=stereo"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-stream_loop", "-1", "-i", str(source)]
    command += ["-f", "lavfi", "-i", noise, "-filter_complex", mixed, "-t", "60", "-vn", "-c:a", *options.split()]
    subprocess.run([*command, str(target)], check=True)


def samples(stream: av.AudioStream, packet: av.Packet) -> list[bytes] | None:
    """What a packet gives; None: the decoder refuses it."""
    try:
        return [frame.to_ndarray().tobytes() for frame in stream.decode(packet)]
    except av.FFmpegError:
        return None


def needed(stream: av.AudioStream, packets: list[av.Packet], whole: list[list[bytes] | None], place: int) -> int:
    """How many packets from before a place a decoder needs so that its samples are right."""
    for before in BEFORE:
        stream.codec_context.flush_buffers()
        for packet in packets[max(0, place - before) : place]:
            samples(stream, packet)
        following = range(place, min(place + COMPARED_PACKETS, len(packets)))
        if all(samples(stream, packets[number]) == whole[number] for number in following):
            return before
    return FOR_GOOD


def damages(rng: random.Random) -> Iterator[tuple[str, Callable[[bytes, int], bytes]]]:
    """Ways to damage a packet from a byte on."""
    yield (
        "noise",
        lambda data, at: data[:at] + rng.randbytes(len(data[at:][:DAMAGED_BYTES])) + data[at + DAMAGED_BYTES :],
    )
    yield "zeros", lambda data, at: data[:at] + bytes(len(data[at:][:DAMAGED_BYTES])) + data[at + DAMAGED_BYTES :]
    yield "cut", lambda data, at: data[: max(1, at)]


def refused(
    stream: av.AudioStream, packets: list[av.Packet], change: Callable[[bytes, int], bytes], tries: int
) -> float:
    """Share of damaged packets that the decoder refuses."""
    rng, count = random.Random(1), 0
    for _ in range(tries):
        packet = rng.choice(packets)
        damaged = av.Packet(change(bytes(packet), rng.randrange(packet.size)))
        damaged.pts, damaged.dts, damaged.time_base = packet.pts, packet.dts, packet.time_base
        stream.codec_context.flush_buffers()
        count += samples(stream, damaged) is None
    return count / tries


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a file with sound")
    parser.add_argument("--places", type=int, default=200, help="of each file (default: %(default)s)")
    chosen = parser.parse_args()
    av.logging.set_level(av.logging.PANIC)
    print("| | packets needed (-1: samples stay different): places | damaged packets refused |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, options in CODECS.items():
            path, rng = Path(folder) / name, random.Random(0)
            make(chosen.source, path, options)
            with av.open(str(path)) as container:
                stream = container.streams.audio[0]
                packets = [packet for packet in container.demux(stream) if packet.size]
                whole = [samples(stream, packet) for packet in packets]
                places = [rng.randrange(5, len(packets) - 3) for _ in range(chosen.places)]
                found = Counter(needed(stream, packets, whole, place) for place in places)
                counts = ", ".join(f"{before}: {count}" for before, count in sorted(found.items()))
                shares = [f"{kind} {refused(stream, packets[5:], change, 300):.0%}" for kind, change in damages(rng)]
            print(f"| {name} | {counts} | {', '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
