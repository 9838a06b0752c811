"""Tables with commas, semicolons or tabs are one table."""

import io

import pytest

from avpipe.errors import AvpipeError
from avpipe.formats.howto100m import read_list
from avpipe.gzsl.class_split import read_all_classes, read_clip_list
from avpipe.gzsl.words import read_names
from avpipe.io.csv_tables import SEPARATORS, dict_reader
from avpipe.sources.local import describe_table, list_table

separated = pytest.mark.parametrize("separator", SEPARATORS)


@separated
@pytest.mark.parametrize(
    "cells",
    [
        [["path", "class"], ["a.mp4", "x, y"], ["b;c.mp4", "tab\there"]],
        [["class", "note", "path"], ["x", "", "a.mp4"]],
        [["path"], ["a.mp4"]],
        [[" path ", "what, else; there is"], ["a.mp4", '"quoted"']],
    ],
)
def test_the_separator_is_the_one_that_gives_the_known_columns(separator, cells):
    text = "".join(separator.join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) + "\r\n" for row in cells)
    reader = dict_reader(io.StringIO(text, newline=""), "path", "class", "subset")
    assert [list(row.values()) for row in reader] == cells[1:] and reader.fieldnames == cells[0]


def test_without_a_known_column_a_comma_is_taken():
    assert dict_reader(io.StringIO("a,b;c\n"), "path").fieldnames == ["a", "b;c"]
    assert dict_reader(io.StringIO(""), "path").fieldnames is None


@separated
def test_every_table_of_a_user(tmp_path, separator):
    def write(name, *rows):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "\n".join(row.replace(",", separator).replace("'", '"') for row in rows) + "\n", encoding="utf-8-sig"
        )
        return path

    clips = write(
        "clips.csv", "path,class,start_seconds,end_seconds,subset,caption", "a.mp4,x,1.5,2,test,'a cat; it\tsits'"
    )
    (clip,) = list_table(clips)
    assert (clip.class_name, clip.start_seconds, clip.end_seconds) == ("x", 1.5, 2.0)
    (described,) = describe_table(clips)
    assert (described.subset, described.captions) == ("test", ("a cat; it\tsits",))
    assert read_names(write("names.csv", "original,manual", "A,word a")) == {"A": "word a"}
    assert read_list(write("videos.txt", "name,path", "x,a/b/c")) == ["a/b/c"]
    write("class-split/all_class.txt", "A", "B")
    write("class-split/main/train.csv", "filename,label,label_code", "a1,A,0", "b1,B,1")
    assert read_clip_list(tmp_path, "main", "train", read_all_classes(tmp_path)) == {"a1": "A", "b1": "B"}


def test_another_separator_is_named(tmp_path):
    (tmp_path / "names.csv").write_text("original|manual\nA|a\n")
    with pytest.raises(AvpipeError, match=r"original\|manual"):
        read_names(tmp_path / "names.csv")
    (tmp_path / "clips.csv").write_text("path|class\na.mp4|x\n")
    with pytest.raises(AvpipeError, match=r"path\|class"):
        list_table(tmp_path / "clips.csv")
