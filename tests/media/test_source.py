from __future__ import annotations

import pickle

import numpy as np
import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media.decode import audio_blocks, read_audio
from avpipe.media.probe import probe_media
from avpipe.media.source import open_media


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("concat", b"ffconcat version 1.0\nfile other.mp4\n"),
        ("hls", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nother.ts\n#EXT-X-ENDLIST\n"),
        (
            "dash",
            b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            b'profiles="urn:mpeg:dash:profile:isoff-live:2011"></MPD>\n',
        ),
    ],
)
def test_a_playlist_is_named(tmp_path, kind, content):
    path = tmp_path / "list.mp4"
    path.write_bytes(content)
    said = rf"a playlist of other files \(FFmpeg's format {kind}\), which avpipe does not follow"
    with pytest.raises(ClipFailure, match=said) as caught, open_media(path):
        pass
    assert caught.value.reason is Reason.DECODE_ERROR


def test_a_detail_is_one_line(tmp_path):
    with pytest.raises(ClipFailure) as caught:
        probe_media(tmp_path / "line\nbreak\r\x1b[31m\u2028.mp4")
    assert "line\\nbreak\\r\\x1b[31m\\u2028.mp4" in caught.value.detail
    assert len(str(caught.value).splitlines()) == 1


def test_a_detail_keeps_other_letters_and_survives_a_process():
    failure = ClipFailure(Reason.MISSING, "ünï 视频 🎬 \\n\n \udce9")
    assert failure.detail == "ünï 视频 🎬 \\n\\n \\udce9"
    assert pickle.loads(pickle.dumps(failure)).detail == failure.detail


def test_streams_that_appear_in_the_middle_are_passed_over(make, tmp_path):
    path = make("film.flv", video="testsrc2=size=64x48:rate=25:duration=4", audio="sine=duration=4", acodec="aac")
    content = path.read_bytes()
    # A tag of a text stream, which the header does not announce, after the first 11 tags.
    at = 13
    for _ in range(150):
        at += 11 + int.from_bytes(content[at + 1 : at + 4], "big") + 4
    body = b"\x02\x00\x0aonTextData\x08\x00\x00\x00\x01\x00\x04text\x02\x00\x02hi\x00\x00\x09"
    tag = b"\x12" + len(body).to_bytes(3, "big") + content[at + 4 : at + 8] + b"\0\0\0" + body
    changed = tmp_path / "text.flv"
    changed.write_bytes(content[:at] + tag + (len(tag)).to_bytes(4, "big") + content[at:])
    assert sum(len(block) for block in audio_blocks(changed)) == sum(len(block) for block in audio_blocks(path))
    assert probe_media(changed).video.packets == probe_media(path).video.packets


def test_a_stream_of_a_kind_that_ffmpeg_does_not_know_is_passed_over(make, tmp_path):
    """Broadcasts and transport streams with a damaged table of streams have such."""
    path = make("film.ts", video="testsrc2=size=64x48:rate=25:duration=2", audio="sine=duration=2", acodec="aac")
    content = path.read_bytes()
    at = 188 * 6
    head = b"\x47\x43\x55\x10\0\0\1\xbd\0\0\x80\0\0"
    changed = tmp_path / "more.ts"
    changed.write_bytes(content[:at] + head + bytes(188 - len(head)) + content[at:])
    with open_media(changed) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio", "unknown"]
    assert np.array_equal(read_audio(changed)[0], read_audio(path)[0])
    assert probe_media(changed).video.packets == probe_media(path).video.packets
