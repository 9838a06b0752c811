import h5py
import numpy as np
import pytest
import torch
from made_pack import make_pack, make_words, sound, write_wav

from avpipe.errors import AvpipeError
from avpipe.features.spectrogram import log_mel
from avpipe.retrieval.index import build_index, open_index
from avpipe.retrieval.models import build
from avpipe.retrieval.packs import write_pack
from avpipe.retrieval.search import search
from avpipe.retrieval.text import write_word_table
from avpipe.weights import load_weights

SIZES = {"embedding_dim": 16, "audio_channels": 2, "word_dim": 12}
WINDOW = 128
SENTENCE = "pour the milk"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The indexes of the three models, their weights, word vectors, and WAV files of the clips and others."""
    place = tmp_path_factory.mktemp("search")
    write_pack(place / "pack.h5", make_pack())
    for name in ("avlnet", "avlnet_text_tri", "avlnet_text_fused"):
        network = build(name, **SIZES)
        load_weights(network, "random:3")
        torch.save(network.state_dict(), place / f"{name}.pth")
        build_index(
            place / "pack.h5",
            model=name,
            weights=place / f"{name}.pth",
            target=place / f"{name}.h5",
            window=WINDOW,
            **SIZES,
        )
    write_word_table(place / "words.h5", make_words())
    write_word_table(place / "longer.h5", make_words(13))
    lines = [
        " ".join([word, *map(str, row)]) for word, row in zip(make_words().words, make_words().vectors, strict=True)
    ]
    (place / "glove.txt").write_text("\n".join(lines) + "\n")
    write_wav(place / "c0.wav", sound(0, 1.0))
    write_wav(place / "c2.wav", sound(2, 1.5))
    write_wav(place / "silent.wav", np.zeros(16_000))
    write_wav(place / "blip.wav", sound(0, 0.02))
    write_wav(place / "short.wav", sound(0, 0.1))
    return place


def expected_scores(folder, name, *, audio=None, text=None):
    """What the model itself makes of a query and the index's rows."""
    network = build(name, **SIZES).eval()
    load_weights(network, folder / f"{name}.pth")
    with torch.inference_mode(), open_index(folder / f"{name}.h5") as index:
        pooled = None
        if audio is not None:
            frames = log_mel(audio)
            padded = np.zeros((1, 40, WINDOW), np.float32)
            padded[0, :, : frames.shape[1]] = frames[:, :WINDOW]
            pooled = network.pool_audio(torch.from_numpy(padded), n_frames=[frames.shape[1]])
        words = None if text is None else torch.from_numpy(make_words().matrix(text))[None]
        query = network.query_of(network.embed_pooled(pooled, None, words))[0].numpy()
        return np.concatenate([*index.embeddings()]) @ query


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("avlnet", {"media": "c0.wav"}),
        ("avlnet", {"media": "c2.wav"}),  # longer than the window
        ("avlnet_text_tri", {"text": SENTENCE, "words": "words.h5"}),
        ("avlnet_text_tri", {"text": SENTENCE, "words": "glove.txt"}),
        ("avlnet_text_fused", {"media": "c0.wav", "text": SENTENCE, "words": "words.h5"}),
    ],
)
def test_hits_are_ordered_by_the_models_own_similarity(folder, name, query):
    places = {key: value if key == "text" else folder / value for key, value in query.items()}
    hits = search(folder / f"{name}.h5", **places)
    audio = {"c0.wav": sound(0, 1.0), "c2.wav": sound(2, 1.5)}.get(query.get("media"))
    scores = expected_scores(folder, name, audio=audio, text=query.get("text"))
    order = np.argsort(-scores)
    assert [hit.clip_id for hit in hits] == [f"c{row}" for row in order]
    # The query's padding is not computed (pool_ragged): float32 rounding.
    np.testing.assert_allclose([hit.score for hit in hits], scores[order], rtol=1e-4)
    assert [hit.rank for hit in hits] == [1, 2, 3]


def test_a_hit_says_where_the_clip_is_and_what_is_said(folder):
    (hit,) = search(folder / "avlnet.h5", media=folder / "c0.wav", top=1)
    number = int(hit.clip_id[1])
    assert (hit.path, hit.start) == (f"film{number}.mp4", 2.0 * number) and hit.caption == f"stir bowl {number}"


def test_a_stretch_of_a_file_is_as_the_stretch_alone(folder):
    write_wav(folder / "long.wav", np.concatenate([sound(5, 1.0), sound(0, 1.0), sound(6, 1.0)]))
    alone = search(folder / "avlnet.h5", media=folder / "c0.wav")
    segment = search(folder / "avlnet.h5", media=folder / "long.wav", start=1.0, end=2.0)
    assert alone == segment
    assert alone != search(folder / "avlnet.h5", media=folder / "long.wav")


def test_words_without_a_vector_are_left_out(folder, caplog):
    found = [
        search(folder / "avlnet_text_tri.h5", text=text, words=folder / "words.h5") for text in (SENTENCE, "pour milk")
    ]
    assert found[0] == found[1] and "1 of the 3 words" in caplog.text


def test_what_is_not_heard_is_said(folder, caplog):
    search(folder / "avlnet.h5", media=folder / "c2.wav")
    assert "only the first 1.28 s are heard" in caplog.text


def test_equal_scores_go_by_their_place(tmp_path, folder):
    write_pack(tmp_path / "pack.h5", make_pack())
    build_index(tmp_path / "pack.h5", model="avlnet", weights="random:0", target=tmp_path / "i.h5", **SIZES)
    (tmp_path / "i.h5.manifest").unlink()
    with h5py.File(tmp_path / "i.h5", "r+") as file:
        file["embeddings"][:] = 0.0  # scores that no rounding can part
    assert [hit.clip_id for hit in search(tmp_path / "i.h5", media=folder / "c0.wav")] == ["c0", "c1", "c2"]


def test_scores_that_are_no_numbers_are_refused(tmp_path, folder):
    write_pack(tmp_path / "pack.h5", make_pack())
    build_index(tmp_path / "pack.h5", model="avlnet", weights="random:0", target=tmp_path / "i.h5", **SIZES)
    (tmp_path / "i.h5.manifest").unlink()
    with h5py.File(tmp_path / "i.h5", "r+") as file:
        file["embeddings"][1, 3] = np.nan
    with pytest.raises(AvpipeError, match="scores nan with clip 'c1' and no finite number with 1 of 3 clips"):
        search(tmp_path / "i.h5", media=folder / "c0.wav")


@pytest.mark.parametrize(
    ("name", "query", "found"),
    [
        ("avlnet", {}, "searched with a file with sound; given was nothing"),
        ("avlnet", {"media": "c0.wav", "text": SENTENCE}, "given was a file with sound and a text"),
        ("avlnet_text_tri", {"media": "c0.wav"}, "searched with a text; given was a file"),
        ("avlnet_text_fused", {"text": SENTENCE}, "a file with sound and a text; given was a text"),
        ("avlnet_text_tri", {"text": SENTENCE}, "needs word vectors"),
        ("avlnet_text_tri", {"text": "Zucchini!", "words": "words.h5"}, r"none of its 1 words \(Zucchini\)"),
        ("avlnet_text_tri", {"text": "Zucchini!", "words": "glove.txt"}, "Zucchini"),
        ("avlnet_text_tri", {"text": "", "words": "words.h5"}, "none of its 0 words"),
        (
            "avlnet_text_tri",
            {"text": SENTENCE, "words": "longer.h5"},
            "have 13 numbers; .* reads 12",
        ),
        ("avlnet_text_tri", {"text": SENTENCE, "words": "gone.bin"}, "gone.bin"),
        ("avlnet", {"media": "silent.wav"}, "digital silence"),
        ("avlnet", {"media": "blip.wav"}, "too_short"),
        ("avlnet", {"media": "short.wav"}, "11 spectrogram frames, 0.11 s; expected at least 16"),
        ("avlnet", {"media": "gone.wav"}, "missing"),
        ("avlnet", {"media": "words.h5"}, "cannot be searched with"),
        ("avlnet", {"media": "c0.wav", "start": 0.9, "end": 0.2}, "0 <= start < end"),
        ("avlnet", {"media": "c0.wav", "start": 7.0}, "cannot be searched with"),
        ("avlnet", {"media": "c0.wav", "top": 0}, "at least 1"),
        ("avlnet", {"media": "c0.wav", "top": 2.5}, "2.5 hits are wanted; expected a whole number"),
        ("avlnet", {"media": "c0.wav", "weights": "avlnet_text_tri.pth"}, "holds weights of avlnet_text_tri"),
        ("avlnet", {"media": "c0.wav", "weights": "random"}, "random cannot be opened"),
        ("avlnet", {"media": "c0.wav", "weights": "gone.pth"}, "gone.pth cannot be opened"),
    ],
)
def test_queries_that_cannot_be_answered(folder, name, query, found):
    files = ("media", "words", "weights")
    places = {key: folder / value if key in files else value for key, value in query.items()}
    with pytest.raises(AvpipeError, match=found):
        search(folder / f"{name}.h5", **places)


def test_weights_that_changed_since_are_refused(tmp_path, folder):
    network = build("avlnet", **SIZES)
    load_weights(network, "random:4")
    torch.save(network.state_dict(), tmp_path / "w.pth")
    write_pack(tmp_path / "pack.h5", make_pack())
    build_index(tmp_path / "pack.h5", model="avlnet", weights=tmp_path / "w.pth", target=tmp_path / "i.h5", **SIZES)
    (tmp_path / "w.pth").rename(tmp_path / "moved.pth")
    with pytest.raises(AvpipeError, match=r"w\.pth cannot be opened"):
        search(tmp_path / "i.h5", media=folder / "c0.wav")
    assert search(tmp_path / "i.h5", media=folder / "c0.wav", weights=tmp_path / "moved.pth")
    torch.save({**network.state_dict(), "GU_video.fc.bias": torch.zeros(16)}, tmp_path / "w.pth")
    with pytest.raises(AvpipeError, match="The index was made with the weights"):
        search(tmp_path / "i.h5", media=folder / "c0.wav")
