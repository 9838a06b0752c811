"""Sound before a segment is decoded and not converted; the samples are those of the whole file all the same."""

from __future__ import annotations

import av
import numpy as np
import pytest

from avpipe.media import audio
from avpipe.media.decode import audio_blocks, read_audio

NOISE = "anoisesrc=duration={}:sample_rate=44100:seed=3:amplitude=0.3,aformat=channel_layouts=stereo"
# Encoders of FFmpeg's own put noise into AAC, and its decoders make it for AC-3 and MP2 too, from random numbers.
SOUNDS = [
    ("aac.mp4", "aac"), ("aac.ts", "aac"), ("mp3.mp3", "libmp3lame"), ("mp3.avi", "libmp3lame"), ("mp2.mpg", "mp2"),
    ("ac3.ts", "ac3"), ("opus.mkv", "libopus"), ("opus.webm", "libopus"), ("vorbis.ogg", "libvorbis"),
    ("flac.flac", "flac"), ("alac.m4a", "alac"), ("pcm.wav", "pcm_s24le"), ("float.mkv", "pcm_f32le"),
    ("wma.asf", "wmav2"), ("aac.flv", "aac"),
]  # fmt: skip
CUTS = [(0.0, 0.5), (0.011, 0.7), (2.503, 3.1), (3.9, None)]


def from_the_start(monkeypatch, read):
    """What is read when everything from the file's start is converted and then cut."""
    with monkeypatch.context() as patch:
        patch.setattr(audio, "pass_over", lambda frames, samples: (0, frames))
        return read()


def segment(path, cut, **options):
    blocks = list(audio_blocks(path, start_seconds=cut[0], end_seconds=cut[1], **options))
    return np.concatenate(blocks)


@pytest.mark.parametrize(("name", "codec"), SOUNDS)
def test_samples_are_those_of_the_whole_file(make, monkeypatch, name, codec):
    options = {"ar": 48000} if codec == "libopus" else {}
    path = make(name, audio=NOISE.format(4), acodec=codec, **options)
    whole, rate = read_audio(path)
    for cut in CUTS:
        end = None if cut[1] is None else round(cut[1] * rate)
        assert np.array_equal(segment(path, cut), whole[round(cut[0] * rate) : end])
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


@pytest.mark.parametrize("codec", ["aac", "ac3", "mp2"])
def test_a_decoder_that_begins_in_the_middle_gives_other_samples(make, codec):
    """The reason why all sound before a segment is decoded."""
    path = make(f"{codec}.mkv", audio=NOISE.format(4), acodec=codec, ab="64k")
    whole, late = frames_from(path, 0), frames_from(path, 20)
    long_after = sorted(late)[60:]
    assert len(long_after) > 10
    assert not all(np.array_equal(late[pts], whole[pts]) for pts in long_after)
