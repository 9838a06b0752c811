import pytest

from avpipe.errors import Reason
from avpipe.inventory.status import OK, ClipStatus, close_shard, count, read_statuses


def test_a_closed_shard_is_read_back_sorted(tmp_path):
    rows = [ClipStatus("b", OK), ClipStatus("a", Reason.NO_AUDIO.value, "no sound track")]
    close_shard(tmp_path / "s.parquet", ["a", "b"], rows)
    assert read_statuses(tmp_path / "s.parquet") == sorted(rows, key=lambda row: row.clip_id)


@pytest.mark.parametrize(
    "rows",
    [
        [ClipStatus("a", OK)],  # b is not accounted for
        [ClipStatus("a", OK), ClipStatus("b", OK), ClipStatus("b", OK)],  # b twice
        [ClipStatus("a", OK), ClipStatus("c", OK)],  # c was never asked for
        [ClipStatus("a", OK), ClipStatus("b", "strange")],  # outside the closed list
    ],
)
def test_a_shard_that_does_not_add_up_is_a_bug(tmp_path, rows):
    with pytest.raises(AssertionError):
        close_shard(tmp_path / "s.parquet", ["a", "b"], rows)
    assert not (tmp_path / "s.parquet").exists()


def test_counts_keep_the_order_of_the_closed_list():
    counts = count(["too_short", OK, "missing", OK])
    assert list(counts.items()) == [("ok", 2), ("missing", 1), ("too_short", 1)]
