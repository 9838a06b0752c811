"""Listings that planning keeps for the jobs that write inventories."""

import pytest

from avpipe.inventory.kept import keep, read_digest, read_kept
from avpipe.sources.local import SourceClip, listing_digest

CLIPS = [SourceClip("a", "x", "v/a.mp4", None, None, 5, 7), SourceClip("b\u00e9", "y", "v/b.mp4", 0.5, 1.5)]
DIGEST = listing_digest(CLIPS)


def test_what_is_kept_comes_back_and_is_written_once(tmp_path):
    path = tmp_path / "below" / "0000.json"
    keep(CLIPS, DIGEST, path)
    assert read_digest(path) == DIGEST and read_kept(path, DIGEST) == CLIPS
    before = path.stat().st_mtime_ns
    keep(CLIPS, DIGEST, path)
    assert path.stat().st_mtime_ns == before
    keep(CLIPS[:1], listing_digest(CLIPS[:1]), path)
    assert read_kept(path, DIGEST) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"digest": "x"}', None])
def test_what_is_damaged_is_not_used(tmp_path, damage):
    path = tmp_path / "0000.json"
    if damage is not None:
        keep(CLIPS, DIGEST, path)
        path.write_text(damage or path.read_text().replace("v/a.mp4", "v/c.mp4"))
    assert read_kept(path, DIGEST) is None
