"""The examples of docs/extending.md run in a copy of the package: extractor, zero-shot method, retrieval model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from extended_package import EXAMPLES, EXTRACTOR, METHOD, MODEL, ROOT, Example, copy_package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with every example in it."""
    return copy_package(tmp_path_factory.mktemp("examples"), *EXAMPLES)


def run(package: Path, program: str, *arguments: Any) -> dict[str, Any]:
    """What a program prints as JSON with the copy in the package's place; it finds `arguments` in sys.argv."""
    folders = [package, ROOT / "tests", *(ROOT / "tests" / each for each in ("gzsl", "golden", "retrieval"))]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert Path(result["package"]).is_relative_to(package)
    return result


@pytest.fixture(scope="module")
def extractor(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The extractor planned as its configuration says, run on a film of the demo twice, and its golden steps made."""
    program = """
        import json, sys
        from pathlib import Path
        import numpy as np
        import yaml
        import avpipe, extractor_steps
        from avpipe.demo.zero_shot import plan_demo, render_clip
        from avpipe.features import extract, names
        from avpipe.plan import Project, features
        from avpipe.plan.requirements import require

        root, folder, configuration, name, steps = sys.argv[1:]
        project, folder = Project.read(yaml.safe_load(configuration), Path(root)), Path(folder)
        render_clip(next(spec for spec in plan_demo() if spec.oddity is None), folder / "clip.avi")
        first, again = (extract(folder / "clip.avi", name, "random:0", settings={"rate_hz": 5}) for _ in range(2))
        require(project, "demo")
        exec(steps, vars(extractor_steps))
        print(json.dumps({
            "package": avpipe.__file__,
            "names": names(),
            "extractors": features.extractors(project, "demo"),
            "weights": features.weights(project, "demo", name),
            "shapes": [first.values.shape, first.pooled.shape, first.times.shape],
            "lengths": np.linalg.norm(first.values, axis=1).tolist(),
            "varied": float(first.values.std(axis=0).max()),
            "times": first.times.tolist(),
            "repeated": np.array_equal(first.values, again.values) and np.array_equal(first.pooled, again.pooled),
            "steps": extractor_steps.extractor_steps(name, extractor_steps.make_films(folder)),
        }))
    """
    folder = tmp_path_factory.mktemp("extractor")
    return run(package, program, ROOT, folder, EXTRACTOR.configuration, EXTRACTOR.name, *EXTRACTOR.more)


@pytest.mark.slow
def test_the_extractor_is_planned(extractor: dict[str, Any]) -> None:
    assert EXTRACTOR.name in extractor["names"]
    assert set(extractor["extractors"]) == {EXTRACTOR.name, "vggish"}
    assert extractor["weights"] == "random:0"


@pytest.mark.slow
def test_the_extractor_gives_features(extractor: dict[str, Any]) -> None:
    n_rows = len(extractor["times"])
    assert extractor["shapes"] == [[n_rows, 512], [512], [n_rows, 2]] and n_rows > 2
    assert extractor["times"][1] == pytest.approx([0.2, 0.4])
    assert extractor["lengths"] == pytest.approx([1.0] * n_rows, abs=1e-5)  # float32 at unit length
    assert extractor["varied"] > 0  # the frames differ, so do their rows
    assert extractor["repeated"]


@pytest.mark.slow
def test_the_extractors_steps_go_from_decoding_to_pooling(extractor: dict[str, Any]) -> None:
    steps = list(extractor["steps"])
    assert steps[0] == "decoded pictures" and steps[-1] == "pooled" and len(steps) >= 8


@pytest.fixture(scope="module")
def method(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The method configured, trained and tested."""
    program = """
        import json, sys
        from pathlib import Path
        import yaml
        import avpipe
        from avpipe.config.load import load_config
        from avpipe.gzsl import training
        from avpipe.gzsl.testing import evaluate_stage2
        from test_training import make_benchmark

        datasets, folder, configuration, name = sys.argv[1:]
        gzsl = load_config(yaml.safe_load(configuration), Path(datasets)).dataset("demo_gzsl").gzsl
        choice = gzsl.choice(name, "cls_features", "corrected")
        benchmark, folder = make_benchmark(), Path(folder)
        setting = {"seed": 5, "device": "cpu", "threads": 1}
        arguments = benchmark, name, choice.hyperparameters, choice.training
        training.train_stage(*arguments, folder=folder / "1", **setting)
        training.train_stage(*arguments, stage1=folder / "1" / "stage.json", folder=folder / "2", **setting)
        report = evaluate_stage2(benchmark, name, choice.hyperparameters, stage2=folder / "2", device="cpu", threads=1)
        runs = [each for each in gzsl.experiments() if each[2] == name]
        epochs = choice.training.epochs
        print(json.dumps({"package": avpipe.__file__, "report": report.to_json(), "epochs": epochs, "runs": runs}))
    """
    folder = tmp_path_factory.mktemp("method")
    return run(package, program, ROOT / "config" / "datasets", folder, METHOD.configuration, METHOD.name)


@pytest.mark.slow
def test_the_method_learns(method: dict[str, Any]) -> None:
    metrics = method["report"]["metrics"]["both"]
    assert metrics["seen"] > 100 * 3 / 12  # three times chance, 1 of 12 classes
    assert metrics["zsl"] > 50  # chance is 1 of 3 unseen classes


@pytest.mark.slow
def test_the_configuration_runs_the_method(method: dict[str, Any]) -> None:
    methods = yaml.safe_load(METHOD.configuration)["datasets"]["demo_gzsl"]["gzsl"]["methods"]
    assert method["epochs"] == methods[METHOD.name]["epochs"]
    assert [run[1] for run in method["runs"]] == ["cls_features", "main_features"]
    assert {run[3] for run in method["runs"]} == {"corrected"}


@pytest.fixture(scope="module")
def model(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The model planned as its configuration says, trained by the shared loop, indexed and searched."""
    program = """
        import contextlib, io, json, sys
        from pathlib import Path
        import torch
        import yaml
        import avpipe
        from avpipe.cli import main
        from avpipe.plan import Project
        from avpipe.plan.requirements import require
        from avpipe.retrieval import models
        from avpipe.retrieval.batches import PackSource
        from avpipe.retrieval.packs import write_pack
        from avpipe.retrieval.text import write_word_table
        from avpipe.retrieval.trainer import RetrievalTrainer
        from avpipe.training.distributed import ProcessGroup
        from avpipe.training.loop import LoopSettings, train
        from avpipe.training.runtime import Interrupt
        from made_pack import make_pack, make_words, sound, write_wav
        from tiny_retrieval import SIZES, make_pack as make_problem, run_settings, word_table

        def printed(*arguments):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                try:
                    status = main([str(each) for each in arguments])
                except SystemExit as end:
                    status = end.code
            assert status == 0, (arguments, out.getvalue())
            return out.getvalue()

        root, folder, configuration, name = sys.argv[1:]
        project, folder = Project.read(yaml.safe_load(configuration), Path(root)), Path(folder)
        require(project, "demo_retrieval")
        (run,) = [run for run in project.dataset("demo_retrieval").retrieval.runs.values() if run.model == name]

        torch.manual_seed(3)
        cpu = torch.device("cpu")
        settings = run_settings(model=name, epochs=8, learning_rate=3e-3, batch_norm="batch")
        source = PackSource.make(make_problem(), word_table(), max_words=5, window=80, device=cpu)
        loop = LoopSettings(1, 8, source.n_items // 8, {"all": "example"}, folder / "resume.pt", 1e9)
        trainer = RetrievalTrainer(models.build(name, **SIZES), source, settings, loop, ProcessGroup())
        train(trainer, Interrupt())

        write_pack(folder / "pack.h5", make_pack())
        write_word_table(folder / "words.h5", make_words())
        write_wav(folder / "c0.wav", sound(0, 1.0))
        sizes = ("--embedding-dim", 16, "--audio-channels", 2, "--word-dim", 12, "--device", "cpu")
        printed("index", folder / "pack.h5", folder / "i.h5", "--model", name, "--weights", "random:0", *sizes)
        query = folder / "c0.wav", "--text", "pour milk", "--words", folder / "words.h5", "--device", "cpu"
        print(json.dumps({
            "package": avpipe.__file__,
            "run": run.model_dump(),
            "uses_text": run.uses_text,
            "losses": [row["loss"] for row in trainer.history],
            "hits": json.loads(printed("search", folder / "i.h5", *query, "--json"))["hits"],
            "help": {command: printed(command, "--help") for command in ("index", "search")},
        }))
    """
    return run(package, program, ROOT, tmp_path_factory.mktemp("model"), MODEL.configuration, MODEL.name)


@pytest.mark.slow
def test_the_configuration_runs_the_model(model: dict[str, Any]) -> None:
    assert model["run"]["embedding_dim"] == 256 and model["run"]["weights"] == "random"
    assert model["uses_text"]  # as `query` in its entry says


@pytest.mark.slow
def test_the_model_learns(model: dict[str, Any]) -> None:
    assert model["losses"][-1] < 0.9 * model["losses"][0]


@pytest.mark.slow
def test_the_commands_know_the_model(model: dict[str, Any]) -> None:
    assert sorted(hit["clip_id"] for hit in model["hits"]) == ["c0", "c1", "c2"]
    for text in model["help"].values():
        assert MODEL.name in text
    assert f"{MODEL.name} sound and a text" in " ".join(model["help"]["search"].split())


def test_the_examples_are_short() -> None:
    """A method takes 60 lines: module, registry entry and configuration; the others a few more."""
    assert len(METHOD.entry.splitlines()) == len(METHOD.configuration.splitlines()) == 1
    lines = {
        each.name: sum(len(block.splitlines()) for block in (each.module, each.entry, *each.more, each.configuration))
        for each in EXAMPLES
    }
    assert lines[METHOD.name] <= 60 and max(lines.values()) <= 90


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_examples_pass_the_linter(tmp_path: Path, example: Example) -> None:
    path = tmp_path / Path(example.path).name
    path.write_text(example.module, encoding="utf-8")
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--config", ROOT / "pyproject.toml", path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
