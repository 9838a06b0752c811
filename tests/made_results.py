"""Made-up evaluations and records of zero-shot learning, whole as their jobs make them."""

from avpipe.report.comparison import NOTE, compare_methods
from avpipe.report.gzsl import summarise
from avpipe.report.gzsl_notices import find_notices
from avpipe.schema.gzsl import BenchmarkSummary, Comparisons, GzslEvaluation, GzslRecord, SeedResult
from avpipe.schema.stored import Account, DatasetSettings, PublishedFigure, Weights

GRID = [0.0, 1.0, 2.0, 3.0]
PUBLISHED = {"source": "README", "confirmed": True}


def make_seed(number, hm, zsl=30.0, **changes):
    figures = {"seen": 50.0, "unseen": 20.0, "hm": hm, "zsl": zsl}
    figures["ausuc"] = 12.5
    curve = {"betas": [None, *GRID[1:]], "seen": [60.0, 55.0, 50.0, 40.0], "unseen": [5.0, 10.0, 20.0, 22.0]}
    per_class = {
        "Kept": {"gzsl": 50.0, "zsl": None, "clips": 4},
        "New": {"gzsl": 20.0, "zsl": zsl, "clips": 5},
        "Gone": {"gzsl": None, "zsl": None, "clips": 0},
    }
    values = {
        "seed": number,
        **figures,
        "method": "avca",
        "best_epoch": 3,
        "beta": 2.0,
        "score_mode": "both",
        "metrics": {"both": {**figures, "beta": 2.0}},
        "per_class": per_class,
        "classes_without_clips": ["Gone"],
        "clips": {"seen": 4, "unseen": 5},
        "beta_curve": {**curve, "hm": [9.2, 16.9, hm or 0.0, 28.4], "steps": 4},
        "fingerprint": {},
        "device": "cpu",
    }
    return SeedResult.model_validate({**values, **changes})


def make_evaluation(hm, method="avca", form="corrected", *, features="cls_features", split="cls_split", **changes):
    """`hm`: the harmonic mean of each seed, or seed number -> harmonic mean."""
    by_seed = hm if isinstance(hm, dict) else dict(enumerate(hm))
    values = {
        "split": split,
        "features": features,
        "method": method,
        "form": form,
        "text": {"corrected": "correct"}.get(form, form),
        "quirks": {"text_alignment": {"corrected": "correct"}.get(form, form)},
        "control": form == "permuted",
        "chance_zsl": 16.7,
        "seeds": [make_seed(number, value) for number, value in by_seed.items()],
    }
    return GzslEvaluation.model_validate({**values, **changes})


def make_class(used, missing=None):
    missing = missing or {}
    return {"expected": used + sum(missing.values()), "used": used, "missing": missing}


def make_subset(classes, **changes):
    """`classes`: class -> used clips, or its counts."""
    counts = {name: each if isinstance(each, dict) else make_class(each) for name, each in classes.items()}
    missing = {}
    for each in counts.values():
        for reason, n in each["missing"].items():
            missing[reason] = missing.get(reason, 0) + n
    total = {key: sum(each[key] for each in counts.values()) for key in ("expected", "used")}
    return {**total, "missing": missing, "classes": counts, **changes}


def make_shared(**subsets):
    """Subset -> how many of how many clips share a source video with training clips."""
    return {
        name: {"trained_with": "stage_2_train", "clips": n, "shared": k, "share": k / n, "examples": []}
        for name, (k, n) in subsets.items()
    }


def make_tree(**changes):
    subsets = {
        "stage_2_train": make_subset({"Kept": make_class(199, {"too_short": 1})}),
        "stage_2_test_seen": make_subset({"Kept": 4, "Gone": 0}),
        "stage_2_test_unseen": make_subset({"New": 5}),
    }
    values = {
        "split": "cls_split",
        "split_digest": "0123456789abcdef",
        "dimensions": {"audio": 128, "video": 4096},
        "subsets": subsets,
        "source": {"kind": "extracted"},
        "shared_sources": {},
    }
    return BenchmarkSummary.model_validate({**values, **changes})


def make_settings(*, synthetic=False, benchmarks=("cls_features",)):
    sets = {"cls_features": {"video": "c3d", "audio": "vggish"}}
    gzsl = {"feature_sets": sets, "benchmarks": [{"split": "cls_split", "features": name} for name in benchmarks]}
    values = {"title": "Some dataset", "synthetic": synthetic, "notes": [], "gzsl": gzsl}
    return DatasetSettings.model_validate(values)


def make_weights(label, **changes):
    sha256 = None if label == "none" or label.startswith("random:") else label
    return Weights.model_validate({"label": label, "sha256": sha256, **changes})


def make_failed(**changes):
    values = {"clip_id": "a|b", "reason": "no_audio", "stage": "probe_clips", "shard": "0000", "detail": "line\nbreak"}
    return {**values, **changes}


def make_account(failed=None):
    failed = [make_failed()] if failed is None else failed
    values = {"requested": 3, "ok": 2, "reasons": {"no_audio": 1}, "shards": {}, "failed": failed}
    return Account.model_validate(values)


def make_published(**figures):
    """Metric -> published figure, or its fields."""
    fields = {name: each if isinstance(each, dict) else {"value": each} for name, each in figures.items()}
    return {name: PublishedFigure.model_validate({**PUBLISHED, **each}) for name, each in fields.items()}


def make_record(evaluations, *, dataset="mine", weights=None, tree=None, synthetic=False, published=None, **changes):
    """A record; `published`: metric -> figure, for every result."""
    settings = make_settings(synthetic=synthetic)
    weights = {"c3d": make_weights("ab" * 32)} if weights is None else weights
    trees = {"cls_split/cls_features": tree or make_tree()}
    trees |= {f"{each.split}/{each.features}": make_tree() for each in evaluations if each.features != "cls_features"}
    results = [summarise(each).model_copy(update={"published": published or {}}) for each in evaluations]
    libraries = {"stages": {}, "libraries": {}, "ffmpeg": "7", "git_commit": "f" * 40 + "+changes"}
    values = {
        "dataset": dataset,
        "title": settings.title,
        "notices": find_notices(settings, weights, results, trees),
        "fidelity": {"word": "corrected"},
        "results": results,
        "comparisons": Comparisons(note=NOTE, pairs=compare_methods(results)),
        "benchmarks": trees,
        "clips": make_account(),
        "provenance": {"settings": settings, "weights": weights, **libraries},
    }
    return GzslRecord.model_validate({**values, **changes})
