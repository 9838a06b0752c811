from avpipe.inventory.accounting import make_account
from avpipe.inventory.decoding import summarise_decoding
from avpipe.inventory.status import OK, ClipStatus, close_shard, read_statuses
from avpipe.report.decoding_notices import decoding_notices
from avpipe.schema.stored import Account

ROWS = {
    "extract_c3d": [ClipStatus("a", OK, "", 1.0), ClipStatus("b", OK, "", 0.9), ClipStatus("c", "no_video", "none")],
    "extract_vggish": [
        ClipStatus("a", OK, "", None, 1.0, True),
        ClipStatus("b", OK, "", None, 0.5, False),
        ClipStatus("c", OK, "", None, 0.75, False),
    ],
}


def test_the_lowest_shares_of_any_stage():
    found = summarise_decoding(ROWS)
    assert found["silent_sound"] == ["a"]
    assert found["decoded"] == {
        "threshold": 0.95,
        "below": 2,
        "lowest_pictures_share": 0.9,
        "lowest_sound_share": 0.5,
        "clips": [
            {"clip_id": "b", "pictures_share": 0.9, "sound_share": 0.5},
            {"clip_id": "c", "pictures_share": None, "sound_share": 0.75},
        ],
    }


def test_nothing_known():
    found = summarise_decoding({"probe_clips": [ClipStatus("a", OK)]})
    assert found["decoded"]["below"] == 0 and found["decoded"]["lowest_sound_share"] is None


def test_the_account_holds_them(tmp_path):
    paths = [tmp_path / "probe" / "0.parquet", tmp_path / "vggish" / "0.status.parquet"]
    for path, rows in zip(paths, ([ClipStatus(name, OK) for name in "abc"], ROWS["extract_vggish"]), strict=True):
        path.parent.mkdir()
        close_shard(path, "abc", rows)
    assert read_statuses(paths[1]) == ROWS["extract_vggish"]
    account = Account(**make_account([str(paths[0])], [str(paths[1])]))
    assert account.decoded is not None and account.decoded.below == 2
    assert list(decoding_notices(account)) == [
        "PARTS OF CLIPS MISSING: of 2 of 3 clips less than 95 % of the pictures or of the sound was decoded (b, c).",
        "SILENT SOUND: the sound of 1 of 3 clips is digital silence (a).",
    ]


def test_a_few_among_many_are_not_noted():
    account = Account(requested=1000, ok=1000, reasons={}, shards={}, failed=[], **summarise_decoding(ROWS))
    assert not list(decoding_notices(account))
    assert not list(decoding_notices(None))
    noted = account.model_copy(update={"ok": 50})
    assert [notice[:5] for notice in decoding_notices(noted)] == ["Parts", "Silen"]
