"""Odd media, made on the fly, and what each extractor makes of them.

`python tests/features/odd_media.py --table` prints the table of docs/ as measured. Networks are replaced by a
stand-in: decoding, cutting, batching and accounting are looked at here, not the numbers.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import torch

from avpipe.errors import ClipFailure
from avpipe.features import names
from avpipe.features.build import build_extractor
from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.streaming import Outcome
from avpipe.features.types import Extractor, Rows, Window
from avpipe.media.clip import Clip
from avpipe.media.ffmpeg import run_ffmpeg

Build = Callable[[Path], None]
PICTURE = "testsrc2=size=64x48:rate=25:duration=2"
SOUND = "sine=frequency=440:sample_rate=16000:duration=2"
MPEG = "-c:v mpeg2video -bf 2 -c:a mp2"
VP8 = "-c:v libvpx -deadline realtime -cpu-used 8 -c:a libopus -ar 48000"
# B-frames and a key frame every half second, as in films at large; the encoder's look-ahead costs most of the time.
H264 = "-c:v libx264 -preset ultrafast -bf 2 -g 12 -pix_fmt yuv420p"

RICH = ("192x144", "quad")
"""Pictures and sound with which a quarter of an hour holds as many bytes as an hour of `build_long`'s own."""

# For the long file: fewer frames than published, since all of them take long, and small batches, so that two
# minutes fill whatever waits.
THRIFTY: dict[str, dict[str, object]] = {
    "resnet152": {"rate_hz": 0.25, "batch_size": 2},
    "resnext101": {"rate_hz": 1.0, "batch_size": 1},
    "c3d": {"rate_hz": 1.0, "batch_size": 1},
    "vggish": {"batch_size": 2},
    "selavi": {"window_frames": 2, "audio_rate_hz": 16_000, "batch_size": 2},
    "spectrogram": {},
}


@dataclass(frozen=True)
class Case:
    """One odd file.

    Attributes:
        name: of the file.
        what: a line for the table.
        build: makes the file.
        start_seconds, end_seconds: the segment that is asked for.
        picture_seconds, sound_seconds: how much of each an extractor has to look at, the file's own lead
            included; None: there is none.
    """

    name: str
    what: str
    build: Build
    picture_seconds: float | None = 2.0
    sound_seconds: float | None = 2.0
    start_seconds: float | None = None
    end_seconds: float | None = None

    def clip(self, folder: Path) -> Clip:
        """The clip, once the file was built in a folder."""
        return Clip(self.name, folder / self.name, self.start_seconds, self.end_seconds)


def ffmpeg(target: Path, *arguments: str) -> None:
    """Run the ffmpeg program with these arguments and a target."""
    run_ffmpeg(SimpleNamespace(get_args=lambda: [*arguments, f"file:{target}"]), target, timeout_seconds=60)


def film(video: str | None = PICTURE, audio: str | None = SOUND, options: str = H264) -> Build:
    """Encode generated pictures and sound."""
    inputs = [part for source in (video, audio) if source for part in ("-f", "lavfi", "-i", source)]
    return lambda target: ffmpeg(target, *inputs, *shlex.split(options))


def copied(build: Build, options: str, before: str = "", suffix: str = ".mp4") -> Build:
    """Copy the packets of a file, with options for its reader and for its writer."""

    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / f"source{suffix}"
            build(source)
            ffmpeg(target, *shlex.split(before), "-i", str(source), "-c", "copy", *shlex.split(options))

    return make


def changed(build: Build, change: Callable[[bytes], bytes], suffix: str | None = None) -> Build:
    """Change the bytes of a file; with a suffix: a file of that kind under the target's name."""

    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / f"source{suffix or target.suffix}"
            build(source)
            target.write_bytes(change(source.read_bytes()))

    return make


def without(build: Build, kind: str, is_lost: Callable[[int, av.Packet], bool]) -> Build:
    """Leave out some packets of the pictures or of the sound, by their number and themselves."""

    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source.mp4"  # whose packets have all their times
            build(source)
            with av.open(str(source)) as given, av.open(str(target), "w") as written:
                streams = {stream.index: written.add_stream_from_template(stream) for stream in given.streams}
                counts = dict.fromkeys(streams, -1)
                for packet in given.demux():
                    index = packet.stream.index
                    counts[index] += 1
                    if packet.size and not (packet.stream.type == kind and is_lost(counts[index], packet)):
                        packet.stream = streams[index]
                        written.mux(packet)

    return make


def twice(data: bytes) -> bytes:
    """A file behind itself."""
    return data + data


def second(options: str) -> Build:
    """Encode one second."""
    return film(f"{PICTURE.rpartition('=')[0]}=1", f"{SOUND.rpartition('=')[0]}=1", options)


def contents(data: bytes) -> Build:
    """Write these bytes."""
    return lambda target: target.write_bytes(data) and None


def share(part: float) -> Callable[[bytes], bytes]:
    """Keep this part of a file."""
    return lambda data: data[: int(len(data) * part)]


def damage(data: bytes) -> bytes:
    """Overwrite 3 % of a file around its middle."""
    begin, length = len(data) // 2, len(data) * 3 // 100
    noise = np.random.default_rng(0).integers(0, 256, length, dtype=np.uint8).tobytes()
    return data[:begin] + noise + data[begin + length :]


def unchanged(data: bytes) -> bytes:
    """Keep all."""
    return data


def variable_rate(target: Path) -> None:
    """Frames at uneven times, from 10 ms to 0.5 s apart, for 2 s; with sound."""
    ticks = np.cumsum([0, 40, 10, 30, 500, 33, 34, 33, 200, 20, 20, 400, 40, 40, 300, 100, 160]).tolist()
    with av.open(f"file:{target}", "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 12 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        wave = np.sin(np.arange(32_000) / 6, dtype=np.float32)[None]
        tone = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        tone.sample_rate, tone.pts = 16_000, 0
        container.mux(sound.encode(tone))
        container.mux(sound.encode(None))


def sound_at(rate: int) -> Build:
    return film(audio=f"sine=frequency=440:sample_rate={rate}:duration=2", options=f"{H264} -c:a pcm_s16le")


def picture_at(rate: str) -> Build:
    return film(f"testsrc2=size=64x48:rate={rate}:duration=2")


def sized(size: str, options: str = H264) -> Build:
    return film(f"testsrc2=size={size}:rate=25:duration=2", options=options)


FILM = film()


def longer(options: str) -> Build:
    return film("testsrc2=size=64x48:rate=25:duration=4", "sine=sample_rate=16000:duration=4", options)


LONGER = longer(H264)
LARGER = sized("160x120")  # so that damage strikes the picture as well
_ALONE = {"sound_seconds": None}
_SOUND_ONLY: dict[str, Any] = {"picture_seconds": None}
_NOTHING: dict[str, Any] = {"picture_seconds": None, "sound_seconds": None}
COVER = "-map 1 -map 0 -c:v mjpeg -disposition:v attached_pic"
STILL = "testsrc2=size=64x48:rate=25:duration=0.04"
NAMES = [
    "with spaces.mp4",
    "quotes'\"`$(x).mp4",
    "new\nline.mp4",
    "ünï 视频 🎬.mp4",
    "-dash.mp4",
    "12:30 %03d [1]*?.mp4",
]

CASES = [
    Case("ordinary.mp4", "ordinary: 25 fps, mono 16 kHz, 2 s", FILM),
    Case("no_sound.mp4", "no sound track", film(audio=None), **_ALONE),
    Case("no_picture.wav", "no picture, WAV", film(None, options=""), **_SOUND_ONLY),
    Case("no_picture.m4a", "no picture, AAC", film(None, options=""), **_SOUND_ONLY),
    Case("cover.m4a", "cover art and sound", film(STILL, SOUND, COVER), **_SOUND_ONLY),
    Case("photo.jpg", "a photograph", film(audio=None, options="-frames:v 1"), **_NOTHING),
    Case("animation.gif", "an animated GIF", film(audio=None, options=""), **_ALONE),
    Case("stereo.mp4", "stereo", film(options=f"{H264} -ac 2")),
    Case("surround.mp4", "5.1 sound", film(options=f"{H264} -ac 6 -ar 48000")),
    Case("sound_8khz.mkv", "sound at 8 kHz", sound_at(8000)),
    Case("sound_11khz.mkv", "sound at 11.025 kHz", sound_at(11_025)),
    Case("sound_44khz.mkv", "sound at 44.1 kHz", sound_at(44_100)),
    Case("sound_96khz.mkv", "sound at 96 kHz", sound_at(96_000)),
    Case("sound_float.mkv", "sound of 32-bit floats", film(options=f"{H264} -c:a pcm_f32le")),
    Case("silence.mp4", "digital silence", film(audio="anullsrc=r=16000:cl=mono:d=2")),
    Case("short_sound.mkv", "0.5 s of sound under 2 s of pictures",
         film(audio="sine=sample_rate=16000:duration=0.5", options=f"{H264} -c:a pcm_s16le"), 2.0, 0.5),
    Case("blip.mkv", "10 ms of sound under 2 s of pictures",
         film(audio="sine=sample_rate=16000:duration=0.01", options=f"{H264} -c:a pcm_s16le"), 2.0, 0.01),
    Case("late_sound.mkv", "sound that begins 1 s after the picture",
         film(audio="sine=sample_rate=16000:duration=1", options=f"{H264} -c:a pcm_s16le -af asetpts=PTS+1/TB")),
    Case("late_picture.mkv", "picture that begins 1 s after the sound",
         film("testsrc2=size=64x48:rate=25:duration=1", options=f"{H264} -vf setpts=PTS+1/TB -fps_mode passthrough")),
    Case("1fps.mp4", "1 fps", picture_at("1")),
    Case("ntsc.mp4", "29.97 fps", picture_at("30000/1001")),
    Case("120fps.mp4", "120 fps", picture_at("120")),
    Case("variable.mp4", "variable frame rate", variable_rate),
    Case("one_frame.mp4", "one frame, no sound", film(audio=None, options=f"{H264} -frames:v 1"), 0.04, None),
    Case("one_frame_sound.mp4", "one frame and 2 s of sound",
         film(STILL), 0.04),
    Case("rotated_90.mp4", "rotation tag, 90°", copied(FILM, "", "-display_rotation 90")),
    Case("rotated_180.mp4", "rotation tag, 180°", copied(FILM, "", "-display_rotation 180")),
    Case("odd_size.mkv", "65×49 pixels", sized("65x49", "-c:v libx264 -preset ultrafast -pix_fmt yuv444p")),
    Case("tiny.mkv", "2×2 pixels", sized("2x2", "-c:v ffv1")),
    Case("ribbon.mkv", "320×8 pixels", sized("320x8")),
    Case("tower.mkv", "8×320 pixels", sized("8x320")),
    Case("anamorphic.mp4", "non-square pixels, 2:1", film(options=f"{H264} -vf setsar=2")),
    Case("10bit.mp4", "10-bit H.264", film(options="-c:v libx264 -preset ultrafast -pix_fmt yuv420p10le")),
    Case("grey.mkv", "grey, FFV1", film(options="-c:v ffv1 -pix_fmt gray")),
    Case("alpha.mov", "alpha channel, QuickTime animation", film(options="-c:v qtrle -pix_fmt argb")),
    Case("alpha.webm", "alpha channel, VP9",
         film(options="-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuva420p -c:a libopus")),
    Case("interlaced.mpg", "interlaced MPEG-2",
         film(options="-c:v mpeg2video -flags +ilme+ildct -vf setfield=tff -ar 48000")),
    Case("mjpeg.avi", "Motion JPEG in AVI", film(options="-c:v mjpeg -c:a pcm_s16le")),
    Case("xvid.avi", "MPEG-4 ASP with B-frames in AVI", film(options="-c:v mpeg4 -bf 2 -c:a libmp3lame")),
    Case("edit_list.mp4", "edit list: 1.2 s out of 2 s, not at a key frame",
         copied(FILM, "-t 1.2", "-ss 0.7"), 1.3, 1.22),
    Case("late_start.mkv", "first time stamp 5 s", copied(FILM, "-output_ts_offset 5")),
    Case("broadcast.ts", "MPEG transport stream, first time stamp 1.4 s", FILM),
    Case("two_tracks.mkv", "two video and two sound tracks",
         film(f"{PICTURE},split[out0][out1]", f"{SOUND},asplit[out0][out1]", f"{H264} -map 0 -map 1")),
    Case("truncated_head.mp4", "MP4 cut in half, index at its start",
         changed(longer(f"{H264} -movflags +faststart"), share(0.5))),
    Case("truncated_tail.mp4", "MP4 cut in half, index at its end (lost)", changed(LONGER, share(0.5))),
    Case("truncated.mkv", "Matroska cut in half, 4 s when whole", changed(LONGER, share(0.5))),
    Case("truncated.avi", "AVI cut in half", changed(longer("-c:v mpeg4 -c:a pcm_s16le"), share(0.5))),
    Case("truncated.wav", "WAV cut in half", changed(film(None, options=""), share(0.5)), **_SOUND_ONLY),
    Case("damaged.mp4", "MP4 damaged in the middle", changed(LARGER, damage)),
    Case("damaged.mkv", "Matroska damaged in the middle", changed(LARGER, damage)),
    Case("damaged.ts", "MPEG transport stream damaged in the middle", changed(LARGER, damage)),
    Case("joined.mpg", "two MPEG program streams of 1 s, joined by `cat`", changed(second(MPEG), twice), 2.0, 2.05),
    Case("joined.ts", "two MPEG transport streams of 1 s, joined by `cat`", changed(second(H264), twice), 2.05, 2.1),
    Case("joined.webm", "two WebMs of 1 s, joined by `cat`", changed(second(VP8), twice)),
    Case("joined.flv", "two FLVs of 1 s, joined by `cat`", changed(second(f"{H264} -ar 44100"), twice)),
    Case("joined.mp4", "two MP4s of 1 s, joined by `cat`", changed(second(H264), twice)),
    Case("no_key_frame.mkv", "no key frame in the first second",
         without(FILM, "video", lambda number, packet: number < 25 and packet.is_keyframe), sound_seconds=2.11),
    Case("no_reference.mp4", "a picture that others rest on is missing",
         without(film(options="-c:v libx264 -preset medium -g 50"), "video",
                 lambda number, packet: 10 < number < 40 and packet.pts - packet.dts > 3 * packet.duration)),
    Case("gaps.mp4", "every tenth packet of sound is missing",
         without(FILM, "audio", lambda number, packet: number % 10 == 5)),
    Case("silent_first.mkv", "the first of two sound tracks is silent, the second is marked",
         film(audio="anullsrc=sample_rate=16000", options=f"-f lavfi -i {SOUND} -map 0 -map 1 -map 2 -t 2 {H264} "
              "-disposition:a:0 0 -disposition:a:1 default")),
    Case("still.ogv", "a still picture in Theora (empty packets)",
         film("color=size=64x48:rate=25:duration=2", options="-c:v libtheora -c:a libvorbis")),
    Case("text_behind.mp3", "text behind the end of an MP3",
         changed(film(None, options=""), lambda data: data + b"Written by a program that meant well. " * 9),
         **_SOUND_ONLY),
    Case("mp4_called.avi", "MP4 named .avi", changed(FILM, unchanged, ".mp4")),
    Case("mkv_called.txt", "Matroska named .txt", changed(FILM, unchanged, ".mkv")),
    Case("text_called.mp4", "a web page named .mp4", contents(b"<html><body>Not found</body></html>\n" * 40)),
    Case("playlist_called.mp4",
         "a playlist of other files named .mp4", contents(b"ffconcat version 1.0\nfile 1fps.mp4\n")),
    Case("empty.mp4", "0 bytes", contents(b"")),
    Case("noise.mp4", "random bytes", contents(np.random.default_rng(0).bytes(50_000))),
    Case("folder.mp4", "a folder", Path.mkdir),
    Case("missing.mp4", "no such file", lambda target: None),
    *(Case(name, f"name `` {name!r} ``", FILM) for name in NAMES),
    Case("segment.mp4", "segment 0.5 s to 1.5 s", FILM, 1.0, 1.0, 0.5, 1.5),
    Case("segment_beyond.mp4", "segment 1 s to 9 s of 2 s", FILM, 1.0, 1.0, 1.0, 9.0),
    Case("segment_after.mp4", "segment 5 s to 6 s of 2 s", FILM, None, None, 5.0, 6.0),
    Case("segment_1ms.mp4", "segment of 1 ms", FILM, 0.04, 0.001, 1.0, 1.001),
]  # fmt: skip


def build_all(folder: Path, cases: Iterable[Case] = tuple(CASES)) -> list[Clip]:
    """Make the files; those that several cases share are made once."""
    made: dict[Build, Path] = {}
    for case in cases:
        target = folder / case.name
        if case.build in made and made[case.build].suffix == target.suffix:
            shutil.copy(made[case.build], target)
        else:
            case.build(target)
            made[case.build] = target
    return [case.clip(folder) for case in cases]


def stand_in(name: str, **settings: object) -> Extractor:
    """An extractor that gives rows of the right size without its network: a window's mean, and a ramp."""
    extractor = build_extractor(name, ({"postprocess": False} if name == "vggish" else {}) | settings)

    def forward(network: torch.nn.Module, stream: str, batch: torch.Tensor) -> torch.Tensor:
        means = batch.float().flatten(start_dim=1).mean(dim=1, keepdim=True)
        return means + torch.linspace(1, 2, extractor.streams[stream])

    extractor.forward = forward  # type: ignore[method-assign]
    return extractor


def outcomes(name: str, clips: Iterable[Clip]) -> dict[str, Outcome]:
    """What an extractor makes of clips, all in one run, by clip id."""
    network = prepare_network(torch.nn.Identity(), "cpu")
    found = list(extract_clips(stand_in(name), network, clips, decode_workers=2))
    assert len(found) == len({clip.clip_id for clip, _ in found}), "a clip came out twice"
    return {clip.clip_id: outcome for clip, outcome in found}


def word(outcome: Outcome) -> int | str:
    """Number of rows, or the reason why there are none."""
    if isinstance(outcome, ClipFailure):
        return outcome.reason.value
    (rows,) = {len(features.values) for features in outcome.values()}
    return rows


def build_long(target: Path, seconds: int, size: str = "96x72", layout: str = "mono") -> None:
    """A film of any length in a few seconds: 1 picture and 16,000 samples a second."""
    picture = f"testsrc2=size={size}:rate=1:duration={seconds}"
    sound = f"sine=sample_rate=16000:duration={seconds},aformat=channel_layouts={layout}"
    film(picture, sound, f"{H264} -c:a flac")(target)


def peak_megabytes(name: str, path: Path) -> float:
    """Decode, cut and batch a file, and give the most memory that this process ever had.

    The features themselves, which do grow with the length (4 bytes a number), are left out: of a window's row,
    and of each block of rows, one number is kept.
    """
    torch.set_num_threads(1)  # there is nothing to compute, and idle threads spin
    extractor = stand_in(name, **THRIFTY[name])
    windows = extractor.windows

    def thinned(clip: Clip) -> Iterator[Window | Rows]:
        for piece in windows(clip):
            if isinstance(piece, Rows):
                piece = Rows(piece.stream, piece.values[:1, :1].copy(), piece.times[:1].copy())
            yield piece

    extractor.windows = thinned  # type: ignore[method-assign]
    extractor.forward = lambda network, stream, batch: batch.flatten(start_dim=1)[:, :1]  # type: ignore[method-assign]
    ((_, outcome),) = extract_clips(extractor, prepare_network(torch.nn.Identity(), "cpu"), [Clip("long", path)])
    if isinstance(outcome, ClipFailure):
        raise outcome
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux includes the process that started this one
        (kilobytes,) = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(kilobytes) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def markdown_table(measured: dict[str, dict[str, Outcome]]) -> str:
    """A row for each file, a column for each extractor."""
    lines = [["input", *measured], ["---"] * (1 + len(measured))]
    lines += [[case.what, *(str(word(measured[name][case.name])) for name in measured)] for case in CASES]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Print the table, the reasons in full, or peaks of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="the table in markdown; without: every reason in full")
    parser.add_argument("--extractors", nargs="+", default=names())
    parser.add_argument("--memory", nargs="+", type=Path, metavar="FILE", help="peak MB after each file, one extractor")
    arguments = parser.parse_args()
    if arguments.memory:
        for path in arguments.memory:
            sys.stdout.write(f"{peak_megabytes(arguments.extractors[0], path):.1f}\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        clips = build_all(Path(folder))
        measured = {name: outcomes(name, clips) for name in arguments.extractors}
    if arguments.table:
        sys.stdout.write(markdown_table(measured) + "\n")
        return
    for case in CASES:
        for name, found in measured.items():
            outcome = found[case.name]
            if not isinstance(outcome, ClipFailure):
                outcome = {stream: (len(it.values), it.times[-1].tolist()) for stream, it in outcome.items()}
            sys.stdout.write(f"{case.name!r:28} {name:12} {outcome}\n")


if __name__ == "__main__":
    main()
