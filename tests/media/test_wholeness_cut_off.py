from __future__ import annotations

import shutil

import ffmpeg
import numpy as np
import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media.decode import read_audio
from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.probe import probe_media, read_media_info

PICTURE = "testsrc2=size=64x48:rate=25:duration=4"
TONE = "sine=sample_rate=44100:duration=4"
MPEG4 = {"vcodec": "mpeg4"}

FILMS = {
    "aac.mkv": {"acodec": "aac"},
    "pcm.mkv": {"acodec": "pcm_s16le"},
    "opus.webm": {"vcodec": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8, "acodec": "libopus", "ar": 48000},
    "mp3.avi": MPEG4 | {"acodec": "libmp3lame"},
    "vbr.avi": MPEG4 | {"acodec": "libmp3lame", "q:a": 4},
    "pcm.avi": MPEG4 | {"acodec": "pcm_s16le"},
    "ac3.avi": MPEG4 | {"acodec": "ac3"},
    "aac.flv": {"acodec": "aac"},
    "aac.mp4": {"acodec": "aac", "movflags": "+faststart"},
}
SOUNDS = {
    "cbr.mp3": {},
    "vbr.mp3": {"q:a": 4},
    "vorbis.ogg": {"acodec": "libvorbis"},
    "opus.opus": {"acodec": "libopus", "ar": 48000},
    "wave.wav": {},
    "sound.flac": {},
    "sound.aiff": {},
    "sound.au": {},
}


@pytest.fixture
def whole(make):
    def build(name, **options):
        options = FILMS.get(name, SOUNDS.get(name, {})) | options
        return make(name, video=PICTURE if name in FILMS else None, audio=TONE, **options)

    return build


def cut_off(path, folder, share):
    content = path.read_bytes()
    target = folder / path.name
    target.write_bytes(content[: int(len(content) * share)])
    return target


def reason_of(read, path):
    with pytest.raises(ClipFailure) as caught:
        read(path)
    return caught.value.reason


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FILMS, *SOUNDS])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_sound_that_was_cut_off(whole, tmp_path, name, share):
    path = whole(name)
    assert len(read_audio(path)[0]) >= 3.9 * 44100
    assert read_media_info(path).missing_sound is None
    short = cut_off(path, tmp_path, share)
    assert reason_of(read_audio, short) is Reason.DECODE_ERROR
    if name in FILMS:
        assert reason_of(probe_media, short) is Reason.DECODE_ERROR


def test_the_message_has_both_lengths(whole, tmp_path):
    with pytest.raises(ClipFailure, match=r"truncated: the header announces 4\.0\d s, the sound ends at [12]\.\d\d s"):
        read_audio(cut_off(whole("aac.mkv"), tmp_path, 0.5))


@pytest.mark.parametrize("name", ["aac.mkv", "mp3.avi", "cbr.mp3", "aac.flv"])
def test_a_segment_of_what_is_there(whole, tmp_path, name):
    path = whole(name)
    short = cut_off(path, tmp_path, 0.8)
    expected, _ = read_audio(path, start_seconds=0.5, end_seconds=1.5)
    assert np.array_equal(read_audio(short, start_seconds=0.5, end_seconds=1.5)[0], expected)
    with pytest.raises(ClipFailure, match="truncated"):
        read_audio(short, start_seconds=0.5, end_seconds=3.9)


@pytest.mark.parametrize("name", ["short.mkv", "short.avi", "short.flv", "short.mp4"])
def test_sound_may_end_before_the_pictures(make, name):
    options = MPEG4 | {"acodec": "libmp3lame"} if name.endswith("avi") else {"acodec": "aac"}
    path = make(name, video=PICTURE, audio="sine=sample_rate=44100:duration=1", **options)
    assert len(read_audio(path)[0]) == pytest.approx(44100, abs=2500)
    assert probe_media(path).missing_sound is None


def test_subtitles_may_outlast_pictures_and_sound(make, tmp_path):
    film = make("film.mkv", video=PICTURE, audio=TONE)
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:09,000\nhello\n")
    path = tmp_path / "both.mkv"
    streams = ffmpeg.input(str(film)), ffmpeg.input(str(tmp_path / "a.srt"))
    run_ffmpeg(ffmpeg.output(*streams, str(path), c="copy"), path, timeout_seconds=60)
    assert len(read_audio(path)[0]) == pytest.approx(4 * 44100, abs=2500)
    info = probe_media(path)
    assert info.announced_seconds == pytest.approx(9, abs=0.1)
    assert info.duration_seconds == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("q", [0, 9])
def test_an_mp3_without_a_count_announces_nothing(make, q):
    # Its first frames are silent and small, or loud and large, so that FFmpeg's guess is far off.
    audio = "aevalsrc='if(lt(t,2),0,random(0)*0.9)':duration=8:sample_rate=44100"
    path = make("guess.mp3", audio=audio, **{"q:a": q, "write_xing": 0, "id3v2_version": 0})
    assert len(read_audio(path)[0]) == pytest.approx(8 * 44100, abs=3000)


def test_a_wav_of_unknown_size(make, tmp_path):
    content = bytearray(make("wave.wav", audio="sine=sample_rate=44100:duration=1.3").read_bytes())
    samples, _ = read_audio(make("wave.wav", audio="sine=sample_rate=44100:duration=1.3"))
    data = content.index(b"data")
    for unknown in (b"\xff\xff\xff\xff", b"\0\0\0\0"):
        content[4:8] = content[data + 4 : data + 8] = unknown
        path = tmp_path / "stream.wav"
        path.write_bytes(content)
        assert np.array_equal(read_audio(path)[0], samples)


def test_a_wav_cut_between_two_packets(make, tmp_path):
    path = tmp_path / "cut.wav"
    content = make("wave.wav", audio=TONE).read_bytes()
    path.write_bytes(content[: content.index(b"data") + 8 + 20 * 4096 * 2])
    with pytest.raises(ClipFailure, match=r"truncated: the header announces 4\.00 s, the sound ends at 1\.86 s"):
        read_audio(path)


@pytest.mark.parametrize(
    ("name", "options"), [("live.mkv", {"live": 1}), ("live.flv", {"flvflags": "no_duration_filesize"})]
)
def test_a_live_stream_announces_nothing(make, name, options):
    sound = {"acodec": "libmp3lame", "q:a": 9}
    path = make(name, audio="aevalsrc='if(gt(t,2),0,random(0)*0.9)':duration=8:sample_rate=44100", **sound, **options)
    assert len(read_audio(path)[0]) == pytest.approx(8 * 44100, abs=3000)


def test_an_ogg_stream_cut_between_two_pages_is_a_shorter_one(make, tmp_path):
    content = make("vorbis.ogg", audio=TONE, acodec="libvorbis").read_bytes()
    path = tmp_path / "recorded.ogg"
    path.write_bytes(content[: content.rindex(b"OggS")])
    assert len(read_audio(path)[0]) > 44100


def test_an_avi_announcing_more_sound_than_pictures_is_not_believed(whole, tmp_path):
    content = bytearray(whole("pcm.avi").read_bytes())
    header = content.index(b"auds")
    length = header + 32
    assert int.from_bytes(content[length : length + 4], "little") == 4 * 44100
    content[length : length + 4] = (4 * 44100 * 2).to_bytes(4, "little")  # bytes instead of samples
    path = tmp_path / "careless.avi"
    path.write_bytes(content)
    assert len(read_audio(path)[0]) == 4 * 44100


def test_cut_off_file_with_lost_index(whole, tmp_path):
    path = tmp_path / "lost.avi"
    shutil.copy(whole("pcm.avi"), path)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"idx1")])
    assert len(read_audio(path)[0]) == 4 * 44100  # nothing but the index is missing
