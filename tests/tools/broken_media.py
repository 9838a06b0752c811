"""A thousand broken media files from a seed, and what becomes of each: accounted for, or not.

`python tests/tools/broken_media.py --files 1000 --seed 0` makes small whole files of many containers and codecs, breaks
them, and gives each to the functions that jobs use: the probe, and the decoding of every extractor that looks at
pictures or sound. A clip is accounted for if it is ok or has a reason of the closed list; another exception, a dead
process and a clip that takes longer than `--limit` seconds are not, and make the exit status 1. Of a sample of the ok
ones it says how much the ffmpeg program decodes.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from avpipe.errors import Reason

PICTURES = "testsrc2=size=64x48:rate=25:duration={seconds}"
SOUND = "sine=frequency=440:sample_rate=48000:duration={seconds}"
H264 = "-c:v libx264 -preset ultrafast -bf 2 -g 12 -pix_fmt yuv420p"
WHOLE = {
    "h264.mp4": f"{H264} -c:a aac",
    "faststart.mp4": f"{H264} -c:a aac -movflags +faststart",
    "fragments.mp4": f"{H264} -c:a aac -movflags frag_keyframe+empty_moov",
    "hevc.mp4": "-c:v libx265 -preset ultrafast -x265-params log-level=none -c:a ac3",
    "mjpeg.mov": "-c:v mjpeg -pix_fmt yuvj420p -c:a pcm_s16le",
    "h264.mkv": f"{H264} -c:a libopus",
    "ffv1.mkv": "-c:v ffv1 -c:a flac",
    "vp9.webm": "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libvorbis",
    "mpeg4.avi": "-c:v mpeg4 -bf 2 -c:a libmp3lame",
    "h264.ts": f"{H264} -c:a aac",
    "mpeg2.ts": "-c:v mpeg2video -bf 2 -c:a mp2",
    "mpeg2.mpg": "-c:v mpeg2video -bf 2 -c:a mp2",
    "flv1.flv": "-c:v flv1 -c:a libmp3lame -ar 44100",
    "theora.ogv": "-c:v libtheora -c:a libvorbis",
    "wmv2.asf": "-c:v wmv2 -c:a wmav2",
    "sound.wav": "-vn -c:a pcm_s16le",
    "sound.mp3": "-vn -c:a libmp3lame",
    "sound.flac": "-vn -c:a flac",
    "sound.m4a": "-vn -c:a aac",
    "sound.ogg": "-vn -c:a libvorbis",
}
SECONDS = (1, 2, 3)
EXTRACTORS: dict[str, dict[str, object]] = {"c3d": {}, "vggish": {"postprocess": False}, "selavi": {}}

Generator = np.random.Generator


def ffmpeg(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "quiet", *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


def make_whole(folder: Path) -> dict[str, int]:
    """Make the whole files; gives the name of each and its length in seconds."""
    made = {}
    for number, (name, options) in enumerate(WHOLE.items()):
        seconds = SECONDS[number % len(SECONDS)]
        inputs = [part for each in (PICTURES, SOUND) for part in ("-f", "lavfi", "-i", each.format(seconds=seconds))]
        done = ffmpeg(*inputs, *options.split(), "-y", str(folder / name))
        assert done.returncode == 0, f"{name}: ffmpeg could not make it"
        made[name] = seconds
    return made


def _range(data: bytes, rng: Generator, most: float = 0.2) -> tuple[int, int]:
    begin = int(rng.integers(0, max(1, len(data))))
    return begin, min(len(data), begin + 1 + int(rng.integers(0, max(2, int(len(data) * most)))))


def truncated(data: bytes, rng: Generator, _: bytes) -> bytes:
    return data[: int(len(data) * rng.uniform(0.02, 0.999))]


def flipped(data: bytes, rng: Generator, _: bytes) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(0, len(data), int(2 ** rng.uniform(0, 8))):
        changed[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def zeroed(data: bytes, rng: Generator, _: bytes) -> bytes:
    begin, end = _range(data, rng)
    return data[:begin] + bytes(end - begin) + data[end:]


def noised(data: bytes, rng: Generator, _: bytes) -> bytes:
    begin, end = _range(data, rng)
    return data[:begin] + rng.bytes(end - begin) + data[end:]


def left_out(data: bytes, rng: Generator, _: bytes) -> bytes:
    begin, end = _range(data, rng)
    return data[:begin] + data[end:]


def joined(data: bytes, rng: Generator, other: bytes) -> bytes:
    return data + (data if rng.random() < 0.5 else other)


def trailing(data: bytes, rng: Generator, _: bytes) -> bytes:
    return data + rng.bytes(int(2 ** rng.uniform(0, 14)))


def other_header(data: bytes, rng: Generator, other: bytes) -> bytes:
    size = int(2 ** rng.uniform(2, 10))
    return other[:size] + data[size:]


def nearly_empty(data: bytes, rng: Generator, _: bytes) -> bytes:
    return data[: int(rng.integers(0, 64)) if rng.random() < 0.5 else 0]


BREAKS: list[Callable[[bytes, Generator, bytes], bytes]] = [
    truncated, flipped, zeroed, noised, left_out, joined, trailing, other_header, nearly_empty,
]  # fmt: skip


def drop_packets(source: Path, target: Path, rng: Generator) -> None:
    """Copy a file without some of its packets: here and there, or many in a row."""
    if rng.random() < 0.5:
        begin, length = int(rng.integers(0, 60)), int(rng.integers(1, 30))
        dropped = f"between(n\\,{begin}\\,{begin + length})"
    else:
        dropped = f"lt(mod(n*7919+{int(rng.integers(0, 997))}\\,997)\\,{int(rng.integers(20, 300))})"
    ffmpeg("-i", str(source), "-map", "0", "-c", "copy", "-bsf", f"noise=drop={dropped}", "-y", str(target))


def break_file(whole: Path, names: list[str], number: int, seed: int) -> tuple[Path, str, str]:
    """Make broken file `number` beside the whole ones; gives it, how it was broken, and what it was."""
    rng = np.random.default_rng([seed, number])
    name, other = (names[int(rng.integers(0, len(names)))] for _ in range(2))
    target = whole / f"broken_{number}{Path(name).suffix}"
    kind = int(rng.integers(0, len(BREAKS) + 1))
    if kind == len(BREAKS):
        drop_packets(whole / name, target, rng)
        return target, "packets dropped", name
    change = BREAKS[kind]
    target.write_bytes(change((whole / name).read_bytes(), rng, (whole / other).read_bytes()))
    return target, change.__name__.replace("_", " "), name


@dataclass
class Verdict:
    """What became of a file.

    Attributes:
        status: "ok", a reason, or what must not be: "exception", "crash", "hang".
        detail: of the probe.
        extracted: status of each extractor.
        pictures, seconds: pictures and seconds of sound that were decoded, where they are.
        told: shares of pictures and sound that status tables tell, the smaller of the extractors'; None: they do not.
    """

    status: str
    detail: str = ""
    extracted: dict[str, str] | None = None
    pictures: int | None = None
    seconds: float | None = None
    told: tuple[float | None, float | None] = (None, None)


def judge(path: Path) -> Verdict:
    """Probe a file and decode it for some extractors, as jobs do."""
    from avpipe.features.build import build_extractor
    from avpipe.features.decoding import Decoder
    from avpipe.inventory.probing import Requirements, probe_shard
    from avpipe.io.tables import read_rows
    from avpipe.media.clip import Clip
    from avpipe.sources.local import SourceClip

    state = path.stat()
    table = path.parent / "probe.parquet"
    table.unlink(missing_ok=True)
    source = SourceClip("a", "A", str(path), None, None, state.st_size, state.st_mtime_ns)
    probe_shard([source], Requirements(False, 0.0, None), table)
    (row,) = read_rows(table)
    verdict = Verdict(row["status"], row["detail"])
    if verdict.status not in ("ok", Reason.NO_VIDEO):  # the sound of a file without pictures is for `avpipe extract`
        return verdict
    verdict.extracted, told = {}, []
    for name, settings in EXTRACTORS.items():
        extractor = build_extractor(name, settings)
        status, windows = "ok", 0
        for rows, piece in Decoder(extractor, [Clip("a", path)], 1, 60.0, 4):
            shares = rows.decoded.shares(row["duration_seconds"])
            if isinstance(piece, Exception):
                status = piece.reason.value
            windows += piece is not None
        verdict.extracted[name] = status if windows else Reason.TOO_SHORT.value
        told.append((shares.pictures_share, shares.sound_share))
    pictures, sound = zip(*told, strict=True)
    verdict.told = (smallest(pictures), smallest(sound))
    verdict.pictures, verdict.seconds = decoded(path)
    return verdict


def smallest(told: Sequence[float | None]) -> float | None:
    """The smallest of the shares that are known."""
    return min((share for share in told if share is not None), default=None)


def decoded(path: Path) -> tuple[int | None, float | None]:
    """Pictures and seconds of sound of a file; None where there is none of the kind, or it is refused."""
    from avpipe.errors import ClipFailure
    from avpipe.media.cut import make_cut
    from avpipe.media.decode import audio_blocks, chosen_frames

    pictures = seconds = None
    with contextlib.suppress(ClipFailure):
        pictures = sum(1 for _ in chosen_frames(path, make_cut(None, None), None))
    with contextlib.suppress(ClipFailure):
        reader = audio_blocks(path)
        seconds = sum(len(block) for block in reader) / reader.rate_hz
    return pictures, seconds


def decoded_by_the_program(path: Path) -> tuple[int, float]:
    """Pictures and seconds of sound that the ffmpeg program gives, whatever it complains of."""
    frames = ffmpeg("-i", f"file:{path}", "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framecrc", "-").stdout
    sound = ffmpeg("-i", f"file:{path}", "-map", "0:a:0", "-ac", "1", "-ar", "16000", "-f", "s16le", "-").stdout
    return sum(1 for line in frames.splitlines() if line[:1] not in (b"#", b"")), len(sound) / 2 / 16000


def serve(connection: Connection) -> None:
    """Judge file after file, in a process of its own."""
    with open(os.devnull, "w") as nothing:  # noqa: PTH123 - FFmpeg writes to the file descriptor
        os.dup2(nothing.fileno(), 2)
    while True:
        path = connection.recv()
        try:
            verdict = judge(path)
        except BaseException:
            verdict = Verdict("exception", traceback.format_exc())
        connection.send(verdict)


class Judge:
    """A process that judges files; it is started anew when one kills it or takes too long."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit = limit_seconds
        self._process: multiprocessing.process.BaseProcess | None = None

    def __call__(self, path: Path) -> Verdict:
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._connection, other = context.Pipe()
            self._process = context.Process(target=serve, args=(other,), daemon=True)
            self._process.start()
            other.close()
            self._connection.send(path)
            limit = self._limit + 60.0  # its libraries take a while to load
        else:
            self._connection.send(path)
            limit = self._limit
        try:
            if self._connection.poll(limit):
                return self._connection.recv()
            status = "hang"
        except (EOFError, ConnectionResetError):
            status = "crash"
        self.close()
        return Verdict(status)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


@dataclass
class Found:
    """A broken file, and what became of it."""

    number: int
    kind: str
    name: str
    verdict: Verdict
    program: tuple[int, float] | None = None

    @property
    def outcomes(self) -> list[str]:
        return [self.verdict.status, *(self.verdict.extracted or {}).values()]

    @property
    def is_accounted_for(self) -> bool:
        return all(each == "ok" or each in set(Reason) for each in self.outcomes)


def run(
    files: int, seed: int, limit_seconds: float, sample: int, folder: Path
) -> tuple[list[Found], dict[str, Verdict]]:
    """Break files and judge them; gives what was found, and the verdicts of the whole files."""
    whole, judge_file = make_whole(folder), Judge(limit_seconds)
    verdicts = {name: judge_file(folder / name) for name in whole}
    compared = set(np.random.default_rng(seed).permutation(files)[:sample].tolist())
    found = []
    try:
        for number in range(files):
            path, kind, name = break_file(folder, list(whole), number, seed)
            each = Found(number, kind, name, judge_file(path))
            if number in compared and each.verdict.status == "ok":
                each.program = decoded_by_the_program(path)
            found.append(each)
            if each.is_accounted_for:
                path.unlink()
    finally:
        judge_file.close()
    return found, verdicts


def share(part: float | None, whole: float | None) -> float | None:
    return None if not whole else -1.0 if part is None else part / whole


def shares(found: list[Found], whole: dict[str, Verdict]) -> Iterator[tuple[Found, list[float | None]]]:
    """For each file that is ok: the shares of the whole file's pictures and sound that were decoded; -1: refused."""
    for each in found:
        if each.verdict.status == "ok":
            ours, all_of_it = each.verdict, whole[each.name]
            yield each, [share(ours.pictures, all_of_it.pictures), share(ours.seconds, all_of_it.seconds)]


def row_of(cells: list[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def report(found: list[Found], whole: dict[str, Verdict]) -> Iterator[str]:
    """Lines of Markdown."""
    statuses = [status for status, _ in Counter(each.verdict.status for each in found).most_common()]
    yield row_of(["broken by", "files", *statuses])
    yield row_of(["---"] * (len(statuses) + 2))
    for kind in [*sorted({each.kind for each in found}), "all"]:
        counts = Counter(each.verdict.status for each in found if kind in (each.kind, "all"))
        yield row_of([kind, counts.total(), *(counts[status] for status in statuses)])
    yield ""
    reasons = ["ok", *(each.value for each in Reason)]
    yield row_of(["extractor, of files that are ok or have no pictures", *reasons])
    yield row_of(["---"] * (len(reasons) + 1))
    for name in EXTRACTORS:
        counts = Counter((each.verdict.extracted or {}).get(name) for each in found)
        yield row_of([name, *(counts[status] for status in reasons)])
    yield ""
    yield row_of(
        ["of the whole file's", "99 % and more", "75 to 99 %", "under 75 %", "refused later", "told, of those below"]
    )
    yield row_of(["---"] * 6)
    limits = ((0.99, np.inf), (0.75, 0.99), (0.0, 0.75), (-1.0, 0.0))
    for index, what in enumerate(("pictures", "sound")):
        all_parts = [(each.verdict.told[index], parts[index]) for each, parts in shares(found, whole)]
        known = [(told, part) for told, part in all_parts if part is not None]
        below = [told is not None and told < 1 for told, part in known if 0 <= part < 0.99]
        counted = [sum(low <= part < high for _, part in known) for low, high in limits]
        yield row_of([what, *counted, f"{sum(below)} of {len(below)}"])
    yield ""
    yield from differences([each for each in found if each.program is not None])
    for each in found:
        if not each.is_accounted_for:
            yield f"NOT ACCOUNTED FOR: {each.number} ({each.name}, {each.kind}): {each.outcomes}"
            yield each.verdict.detail


def differences(compared: list[Found]) -> Iterator[str]:
    """Lines about what was decoded, where the ffmpeg program decodes another amount."""
    yield f"Compared with the ffmpeg program: {len(compared)} files that are ok."
    for each in compared:
        pictures, seconds = each.program or (0, 0.0)
        pairs = (("pictures", each.verdict.pictures, pictures, 2), ("s of sound", each.verdict.seconds, seconds, 0.1))
        for what, ours, theirs, most in pairs:
            if ours is not None and abs(ours - theirs) > most:
                yield f"- {each.number} ({each.name}, {each.kind}): {ours:.5g} {what}, the program gives {theirs:.5g}"


def main() -> int:
    """Run and print; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="how many broken files")
    parser.add_argument("--seed", type=int, default=0, help="decides what is broken and how")
    parser.add_argument("--limit", type=float, default=30.0, help="longest time for a file, in seconds")
    parser.add_argument("--sample", type=int, default=200, help="of how many files the ffmpeg program is asked too")
    parser.add_argument("--keep", type=Path, help="folder for the files; those not accounted for stay there")
    given = parser.parse_args()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        if given.keep is not None:
            given.keep.mkdir(parents=True, exist_ok=True)
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found, whole = run(given.files, given.seed, given.limit, given.sample, folder)
    lost = sum(not each.is_accounted_for for each in found)
    spoiled = [name for name, verdict in whole.items() if verdict.status not in ("ok", Reason.NO_VIDEO)]
    lines = [
        *report(found, whole),
        *(f"WHOLE FILE REFUSED: {name}: {whole[name].detail}" for name in spoiled),
        f"seed {given.seed}: {len(found)} files in {time.monotonic() - began:.0f} s, {lost} not accounted for",
    ]
    print("\n".join(lines))
    return 1 if lost or spoiled else 0


if __name__ == "__main__":
    sys.exit(main())
