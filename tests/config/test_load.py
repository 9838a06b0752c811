from pathlib import Path

import pytest

from avpipe.config.load import load_config, merge, read_yaml
from avpipe.errors import AvpipeError
from avpipe.settings import Settings, is_quirk

ROOT = Path(__file__).parents[2]
DATASETS = ROOT / "config" / "datasets"


def test_committed_configuration_is_valid():
    config = load_config(read_yaml(ROOT / "config" / "config.yaml"), DATASETS)
    assert set(config.datasets) >= {"demo_gzsl", *PUBLISHED}
    for name, by_features in PUBLISHED.items():
        gzsl = config.dataset(name).gzsl
        for features, (*dropouts, momentum, batch_size, baseline_dropout) in by_features.items():
            avca, training, _ = gzsl.choice("avca", features, "published")
            found = [avca.embedding_dropout, avca.decoder_dropout, avca.additional_dropout, avca.momentum]
            assert found == [*dropouts, momentum], (name, features)
            assert (training.batch_size, training.weight_decay, training.learning_rate) == (batch_size, 1e-5, 1e-3)
            assert (training.epochs, training.batches_per_epoch) == (50, 500)
            for method in ("ale", "devise", "sje", "apn", "cjme"):
                settings, training, _ = gzsl.choice(method, features, "published")
                assert getattr(settings, "norm_inputs", features == "cls_features") == (features == "cls_features")
                assert getattr(settings, "dropout", baseline_dropout) == baseline_dropout
                assert (training.batch_size, training.weight_decay) == (256, 0.0)
        fvaegan, training, _ = gzsl.choice("fvaegan", "main_features", "published")
        assert fvaegan.n_synthetic == (10_000 if name == "vggsound_gzsl" else 1000)
        assert (training.batch_size, training.batches_per_epoch, training.learning_rate) == (64, 1, 1e-3)


# AVCA's dropouts (embedding, decoder, additional), momentum and batch size, and the baselines' dropout, as published
# (docs/methods.md, AVCA; Settings of the baselines).
PUBLISHED = {
    "ucf_gzsl": {
        "main_features": (0.2, 0.3, 0.5, 0.1, 256, 0.2),
        "cls_features": (0.2, 0.3, 0.5, 0.99, 256, 0.2),
    },
    "activitynet_gzsl": {
        "main_features": (0.2, 0.2, 0.1, 0.99, 256, 0.2),
        "cls_features": (0.2, 0.2, 0.1, 0.99, 256, 0.2),
    },
    "vggsound_gzsl": {
        "main_features": (0.0, 0.0, 0.1, 0.1, 64, 0.0),
        "cls_features": (0.0, 0.0, 0.0, 0.99, 256, 0.0),
    },
}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"fidelty": "published"}, ["fidelty", "did you mean fidelity"]),
        ({"datasets": {"demo_gzsl": {"n_shard": 3}}}, ["datasets.demo_gzsl.n_shard", "did you mean n_shards"]),
        ({"datasets": {"demo_gzsl": {"gzsl": {"training": {"epoch": 1}}}}}, ["training.epoch", "epochs"]),
        ({"datasets": {"demo_gzsl": {"n_shards": "many"}}}, ["datasets.demo_gzsl.n_shards", "integer", "'many'"]),
        ({"datasets": {"mine": {"n_shards": 1}}}, ["datasets.mine.source", "required"]),
        ({"datasets": {"../x": {"n_shards": 1, "source": {"kind": "synthetic"}}}}, ["../x"]),
        ({"datasets": {"demo_gzsl": {"gzsl": {"seeds": [1, 1]}}}}, ["seeds", "different"]),
        ({"datasets": {"demo_gzsl": {"gzsl": {"benchmarks": [{"split": "a", "features": "b"}]}}}}, ["'b'"]),
        ({"weights": {"c3d": "random:x"}}, ["weights.c3d", "random:<seed>"]),
        ({"datasets": ["demo_gzsl"]}, ["datasets"]),
        ({"datasets": {"demo_gzsl": ["n_shards"]}}, ["datasets.demo_gzsl", "must map"]),
        ({"datasets": {"demo_gzsl": {"gzsl": {"seeds": [2**63]}}}}, ["seeds", "2^63 - 1"]),
        ({"datasets": {"demo_gzsl": {"gzsl": {"class_split": "my{x}"}}}}, ["gzsl.class_split", "wildcards"]),
        ({"weights": {"c3d": "{x}.pickle"}}, ["weights.c3d", "wildcards"]),
    ],
)
def test_a_wrong_key_or_value_is_named(values, words):
    with pytest.raises(AvpipeError) as error:
        load_config(values, DATASETS)
    for word in words:
        assert word in str(error.value)


def test_every_problem_is_reported_at_once():
    with pytest.raises(AvpipeError) as error:
        load_config({"fidelty": 1, "device": "tpu"}, DATASETS)
    assert "2 problem(s)" in str(error.value) and "fidelty" in str(error.value) and "device" in str(error.value)


def test_a_long_value_is_not_printed_whole():
    with pytest.raises(AvpipeError) as error:
        load_config({"device": "x" * 5000}, DATASETS)
    assert "'xxx" in str(error.value) and len(str(error.value)) < 500


def test_paths_may_start_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/elsewhere")
    mine = {"source": {"kind": "class_folders", "path": "~/videos"}, "n_shards": 1, "gzsl": {"word_vectors": "~/w.npy"}}
    config = load_config({"weights": {"c3d": "~/c3d.pickle"}, "datasets": {"mine": mine}}, DATASETS)
    dataset = config.dataset("mine")
    assert (dataset.source.path, dataset.gzsl.word_vectors) == ("/elsewhere/videos", "/elsewhere/w.npy")
    assert dataset.weights.c3d == "/elsewhere/c3d.pickle"


def test_a_yaml_mistake_names_the_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("n_shards: [1")
    with pytest.raises(AvpipeError, match=r"mine\.yaml"):
        load_config({}, tmp_path)


def test_fidelity_decides_open_quirks_and_only_those():
    own = {"demo_gzsl": {"features": {"c3d": {"invert_colours": False}}}}
    published = load_config({"fidelity": "published", "datasets": own}, DATASETS).dataset("demo_gzsl")
    assert published.gzsl.forms == ["published"]
    assert published.gzsl.choice("avca", "cls_features", "published").text == "published"
    assert published.features.c3d.invert_colours is False
    corrected = load_config({}, DATASETS).dataset("demo_gzsl")
    assert corrected.gzsl.forms == ["corrected"]
    assert corrected.gzsl.choice("avca", "cls_features", "corrected").text == "correct"
    assert corrected.gzsl.choice("avca", "cls_features", "permuted").text == "permuted"
    assert corrected.features.c3d.invert_colours is False


def test_what_a_person_sets_for_a_method_comes_before_the_committed_feature_sets():
    """UCF's cls_features come with momentum 0.99: it must not win over a momentum that somebody asks for."""
    own = {"gzsl": {"methods": {"avca": {"momentum": 0.5}}}}
    gzsl = load_config({"datasets": {"ucf_gzsl": own}}, DATASETS).dataset("ucf_gzsl").gzsl
    for features in ("main_features", "cls_features"):
        assert gzsl.choice("avca", features, "corrected").hyperparameters.momentum == 0.5
    assert gzsl.choice("ale", "cls_features", "corrected").hyperparameters.norm_inputs is True
    own["gzsl"]["feature_sets"] = {"cls_features": {"methods": {"avca": {"momentum": 0.7}}}}
    gzsl = load_config({"datasets": {"ucf_gzsl": own}}, DATASETS).dataset("ucf_gzsl").gzsl
    assert gzsl.choice("avca", "cls_features", "corrected").hyperparameters.momentum == 0.7


def test_no_quirk_is_left_open_after_resolution():
    def walk(model):
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            # None is what f-VAEGAN's batches_per_epoch says for "as gzsl.training".
            assert not (is_quirk(field) and value is None) or name == "batches_per_epoch", name
            for each in value.values() if isinstance(value, dict) else [value]:
                if isinstance(each, Settings) and name != "gzsl":  # whose methods are decided by form
                    walk(each)

    for fidelity in ("published", "corrected"):
        walk(load_config({"fidelity": fidelity}, DATASETS).dataset("howto100m"))
        dataset = load_config({"fidelity": fidelity}, DATASETS).dataset("demo_gzsl")
        walk(dataset)
        for experiment in dataset.gzsl.experiments():
            _, features, method, form = experiment
            hyperparameters, training, _ = dataset.gzsl.choice(method, features, form)
            walk(hyperparameters)
            walk(training)
            assert training.batches_per_epoch >= 1


def test_weights_of_a_dataset_lie_over_the_common_ones():
    config = load_config({"weights": {"c3d": "random:7", "vggish": "random:8"}}, DATASETS)
    assert config.dataset("demo_gzsl").weights.c3d == "random:0"
    assert config.dataset("ucf_gzsl").weights.vggish == "random:8"


def test_merge_replaces_lists_and_keeps_the_rest():
    assert merge({"a": {"b": [1], "c": 2}}, {"a": {"b": [3]}}) == {"a": {"b": [3], "c": 2}}
