import pytest

from avpipe.io.names import relative_name, without_folders


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [
        ("/data/videos/A/a.avi", "/data/videos", "A/a.avi"),
        ("videos/A/a.avi", "videos", "A/a.avi"),
        ("a.avi", ".", "a.avi"),
        ("/elsewhere/of somebody/a.avi", "/data", "a.avi"),
        ("/elsewhere/a.avi", ".", "a.avi"),
        ("other/a.avi", "/data", "other/a.avi"),
        ("/database/a.avi", "/data", "a.avi"),
    ],
)
def test_paths_are_told_relative_to_the_source(path, folder, expected):
    assert relative_name(path, folder) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/users/somebody/weights/c3d.pickle", "c3d.pickle"),
        ("/users/some body/my videos", "my videos"),
        ("/videos", "videos"),
        ("/scratch/me/results/x.mkv: 0 bytes; fetch it again", "x.mkv: 0 bytes; fetch it again"),
        ("no file at /data/a.avi", "no file at a.avi"),
        ("read as file:///data/a.avi and (/data/b.avi)", "read as file:a.avi and (b.avi)"),
        ("'file:/data/x/a.avi': Invalid data", "'file:a.avi': Invalid data"),
        ("odd!/folder/a.avi, 'expected no /'", "odd!/folder/a.avi, 'expected no /'"),
        ("main_split/cls_features, R@1/5/10, S / U", "main_split/cls_features, R@1/5/10, S / U"),
        ("https://github.com/ExplainableML/AVCA-GZSL", "https://github.com/ExplainableML/AVCA-GZSL"),
        ("videos/A/a.avi and ../b/c.avi", "videos/A/a.avi and ../b/c.avi"),
        ("<resources>/avlnet/youcook_val.pkl", "<resources>/avlnet/youcook_val.pkl"),
        ("run:small/fine_tuned", "run:small/fine_tuned"),
    ],
)
def test_texts_keep_the_last_part_of_absolute_paths(text, expected):
    assert without_folders(text) == expected
    assert without_folders({"/kept/key": [text, 1, None]}) == {"/kept/key": [expected, 1, None]}
