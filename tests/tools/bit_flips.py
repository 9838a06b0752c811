"""Flip one random bit in files of avpipe's own, many times for each kind, and read each with what the next stage uses.

    python tests/tools/bit_flips.py --flips 100 --seed 0

prints a row for each kind of file: flips that were noticed (an error in words), that changed nothing, that gave
something else without a word, and that ended in an error that names nothing. The last two must be 0.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS / "gzsl"), str(_TESTS / "retrieval"), str(_TESTS)]

from made_results import make_account, make_evaluation, make_tree, make_weights  # noqa: E402
from made_retrieval import make_evaluation as make_retrieval_evaluation  # noqa: E402
from made_retrieval import make_pack as make_pack_summary  # noqa: E402
from test_tree import small_split, word_files, write_small  # noqa: E402
from tiny_retrieval import SIZES, make_pack, word_table  # noqa: E402

from avpipe.errors import AvpipeError  # noqa: E402
from avpipe.features.store import StoredClip, read_clips, read_provenance, read_written_by, write_store  # noqa: E402
from avpipe.features.types import Features  # noqa: E402
from avpipe.formats.digests import file_sha256  # noqa: E402
from avpipe.gzsl.splits import read_split, write_class_split  # noqa: E402
from avpipe.gzsl.tree import publish_class_split  # noqa: E402
from avpipe.gzsl.tree_reading import read_tree  # noqa: E402
from avpipe.gzsl.words import read_words, write_words  # noqa: E402
from avpipe.inventory.probing import SCHEMA, read_probed  # noqa: E402
from avpipe.inventory.shards import index_shard, read_inventory  # noqa: E402
from avpipe.inventory.status import ClipStatus, close_shard, read_statuses  # noqa: E402
from avpipe.io.manifest import manifest_path, read_json, write_json  # noqa: E402
from avpipe.io.tables import write_rows  # noqa: E402
from avpipe.retrieval.index import build_index, open_index  # noqa: E402
from avpipe.retrieval.initial_weights import Architecture, make_model  # noqa: E402
from avpipe.retrieval.packs.files import read_pack, write_pack  # noqa: E402
from avpipe.retrieval.text import read_word_table, write_word_table  # noqa: E402
from avpipe.schema.gzsl import BenchmarkSummary, GzslEvaluation  # noqa: E402
from avpipe.schema.reading import read_any_record, read_evaluation, read_summary  # noqa: E402
from avpipe.schema.retrieval import PackSummary, RetrievalEvaluation  # noqa: E402
from avpipe.schema.stored import Account, Weights  # noqa: E402
from avpipe.sources.local import SourceClip  # noqa: E402
from avpipe.training import checkpoint  # noqa: E402
from avpipe.training.seed_files import write_results  # noqa: E402

OUTCOMES = ("noticed", "same", "different", "raw error")


@dataclass(frozen=True)
class Kind:
    """A kind of file: what writes it into a folder and says which files may be hit, and what reads it."""

    write: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]


def _one(name: str, write: Callable[[Path], Any], read: Callable[[Path], Any]) -> Kind:
    def written(folder: Path) -> list[Path]:
        write(folder / name)
        return [folder / name]

    return Kind(written, lambda folder: read(folder / name))


def _json(name: str, value: Any, read: Callable[[Path], Any]) -> Kind:
    return _one(name, lambda path: write_json(path, value), read)


def _write_store(path: Path) -> None:
    rows = np.random.default_rng(0).random((20, 8), np.float32)
    times = np.stack([np.arange(20.0), np.arange(1.0, 21)], axis=1)
    clips = [StoredClip(f"clip {n}", f"key {n}", {"video": Features(rows + n, rows[0], times)}) for n in range(6)]
    write_store(path, clips, streams={"video": 8}, provenance={"stage": "c3d/1"}, written_by={"torch": "2"})


def _read_store(path: Path) -> Any:
    clips = [(each.clip_id, each.source_key, _digest(vars(each.streams["video"]))) for each in read_clips(path)]
    return clips, read_provenance(path), read_written_by(path)


def _write_probe(path: Path) -> None:
    row = dict.fromkeys(SCHEMA.names) | {"class_name": "x", "status": "ok", "detail": "", "source_sha256": "ab" * 32}
    write_rows(path, SCHEMA, [row | {"clip_id": f"c{n}", "path": f"videos/c{n}.mp4"} for n in range(40)], stage="1")


def _write_inventory(path: Path) -> None:
    index_shard([SourceClip(f"c{n}", "x", f"videos/c{n}.mp4", None, None, 1000 + n, n) for n in range(40)], None, path)


def _write_tree(folder: Path) -> list[Path]:
    root, *_ = write_small(folder)
    return sorted(path for path in (root / "features/main_features").rglob("*") if path.is_file())


def _read_tree(folder: Path) -> Any:
    benchmark = read_tree(folder / "tree", "main_features", "main_split")
    return _digest({"words": benchmark.words, **{f"{k} {n}": vars(v)[n] for k, v in benchmark.subsets.items()
                    for n in ("audio", "video")}}), [each.clip_ids for each in benchmark.subsets.values()]  # fmt: skip


def _write_class_split(folder: Path) -> list[Path]:
    split = small_split()
    write_class_split(split, folder / "given")
    names = word_files(folder / "words", split)["names_file"]
    publish_class_split(folder / "given", "main_split", [names], folder / "class-split")
    return sorted(path for path in (folder / "class-split").rglob("*") if path.is_file())


def _write_seed(folder: Path) -> list[Path]:
    network, record = make_model(Architecture("avlnet", **SIZES), "random:0", 0)
    row = {"epoch": 0, "loss": 1.0, "seconds": 1.0}
    checkpoint.save(folder / "seed1/model.pt", network.state_dict())
    result = {"sha256": file_sha256(folder / "seed1/model.pt"), "start": vars(record)}
    write_results(folder / "seed1", "model.pt", [row], ("seed.json", {"fingerprint": {}, "result": result}))
    write_json(folder / "training.json", {"seeds": {"1": result}})
    return [folder / "seed1/model.pt"]


def _read_seed(folder: Path) -> Any:
    network, record = make_model(Architecture("avlnet", **SIZES), str(folder / "training.json"), 1)
    return record, _digest({name: value.numpy() for name, value in network.state_dict().items()})


def _write_index(path: Path) -> None:
    write_pack(path.with_name("pack.h5"), make_pack())
    build_index(path.with_name("pack.h5"), model="avlnet", weights="random:0", target=path, **SIZES)


def _read_index(path: Path) -> Any:
    with open_index(path) as index:
        rows = np.concatenate(list(index.embeddings()))
        return index.info, index.ids, index.sources, index.captions, _digest({"rows": rows})


def _write_with_manifest_hit(folder: Path) -> list[Path]:
    _write_store(folder / "0000.h5")
    return [manifest_path(folder / "0000.h5")]


def _digest(arrays: dict[str, Any]) -> tuple[tuple[str, str, bytes], ...]:
    return tuple((name, str(each.dtype), np.ascontiguousarray(each).tobytes()) for name, each in arrays.items())


def _record(path: Path) -> Any:
    return read_any_record(path)


def _statuses(path: Path) -> None:
    close_shard(path, [f"c{n}" for n in range(40)], [ClipStatus(f"c{n}", "no_audio", "none") for n in range(40)])


def _words(path: Path) -> None:
    write_words(path, {f"word {n}": np.random.default_rng(n).random(30, np.float32) for n in range(20)})


KINDS = {
    "feature store": _one("0000.h5", _write_store, _read_store),
    "inventory": _one("0000.parquet", _write_inventory, read_inventory),
    "probe table": _one("0000.parquet", _write_probe, read_probed),
    "status table": _one("0000.status.parquet", _statuses, read_statuses),
    "account": _json("accounting.json", make_account().to_json(), lambda path: read_summary(path, Account)),
    "checked weights": _json("c3d.json", make_weights("ab").to_json(), lambda path: read_summary(path, Weights)),
    "class vectors": _one("words.npy", _words, lambda path: _digest(read_words(path))),
    "class split": Kind(_write_class_split, lambda folder: read_split(folder / "class-split", "main_split")),
    "tree": Kind(_write_tree, _read_tree),
    "tree summary": _json("cls.json", make_tree().to_json(), lambda path: read_summary(path, BenchmarkSummary)),
    "checkpoint": Kind(_write_seed, _read_seed),
    "training.json": Kind(lambda folder: [_write_seed(folder)[0].parents[1] / "training.json"], _read_seed),
    "seed.json": Kind(
        lambda folder: [_write_seed(folder)[0].with_name("seed.json")],
        lambda folder: read_json(folder / "seed1/seed.json"),
    ),
    "evaluation.json": _json(
        "evaluation.json", make_evaluation([28.0]).to_json(), lambda path: read_evaluation(path, GzslEvaluation)
    ),
    "evaluation.json, retrieval": _json(
        "evaluation.json",
        make_retrieval_evaluation([12.5]).to_json(),
        lambda path: read_evaluation(path, RetrievalEvaluation),
    ),
    "pack": _one("pack.h5", lambda path: write_pack(path, make_pack()), lambda path: read_pack(path).digest),
    "pack summary": _json("test.json", make_pack_summary().to_json(), lambda path: read_summary(path, PackSummary)),
    "word table": _one(
        "words.h5",
        lambda path: write_word_table(path, word_table()),
        lambda path: (read_word_table(path).words, _digest({"vectors": read_word_table(path).vectors})),
    ),
    "search index": _one("index.h5", _write_index, _read_index),
    "manifest": Kind(_write_with_manifest_hit, lambda folder: _read_store(folder / "0000.h5")),
}


def flip_bits(kind: Kind, folder: Path, flips: int, generator: random.Random) -> Counter[str]:
    """How many of some flips had which outcome."""
    files = kind.write(folder)
    expected = kind.read(folder)
    outcomes: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
    for _ in range(flips):
        path = generator.choice(files)
        whole = path.read_bytes()
        data = bytearray(whole)
        bit = generator.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            outcomes["same" if kind.read(folder) == expected else "different"] += 1
        except AvpipeError:
            outcomes["noticed"] += 1
        except Exception:
            outcomes["raw error"] += 1
        path.write_bytes(whole)
    return outcomes


def main() -> int:
    """Print the table; 1 if anything passed silently or raised a bare error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    generator, total = random.Random(chosen.seed), Counter[str]()
    print(f"{'kind of file':28}", *(f"{name:>10}" for name in OUTCOMES))
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            outcomes = flip_bits(kind, Path(folder), chosen.flips, generator)
        total += outcomes
        print(f"{name:28}", *(f"{outcomes[each]:10}" for each in OUTCOMES))
    return int(bool(total["different"] + total["raw error"]))


if __name__ == "__main__":
    raise SystemExit(main())
