"""Generalised zero-shot learning on a dataset: splits, feature sets, benchmarks, methods and forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field, create_model, field_validator, model_validator

from avpipe.gzsl.models.settings import MethodSettings, TextAlignment, TrainingSettings
from avpipe.registry import METHODS, with_stream
from avpipe.settings import NAME, InputPath, Seeds, Settings, check_names, quirk

Form = Literal["corrected", "published"]

PRESETS: dict[str, dict[str, Any]] = {"small": {"epochs": 20, "batches_per_epoch": 25, "batch_size": 64}}
"""Training lengths by the name of the preset."""


class OwnSplit(Settings):
    """How to draw a two-stage zero-shot split from the classes and clips at hand."""

    seed: int = Field(0, ge=0, description="Which split is drawn; the same clips and seed give the same split.")
    train_classes: int | None = Field(
        None, ge=1, description="Classes that stage 1 is trained with. Unset: in UCF's proportions, 30 of 51 classes."
    )
    val_unseen_classes: int | None = Field(
        None, ge=1, description="Classes that are unseen in stage 1 only. Unset: in UCF's proportions, 12 of 51."
    )
    test_unseen_classes: int | None = Field(
        None, ge=1, description="Classes that are never trained with. Unset: in UCF's proportions, 9 of 51."
    )
    seen_share: float = Field(
        0.1,
        gt=0,
        le=0.5,
        description="Share of each seen class's source videos kept for testing, and of the rest for validation.",
    )
    by_source: bool = Field(
        True,
        description="Keep clips of one source video on one side of training, validation and test. If not, seen "
        "accuracy says little about new videos.",
    )


class MethodChoice(Settings):
    """Base of `Methods`, which has a field for every method."""

    def enabled(self) -> list[str]:
        """Names of the methods to run."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]


if TYPE_CHECKING:
    Methods = MethodChoice
    VideoExtractor = str
    AudioExtractor = str
else:
    VideoExtractor = Literal[tuple(with_stream("video"))]
    AudioExtractor = Literal[tuple(with_stream("audio"))]
    _SETTINGS = {name: entry.settings for name, entry in METHODS.items()}
    Methods = create_model(
        "Methods",
        __base__=MethodChoice,
        __doc__="Hyper-parameters of each method; a method that is set to null is not run.",
        **{
            name: (
                _SETTINGS[name] | None,
                Field(_SETTINGS[name]() if entry.is_default else None, description=f"{entry.title}."),
            )
            for name, entry in METHODS.items()
        },
    )


class FeatureSet(Settings):
    """What gives a benchmark its video and audio features: a pair of extractors, or published features."""

    video: VideoExtractor = Field("c3d", description="Extractor of the video features.")
    audio: AudioExtractor = Field("vggish", description="Extractor of the audio features.")
    path: InputPath | None = Field(
        None,
        description="Published features to use instead: a folder of .h5 files (.../features/<feature set>), a folder "
        "of caches (training<split>.pkl, ...), or a .pkl of features. Unset: extracted, or the published source's.",
    )

    methods: dict[str, dict[str, Any]] = Field(
        {}, description="Hyper-parameters that differ with these features, by method, such as {avca: {momentum: 0.99}}."
    )

    @field_validator("methods")
    @classmethod
    def _settings_exist(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for method in value:
            _check_method(method)
        Methods.model_validate(value)  # its errors name method and setting below this key
        return value


class GzslBenchmark(Settings):
    """One benchmark: a split with a feature set."""

    split: str = Field(pattern=f"^{NAME}$", description="Name of the split, a folder in class-split.")
    features: str = Field("cls_features", pattern=f"^{NAME}$", description="Name of the feature set.")


def _or_list_of_methods(schema: dict[str, Any]) -> None:
    listed = {"type": "array", "items": {"enum": list(METHODS)}}
    schema["anyOf"] = [{"$ref": schema.pop("$ref")}, listed]


class Choice(NamedTuple):
    """What a method is run with in one form on one benchmark."""

    hyperparameters: MethodSettings
    training: TrainingSettings
    text: TextAlignment


class Gzsl(Settings):
    """Generalised zero-shot learning on a dataset."""

    class_split: InputPath | None = Field(
        None,
        description="The published class-split folder, or one laid out like it. Unset: as in the published source.",
    )
    own_splits: dict[str, OwnSplit] = Field(
        {}, description="Splits that are drawn from the videos at hand, by name, instead of read from class_split."
    )
    word_vectors: InputPath | None = Field(
        None, description="The .npy with a vector for each class name. Unset: the published source's."
    )
    word_model: InputPath | None = Field(
        None,
        description="A word2vec, GloVe or fastText file from which class vectors are made, instead of word_vectors.",
    )
    word_model_kind: Literal["auto", "word2vec_binary", "word2vec_text", "glove", "fasttext"] = Field(
        "auto", description="What word_model is; auto: by its contents."
    )
    word_names: InputPath | None = Field(
        None,
        description="CSV original,manual from class names to names of vectors, of some classes or all; the others keep "
        "those of the *_w2v_class_names.csv in class_split, or in a split of one's own their names as words.",
    )
    obtain: str = Field("", description="Where the split files can be had, shown when they are missing.")
    feature_sets: dict[str, FeatureSet] = Field(
        {"cls_features": FeatureSet(), "main_features": FeatureSet(video="selavi", audio="selavi")},
        description="Feature sets by name; AVCA calls C3D/VGGish cls_features and SeLaVi main_features.",
    )
    benchmarks: list[GzslBenchmark] = Field([], description="What to train and evaluate.")
    methods: Methods = Field(
        Methods(),
        description="The methods and their hyper-parameters; or a list such as [avca, devise]: these alone, with the "
        "hyper-parameters that the dataset has.",
        json_schema_extra=_or_list_of_methods,
    )
    preset: Literal["small"] | None = Field(
        None,
        description="Training lengths for a small dataset, of some hundred clips or fewer: small sets "
        + ", ".join(f"training.{key}: {value}" for key, value in PRESETS["small"].items())
        + ". What is set under `training` beside it comes first.",
    )
    training: TrainingSettings = Field(TrainingSettings(), description="The two-stage protocol.")
    forms: list[Form] | None = Field(
        None,
        min_length=1,
        description="Forms in which every method is run and reported side by side. Unset: the word of fidelity alone.",
    )
    text_alignment: Literal["correct", "published"] | None = quirk(
        published="published",
        corrected="correct",
        description="Which vector a class gets: its own (correct), or the one that the published loader gave it, "
        "wrong for 36 of UCF's 51 classes (docs/fidelity.md).",
    )
    permuted_control: bool | list[str] = Field(
        False,
        description="Also train with class vectors permuted among the classes, a control for chance: all methods, or "
        "those listed.",
    )
    allow_classes_without_clips: bool = Field(
        False,
        description="Go on where the source has no clip at all of a class of the split. Accuracies then average over "
        "the other classes, and results name those left out.",
    )
    seeds: Seeds = Field([42], min_length=1, description="Seeds; each is trained, and mean ± deviation reported.")

    @field_validator("methods", mode="before")
    @classmethod
    def _methods_are_picked(cls, value: object) -> object:
        return pick_methods(value, {}) if isinstance(value, list) else value

    @model_validator(mode="before")
    @classmethod
    def _preset_is_below(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("training", {}), dict):
            return values
        lengths = PRESETS.get(str(values.get("preset")), {})
        return {**values, "training": {**lengths, **values.get("training", {})}} if lengths else values

    @field_validator("forms")
    @classmethod
    def _forms_differ(cls, value: list[Form] | None) -> list[Form] | None:
        if value is not None and len(set(value)) < len(value):
            raise ValueError(f"a form is listed twice: {value}")
        return value

    _names_are_folders = field_validator("own_splits", "feature_sets")(check_names)

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Gzsl:
        for benchmark in self.benchmarks:
            if benchmark.features not in self.feature_sets:
                raise ValueError(
                    f"benchmark on split {benchmark.split!r} wants the feature set {benchmark.features!r}, "
                    f"which feature_sets does not define; it has {sorted(self.feature_sets)}"
                )
        pairs = [(b.split, b.features) for b in self.benchmarks]
        if len(set(pairs)) < len(pairs):
            raise ValueError(f"a benchmark is listed twice: {pairs}")
        if isinstance(self.permuted_control, list):
            for method in self.permuted_control:
                _check_method(method)
        return self

    def choice(self, method: str, features: str, form: str) -> Choice:
        """What a method is run with; the control, form "permuted", has the settings of the first form.

        Raises:
            ValueError: `resolved` forms are lacking, or the method is switched off.
        """
        word = self._forms()[0] if form == "permuted" else form
        if getattr(self.methods, method) is None:
            raise ValueError(f"method {method} is switched off")
        settings = self._hyperparameters(method, features).resolved(word)  # type: ignore[arg-type]
        own: Any = self.resolved(word)  # type: ignore[arg-type]
        text: TextAlignment = "permuted" if form == "permuted" else own.text_alignment
        return Choice(settings, settings.training(own.training), text)

    def experiments(self) -> Iterator[tuple[str, str, str, str]]:
        """(split, feature set, method, form) of everything to run, controls included."""
        controls = self.methods.enabled() if self.permuted_control is True else self.permuted_control or []
        for benchmark in self.benchmarks:
            for method in self.methods.enabled():
                for form in (*self._forms(), *(["permuted"] if method in controls else [])):
                    yield benchmark.split, benchmark.features, method, form

    def _forms(self) -> list[Form]:
        if self.forms is None:
            raise ValueError("take the dataset from Config.dataset, which decides the forms")
        return self.forms

    def _hyperparameters(self, method: str, features: str) -> MethodSettings:
        common: MethodSettings = getattr(self.methods, method)
        own = self.feature_sets[features].methods if features in self.feature_sets else {}
        return type(common).model_validate(common.model_dump() | own.get(method, {}))


def pick_methods(names: list[Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters of the methods in a list as they are in `below`, and null for all other methods."""
    for name in names:
        _check_method(name)
    return {name: (below.get(name) or {}) if name in names else None for name in METHODS}


def _check_method(name: Any) -> None:
    if name not in tuple(METHODS):  # a list or mapping, too
        raise ValueError(f"there is no method {name!r}; known: {', '.join(METHODS)}")
