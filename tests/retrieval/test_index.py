import h5py
import numpy as np
import pytest
import torch
from damaged_files import outcomes
from made_pack import make_pack

from avpipe.errors import AvpipeError
from avpipe.io.hdf5_text import read_json_dataset, write_json_dataset
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
    with open_index(tmp_path / "i.h5") as index:
        # The padding is not computed here (pool_ragged), which moves float32 sums by rounding alone.
        np.testing.assert_allclose(np.concatenate([*index.embeddings()]), expected, rtol=1e-4, atol=1e-5)
        assert (index.ids, index.sources, index.info, len(index)) == (pack.ids, pack.sources, info, len(pack))
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
    for name, found in (
        ("pack.h5", "'avpipe pack'"),
        ("text.h5", "was not read: .*Make one with"),
        ("gone.h5", "does not exist"),
    ):
        with pytest.raises(AvpipeError, match=found), open_index(tmp_path / name):
            pass


def test_clips_without_a_file_or_a_caption(tmp_path, weights):
    write_pack(tmp_path / "pack.h5", make_pack((0.5,), captions=[()], sources=[ClipSource()]))
    make(tmp_path, "avlnet", weights("avlnet"))
    with open_index(tmp_path / "i.h5") as index:
        assert (index.captions, index.sources) == ([""], [ClipSource()])


def test_rows_are_read_in_parts(tmp_path, pack, weights, monkeypatch):
    make(tmp_path, "avlnet", weights("avlnet"))
    with open_index(tmp_path / "i.h5") as index:
        (whole,) = index.embeddings()
        monkeypatch.setattr("avpipe.retrieval.index._ROWS_AT_ONCE", 2)
        parts = list(index.embeddings())
    assert [len(part) for part in parts] == [2, 1] and (np.concatenate(parts) == whole).all()


def _replace_text(name, change):
    def replace(file):
        value = read_json_dataset(file, name)
        del file[name]
        write_json_dataset(file, name, change(value))

    return replace


def _replace_embeddings(shape, dtype="<f4"):
    def replace(file):
        del file["embeddings"]
        file.create_dataset("embeddings", data=np.zeros(shape, dtype))

    return replace


def _as_strings(file):
    del file["ids"]
    file.create_dataset("ids", data=["c0", "c1", "c2"], dtype=h5py.string_dtype())


DAMAGE = {
    "another version": (lambda file: file.attrs.modify("version", 1), "of version 1; expected .* of version 2"),
    "no version": (lambda file: file.attrs.pop("version"), "of version None; expected"),
    "no info": (lambda file: file.pop("info"), "was not read: .*info"),
    "info that is a list": (_replace_text("info", lambda _: [1]), "was not read"),
    "info without the model": (_replace_text("info", lambda info: info | {"mode": info.pop("model")}), "was not read"),
    "sizes that are text": (_replace_text("info", lambda info: info | {"window": "9"}), "was not read: window in"),
    "info is no JSON": (lambda file: file["info"].write_direct(np.zeros_like(file["info"])), "was not read"),
    "no embeddings": (lambda file: file.pop("embeddings"), "was not read: .*embeddings"),
    "other embeddings": (_replace_embeddings((3, 15)), r"embeddings float32 \[3, 15\] for 3 .* float32 \[3, 16\]"),
    "embeddings of fewer clips": (_replace_embeddings((2, 16)), r"float32 \[2, 16\] for 3"),
    "embeddings on one axis": (_replace_embeddings(48), r"float32 \[48\] for 3"),
    "whole numbers": (_replace_embeddings((3, 16), "<i4"), r"int32 \[3, 16\] for 3"),
    "ids of variable length": (_as_strings, "'ids' has elements of variable length"),
    "ids that are numbers": (_replace_text("ids", lambda ids: [1, 2, 3]), "ids or captions that are no text"),
    "captions of fewer clips": (_replace_text("captions", lambda texts: texts[1:]), "3 ids, 3 sources and 2 captions"),
    "sources of more clips": (_replace_text("sources", lambda rows: rows * 2), "3 ids, 6 sources and 3 captions"),
    "sources of another kind": (_replace_text("sources", lambda rows: [5] * 3), "was not read"),
    "no clips": (
        lambda file: [
            _replace_embeddings((0, 16))(file),
            *(_replace_text(name, lambda _: [])(file) for name in ("ids", "sources", "captions")),
        ],
        "for 0 clips",
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of an index of three clips."""
    folder = tmp_path_factory.mktemp("index")
    write_pack(folder / "pack.h5", make_pack())
    make(folder, "avlnet", "random:0")
    return (folder / "i.h5").read_bytes()


@pytest.mark.parametrize(("damage", "found"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_indexes_are_refused(tmp_path, whole, damage, found):
    (tmp_path / "i.h5").write_bytes(whole)
    with h5py.File(tmp_path / "i.h5", "r+") as file:
        damage(file)
    with pytest.raises(AvpipeError, match=found), open_index(tmp_path / "i.h5"):
        pass


def _values(path):
    with open_index(path) as index:
        rows = [rows.tobytes() for rows in index.embeddings()]
        return rows, index.ids, index.sources, index.captions, index.info


def test_one_wrong_byte_is_found_wherever_it_is(tmp_path, whole):
    (tmp_path / "i.h5").write_bytes(whole)
    with h5py.File(tmp_path / "i.h5") as file:
        chunk = file["embeddings"].id.get_chunk_info(0)
    found = outcomes(tmp_path / "i.h5", _values, arrays=[(chunk.byte_offset, chunk.size)] * 20)
    assert set(found) == {"equal", "refused"}, found  # equal where a byte belongs to nothing
    assert found["refused"] >= 20


def test_nothing_lies_in_the_global_heap(whole):
    """HDF5 keeps what is of variable length there, without a checksum; its signature is GCOL."""
    assert b"GCOL" not in whole
