import os

import pytest

from avpipe.errors import AvpipeError
from avpipe.sources.folders import list_class_folders
from avpipe.sources.local import describe_table, list_table, listing_digest, shard_of


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def test_table_with_segments(tmp_path):
    make(tmp_path, "long.mp4")
    table = tmp_path / "clips.csv"
    table.write_text("clip_id,path,class,start_seconds,end_seconds\nb,long.mp4,X,1.5,3\na,gone.mp4,Y,,\n")
    gone, cut = list_table(table)
    assert (cut.clip_id, cut.start_seconds, cut.end_seconds, cut.size_bytes) == ("b", 1.5, 3.0, 1)
    assert (gone.clip_id, gone.start_seconds, gone.size_bytes) == ("a", None, -1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip_id,class\n", "lacks.*path"),
        ("clip_id,path,class\n", "no clip"),
        ("clip_id,path,class,start_seconds,end_seconds\na,x,X,3,2\n", "line 2.*not after"),
        ("clip_id,path,class,start_seconds\na,x,X,soon\n", "line 2.*'soon'"),
        ("clip_id,path,class,start_seconds\na,x,X,-1\n", "line 2.*'-1'"),
        ("clip_id,path,class\na,x,X\na,y,X\n", "more than once"),
        ("clip_id,path,class\n,x,X\n", "must not be empty"),
        ("clip_id,path,class\na,x,\n", "must not be empty"),
        ("clip_id,path,class\na,x\n", "line 2: 2 cells, expected 3"),
        ("clip_id,path,class\na,x,Bow, long\n", "line 2: 4 cells, expected 3.*quotes"),
        ("path,subset,caption\na.mp4,train\n", "line 2: 2 cells, expected 3 as in the header"),
        ("path,subset,caption\na.mp4,train,stir\nb.mp4\n", "line 3: 1 cells, expected 3"),
        ("path,subset,caption\na.mp4,,stir\n", "line 2: subset must not be empty"),
        ("path,class\n  , \n", "line 2: path, class must not be empty"),
        ("path,class\nx,X,,\n", "line 2: 4 cells, expected 2"),
        ("path, class\nx,X\n", "misspelt, the column.* class"),
        ("path,Subset\nx,train\n", "misspelt.*Subset"),
        ("path,Caption2\nx,stir\n", "misspelt.*Caption2"),
        ("Path,class\nx,X\n", "misspelt.*Path"),
        ("clip_id,path,class,class\na,x,X,Y\n", "twice.*class"),
        ("clip_id,path,class,start_second\na,x,X,1\n", "misspelt.*start_second"),
        (f"clip_id,path,class\n{'a' * 200_000},x,X\n", "was not read: field larger"),
        (b"clip_id,path,class\n\xe9,x,X\n", "was not read.*UTF-8"),
    ],
)
def test_a_table_that_is_not_in_order(tmp_path, text, message):
    table = tmp_path / "clips.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AvpipeError, match=message):
        list_table(table)


def test_a_table_of_ones_own_needs_no_more_than_paths(tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text("path,start_seconds,end_seconds\nfilm.mp4,,\nfilm.mp4,1.50,3\nfilm.mp4,2,\n")
    assert [clip.clip_id for clip in list_table(table)] == ["film", "film_1.5_3", "film_2_end"]
    assert {each.subset for each in describe_table(table)} == {None}


def test_two_segments_that_start_alike_are_told_apart_and_equal_ones_refused(tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text("path,start_seconds,end_seconds\na/film.mp4,1,2\nb/film.mp4,1,2\n")
    with pytest.raises(AvpipeError, match=r"more than once.*film_1_2"):
        list_table(table)


def test_subset_and_captions_of_a_table(tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text("clip_id,path,subset,caption,caption2\nb,b.mp4,test, 玉ねぎを切る ,\na,a.mp4,train,stir,fold\n")
    first, second = describe_table(table)
    assert (first.clip_id, first.subset, first.captions) == ("a", "train", ("stir", "fold"))
    assert (second.clip_id, second.subset, second.captions) == ("b", "test", ("玉ねぎを切る",))


def test_a_folder_where_a_table_was_meant_and_the_other_way_round(tmp_path):
    make(tmp_path, "table.csv")
    with pytest.raises(AvpipeError, match="table of clips"):
        list_table(tmp_path)
    with pytest.raises(AvpipeError, match="is not a folder"):
        list_class_folders(tmp_path / "table.csv")


def test_paths_in_a_table_may_start_at_home_and_may_be_impossible(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(make(tmp_path, "home/a.avi") / "home"))
    table = tmp_path / "clips.csv"
    table.write_text("clip_id,path,class\na,~/a.avi,X\nb,\0.avi,X\n")
    at_home, impossible = list_table(table)
    assert at_home.size_bytes == 1
    assert impossible.size_bytes == -1


def test_shards_are_stable_and_fill_evenly():
    # By sha256sum and a calculator: the last two hexadecimal digits of the id's sha256, modulo 32.
    assert shard_of("v_Archery_g01_c01", 32) == 10
    counts = [0] * 8
    for number in range(4000):
        counts[shard_of(f"clip {number}", 8)] += 1
    # 500 expected in each; 100 is five standard deviations of a binomial.
    assert max(abs(count - 500) for count in counts) < 100


def test_listing_digest_sees_every_change(tmp_path):
    make(tmp_path, "A/a.avi", "A/b.avi")
    before = listing_digest(list_class_folders(tmp_path).clips)
    assert listing_digest(list_class_folders(tmp_path).clips[::-1]) == before
    (tmp_path / "A" / "a.avi").write_bytes(b"xy")
    changed = listing_digest(list_class_folders(tmp_path).clips)
    make(tmp_path, "A/c.avi")
    assert len({before, changed, listing_digest(list_class_folders(tmp_path).clips)}) == 3


def test_columns_without_a_name_and_unknown_homes_do_no_harm(tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text("path,class,,,remark\n~nobody-of-this-name/a.mp4,X,,,seen\n")
    (clip,) = list_table(table)
    assert (clip.clip_id, clip.size_bytes) == ("a", -1)


def test_a_pipe_in_place_of_a_table_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "clips.csv")
    with pytest.raises(AvpipeError, match="is no file; expected a table of clips"):
        list_table(tmp_path / "clips.csv")
