"""Made-up evaluations and records, in the shape that the evaluation job and write_results give them."""

from avpipe.report.comparison import NOTE, compare_methods
from avpipe.report.notices import find_notices
from avpipe.report.summary import summarise

GRID = [0.0, 1.0, 2.0, 3.0]


def make_seed(number, hm, zsl=30.0, **changes):
    metrics = {"seen": 50.0, "unseen": 20.0, "hm": hm, "zsl": zsl}
    curve = {"betas": GRID, "seen": [60.0, 55.0, 50.0, 40.0], "unseen": [5.0, 10.0, 20.0, 22.0]}
    per_class = {
        "Kept": {"gzsl": 50.0, "zsl": None, "clips": 4},
        "New": {"gzsl": 20.0, "zsl": zsl, "clips": 5},
        "Gone": {"gzsl": None, "zsl": None, "clips": 0},
    }
    return {
        "seed": number,
        **metrics,
        "beta": 2.0,
        "score_mode": "both",
        "metrics": {"both": metrics},
        "per_class": per_class,
        "classes_without_clips": ["Gone"],
        "beta_curve": {**curve, "hm": [9.2, 16.9, hm, 28.4]},
        **changes,
    }


def make_evaluation(hm, method="avca", form="corrected", *, features="cls_features", split="cls_split", **changes):
    """`hm`: the harmonic mean of each seed, or seed number -> harmonic mean."""
    by_seed = hm if isinstance(hm, dict) else dict(enumerate(hm))
    return {
        "split": split,
        "features": features,
        "method": method,
        "form": form,
        "text": {"corrected": "correct"}.get(form, form),
        "quirks": {"text_alignment": {"corrected": "correct"}.get(form, form)},
        "control": form == "permuted",
        "chance_zsl": 16.7,
        "seeds": [make_seed(number, value) for number, value in by_seed.items()],
        **changes,
    }


def make_tree(**changes):
    classes = {"Kept": {"expected": 4, "used": 4, "missing": {}}, "Gone": {"expected": 1, "used": 0, "missing": {}}}
    seen = {"expected": 5, "used": 4, "missing": {"no_audio": 1}, "classes": classes}
    unseen = {"expected": 5, "used": 5, "missing": {}, "classes": {"New": {"expected": 5, "used": 5, "missing": {}}}}
    train = {"expected": 9, "used": 8, "missing": {"too_short": 1}, "classes": {"Kept": {"used": 8}}}
    subsets = {"stage_2_train": train, "stage_2_test_seen": seen, "stage_2_test_unseen": unseen}
    return {"split": "cls_split", "split_digest": "0123456789abcdef", "subsets": subsets, **changes}


def make_settings(*, synthetic=False, benchmarks=("cls_features",)):
    sets = {"cls_features": {"video": "c3d", "audio": "vggish"}}
    gzsl = {"feature_sets": sets, "benchmarks": [{"split": "cls_split", "features": name} for name in benchmarks]}
    return {"title": "Some dataset", "synthetic": synthetic, "notes": [], "gzsl": gzsl}


def make_record(evaluations, *, dataset="mine", weights=None, tree=None, synthetic=False, published=None, **changes):
    """A record as write_results returns it; `published`: metric -> figure, for every result."""
    settings = make_settings(synthetic=synthetic)
    weights = {"c3d": {"label": "ab" * 32, "sha256": "ab" * 32, "remarks": {}}} if weights is None else weights
    trees = {"cls_split/cls_features": tree or make_tree()}
    results = [{**summarise(each), "published": published or {}} for each in evaluations]
    failed = [{"clip_id": "a|b", "reason": "no_audio", "stage": "probe_clips", "detail": "line\nbreak"}]
    return {
        "dataset": dataset,
        "title": settings["title"],
        "notices": find_notices(settings, weights, results, trees),
        "results": results,
        "comparisons": {"note": NOTE, "pairs": compare_methods(results)},
        "benchmarks": trees,
        "clips": {"requested": 3, "ok": 2, "reasons": {"no_audio": 1}, "failed": failed},
        "provenance": {"settings": settings, "weights": weights, "git_commit": "f" * 40 + "+changes"},
        **changes,
    }
