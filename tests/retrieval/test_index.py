import h5py
import numpy as np
import pytest
import torch
from made_pack import make_pack

from avpipe.errors import AvpipeError
from avpipe.retrieval.index import build_index, open_index
from avpipe.retrieval.models import build, names
from avpipe.retrieval.packs import ClipSource, write_pack
from avpipe.weights import load_weights

SIZES = {"embedding_dim": 16, "audio_channels": 2, "word_dim": 12}
WINDOW = 128


@pytest.fixture
def pack(tmp_path):
    made = make_pack()
    write_pack(tmp_path / "pack.h5", made)
    return made


@pytest.fixture
def weights(tmp_path):
    """Where the weights of a model are, made when asked for."""

    def save(name):
        network = build(name, **SIZES)
        load_weights(network, "random:3")
        torch.save(network.state_dict(), tmp_path / f"{name}.pth")
        return tmp_path / f"{name}.pth"

    return save


def make(tmp_path, model, weights, **changes):
    values = {"target": tmp_path / "i.h5", "window": WINDOW, **SIZES, **changes}
    return build_index(tmp_path / "pack.h5", model=model, weights=weights, **values)


@pytest.mark.parametrize("name", names())
def test_rows_are_the_models_candidates(tmp_path, pack, weights, name):
    path = weights(name)
    info = make(tmp_path, name, path)
    network = build(name, **SIZES).eval()
    load_weights(network, path)
    padded = np.zeros((len(pack), 40, WINDOW), np.float32)
    for row, clip in zip(padded, map(pack.spectrogram, range(len(pack))), strict=True):
        row[:, : len(clip)] = clip[:WINDOW].T
    with torch.inference_mode():
        text = torch.zeros(len(pack), 20, 12)
        embeddings = network.embed(
            torch.from_numpy(padded),
            torch.from_numpy(pack.visual()),
            text if network.uses_text else None,
            n_frames=pack.n_frames.tolist(),
        )
        expected = network.candidates_of(embeddings).numpy()
    with open_index(tmp_path / "i.h5") as (file, stored):
        # The padding is not computed here (pool_ragged), which moves float32 sums by rounding alone.
        np.testing.assert_allclose(file["embeddings"][:], expected, rtol=1e-4, atol=1e-5)
        assert list(file["ids"].asstr()[:]) == pack.ids and stored == info
    assert len(info.weights_label) == 64 and info.pack_digest == pack.digest and not info.quantise


def test_equal_inputs_give_equal_bytes(tmp_path, pack, weights):
    path = weights("avlnet")
    for target in ("a.h5", "b.h5"):
        make(tmp_path, "avlnet", path, target=tmp_path / target)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_many_clips_are_embedded_in_parts(tmp_path, weights, monkeypatch):
    path = weights("avlnet_text_tri")
    write_pack(tmp_path / "pack.h5", make_pack((0.3, 0.5, 0.4, 0.2, 0.6)))
    make(tmp_path, "avlnet_text_tri", path, target=tmp_path / "whole.h5")
    monkeypatch.setattr("avpipe.retrieval.index._CLIPS_AT_ONCE", 2)
    make(tmp_path, "avlnet_text_tri", path, target=tmp_path / "parts.h5")
    with h5py.File(tmp_path / "whole.h5") as whole, h5py.File(tmp_path / "parts.h5") as parts:
        # Batches of another size may be summed in another order: float32 rounding.
        np.testing.assert_allclose(parts["embeddings"][:], whole["embeddings"][:], rtol=1e-5, atol=1e-6)


def test_published_sound_was_rounded_and_an_extractors_settings_say_whether_its_was(tmp_path, weights):
    path = weights("avlnet")
    infos = {"published pickle": {}, "extracted": {"audio": {"settings": {"quantise": True}}}}
    for origin, provenance in infos.items():
        made = make_pack()
        object.__setattr__(made.info, "origin", origin)
        made.info.provenance.update(provenance)
        write_pack(tmp_path / "pack.h5", made)
        assert make(tmp_path, "avlnet", path).quantise


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"embedding_dim": 8}, "embedding_dim 16"),
        ({"window": 0}, "at least 1"),
        ({"weights": "random:x"}, "random:0"),
        ({"weights": "random"}, "random cannot be opened"),
        ({"weights": "gone.pth"}, r"gone\.pth cannot be opened"),
        ({"model": "avlnot"}, "avlnet, avlnet_text_tri"),
    ],
)
def test_mistakes_are_named_and_leave_no_file(tmp_path, pack, weights, changes, found):
    with pytest.raises(AvpipeError, match=found):
        make(tmp_path, **{"model": "avlnet", "weights": weights("avlnet"), **changes})
    assert not (tmp_path / "i.h5").exists()


def test_something_else_is_no_index(tmp_path, pack):
    (tmp_path / "text.h5").write_text("x" * 100)
    for name, found in (("pack.h5", "'avpipe pack'"), ("text.h5", "is no index"), ("gone.h5", "does not exist")):
        with pytest.raises(AvpipeError, match=found), open_index(tmp_path / name):
            pass


def test_clips_without_a_file_or_a_caption(tmp_path, weights):
    write_pack(tmp_path / "pack.h5", make_pack((0.5,), captions=[()], sources=[ClipSource()]))
    make(tmp_path, "avlnet", weights("avlnet"))
    with open_index(tmp_path / "i.h5") as (file, _):
        assert (file["captions"].asstr()[0], file["sources"].asstr()[0]) == ('""', '["", null, null]')
