"""Made-up evaluations and packs of retrieval, in the shape that their jobs write them."""

from pathlib import Path

from avpipe.config.models import Dataset
from avpipe.io.atomic import write_json
from avpipe.report.retrieval_results import write_retrieval_results

PUBLISHED = Path(__file__).parents[2] / "config/published_retrieval.csv"
MODALITIES = {
    "avlnet": ("audio", "video"),
    "avlnet_text_tri": ("text", "audio+video"),
    "avlnet_text_fused": ("audio+text", "video"),
}


def make_metrics(r1, **changes):
    """What retrieval_metrics returns; R@1 as a fraction."""
    ranks = {"median_rank": 4.0, "mean_rank": 20.5, "median_rank_with_misses": 4.0}
    counts = {"n_queries": 1000, "n_ranked": 968, "gallery": 968, "n_tied": 0, "ties": "pessimistic"}
    return {"r1": r1, "r5": min(1.0, 2 * r1), "r10": min(1.0, 3 * r1), **ranks, **counts, **changes}


def make_test(r1, *, backwards=None, metrics=None, **changes):
    counts = {"expected": 1000, "gallery": 968, "missing": {"no_audio": 30}, "absent": 2}
    return {
        "language_to_video": make_metrics(r1, **(metrics or {})),
        "video_to_language": make_metrics(r1 / 2 if backwards is None else backwards, **(metrics or {})),
        **counts,
        "cut_clips": 0,
        "averaged_clips": 0,
        "window": 3072,
        "known_words": None,
        "diagnostic": False,
        "protocol": "One gallery of 968 clips.",
        **changes,
    }


def make_seed(number, r1, *, subsets=("test",), training=None, **changes):
    tests = {subset: make_test(r1, **changes) for subset in subsets}
    return {"seed": number, "device": "cpu", "training": training, "tests": tests}


def make_evaluation(r1, *, run="fine_tuned", model="avlnet", subsets=("test",), test=None, **changes):
    """`r1`: R@1 of each seed as a fraction; `test`: changes to every test."""
    query, candidates = MODALITIES[model]
    is_control = changes.get("variant") == "permuted"
    training = {"loss": 1.0, "epochs": 5, "steps": 185, "seconds": 9.0}
    seeds = [make_seed(n, value, subsets=subsets, training=training, **(test or {})) for n, value in enumerate(r1, 1)]
    return {
        "run": run,
        "model": model,
        "variant": "main",
        "control": is_control,
        "regime": "fine-tuned",
        "start": {"spec": "published", "label": "ab" * 32, "sha256": "ab" * 32},
        "query": query,
        "candidates": candidates,
        "settings": {"epochs": 5},
        "quirks": {"batch_norm": "frozen", "train_pooling": "clip"},
        "chance": {subset: {"r1": 0.001, "r5": 0.005, "r10": 0.01} for subset in subsets},
        "seeds": seeds,
        **changes,
    }


def make_pack(**changes):
    counts = {"expected": 1000, "used": 968, "missing": {"no_audio": 30}, "unlisted": 2}
    return {"origin": "extracted", **counts, "warnings": [], **changes}


def make_settings(**changes):
    source = {"kind": "table", "path": "clips.csv"}
    values = {"title": "Some dataset", "source": source, "n_shards": 1, **changes}
    return Dataset.model_validate(values).resolved("corrected").model_dump()


def write_record(folder, evaluations, *, dataset="mine", extracted=True, packs=None, weights=None, **settings):
    """eval.json of made-up evaluations, written to a folder as a workflow would; what was written."""
    paths = []
    for number, evaluation in enumerate(evaluations):
        paths.append(str(folder / f"{number}.json"))
        write_json(paths[-1], evaluation)
    summaries = []
    for name, pack in (packs or {"test": make_pack()}).items():
        other, _, subset = name.rpartition("/")
        summaries.append(str(folder / (other or dataset) / f"retrieval/packs/{subset}.json"))
        write_json(summaries[-1], pack)
    for name, checked in (weights or {"resnet152": {"label": "cd" * 32, "sha256": "cd" * 32, "remarks": {}}}).items():
        write_json(folder / f"weights/{name}.json", checked)
    failed = [{"clip_id": "a|b", "reason": "no_audio", "stage": "probe_clips", "detail": "line\nbreak"}]
    write_json(folder / "accounting.json", {"requested": 3, "ok": 2, "reasons": {"no_audio": 1}, "failed": failed})
    return write_retrieval_results(
        dataset=dataset,
        settings=make_settings(**settings),
        fidelity="corrected",
        evaluations=paths,
        packs=summaries,
        accounting=str(folder / "accounting.json") if extracted else None,
        weights=sorted(map(str, (folder / "weights").iterdir())) if extracted else [],
        target=folder / "eval.json",
        published=str(PUBLISHED),
    )
