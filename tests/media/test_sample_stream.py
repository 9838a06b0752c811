"""Sound before a segment is decoded and not converted; the samples are those of the whole file all the same."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media import audio
from avpipe.media.decode import audio_blocks, read_audio
from avpipe.media.sound_frames import _SoundClock
from avpipe.media.source import open_media, origin_seconds

NOISE = "anoisesrc=duration={}:sample_rate=44100:seed=3:amplitude=0.3,aformat=channel_layouts=stereo"
# Encoders of FFmpeg's own put noise into AAC, and its decoders make it for AC-3 and MP2 too, from random numbers.
SOUNDS = [
    ("aac.mp4", "aac"), ("aac.ts", "aac"), ("mp3.mp3", "libmp3lame"), ("mp3.avi", "libmp3lame"), ("mp2.mpg", "mp2"),
    ("ac3.ts", "ac3"), ("opus.mkv", "libopus"), ("opus.webm", "libopus"), ("vorbis.ogg", "libvorbis"),
    ("flac.flac", "flac"), ("alac.m4a", "alac"), ("pcm.wav", "pcm_s24le"), ("float.mkv", "pcm_f32le"),
    ("wma.asf", "wmav2"), ("aac.flv", "aac"),
]  # fmt: skip
CUTS = [(0.0, 0.5), (0.011, 0.7), (2.503, 3.1), (3.9, None)]
STARTS = np.random.default_rng(0).uniform(0, 3.9, 20)
MANY_CUTS = [*CUTS, *((round(start, 3), round(start + 0.1, 3)) for start in STARTS)]


def from_the_start(monkeypatch, read):
    """What is read when everything from the file's start is converted and then cut."""
    with monkeypatch.context() as patch:
        patch.setattr(audio, "pass_over", lambda frames, samples: (0, frames))
        return read()


def segment(path, cut, **options):
    blocks = list(audio_blocks(path, start_seconds=cut[0], end_seconds=cut[1], **options))
    return np.concatenate(blocks)


def part(whole, rate, cut):
    """Samples of a segment, whose ends are taken to the millisecond."""
    first, end = (None if each is None else round(Fraction(round(each * 1000), 1000) * rate) for each in cut)
    return whole[first:end]


@pytest.mark.parametrize(("name", "codec"), SOUNDS)
def test_samples_are_those_of_the_whole_file(make, monkeypatch, name, codec):
    options = {"ar": 48000} if codec == "libopus" else {}
    path = make(name, audio=NOISE.format(4), acodec=codec, **options)
    whole, rate = read_audio(path)
    for cut in MANY_CUTS:
        assert np.array_equal(segment(path, cut), part(whole, rate, cut))
    cut, wanted = CUTS[2], {"rate_hz": 16000, "mono": True}
    assert np.array_equal(
        segment(path, cut, **wanted), from_the_start(monkeypatch, lambda: segment(path, cut, **wanted))
    )


def test_only_the_segment_is_converted(make, monkeypatch):
    path = make("long.mp4", audio=NOISE.format(60), acodec="aac")
    converted, convert = [], audio._converted

    def counted(frames, form):
        return convert((converted.append(frame.samples) or frame for frame in frames), form)

    monkeypatch.setattr(audio, "_converted", counted)
    samples = segment(path, (58.0, 59.0))
    assert len(samples) == 44100
    assert len(samples) <= sum(converted) <= len(samples) + 3 * 1024


@pytest.mark.parametrize(
    "wanted", [{}, {"mono": True}, {"rate_hz": 16000, "mono": True}], ids=["own", "mono", "16 kHz"]
)
@pytest.mark.parametrize(("name", "codec"), SOUNDS)
def test_joined_frames_are_converted_to_the_same_samples(make, monkeypatch, name, codec, wanted):
    options = {"ar": 48000} if codec == "libopus" else {}
    path = make(name, audio=NOISE.format(4), acodec=codec, **options)
    found = segment(path, (None, None), **wanted)
    monkeypatch.setattr(audio, "join_frames", lambda frames, samples: frames)
    assert np.array_equal(found, segment(path, (None, None), **wanted))


def test_frames_are_joined_to_about_a_second(make, monkeypatch):
    path = make("aac.mp4", audio=NOISE.format(4), acodec="aac")
    lengths, convert = [], audio._converted

    def counted(frames, form):
        return convert((lengths.append(frame.samples) or frame for frame in frames), form)

    monkeypatch.setattr(audio, "_converted", counted)
    list(audio_blocks(path))
    assert max(lengths) < 44100 + 1024
    assert len(lengths) <= 6


def test_what_comes_before_damage_is_given(make, monkeypatch, tmp_path):
    whole = make("a.mkv", audio=NOISE.format(4), acodec="flac")
    path = with_packets(whole, tmp_path / "a.mkv", lambda n, content: content[:50] if n == 80 else content)

    def given():
        count = itertools.count()
        with pytest.raises(ClipFailure, match="damaged sound"):
            list(zip(audio_blocks(path, block_seconds=0.1), count, strict=False))
        return next(count)

    joined = given()
    monkeypatch.setattr(audio, "join_frames", lambda frames, samples: frames)
    assert joined == given() > 10


@pytest.mark.parametrize("late", [0.0, 0.8])
def test_sound_that_changes_its_rate_or_begins_late(make, make_vfr, monkeypatch, tmp_path, late):
    if late:
        path = make_vfr("late.mp4", range(0, 360000, 3600), 90000, tone_from_seconds=late)
    else:
        parts = [make(f"{rate}.ts", audio=NOISE.format(3), acodec="mp2", ar=rate) for rate in (44100, 48000)]
        path = tmp_path / "both.ts"
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for cut in [(0.5, 1.0), (1.1, 2.0), (3.2, 3.7)]:
        assert np.array_equal(segment(path, cut), from_the_start(monkeypatch, lambda cut=cut: segment(path, cut)))


def frames_from(path, packet):
    """Decoded frames by time, of a decoder that is given the packets from this one on."""
    with av.open(str(path)) as container:
        packets = list(container.demux(container.streams.audio[0]))
        return {frame.pts: frame.to_ndarray() for each in packets[packet:] for frame in each.decode()}


@pytest.mark.parametrize("codec", ["aac", "ac3", "eac3", "mp2"])
def test_a_decoder_that_begins_in_the_middle_gives_other_samples(make, codec):
    """One of the reasons why all sound before a segment is decoded."""
    path = make(f"{codec}.mkv", audio=NOISE.format(4), acodec=codec, ab="64k")
    whole, late = frames_from(path, 0), frames_from(path, 20)
    long_after = sorted(late)[60:]
    assert len(long_after) > 10
    assert not all(np.array_equal(late[pts], whole[pts]) for pts in long_after)


def with_packets(source, target, change):
    """A copy of a file whose packets of sound, numbered from 0, are changed; None: left out."""
    with av.open(str(source)) as given, av.open(str(target), "w") as written:
        sound = given.streams.audio[0]
        stream = written.add_stream_from_template(sound)
        for number, packet in enumerate(each for each in given.demux(sound) if each.size):
            content = change(number, bytes(packet))
            if content is None:
                continue
            changed = av.Packet(content)
            changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
            changed.time_base, changed.stream = packet.time_base, stream
            written.mux(changed)
    return target


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "flac"), ("a.m4a", "alac"), ("a.mkv", "aac"), ("a.mkv", "ac3")],
)
def test_damage_before_a_segment_that_only_decoding_shows(make, tmp_path, name, codec):
    """Another reason: the packets are all there and in order, and one of them is no sound."""
    whole = make(name, audio=NOISE.format(4), acodec=codec)
    path = with_packets(
        whole, tmp_path / name, lambda number, content: content[: len(content) // 2] if number == 12 else content
    )
    for start in (1.5, 2.5, 3.5):
        with pytest.raises(ClipFailure, match=r"damaged sound (before|at) [01]\.\d+ s") as caught:
            segment(path, (start, start + 0.3))
        assert caught.value.reason is Reason.DECODE_ERROR
    assert np.array_equal(segment(path, (0.0, 0.1)), segment(whole, (0.0, 0.1)))


@pytest.mark.parametrize("codec", ["flac", "aac", "libmp3lame", "libvorbis", "libopus", "ac3", "pcm_s16le"])
def test_gaps_before_a_segment(make, tmp_path, codec):
    whole = make("a.mkv", audio=NOISE.format(4), acodec=codec, **({"ar": 48000} if codec == "libopus" else {}))
    lost = (3, 4, 9, 10, 11, 20)
    path = with_packets(whole, tmp_path / "a.mkv", lambda number, content: None if number in lost else content)
    samples, rate = read_audio(path)
    assert len(samples) / rate == pytest.approx(4, abs=0.03)
    for cut in MANY_CUTS:
        assert np.array_equal(segment(path, cut), part(samples, rate, cut))


def placed_by_fractions(frames, origin):
    """What `_SoundClock` does, in fractions of a second."""
    due = heard = None
    for frame in frames:
        time = due or Fraction(0) if frame.pts is None else frame.pts * frame.time_base - origin
        late = Fraction(0) if heard is None else time - heard
        pause = round(late * frame.sample_rate) if abs(late) > Fraction(1, 50) else 0
        pause = max(pause, -frame.samples)
        due = time + Fraction(frame.samples, frame.sample_rate)
        heard = (time if heard is None else heard) + Fraction(pause + frame.samples, frame.sample_rate)
        yield time, due, pause


def test_ticks_are_as_exact_as_fractions(make):
    """Clocks that do not fit the rate, rates that change, time stamps that are off, missing or jump."""
    rng = np.random.default_rng(1)
    packet = SimpleNamespace(is_corrupt=False)
    with open_media(make("a.mkv", audio=NOISE.format(1), acodec="aac")) as container:
        for base in (Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 44100), Fraction(1001, 30000)):
            frames, time = [], 0.0
            for rate in rng.choice([44100, 48000, 11025, 1234, 7919], 400):
                time += rng.choice([0, 0, 0, 0.015, -0.015, 0.05, -0.05])
                pts = None if rng.random() < 0.05 else round(time / base)
                frames.append(SimpleNamespace(
                    pts=pts, time_base=base, samples=1024, sample_rate=int(rate), is_corrupt=False
                ))  # fmt: skip
                time += 1024 / rate
            clock = _SoundClock(Path("a.mkv"), container, container.streams.audio[0])
            found = [
                (clock.seconds(clock.begin), clock.seconds(clock.due), clock.pause(frame))
                for frame in clock.timed(packet, frames)
            ]
            assert found == list(placed_by_fractions(frames, origin_seconds(container)))
            assert len({pause for _, _, pause in found}) > 10
