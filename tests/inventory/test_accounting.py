import json

import pytest

from avpipe.errors import AvpipeError
from avpipe.inventory.accounting import account, check_failure_rate
from avpipe.inventory.status import OK, ClipStatus, close_shard


def tables(folder, probe, c3d, vggish):
    paths = []
    for name, rows in (("probe/0000", probe), ("c3d/0000.status", c3d), ("vggish/0000.status", vggish)):
        path = folder / f"{name}.parquet"
        close_shard(path, rows, [ClipStatus(clip, status, "why") for clip, status in rows.items()])
        paths.append(str(path))
    return [paths[0]], paths[1:]


def test_each_clip_has_the_reason_of_the_first_stage_it_failed_in(tmp_path):
    probes, statuses = tables(
        tmp_path,
        {"a": OK, "b": "no_audio", "c": OK, "d": OK},
        {"a": OK, "c": "decode_error", "d": OK},
        {"a": OK, "c": "too_short", "d": "too_short"},
    )
    account(probes, statuses, tmp_path / "a.json")
    record = json.loads((tmp_path / "a.json").read_text())
    assert (record["requested"], record["ok"]) == (4, 1)
    assert record["reasons"] == {"decode_error": 1, "no_audio": 1, "too_short": 1}
    assert [(row["clip_id"], row["reason"], row["stage"]) for row in record["failed"]] == [
        ("b", "no_audio", "probe_clips"),
        ("c", "decode_error", "extract_c3d"),
        ("d", "too_short", "extract_vggish"),
    ]
    assert record["shards"]["0000"]["stages"]["extract_vggish"] == {"requested": 3, "ok": 1, "too_short": 2}


def test_too_much_damage_fails_and_the_account_stays(tmp_path):
    probes, statuses = tables(tmp_path, {"a": "decode_error", "b": "no_audio", "c": OK}, {"c": OK}, {"c": OK})
    account(probes, statuses, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["ok"] == 1
    with pytest.raises(AvpipeError, match=r"1 of 3 clips .*max_failure_rate.*a \(decode_error: why\)"):
        check_failure_rate(tmp_path / "a.json", 0.2, tmp_path / "rate.json")
    assert not (tmp_path / "rate.json").exists()
    check_failure_rate(tmp_path / "a.json", 0.4, tmp_path / "rate.json")
    assert json.loads((tmp_path / "rate.json").read_text())["damaged"] == 1


def test_what_a_clip_simply_is_does_not_count_as_damage(tmp_path):
    probes, statuses = tables(tmp_path, {"a": "no_audio", "b": "too_short", "c": OK}, {"c": OK}, {"c": OK})
    account(probes, statuses, tmp_path / "a.json")
    check_failure_rate(tmp_path / "a.json", 0.0, tmp_path / "rate.json")
