"""What each run of a zero-shot dataset gets: layers of settings, forms, controls, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from avpipe.config.models import Config
from avpipe.gzsl.settings import Gzsl
from avpipe.registry import METHODS

ONLY_AVCA = dict.fromkeys(set(METHODS) - {"avca"})
DEFAULT = [name for name, entry in METHODS.items() if entry.is_default]


def gzsl(fidelity="corrected", **values) -> Gzsl:
    """The section as the workflow takes it, forms decided."""
    values = {"benchmarks": [{"split": "a"}], **values}
    datasets = {"mine": {"source": {"kind": "class_folders"}, "gzsl": values}}
    return Config.model_validate({"fidelity": fidelity, "datasets": datasets}).dataset("mine").gzsl


def test_a_method_that_is_not_mentioned_is_run_and_one_set_to_null_is_not():
    assert gzsl().methods.enabled() == DEFAULT
    assert gzsl(methods={"sje": None}).methods.enabled() == [name for name in DEFAULT if name != "sje"]


def test_forms_follow_the_word_unless_they_are_listed():
    assert {form for *_, form in gzsl("published").experiments()} == {"published"}
    assert {form for *_, form in gzsl("corrected").experiments()} == {"corrected"}
    assert {form for *_, form in gzsl("published", forms=["corrected"]).experiments()} == {"corrected"}


def test_every_benchmark_runs_every_method_in_every_form_and_controls_once():
    settings = gzsl(
        benchmarks=[{"split": "a"}, {"split": "b", "features": "main_features"}],
        methods={name: None for name in METHODS if name not in ("avca", "ale")},
        forms=["corrected", "published"],
        permuted_control=["ale", "sje"],
    )
    assert set(settings.experiments()) == {
        (split, features, method, form)
        for split, features in (("a", "cls_features"), ("b", "main_features"))
        for method, forms in (("avca", ("corrected", "published")), ("ale", ("corrected", "published", "permuted")))
        for form in forms
    }
    assert len(list(settings.experiments())) == 10  # none twice; sje is switched off and has no control either


@pytest.mark.parametrize(("control", "expected"), [(False, 0), (True, len(DEFAULT)), ([], 0), (["avca"], 1)])
def test_who_gets_a_control(control, expected):
    forms = [form for *_, form in gzsl(permuted_control=control).experiments()]
    assert forms.count("permuted") == expected and forms.count("corrected") == len(DEFAULT)


def test_a_feature_set_s_settings_lie_over_the_method_s_and_these_over_the_common_ones():
    settings = gzsl(
        feature_sets={"cls_features": {"methods": {"avca": {"momentum": 0.9, "batch_size": 32}}}, "main_features": {}},
        methods={"avca": {"momentum": 0.2, "decoder_dropout": 0.1, "epochs": 7}},
        training={"epochs": 9, "batch_size": 64, "batches_per_epoch": 5, "weight_decay": 0.5},
    )
    here = settings.choice("avca", "cls_features", "corrected")
    assert (here.hyperparameters.momentum, here.hyperparameters.decoder_dropout) == (0.9, 0.1)
    assert (here.training.batch_size, here.training.epochs, here.training.batches_per_epoch) == (32, 7, 5)
    there = settings.choice("avca", "main_features", "corrected")
    assert (there.hyperparameters.momentum, there.training.batch_size) == (0.2, 64)
    assert here.training.weight_decay == 1e-5, "each method's own decides, as its settings say"
    other = settings.choice("ale", "cls_features", "corrected")
    assert (other.training.epochs, other.training.batch_size) == (9, 64)


def test_each_form_decides_what_is_left_open_and_only_that():
    settings = gzsl(forms=["corrected", "published"], methods={"fvaegan": {"chooses_on_test": False}})
    corrected, published = (settings.choice("fvaegan", "cls_features", form) for form in settings.forms)
    assert (corrected.training.batches_per_epoch, published.training.batches_per_epoch) == (500, 1)
    assert not corrected.hyperparameters.chooses_on_test and not published.hyperparameters.chooses_on_test
    assert (corrected.text, published.text) == ("correct", "published")
    assert gzsl("published", text_alignment="correct").choice("ale", "cls_features", "published").text == "correct"


def test_the_control_has_the_settings_of_the_first_form():
    for forms in (["corrected", "published"], ["published", "corrected"]):
        settings = gzsl(forms=forms, permuted_control=True)
        control = settings.choice("fvaegan", "cls_features", "permuted")
        same = settings.choice("fvaegan", "cls_features", forms[0])
        assert control.text == "permuted" and control[:2] == same[:2]


def test_a_method_that_is_off_has_no_settings_to_run_with():
    with pytest.raises(ValueError, match="sje is switched off"):
        gzsl(methods={"sje": None}).choice("sje", "cls_features", "corrected")


def test_settings_of_a_method_that_is_off_may_stay_in_a_feature_set():
    sets = {name: {"methods": {"sje": {"dropout": 0.5}}} for name in ("cls_features", "main_features")}
    assert "sje" not in {method for _, _, method, _ in gzsl(methods={"sje": None}, feature_sets=sets).experiments()}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"methods": {"avac": {}}}, "avac"),
        ({"feature_sets": {"cls_features": {"methods": {"avac": {}}}, "main_features": {}}}, "avac"),
        ({"feature_sets": {"cls_features": {"methods": {"avca": {"momentun": 0.1}}}, "main_features": {}}}, "momentun"),
        ({"feature_sets": {"cls_features": {"methods": {"avca": {"momentum": 2}}}, "main_features": {}}}, "momentum"),
        ({"benchmarks": [{"split": "a", "methods": {"avca": {}}}]}, "methods"),
        ({"permuted_control": ["avac"]}, "'avac'"),
        ({"benchmarks": [{"split": "a"}, {"split": "a"}]}, "twice"),
        ({"benchmarks": [{"split": "a", "features": "none"}]}, "'none'"),
        ({"forms": ["corrected", "corrected"]}, "twice"),
        ({"forms": ["permuted"]}, "corrected"),
        ({"own_splits": {"a/b": {}}}, "a/b"),
        ({"own_splits": {"a": {"seen_share": 0.6}}}, "seen_share"),
    ],
)
def test_what_cannot_be_run_is_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        gzsl(**values)
