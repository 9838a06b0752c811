import types
import typing
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from avpipe.config.explain import inside, places
from avpipe.config.load import load_config, merge
from avpipe.config.models import Config
from avpipe.config.yaml_files import read_yaml
from avpipe.errors import AvpipeError
from avpipe.gzsl.settings import PRESETS, Gzsl
from avpipe.plan import Project, gzsl
from avpipe.registry import METHODS
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
        ({"datasets": {"demo_gzsl": {"n_shards": "many"}}}, ["datasets.demo_gzsl.n_shards", "whole number", "'many'"]),
        ({"datasets": {"mine": {"n_shards": 1}}}, ["datasets.mine.source", "required"]),
        ({"datasets": {"../x": {"n_shards": 1, "source": {"kind": "synthetic"}}}}, ["../x"]),
        ({"datasets": {"demo_gzsl": {"gzsl": {"seeds": [1, 1]}}}}, ["seeds", "different"]),
        ({"datasets": {"demo_gzsl": {"gzsl": {"benchmarks": [{"split": "a", "features": "b"}]}}}}, ["'b'"]),
        ({"weights": {"c3d": "random:x"}}, ["weights.c3d", "random:<seed>"]),
        ({"datasets": ["demo_gzsl"]}, ["datasets"]),
        ({"datasets": {"demo_gzsl": ["n_shards"]}}, ["datasets.demo_gzsl", "expected keys and values"]),
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


# Every text of the configuration that is no path.
NO_PATHS = {
    "title", "notes", "obtain", "files", "split", "features", "train", "tests", "permuted_control", "subsets", "format",
}  # fmt: skip


def is_text(annotation) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, list):
        return any(map(is_text, typing.get_args(annotation)))
    return annotation is str


def texts_in(model) -> list[tuple[str, ...]]:
    """The places of all settings that are a text of any form but those that are no path."""
    found = [place for place in places(model) if any(map(is_text, annotations(model, place)))]
    return [place for place in found if place[-1] not in NO_PATHS]


def annotations(model, place):
    *above, key = place
    fields = [each.model_fields[key] for each in inside([model], above) if key in each.model_fields]
    return [typing.Annotated[(field.annotation, *field.metadata, "")] for field in fields]


@pytest.mark.parametrize("place", texts_in(Config), ids=".".join)
def test_every_path_may_start_at_home(monkeypatch, place):
    """A key that is to hold a path is of one of two types; what is no path is listed above."""
    monkeypatch.setenv("HOME", "/elsewhere")
    for annotation in annotations(Config, place):
        assert TypeAdapter(annotation).validate_python("~/x") == "/elsewhere/x", place


def test_paths_of_a_dataset_its_weights_and_the_workflow_may_start_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/elsewhere")
    mine = {"source": {"kind": "class_folders", "path": "~/videos"}, "n_shards": 1, "gzsl": {"word_vectors": "~/w.npy"}}
    mine["retrieval"] = {"runs": {"a": {"weights": "~/run.pth", "tests": ["x/y"]}}}
    values = {"weights": {"c3d": "~/c3d.pickle"}, "datasets": {"mine": mine}, "pathvars": {"results": "~/results"}}
    config = load_config(values, DATASETS)
    dataset = config.dataset("mine")
    assert (dataset.source.path, dataset.gzsl.word_vectors) == ("/elsewhere/videos", "/elsewhere/w.npy")
    assert (dataset.weights.c3d, config.pathvars.results) == ("/elsewhere/c3d.pickle", "/elsewhere/results")
    assert dataset.retrieval.runs["a"].weights == "/elsewhere/run.pth"


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
            # None says "as gzsl.training" in f-VAEGAN's batches_per_epoch, and "all constants" in the other two.
            means_none = ("batches_per_epoch", "beta_max", "n_betas")
            assert not (is_quirk(field) and value is None) or name in means_none, name
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


# What is written -> the line of mine.yaml, the key, what is said of it.
IN_A_FILE = {
    "seeds: [1]": (1, "seeds", "it belongs in datasets.<name>.gzsl.seeds or datasets.<name>.retrieval.seeds"),
    "n_shards: 3": (1, "n_shards", "it belongs in datasets.<name>.n_shards"),
    "datasets:\n  ucf_gzsl:\n    seeds: [1]": (3, "datasets.ucf_gzsl.seeds", "in datasets.ucf_gzsl.gzsl.seeds or"),
    "datasets:\n  ucf_gzsl:\n    gzsl:\n      n_shards: 3": (
        4, "datasets.ucf_gzsl.gzsl.n_shards", "it belongs in datasets.ucf_gzsl.n_shards"),
    "datasets:\n  ucf_gzsl:\n    avca: {momentum: 1}": (
        3, "datasets.ucf_gzsl.avca", "it belongs in datasets.ucf_gzsl.gzsl.methods.avca"),
    "ucf_gzsl:\n  n_shards: 3": (1, "ucf_gzsl", "it belongs in datasets.ucf_gzsl"),
    "features: {vggish: {postprocess: false}}": (1, "features", "it belongs in datasets.<name>.features"),
    "results: elsewhere": (1, "results", "it belongs in pathvars.results"),
    "a: 1\nfidelty: published": (2, "fidelty", "did you mean fidelity?"),
    "datasets:\n  ucf_gzsl:\n    gzsl:\n      trainng: {epochs: 1}": (
        4, "datasets.ucf_gzsl.gzsl.trainng", "did you mean training?"),
    "datasets:\n  ucf_gzsl:\n    gzsl: {cls_features: {video: c3d}}": (
        3, "datasets.ucf_gzsl.gzsl.cls_features", "datasets.ucf_gzsl.gzsl.feature_sets.cls_features"),
    "datasets:\n  ucf_gzsl: {source: {audio_path: x}}": (2, "datasets.ucf_gzsl.source.audio_path", "its kind"),
    "datasets:\n  ucf_gzsl: {source: {kind: tabel}}": (2, "datasets.ucf_gzsl.source", "'class_folders', 'table'"),
    "datasets:\n  mine: {source: {path: x}}": (2, "datasets.mine.source", "it lacks the key 'kind'"),
    "datasets:\n  mine:\n    n_shards: 3": (2, "datasets.mine.source", "it is required and not set"),
    "datasets:\n  ucf_gzsl:\n    gzsl:\n      benchmarks:\n      - {splitt: a}": (
        5, "datasets.ucf_gzsl.gzsl.benchmarks.0.splitt", "did you mean split?"),
    "datasets:\n  ucf_gzsl: {n_shards: 0}": (2, "datasets.ucf_gzsl.n_shards", "expected 1 or more (found 0)"),
    "datasets:\n  ucf_gzsl: {n_shards: 1.5}": (2, "datasets.ucf_gzsl.n_shards", "expected a whole number (found 1.5)"),
    "datasets:\n  ucf_gzsl: {require_audio: 3}": (2, "datasets.ucf_gzsl.require_audio", "expected true or false"),
    "datasets:\n  ucf_gzsl: {gzsl: {seeds: 3}}": (2, "datasets.ucf_gzsl.gzsl.seeds", "expected a list, such as [a, b]"),
    "datasets:\n  ucf_gzsl: {gzsl: null}": (2, "datasets.ucf_gzsl.gzsl", "expected keys and values (found nothing)"),
    "datasets:\n  ucf_gzsl: {gzsl: {permuted_control: 7}}": (
        2, "datasets.ucf_gzsl.gzsl.permuted_control", "expected true or false (found 7), or expected a list"),
    "weights:\n  c3d: 5": (2, "weights.c3d", "expected text; put quotes around a number (found 5)"),
    "1: 2": (1, "1", "expected a name; put quotes around it"),
    "datasets: {'a b': {source: {kind: synthetic}}}": (1, "datasets", "'a b': expected a name of letters"),
    "datasets: {ucf_gzsl: {gzsl: {methods: [avca, avac]}}}": (
        1, "datasets.ucf_gzsl.gzsl.methods", "there is no method 'avac'; known: avca"),
    "datasets: {ucf_gzsl: {gzsl: {methods: [{avca: 1}]}}}": (
        1, "datasets.ucf_gzsl.gzsl.methods", "there is no method {'avca': 1}; known: avca"),
}  # fmt: skip


@pytest.mark.parametrize("text", IN_A_FILE)
def test_a_fault_is_one_line_with_file_line_key_and_what_is_expected(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(text)
    number, key, words = IN_A_FILE[text]
    with pytest.raises(AvpipeError) as error:
        load_config(read_yaml(Path("mine.yaml")), DATASETS, files=[Path("mine.yaml")])
    (line,) = [
        line for line in str(error.value).splitlines() if line.startswith(f"  mine.yaml, line {number}: {key}: ")
    ]
    assert words in line
    assert str(error.value).count(f" {key}: ") == 1


def test_the_file_that_wins_is_named_and_the_command_line_where_no_file_has_the_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("datasets").mkdir()
    Path("datasets/mine.yaml").write_text("source: {kind: synthetic}\nn_shards: many\nrequire_audio: 7\n")
    Path("config.yaml").write_text("datasets:\n  mine:\n    n_shards: more\n")
    Path("own.yaml").write_text("\ndevice: tpu\ndatasets: {mine: {n_shards: most}}\n")
    files = [Path("config.yaml"), Path("own.yaml")]
    values = merge(read_yaml(files[0]), read_yaml(files[1])) | {"fidelity": "x"}
    with pytest.raises(AvpipeError) as error:
        load_config(values, Path("datasets"), files=files)
    starts = ["own.yaml, line 3: datasets.mine.n_shards", "datasets/mine.yaml, line 3: datasets.mine.require_audio"]
    for start in (*starts, "own.yaml, line 2: device: ", "--config: fidelity: "):
        assert f"\n  {start}" in str(error.value)


class TestMethodsAsAList:
    """[avca, devise] runs these, with the hyper-parameters that they would have had."""

    def experiments(self, *layers, name="ucf_gzsl") -> dict:
        values = {}
        for layer in layers:
            values = merge(values, {"datasets": {name: {"gzsl": layer}}})
        project = Project(load_config(values, DATASETS, files=self.files(layers, name)), catalogue={})
        return {each: gzsl.experiment(project, name, *each.split("/")[1:]) for each in gzsl.experiments(project, name)}

    def files(self, layers, name):
        paths = []
        for number, layer in enumerate(layers):
            paths.append(self.folder / f"{number}.yaml")
            paths[-1].write_text(yaml.safe_dump({"datasets": {name: {"gzsl": layer}}}))
        return paths

    @pytest.fixture(autouse=True)
    def own_folder(self, tmp_path):
        self.folder = tmp_path

    @pytest.mark.parametrize("picked", [["avca", "devise"], ["fvaegan"], ["sje", "cjme", "apn"]])
    @pytest.mark.parametrize("name", ["ucf_gzsl", "vggsound_gzsl", "activitynet_gzsl"])
    def test_it_equals_the_full_form(self, name, picked):
        full = {"methods": {method: None for method in METHODS if method not in picked}}
        found = self.experiments({"methods": picked}, name=name)
        assert found == self.experiments(full, name=name) and {each.split("/")[2] for each in found} == set(picked)

    def test_a_method_that_the_dataset_switches_off_is_run(self):
        assert {each.split("/")[2] for each in self.experiments({"methods": ["ale"]}, name="demo")} == {"ale"}

    def test_hyper_parameters_of_other_files_stay_whichever_comes_first(self):
        own, picked = {"methods": {"avca": {"momentum": 0.5}}}, {"methods": ["avca"]}
        full = {"methods": {"avca": {"momentum": 0.5}} | {name: None for name in METHODS if name != "avca"}}
        assert self.experiments(own, picked) == self.experiments(full) == self.experiments(picked, own)

    def test_no_method_at_all(self):
        assert self.experiments({"methods": []}) == {}

    def test_a_dataset_may_have_a_list_itself(self):
        alone = Gzsl.model_validate({"methods": ["avca"]})
        assert alone.methods.enabled() == ["avca"] and alone.methods.avca == Gzsl().methods.avca


class TestPreset:
    """Training lengths of a small dataset."""

    def lengths(self, gzsl, name="ucf_gzsl"):
        training = load_config({"datasets": {name: {"gzsl": gzsl}}}, DATASETS).dataset(name).gzsl.training
        return {key: getattr(training, key) for key in PRESETS["small"]}

    def test_it_lies_over_the_committed_dataset_and_under_what_is_set_beside_it(self):
        assert self.lengths({"preset": "small"}) == PRESETS["small"]
        assert self.lengths({"preset": "small", "training": {"epochs": 3}}) == PRESETS["small"] | {"epochs": 3}
        assert self.lengths({})["epochs"] == 50

    def test_a_dataset_of_one_s_own(self):
        assert Gzsl.model_validate({"preset": "small"}).training.batch_size == PRESETS["small"]["batch_size"]
        with pytest.raises(AvpipeError, match="preset: expected 'small'"):
            self.lengths({"preset": "tiny"})
        with pytest.raises(AvpipeError, match=r"gzsl\.training: expected keys and values"):
            self.lengths({"preset": "small", "training": 3})

    def test_other_training_settings_stay(self):
        assert Gzsl.model_validate({"preset": "small"}).training.n_betas == Gzsl().training.n_betas


UCF_FILES = ("class_split", "word_vectors")


@pytest.mark.parametrize(
    ("over", "source_path", "kept"),
    [
        ({}, True, {"class_split", "word_vectors"}),
        ({"source": {"kind": "published", "path": "UCF"}}, False, set()),
        ({"source": {"kind": "table", "path": "clips.csv"}}, False, {"class_split", "word_vectors"}),
        ({"gzsl": {"word_model": "glove.txt"}}, True, {"class_split"}),
        (
            {"gzsl": {"feature_sets": {name: {"path": "t"} for name in ("main_features", "cls_features")}}},
            True,
            {"class_split"},
        ),
        ({"gzsl": {"feature_sets": {"cls_features": {"path": "t"}}}}, True, {"class_split", "word_vectors"}),
        ({"gzsl": {"class_split": "mine", "word_model": "glove.txt"}}, True, {"class_split"}),
    ],
)
def test_files_that_can_be_fetched_yield_to_what_a_person_has(over, source_path, kept):
    """Published features bring their split and vectors; a word model makes vectors; other sources lie elsewhere."""
    dataset = load_config({"datasets": {"ucf_gzsl": over}}, DATASETS).dataset("ucf_gzsl")
    assert (dataset.source.path == "<resources>/ucf101/unpacked/UCF-101") == source_path
    assert {key for key in UCF_FILES if getattr(dataset.gzsl, key) is not None} == kept
    assert dataset.gzsl.class_split in (None, "mine") or "<resources>" in dataset.gzsl.class_split
