from __future__ import annotations

import itertools

import numpy as np
import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media import sound_frames, source
from avpipe.media.decode import audio_blocks, read_audio

LAYOUTS = {"mono": 1, "stereo": 2, "5.1": 6}


def noise(layout, seconds=3):
    return f"anoisesrc=duration={seconds}:sample_rate=22050:seed=3,aformat=channel_layouts={layout}"


@pytest.mark.parametrize("name", ["ucf_like_with_audio.avi", "vfr_19.62fps_aac.mp4"])
def test_real_files_samples_are_the_programs(real, program_samples, name):
    samples, rate = read_audio(real(name))
    assert rate == 44100
    assert samples.dtype == np.int16
    assert np.array_equal(samples, program_samples(real(name), samples.shape[1]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("suffix", "codec"), [("m4a", "aac"), ("wav", "pcm_f32le"), ("mkv", "libopus"), ("flac", "flac")]
)
def test_layouts_and_codecs(make, program_samples, layout, suffix, codec):
    options = {"ar": 48000} if codec == "libopus" else {}
    path = make(f"{layout}.{suffix}", audio=noise(layout), acodec=codec, **options)
    samples, rate = read_audio(path)
    assert samples.shape[1] == LAYOUTS[layout]
    assert rate == (48000 if codec == "libopus" else 22050)
    theirs = program_samples(path, samples.shape[1])
    # Opus begins 7 ms before zero, in samples to be thrown away: that much silence stands before its sound.
    lead = audio_blocks(path).lead_samples
    assert np.array_equal(samples[lead:], theirs)
    assert not samples[:lead].any()
    assert lead <= 0.007 * rate


def test_blocks_make_up_the_whole(make):
    path = make("stereo.m4a", audio=noise("stereo"))
    reader = audio_blocks(path, block_seconds=0.5)
    blocks = list(reader)
    assert [len(block) for block in blocks[:-1]] == [11025] * (len(blocks) - 1)
    whole, _ = read_audio(path)
    assert np.array_equal(np.concatenate(blocks), whole)
    assert np.array_equal(np.concatenate(list(reader)), whole)  # a reader can be read again
    assert (reader.rate_hz, reader.channels) == (22050, 2)


@pytest.mark.parametrize("segment", [(0, 1), (0.5, 1.25), (2.9, None), (1.001, 1.002), (2, 60)])
def test_a_segment_is_cut_at_the_sample(make, segment):
    path = make("stereo.m4a", audio=noise("stereo"))
    whole, rate = read_audio(path)
    part, _ = read_audio(path, start_seconds=segment[0], end_seconds=segment[1])
    end = None if segment[1] is None else round(segment[1] * rate)
    assert len(part) > 0
    assert np.array_equal(part, whole[round(segment[0] * rate) : end])


def test_a_segment_after_the_end_is_empty(make):
    part, rate = read_audio(make("stereo.m4a", audio=noise("stereo")), start_seconds=10)
    assert part.shape == (0, 2)
    assert rate == 22050


def test_late_sound_is_preceded_by_silence(make_vfr, program_samples):
    path = make_vfr("late_sound.mp4", range(0, 180000, 3600), 90000, tone_from_seconds=0.8)
    samples, rate = read_audio(path)
    loud = np.flatnonzero(np.abs(samples[:, 0].astype(int)) > 3000)
    assert loud[0] / rate == pytest.approx(0.8, abs=0.01)
    lead = audio_blocks(path).lead_samples
    assert lead / rate == pytest.approx(0.8, abs=0.07)  # AAC begins one frame early
    # The program writes no silence: its first sample is the first in the file.
    assert np.array_equal(samples[lead:], program_samples(path, 1))
    inside, _ = read_audio(path, start_seconds=0.5, end_seconds=1.0)
    assert np.array_equal(inside, samples[8000:16000])


def test_failures(make, tmp_path):
    cases = {
        Reason.MISSING: tmp_path / "none.mp4",
        Reason.NO_AUDIO: make("silent.mp4", video="testsrc2=size=64x48:rate=25:duration=1"),
    }
    for reason, path in cases.items():
        with pytest.raises(ClipFailure) as caught:
            audio_blocks(path)
        assert caught.value.reason is reason
        assert str(path) in caught.value.detail


def test_truncated(make, tmp_path):
    content = make("long.m4a", audio="sine=duration=20", movflags="+faststart").read_bytes()
    path = tmp_path / "cut.m4a"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ClipFailure) as caught:
        read_audio(path)
    assert caught.value.reason is Reason.DECODE_ERROR


def test_only_what_is_asked_for_is_decoded(make):
    path = make("hour.wav", audio="anullsrc=duration=3600:sample_rate=8000")
    blocks = list(itertools.islice(audio_blocks(path, block_seconds=1), 2))
    assert [len(block) for block in blocks] == [8000, 8000]


def test_a_file_is_opened_once_for_each_reading(make, monkeypatch):
    path = make("stereo.m4a", audio=noise("stereo"))
    opened, open_media = [], sound_frames.open_media
    monkeypatch.setattr(sound_frames, "open_media", lambda path: opened.append(path) or open_media(path))
    reader = audio_blocks(path)
    list(reader)
    assert len(opened) == 1
    list(reader)
    assert len(opened) == 2


def test_a_damaged_time_stamp_does_not_become_hours_of_silence(make_vfr, monkeypatch):
    monkeypatch.setattr(source, "LONGEST_GAP_SECONDS", 5)
    path = make_vfr("silent_hours.mp4", range(0, 720000, 3600), 90000, tone_from_seconds=7.0)
    with pytest.raises(ClipFailure, match=r"decode_error.*the sound jumps from 0\.000 s to [67]"):
        audio_blocks(path)
