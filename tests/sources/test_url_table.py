"""Tables of clips whose videos are named by addresses, and where the files of named videos lie."""

import os

import pytest

from avpipe.errors import AvpipeError
from avpipe.sources.annotated import list_annotated, wanted_videos
from avpipe.sources.annotations.clips import AnnotatedClip, Annotations
from avpipe.sources.listing import annotations_of, list_source, shard_digest, split_into_shards
from avpipe.sources.settings import ClipTable
from avpipe.sources.url_table import has_addresses, read_url_table
from avpipe.sources.video_files import fetched_stem, find_videos

ID = "-bcdefghijk"


def table(folder, text):
    path = folder / "clips.csv"
    path.write_text(text)
    return path


def test_clips_of_one_video_share_it(tmp_path):
    path = table(
        tmp_path,
        "url,start_seconds,end_seconds,class,subset,caption,caption2\n"
        f"https://www.youtube.com/watch?v={ID},1,2.5,dog,train,first,second\n"
        f"https://youtu.be/{ID},3,,cat,test,,\n"
        "http://host/path/film_one.mp4?key=1,,,cat,test,,\n",
    )
    assert has_addresses(path)
    with pytest.raises(AvpipeError, match="for several addresses"):
        read_url_table(path)
    path.write_text(path.read_text().replace("youtu.be/", "www.youtube.com/watch?v="))
    first, second, third = read_url_table(path).clips
    assert (first.clip_id, first.video_id, first.captions) == (f"{ID}_1_2.5", ID, ("first", "second"))
    assert (second.clip_id, second.start_seconds, second.class_name, second.subset) == (
        f"{ID}_3_end",
        3.0,
        "cat",
        "test",
    )
    assert (third.clip_id, third.video_id, third.start_seconds) == ("film_one", "film_one", None)
    videos = wanted_videos(read_url_table(path))
    assert [(video.video_id, video.clip_ids) for video in videos] == [
        (ID, (f"{ID}_1_2.5", f"{ID}_3_end")),
        ("film_one", ("film_one",)),
    ]


def test_segments_alone_are_wanted_by_their_clips_in_the_shard_of_their_video(tmp_path):
    path = table(tmp_path, "url,start_seconds,end_seconds\nhttp://host/a.mp4,1,2\nhttp://host/a.mp4,5,\n")
    source = ClipTable(path=str(path), fetch="clips")
    videos = wanted_videos(annotations_of(source))
    assert [(each.video_id, each.segment, each.shard_key) for each in videos] == [
        ("a", None, "a"),  # to the end of the video, which nobody knows
        ("a_1_2", (1.0, 2.0), "a"),
    ]
    missing = [each.path for each in list_source(source, tmp_path).clips]
    assert missing == [str(fetched_stem(tmp_path, "a_1_2")), str(fetched_stem(tmp_path, "a"))]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("file:///etc/passwd,\n", "line 2: 'file:///etc/passwd' is no address"),
        ("ftp://host/a.mp4,\n", "is no address"),
        ("https://,\n", "is no address"),
        ("http://host/a b.mp4,\n", "is no address"),
        ("http://host/,\n", "cannot name a video"),
        ("http://host/a.mp4,../up\n", "'../up' cannot name a video"),
        ("http://host/a.mp4,.hidden\n", "cannot name a video"),
        ("http://host/a.mp4,a/b\n", "cannot name a video"),
        ("http://host/a.mp4,\nhttp://other/a.mp4,\n", "stand for several addresses"),
    ],
)
def test_addresses_and_ids_that_are_none(tmp_path, rows, message):
    with pytest.raises(AvpipeError, match=message):
        read_url_table(table(tmp_path, f"url,video_id\n{rows}"))


@pytest.mark.parametrize("header", ["path,url", "clip_id,class"])
def test_a_table_names_files_or_addresses(tmp_path, header):
    with pytest.raises(AvpipeError, match=r"has both of the column\(s\) path, url|lacks the column\(s\) path"):
        list_source(ClipTable(path=str(table(tmp_path, f"{header}\na,b\n"))), tmp_path)


def clip(name: str, video: str, start: float | None = None) -> AnnotatedClip:
    return AnnotatedClip(name, video, start_seconds=start, end_seconds=None if start is None else start + 1)


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12")
    return str(path)


def test_a_file_of_a_clip_comes_before_that_of_its_video(tmp_path):
    annotations = Annotations((clip("v_0", "v", 0.0), clip("v_1", "v", 5.0), clip("w_0", "w", 1.0)))
    video, cut = put(tmp_path / "v.mp4"), put(tmp_path / "cut" / "v_1.MKV")
    put(tmp_path / "notes.txt"), put(tmp_path / "x.mp4"), put(tmp_path / "deeper" / "still" / "w.mp4")
    listing = list_annotated(annotations, tmp_path)
    assert [(each.clip_id, each.path, each.start_seconds, each.size_bytes) for each in listing.clips] == [
        ("v_0", video, 0.0, 2),
        ("v_1", cut, None, 2),
        ("w_0", str(fetched_stem(tmp_path, "w")), 1.0, -1),
    ]
    assert sorted(*listing.ignored.values()) == ["notes.txt", "x.mp4"]


def test_own_files_come_before_fetched_ones_and_must_not_be_two(tmp_path):
    fetched = put(fetched_stem(tmp_path, "v").with_name("v.mp4"))
    assert find_videos(tmp_path, {"v"})[0]["v"].path == fetched
    own = put(tmp_path / "v.webm")
    assert find_videos(tmp_path, {"v"})[0]["v"].path == own
    put(tmp_path / "below" / "v.avi")
    with pytest.raises(AvpipeError, match="both named after v"):
        find_videos(tmp_path, {"v"})


def test_fetching_changes_no_digest_and_replacing_ones_own_file_does(tmp_path):
    annotations = Annotations((clip("v_0", "v", 0.0), clip("w_0", "w", 1.0)))
    own = put(tmp_path / "w.mp4")

    def digest() -> str:
        listing = list_annotated(annotations, tmp_path)
        return shard_digest(listing, listing.clips)

    before = digest()
    put(fetched_stem(tmp_path, "v").with_name("v.mp4"))
    assert digest() == before
    os.utime(own, ns=(1, 1))
    assert digest() != before


def test_clips_of_a_video_are_in_one_shard(tmp_path):
    annotations = Annotations(tuple(clip(f"{video}_{n}", video, n) for video in "abcdefgh" for n in range(9)))
    shards = split_into_shards(list_annotated(annotations, tmp_path), 4)
    places = {each.clip_id: number for number, shard in enumerate(shards) for each in shard}
    assert len(places) == 72 and len({(name.split("_")[0], place) for name, place in places.items()}) == 8
