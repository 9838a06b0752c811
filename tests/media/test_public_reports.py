"""The files rebuilt from public reports, beside the repository: what their README promises."""

from __future__ import annotations

import numpy as np
import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media.decode import decode_video, read_audio
from avpipe.media.probe import probe_media


@pytest.mark.parametrize(
    ("name", "pictures", "seconds"),
    [("ps_cat.mpg", 200, 8.0), ("theora.ogv", 100, 4.0), ("avinull_m4.avi", 100, 4.0), ("drift30.mp4", 750, 30.0),
     ("silent_first.mkv", 100, 4.0), ("vp9_resize.webm", 200, 8.0), ("og2_cut.ts", 73, 2.9)],
)  # fmt: skip
def test_whole(real, name, pictures, seconds):
    path = real(f"odd/{name}")
    probe_media(path)
    assert sum(1 for _ in decode_video(path, rate_hz=25)) == pictures
    samples, rate = read_audio(path)
    assert len(samples) / rate == pytest.approx(seconds, abs=0.05)
    assert samples.any()


@pytest.mark.parametrize(
    ("name", "segments", "said"),
    [("nokey10.mkv", [{}, {"start_seconds": 5, "end_seconds": 8}, {"start_seconds": 11}], "key frame"),
     ("zl_mid_h264.mp4", [{}, {"start_seconds": 1, "end_seconds": 3}], "FFmpeg says")],
)  # fmt: skip
def test_damaged(real, name, segments, said):
    path = real(f"odd/{name}")
    for segment in segments:
        with pytest.raises(ClipFailure, match=said) as caught:
            list(decode_video(path, rate_hz=25, **segment))
        assert caught.value.reason is Reason.DECODE_ERROR


def test_a_beep_is_heard_when_it_was(real):
    samples, rate = read_audio(real("odd/drift30.mp4"))
    around = np.abs(samples[round(27.9 * rate) : round(28.1 * rate), 0].astype(int)) > 3000
    assert 27.9 + np.argmax(around) / rate == pytest.approx(28.0, abs=0.04)


def test_text_behind_an_mp3(real):
    samples, rate = read_audio(real("odd/mp3_junk.mp3"))
    assert len(samples) / rate == pytest.approx(4.0, abs=0.1)
