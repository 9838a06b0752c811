"""Made-up evaluations and packs of retrieval, whole as their jobs make them."""

from pathlib import Path

from made_results import make_account, make_weights

from avpipe.config.models import Dataset
from avpipe.io.manifest import write_json
from avpipe.report.retrieval import collect_record
from avpipe.schema.retrieval import GalleryTest, PackSummary, Ranking, RetrievalEvaluation, SeedTests, Training

PUBLISHED = Path(__file__).parents[1] / "config/published_retrieval.csv"
MODALITIES = {
    "avlnet": ("audio", "video"),
    "avlnet_text_tri": ("text", "audio+video"),
    "avlnet_text_fused": ("audio+text", "video"),
}


def make_ranking(r1, **changes):
    """R@1 in %."""
    ranks = {"median_rank": 4.0, "mean_rank": 20.5, "median_rank_with_misses": 4.0}
    counts = {"n_queries": 1000, "n_ranked": 968, "gallery": 968, "n_tied": 0, "ties": "pessimistic"}
    recalls = {"r1": r1, "r5": min(100.0, 2 * r1), "r10": min(100.0, 3 * r1)}
    return Ranking.model_validate({**recalls, **ranks, **counts, **changes})


def make_test(r1, *, backwards=None, metrics=None, **changes):
    values = {
        "expected": 1000,
        "gallery": 968,
        "missing": {"no_audio": 30},
        "absent": 2,
        "language_to_video": make_ranking(r1, **(metrics or {})),
        "video_to_language": make_ranking(r1 / 2 if backwards is None else backwards, **(metrics or {})),
        "cut_clips": 0,
        "averaged_clips": 0,
        "window": 3072,
        "known_words": None,
        "diagnostic": False,
        "protocol": "One gallery of 968 clips.",
    }
    return GalleryTest.model_validate({**values, **changes})


def make_training(**changes):
    lengths = {"loss": 1.0, "epochs": 5, "steps": 185, "seconds": 9.0}
    items = {"items": 8, "items_per_epoch": 8, "items_left_over_per_epoch": 0, "left_out": {}}
    return Training.model_validate({"sha256": "ef" * 32, "device": "cpu", **lengths, **items, **changes})


def make_seed(number, r1, *, subsets=("test",), training=None, **changes):
    tests = {subset: make_test(r1, **changes) for subset in subsets}
    start = {"label": "ab" * 32, "sha256": "ab" * 32}
    return SeedTests.model_validate(
        {"seed": number, "start": start, "device": "cpu", "training": training, "tests": tests}
    )


def make_evaluation(r1, *, run="fine_tuned", model="avlnet", subsets=("test",), test=None, **changes):
    """`r1`: R@1 of each seed in %; `test`: changes to every test."""
    query, candidates = MODALITIES[model]
    seeds = [
        make_seed(n, value, subsets=subsets, training=make_training(), **(test or {})) for n, value in enumerate(r1, 1)
    ]
    values = {
        "run": run,
        "model": model,
        "variant": "main",
        "control": changes.get("variant") == "permuted",
        "regime": "fine-tuned",
        "start": {"spec": "published", "label": "ab" * 32, "sha256": "ab" * 32},
        "query": query,
        "candidates": candidates,
        "settings": {"epochs": 5},
        "quirks": {"batch_norm": "frozen", "train_pooling": "clip"},
        "long_clips": "cut",
        "chance": {subset: {"r1": 0.1, "r5": 0.5, "r10": 1.0} for subset in subsets},
        "seeds": seeds,
    }
    return RetrievalEvaluation.model_validate({**values, **changes})


def make_pack(**changes):
    values = {
        "origin": "extracted",
        "sha256": "12" * 32,
        "digest": "34" * 32,
        "expected": 1000,
        "used": 968,
        "missing": {"no_audio": 30},
        "missing_clips": [],
        "unlisted": 2,
        "silent_clips": [],
        "total_seconds": 9680.0,
        "longest": {"clip_id": "a", "seconds": 30.0},
        "longer_than_window": {"window_frames": 3072, "clips": 0, "share": 0.0},
        "captions": {"total": 968, "clips_without": 0},
        "warnings": [],
        "provenance": {},
    }
    return PackSummary.model_validate({**values, **changes})


def make_settings(**changes):
    source = {"kind": "table", "path": "clips.csv"}
    values = {"title": "Some dataset", "source": source, "n_shards": 1, **changes}
    return Dataset.model_validate(values).resolved("corrected").model_dump()


def write_inputs(folder, evaluations, *, dataset="mine", extracted=True, packs=None, weights=None, **settings):
    """What eval.json is put together from, as files; the arguments of `collect_record`."""
    paths = []
    for number, evaluation in enumerate(evaluations):
        paths.append(str(folder / f"{number}.json"))
        write_json(paths[-1], evaluation.to_json())
    summaries = []
    for name, pack in (packs or {"test": make_pack()}).items():
        other, _, subset = name.rpartition("/")
        summaries.append(str(folder / (other or dataset) / f"retrieval/packs/{subset}.json"))
        write_json(summaries[-1], pack.to_json())
    for name, checked in (weights or {"resnet152": make_weights("cd" * 32)}).items():
        write_json(folder / f"weights/{name}.json", checked.to_json())
    write_json(folder / "accounting.json", make_account().to_json())
    return {
        "dataset": dataset,
        "settings": make_settings(**settings),
        "fidelity": "corrected",
        "evaluations": paths,
        "packs": summaries,
        "accounting": str(folder / "accounting.json") if extracted else None,
        "weights": sorted(map(str, (folder / "weights").glob("*.json"))) if extracted else [],
        "published": str(PUBLISHED),
    }


def collect(folder, evaluations, **changes):
    """The record of made-up evaluations, put together from files as a workflow would."""
    return collect_record(**write_inputs(folder, evaluations, **changes))
