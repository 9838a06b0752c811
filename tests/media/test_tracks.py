"""Of several tracks the one that the ffmpeg program takes."""

from __future__ import annotations

import av
import ffmpeg
import numpy as np
import pytest

from avpipe.media.decode import decode_video, read_audio
from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.probe import probe_media

SILENT, TONE = "anullsrc=sample_rate=48000:channel_layout=mono", "sine=sample_rate=48000"
STEREO = "aevalsrc='0.2*sin(900*t)|0.2*sin(700*t)':sample_rate=48000"


@pytest.fixture
def tracks(tmp_path):
    def build(name, sounds, pictures=("64x48",), marks=(), **options):
        video = [ffmpeg.input(f"testsrc2=size={size}:rate=25:duration=2", f="lavfi") for size in pictures]
        audio = [ffmpeg.input(f"{sound}", f="lavfi", t=2) for sound in sounds]
        path = tmp_path / name
        marks = {f"disposition:{stream}": mark for stream, mark in marks}
        options = {"vcodec": "mpeg4", "acodec": "aac"} | options | marks
        run_ffmpeg(ffmpeg.output(*video, *audio, f"file:{path}", **options), path, timeout_seconds=60)
        return path

    return build


def of_the_program(path, raw, **options):
    """What the program writes when it chooses the streams itself."""
    run_ffmpeg(ffmpeg.output(ffmpeg.input(f"file:{path}"), f"file:{raw}", **options), path, timeout_seconds=60)
    return raw


@pytest.mark.parametrize(
    ("name", "sounds", "pictures", "marks"),
    [
        ("second_marked.mkv", [SILENT, TONE], ["64x48"], [("a:0", 0), ("a:1", "default")]),
        ("first_marked.mkv", [TONE, STEREO], ["64x48", "128x96"], []),
        ("none_marked.mkv", [SILENT, STEREO], ["64x48", "128x96"], [("a", 0), ("v", 0)]),
        ("all_marked.ts", [SILENT, STEREO], ["64x48", "128x96"], []),
        ("second_marked.mp4", [SILENT, TONE], ["64x48", "128x96"], [("a:0", 0), ("a:1", "default"), ("v:0", 0)]),
        ("equal.mkv", [TONE, SILENT], ["64x48", "64x48"], [("a", 0), ("v", 0)]),
    ],
)
def test_the_program_s_choice(tracks, tmp_path, name, sounds, pictures, marks):
    options = {"vcodec": "mpeg2video", "acodec": "mp2"} if name.endswith("ts") else {}
    path = tracks(name, sounds, pictures, marks, **options)
    samples, _ = read_audio(path)
    frames = np.stack(list(decode_video(path, rate_hz=25)))
    wave = of_the_program(path, tmp_path / "a.s16", f="s16le", acodec="pcm_s16le", vn=None)
    expected = np.fromfile(wave, np.int16).reshape(-1, samples.shape[1])
    assert abs(len(samples) - len(expected)) < 3000
    assert np.array_equal(samples[len(samples) - len(expected) :][:40_000] if len(samples) > len(expected)
                          else samples[:40_000], expected[:40_000])  # fmt: skip
    rgb = of_the_program(path, tmp_path / "a.rgb", f="rawvideo", pix_fmt="rgb24", an=None)
    shown = np.fromfile(rgb, np.uint8).reshape(-1, *frames.shape[1:])
    assert np.array_equal(frames[-40:], shown[-40:])
    info = probe_media(path)
    assert (info.audio.channels, info.video.width) == (samples.shape[1], frames.shape[2])


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_an_empty_track_is_passed_over(make, tmp_path, name):
    """The first and marked track holds nothing; the second is full."""
    source = make("a.mkv", video="testsrc2=size=64x48:rate=25:duration=2", audio=f"{TONE}:duration=2", acodec="mp2",
                  vcodec="mpeg4")  # fmt: skip
    path = tmp_path / name
    with av.open(str(source)) as given, av.open(str(path), "w") as written:
        empty = written.add_stream_from_template(given.streams.audio[0])
        empty.disposition = av.stream.Disposition.default
        streams = {stream.index: written.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                written.mux(packet)
    info = probe_media(path)
    assert info.audio is not None
    samples, _ = read_audio(path)
    assert len(samples) == pytest.approx(len(read_audio(source)[0]), abs=2500)
    assert np.abs(samples.astype(int)).max() > 1000
