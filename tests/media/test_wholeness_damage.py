from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media import structure, wholeness
from avpipe.media.clip import Clip
from avpipe.media.decode import audio_blocks, decode_video, read_audio
from avpipe.media.file_mode.convert import convert_to_rate
from avpipe.media.file_mode.trim import trim_clip
from avpipe.media.probe import probe_media, read_media_info
from avpipe.media.wholeness import is_hole

pytestmark = pytest.mark.slow

PICTURE = "testsrc2=size=160x120:rate=25:duration=8"
TONE = "sine=sample_rate=44100:duration=8"
X264 = {"vcodec": "libx264", "preset": "ultrafast", "g": 12}
RATE = 16_000


def damaged(path, folder, share=0.03):
    content = path.read_bytes()
    begin, length = len(content) // 2, int(len(content) * share)
    noise = np.random.default_rng(0).integers(0, 256, length, dtype=np.uint8).tobytes()
    target = folder / path.name
    target.write_bytes(content[:begin] + noise + content[begin + length :])
    return target


def write_paused(path, pauses, codec, *, pictures=True, sample_format="s16", layout="mono"):
    """6 s of a tone that stops at some seconds for so many seconds; the pictures go on. Gives the tone, played."""
    tone = (np.sin(np.arange(6 * RATE) / 6) * 12000).astype(np.int16)
    played, late, at = [], 0, 0
    block = RATE // 50
    with av.open(f"file:{path}", "w") as container:
        sound = container.add_stream(codec, rate=RATE, layout=layout, format=sample_format)
        if pictures:
            video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "12"})
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        pictured = 0
        for number in range(len(tone) // block):
            for begin, length in pauses:
                if number * block == begin * RATE:
                    late += round(length * RATE)
                    played.append(np.zeros(round(length * RATE), np.int16))
            samples = tone[at : at + block]
            at += block
            played.append(samples)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, number * block + late, Fraction(1, RATE)
            container.mux(sound.encode(frame))
            while pictures and pictured * 640 <= number * block + late:
                picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), pictured % 256, np.uint8), format="rgb24")
                picture.pts, picture.time_base = pictured, Fraction(1, 25)
                container.mux(video.encode(picture))
                pictured += 1
        container.mux(sound.encode(None))
        if pictures:
            container.mux(video.encode(None))
    return np.concatenate(played)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("aac.mkv", X264 | {"acodec": "aac"}),
        ("flac.mkv", X264 | {"acodec": "flac"}),
        ("aac.flv", X264 | {"acodec": "aac"}),
        ("aac.ts", X264 | {"acodec": "aac"}),
        ("mp2.ts", {"vcodec": "mpeg2video", "acodec": "mp2"}),
        ("theora.ogv", {"vcodec": "libtheora", "acodec": "libvorbis"}),
    ],
)
def test_a_part_that_ffmpeg_skips(make, tmp_path, name, options):
    path = make(name, video=PICTURE, audio=TONE, **options)
    probe_media(path)
    broken = damaged(path, tmp_path)
    with pytest.raises(ClipFailure, match=r"audio is missing from [2-5]\.\d+ s to [2-6]\.\d+ s \(") as caught:
        read_audio(broken)
    assert caught.value.reason is Reason.DECODE_ERROR
    with pytest.raises(ClipFailure) as caught:
        probe_media(broken)
    assert caught.value.reason is Reason.DECODE_ERROR
    # What comes before is there.
    before, _ = read_audio(path, end_seconds=1.0)
    assert np.array_equal(read_audio(broken, end_seconds=1.0)[0], before)


@pytest.mark.parametrize("name", ["film.mkv", "film.flv"])
def test_pictures_that_ffmpeg_skips(make, tmp_path, name):
    path = make(name, video=PICTURE, **X264)
    broken = damaged(path, tmp_path)
    with pytest.raises(ClipFailure, match=r"damaged picture at \d\.\d+ s|video is missing from"):
        list(decode_video(broken, rate_hz=25))
    with pytest.raises(ClipFailure, match=r"video is missing from \d\.\d+ s to \d\.\d+ s \(the file is damaged from"):
        probe_media(broken)
    assert len(list(decode_video(broken, rate_hz=25, end_seconds=2.0))) == 50


@pytest.mark.parametrize("name", ["pcm.avi", "mp3.avi"])
def test_an_avi_that_lost_sound_ends_early(make, tmp_path, name):
    codec = {"pcm.avi": "pcm_s16le", "mp3.avi": "libmp3lame"}[name]
    path = make(name, video=PICTURE, audio=TONE, vcodec="mpeg4", acodec=codec)
    with pytest.raises(ClipFailure) as caught:
        read_audio(damaged(path, tmp_path, 0.12))
    assert caught.value.reason is Reason.DECODE_ERROR


def test_a_pause_is_silent(tmp_path):
    name = "a.mkv"
    expected = write_paused(tmp_path / name, [(2, 0.7), (4, 1.5)], "pcm_s16le")
    samples, rate = read_audio(tmp_path / name)
    assert rate == RATE
    assert np.array_equal(samples[:, 0], expected)
    inside, _ = read_audio(tmp_path / name, start_seconds=2.5, end_seconds=5.0)
    assert np.array_equal(inside[:, 0], expected[40_000:80_000])
    assert read_media_info(tmp_path / name).missing_sound is None
    mixed = np.concatenate(list(audio_blocks(tmp_path / name, rate_hz=8000, mono=True)))
    assert len(mixed) == pytest.approx(len(expected) / 2, abs=2)


@pytest.mark.parametrize(
    ("name", "codec", "sample_format"),
    [("a.mp4", "aac", "fltp"), ("a.flv", "aac", "fltp"), ("a.ts", "aac", "fltp"), ("a.mka", "aac", "fltp")],
)
def test_a_pause_of_compressed_sound(tmp_path, name, codec, sample_format):
    pictures = name != "a.mka"
    expected = write_paused(
        tmp_path / name, [(2, 0.7), (4, 1.5)], codec, pictures=pictures, sample_format=sample_format
    )
    samples, _ = read_audio(tmp_path / name)
    assert len(samples) == pytest.approx(len(expected), abs=4000)
    # Encoders shift a pause by up to two of their frames.
    loud = (np.abs(samples[: 8 * RATE, 0].astype(int)).reshape(-1, RATE // 10) > 3000).any(axis=1)
    assert loud[3:18].all() and not loud[22:26].any() and loud[29:45].all() and not loud[49:60].any()
    assert loud[64:78].all()
    if pictures:
        probe_media(tmp_path / name)


def test_a_pause_of_bytes_is_at_their_middle(tmp_path):
    write_paused(tmp_path / "u8.mkv", [(2, 0.7)], "pcm_u8", pictures=False, sample_format="u8")
    samples, _ = read_audio(tmp_path / "u8.mkv")
    assert len(samples) == round(6.7 * RATE)
    assert not samples[2 * RATE : round(2.7 * RATE)].any()
    assert samples[: 2 * RATE].any()


@pytest.mark.parametrize(("jump", "silence"), [(0.09, 0.09), (0.03, 0.03), (0.015, 0)])
def test_a_short_jump_is_filled_and_jitter_is_joined(tmp_path, jump, silence):
    write_paused(tmp_path / "a.mkv", [(2, jump)], "pcm_s16le", pictures=False)
    assert len(read_audio(tmp_path / "a.mkv")[0]) == round((6 + silence) * RATE)


@pytest.mark.parametrize("segment", [(None, None), (1.0, 3.0), (2.5, 5.25), (3.0, None)])
def test_trimmed_and_converted_files_pause_as_well(tmp_path, segment):
    source = tmp_path / "a.mkv"
    write_paused(source, [(2, 0.7), (4, 1.5)], "pcm_s16le")
    clip = Clip("clip", source, *segment)
    expected, _ = read_audio(source, start_seconds=segment[0], end_seconds=segment[1])
    trim_clip(clip, tmp_path / "t.mov", timeout_seconds=60)
    convert_to_rate(clip, tmp_path / "c.mkv", rate_hz=25, crf=18, timeout_seconds=60)
    for written in ("t.mov", "c.mkv"):
        assert np.array_equal(read_audio(tmp_path / written)[0], expected), written


def test_uneven_pictures_are_no_damage(make_vfr):
    # Up to 4 s between two frames; the file is in order.
    path = make_vfr("slides.mkv", [0, 40, 80, 1500, 1540, 5540, 5580, 9000], 1000, codec="libx264")
    assert len(list(decode_video(path, rate_hz=None))) == 8
    assert probe_media(path).video.packets == 8


def test_the_file_is_looked_at_once(make_vfr, monkeypatch):
    path = make_vfr("slides.mkv", range(0, 20_000, 1000), 1000, codec="libx264", keyframe_every=3)
    looks = []
    look = wholeness.check_hole
    monkeypatch.setattr(wholeness, "check_hole", lambda *given: looks.append(given) or look(*given))
    monkeypatch.setattr(wholeness, "is_hole", lambda jump, length: True)
    list(decode_video(path, rate_hz=None))
    assert len(looks) == 1


@pytest.mark.parametrize("live", [0, 1])
def test_matroska_in_order(make, live):
    path = make("order.mkv", video=PICTURE, audio=TONE, live=live, **X264)
    assert structure.damaged_from(path, {"matroska", "webm"}, stream_id=1) is None
    assert structure.announces_duration(path) == (not live)


def test_holes():
    packet = Fraction(1024, 44100)
    assert not is_hole(Fraction(1, 10), packet)
    assert is_hole(Fraction(11, 100), packet)
    assert not is_hole(Fraction(15, 10), Fraction(1))  # packets of a second
    assert not is_hole(Fraction(-5), packet)
