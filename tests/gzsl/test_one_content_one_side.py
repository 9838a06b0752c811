"""Clips of an own split: one content is drawn once, and files with one content are one source video."""

import itertools

import pytest

from avpipe.gzsl.splits import Split, read_split
from avpipe.inventory.probing import SCHEMA
from avpipe.io.tables import write_rows
from avpipe.jobs.gzsl import write_split

NUMBERS = {"train_classes": 1, "val_unseen_classes": 1, "test_unseen_classes": 1}


def drawn(folder, clips, **settings) -> Split:
    """The split of clips: clip id -> class, digest of the file, and the segment's start, in two shards."""
    rows = []
    for clip_id, (label, digest, start) in clips.items():
        values = {"clip_id": clip_id, "status": "ok", "class_name": label, "source_sha256": digest}
        place = {"path": f"/videos/{label}/{clip_id}.avi", "start_seconds": start, "detail": ""}
        rows.append(dict.fromkeys(SCHEMA.names) | values | place)
    probes = [str(folder / f"{shard}.parquet") for shard in (0, 1)]
    for shard, probe in enumerate(probes):
        write_rows(probe, SCHEMA, rows[shard::2])
    target = folder / "class-split"
    own_split = NUMBERS | settings
    write_split(class_split=None, own_split=own_split, probes=probes, name="s", dataset="d", names=[], target=target)
    return read_split(target, "s")


def ordinary():
    return {f"{label}{n}": (label, f"{label}{n}", None) for label, n in itertools.product("ABC", range(6))}


def listed(split):
    return set().union(*split.clips.values())


@pytest.mark.parametrize(
    ("again", "gone"),
    [
        ({"z1": ("A", "A0", None)}, {"z1"}),
        ({"z1": ("B", "A0", None), "z2": ("C", "A0", None)}, {"z1", "z2"}),
        ({"A0_": ("C", "A0", 0.0), "0": ("B", "C5", None)}, {"A0_", "C5"}),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_one_content_is_in_one_place(tmp_path, again, gone, seed):
    clips = ordinary() | again
    split = drawn(tmp_path, clips, seed=seed)
    assert listed(split) == clips.keys() - gone
    for one, other in itertools.combinations((name for name in split.clips if name != "stage_2_train"), 2):
        contents = [{clips[clip][1] for clip in split.clips[subset]} for subset in (one, other)]
        assert not contents[0] & contents[1]


@pytest.mark.parametrize("seed", range(5))
def test_segments_of_files_with_one_content_stay_on_one_side(tmp_path, seed):
    """Two copies of one film under two names, cut at different times."""
    cuts = {f"film{copy}_{n}": ("A", "film", 10.0 * n + copy) for copy in range(2) for n in range(4)}
    split = drawn(tmp_path, ordinary() | cuts, seed=seed)
    sides = {subset for subset, clips in split.clips.items() if subset != "stage_2_train" and cuts.keys() & clips}
    assert len(sides) == 1 and cuts.keys() <= listed(split)
