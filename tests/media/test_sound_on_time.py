"""Sound stays on the time base of the pictures, and what lies around it costs nothing."""

from __future__ import annotations

import av
import numpy as np
import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media.clip import Clip
from avpipe.media.decode import audio_blocks, decode_video, read_audio
from avpipe.media.file_mode.trim import trim_clip
from avpipe.media.probe import probe_media, read_media_info

PICTURE = "testsrc2=size=64x48:rate=25:duration=10"
# A short tone at the beginning of each second.
BEEPS = "aevalsrc='0.5*sin(3000*t)*lt(mod(t,1),0.1)':sample_rate=48000:duration=10"


def without_packets(source, target, is_lost):
    """A copy of a file without some packets of its sound; the others keep their times."""
    with av.open(str(source)) as given, av.open(str(target), "w") as written:
        streams = {stream.index: written.add_stream_from_template(stream) for stream in given.streams}
        number = 0
        for packet in given.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio":
                number += 1
                if is_lost(number):
                    continue
            packet.stream = streams[packet.stream.index]
            written.mux(packet)
    return target


def beeps(samples, rate):
    loud = np.abs(samples[:, 0].astype(int)) > 4000
    starts = np.flatnonzero(np.diff(loud.astype(int), prepend=0) == 1) / rate
    return [time for i, time in enumerate(starts) if not i or time - starts[i - 1] > 0.5]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "aac"), ("a.ts", "mp2"), ("a.mov", "aac"), ("a.webm", "libopus")]
)
@pytest.mark.parametrize("every", [10, 4])
def test_many_small_gaps_are_filled(make, tmp_path, name, codec, every):
    video = {"vcodec": "libvpx", "deadline": "realtime", "cpu-used": 8} if name == "a.webm" else {"vcodec": "mpeg4"}
    whole = make(name, video=PICTURE, audio=BEEPS, acodec=codec, **video)
    path = without_packets(whole, tmp_path / name, lambda number: number % every == every // 2)
    samples, rate = read_audio(path)
    assert len(samples) / rate == pytest.approx(10, abs=0.1)
    # A lost packet may hold the beginning of a beep.
    expected = beeps(read_audio(whole)[0], rate)
    found = beeps(samples, rate)
    assert len(found) == len(expected) == 10
    assert found == pytest.approx(expected, abs=0.045)
    if name == "a.mp4":
        inside, _ = read_audio(path, start_seconds=4.0, end_seconds=8.0)
        assert np.array_equal(inside, samples[4 * rate : 8 * rate])
        mixed = np.concatenate(list(audio_blocks(path, rate_hz=16_000, mono=True)))
        assert beeps(mixed, 16_000) == pytest.approx(expected, abs=0.045)


def test_trimmed_files_have_the_same_silence(make, tmp_path):
    whole = make("a.mp4", video=PICTURE, audio=BEEPS, vcodec="mpeg4", acodec="aac")
    path = without_packets(whole, tmp_path / "a.mp4", lambda number: number % 20 == 10)
    expected, _ = read_audio(path, start_seconds=1.0, end_seconds=9.0)
    trim_clip(Clip("clip", path, 1.0, 9.0), tmp_path / "t.mov", timeout_seconds=60)
    assert np.array_equal(read_audio(tmp_path / "t.mov")[0], expected)


def test_sound_that_overlaps_is_shortened(tmp_path):
    rate, path = 16_000, tmp_path / "a.mkv"
    ramp = np.arange(3 * rate, dtype=np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        for number in range(150):
            frame = av.AudioFrame.from_ndarray(ramp[None, number * 320 : (number + 1) * 320], "s16", "mono")
            frame.sample_rate, frame.pts = rate, number * 320 - max(0, number - 100) * 32
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    samples, _ = read_audio(path)
    # By the end the sound is 49 * 0.002 s late: what is more than 0.02 s late was left out.
    assert len(samples) == pytest.approx(150 * 320 - 49 * 32, abs=320)
    assert samples[-1, 0] == ramp[150 * 320 - 1]


JUNK = b"This text was written behind the end of the file by a program that meant well. " * 3
APE = b"APETAGEX" + bytes([0xD0, 7, 0, 0, 100, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x80]) + bytes(100)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp3", "libmp3lame"), ("a.aac", "aac"), ("a.ac3", "ac3"), ("a.mp2", "mp2"), ("a.ts", "mp2")]
)
@pytest.mark.parametrize("behind", [JUNK, APE, b"TAG" + bytes(125), bytes(1000), b"\xff" * 300])
def test_bytes_behind_the_sound(make, tmp_path, name, codec, behind):
    video = {"video": PICTURE, "vcodec": "mpeg2video"} if name == "a.ts" else {}
    whole = make(name, audio=BEEPS, acodec=codec, **video)
    path = tmp_path / name
    path.write_bytes(whole.read_bytes() + behind)
    expected, rate = read_audio(whole)
    found, _ = read_audio(path)
    assert abs(len(found) - len(expected)) < 0.1 * rate
    assert np.array_equal(found[: len(expected) - 4000], expected[: len(expected) - 4000])
    assert read_media_info(path).missing_sound is None
    if video:
        probe_media(path)
        assert len(list(decode_video(path, rate_hz=25))) == len(list(decode_video(whole, rate_hz=25)))


def test_noise_inside_the_sound_is_damage(make, tmp_path):
    content = make("a.mp3", audio=BEEPS, acodec="libmp3lame").read_bytes()
    path = tmp_path / "a.mp3"
    middle = len(content) // 2
    path.write_bytes(content[:middle] + b"\xff\xfb" + bytes(5000) + content[middle + 5002 :])
    with pytest.raises(ClipFailure) as caught:
        read_audio(path)
    assert caught.value.reason is Reason.DECODE_ERROR
    assert "Operation not permitted" not in caught.value.detail


@pytest.mark.parametrize("rates", [(48_000, 44_100), (32_000, 48_000)])
def test_a_sample_rate_that_changes_on_the_way(make, tmp_path, rates):
    parts = [
        make(f"{rate}.ts", audio=f"aevalsrc='0.5*sin(3000*t)*lt(mod(t,1),0.1)':sample_rate={rate}:duration=4",
             video="testsrc2=size=64x48:rate=25:duration=4", acodec="mp2", vcodec="mpeg2video")
        for rate in rates
    ]  # fmt: skip
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    samples, rate = read_audio(path)
    assert rate == rates[0]
    assert len(samples) / rate == pytest.approx(8, abs=0.1)
    assert np.diff(beeps(samples, rate)) == pytest.approx(np.ones(7), abs=0.05)
    assert len(list(decode_video(path, rate_hz=25))) == pytest.approx(200, abs=3)
    probe_media(path)
