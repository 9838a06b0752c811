"""The command line: the demonstration, features of one file, results, and tests of published checkpoints.

The commands of retrieval are in `avpipe.cli_retrieval`.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from avpipe.cli_retrieval import add_retrieval_commands
from avpipe.errors import AvpipeError, ClipFailure


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="avpipe", description="Raw videos to audio-visual research results.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_demo(commands)
    _add_show(commands)
    _add_extract(commands)
    _add_evaluate_released(commands)
    add_retrieval_commands(commands)
    chosen = parser.parse_args(arguments)
    try:
        return chosen.run(chosen)
    except (AvpipeError, ClipFailure) as error:
        print(f"avpipe: {error}", file=sys.stderr)  # noqa: T201 - this module talks to a person
        return 1


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="run the whole chain on the embedded dataset",
        description="Make a small dataset, extract the features of all extractors with random weights, train and "
        "evaluate eight zero-shot methods with five seeds on two feature sets, and print the result.",
    )
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="CPU cores to use (default: all)")
    parser.set_defaults(run=_run_demo)


def _run_demo(chosen: argparse.Namespace) -> int:
    target = Path("results/demo_gzsl/eval.json")
    if not Path("Snakefile").exists():
        raise AvpipeError("There is no Snakefile here. Run the demo in the folder that avpipe was cloned into.")
    command = [sys.executable, "-m", "snakemake", "--cores", str(chosen.cores), str(target)]
    done = subprocess.run(command, check=False)
    if done.returncode == 0:
        show_result(target)
    return done.returncode


def _add_show(commands: Any) -> None:
    parser = commands.add_parser("show", help="print the result table of an eval.json")
    parser.add_argument("path", type=Path, help="such as results/ucf_gzsl/eval.json")
    parser.set_defaults(run=lambda chosen: show_result(chosen.path))


def show_result(path: Path) -> int:
    """Print notices, result tables and account of clips of an eval.json."""
    from rich.console import Console

    from avpipe.report.results import RETRIEVAL, kind_of, read_record
    from avpipe.report.retrieval_terminal import print_retrieval
    from avpipe.report.terminal import WIDTH, print_result

    if not path.exists():
        raise AvpipeError(f"{path} does not exist. Make it with: snakemake --cores all {path}")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    record = read_record(path, None)
    show = print_retrieval if kind_of(record) == RETRIEVAL else print_result
    show(record, console)
    console.print(f"The result and all it rests on: {path}", highlight=False)
    return 0


_FIDELITY_HELP = "what is right, or what was published, where the two differ (default: %(default)s)"
_EXTRACT_HELP = """\
extractors and what their rows are:
  resnet152    2048 per frame, 1 frame a second, unit length (ImageNet); pooled by maximum
  resnext101   2048 per 16 frames at 24 a second, unit length (Kinetics); pooled by maximum
  c3d          4096 per 16 frames at 25 a second (Sports-1M); pooled by mean
  vggish       128 per 0.96 s of sound (AudioSet); pooled by mean
  selavi       512 of video and 512 of audio per window of 1 s (VGGSound); pooled by mean
  spectrogram  40 mel bands per 0.01 s of sound, in dB, AVLnet's input; no weights; pooled by mean

the file written:
  values [T, d], pooled [d], times [T, 2] in seconds from the start of the stretch;
  for selavi video_values, audio_values and so on

examples:
  avpipe extract clip.mp4 resnet152 clip.npz --weights resnet152-394f9c45.pth
  avpipe extract clip.mp4 vggish clip.npz --weights pytorch_vggish.pth --pca vggish_pca_params.npz
  avpipe extract film.mkv c3d part.npz --weights c3d.pickle --start 61.5 --end 72 --set stride_frames=8
  avpipe extract clip.mp4 spectrogram clip.npz
where the weights can be had: config/weights.yaml
"""


def _add_extract(commands: Any) -> None:
    from avpipe.features.registry import names

    parser = commands.add_parser(
        "extract",
        help="features of one video, without a workflow",
        description="Extract features of one file, or of a stretch of it, and write them as .npz.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXTRACT_HELP,
    )
    parser.add_argument("path", type=Path, help="a video or sound file")
    parser.add_argument("name", help=f"the extractor: {', '.join(names())}")
    parser.add_argument("output", type=Path, help="the .npz file to write")
    parser.add_argument("--weights", help="path of the published weights, or random:<seed>; none for spectrogram")
    parser.add_argument("--fidelity", default="corrected", choices=["corrected", "published"], help=_FIDELITY_HELP)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the extractor (docs/config.md)"
    )
    parser.add_argument("--pca", type=Path, help="VGGish's PCA file: applies the published PCA and quantisation")
    parser.add_argument("--start", type=float, help="start of the stretch in seconds")
    parser.add_argument("--end", type=float, help="end of the stretch in seconds")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the network runs")
    parser.set_defaults(run=_run_extract)


def _run_extract(chosen: argparse.Namespace) -> int:
    import numpy as np

    from avpipe.features import Features, extract
    from avpipe.io.atomic import atomic_path

    if chosen.output.suffix != ".npz":
        raise AvpipeError(f"The output must end in .npz, found {chosen.output}.")
    if not chosen.output.parent.is_dir():
        raise AvpipeError(f"The folder of {chosen.output} does not exist. Make it, or give another place.")
    start = chosen.start or 0.0
    if not 0 <= start < (math.inf if chosen.end is None else chosen.end):
        raise AvpipeError(f"--start {chosen.start} and --end {chosen.end} are no stretch; expected 0 <= start < end.")
    features = extract(
        chosen.path,
        chosen.name,
        chosen.weights,
        device=chosen.device,
        start=chosen.start,
        end=chosen.end,
        pca=chosen.pca,
        fidelity=chosen.fidelity,
        settings=_settings(chosen.set),
    )
    streams = {"": features} if isinstance(features, Features) else {f"{k}_": v for k, v in features.items()}
    arrays = {prefix + key: value for prefix, each in streams.items() for key, value in vars(each).items()}
    with atomic_path(chosen.output) as temporary:
        np.savez(temporary, **arrays)
    shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in arrays.items())
    weights = "no weights" if chosen.weights is None else f"weights {chosen.weights}"
    if weights.startswith("weights random:"):
        weights += " (untrained: these are not the published features)"
    print(f"{chosen.output}: {shapes}; {weights}")  # noqa: T201
    return 0


_RELEASED_HELP = """\
Calibrates with stage A's checkpoint on the validation clips and tests stage B's of the same epoch, as the published
program does. Sizes are read from the files; what they do not say is set with --set: norm_inputs (ale, devise, sje,
apn), normalize_decoder_outputs (avgzslnet). Of the pickle args.pkl nothing is needed; it is not opened.

example:
  avpipe evaluate-released --method avca --stage-a runs/attention_ucf_val_cls --stage-b runs/attention_ucf_all_cls \\
    --features UCF/features/cls_features --class-split UCF --split cls_split
"""


def _add_evaluate_released(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate-released",
        help="test checkpoints of the published AVCA-GZSL code",
        description="Test checkpoints of the published AVCA-GZSL code.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_RELEASED_HELP,
    )
    parser.add_argument("--method", required=True, help="avca, ale, devise, sje, apn, cjme or avgzslnet")
    parser.add_argument("--stage-a", type=Path, required=True, help="the first run's folder, or its *_score.pt")
    parser.add_argument("--stage-b", type=Path, required=True, help="the second run's folder, or one *_ckpt_<epoch>.pt")
    parser.add_argument("--features", type=Path, required=True, help="the folder of the feature set")
    parser.add_argument("--class-split", type=Path, required=True, help="the folder that has class-split/")
    parser.add_argument("--split", required=True, help="such as main_split or cls_split")
    parser.add_argument(
        "--text",
        default="published",
        choices=["published", "correct"],
        help="which vector each class gets; the checkpoints were trained with the default, %(default)s",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="what the files do not say")
    parser.add_argument("--out", type=Path, help="the JSON file to write, accuracies from 0 to 1")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="default: a GPU if any")
    parser.set_defaults(run=_run_evaluate_released)


def _run_evaluate_released(chosen: argparse.Namespace) -> int:
    from avpipe.devices import leased_device
    from avpipe.io.atomic import write_json

    if chosen.out is not None and not chosen.out.parent.is_dir():
        raise AvpipeError(f"The folder of {chosen.out} does not exist. Make it, or give another place.")
    with leased_device(chosen.device) as device:
        from avpipe.gzsl.released import describe, evaluate_released

        report = evaluate_released(
            chosen.method,
            chosen.stage_a,
            chosen.stage_b,
            features=chosen.features,
            class_split=chosen.class_split,
            split=chosen.split,
            text=chosen.text,
            flags=_settings(chosen.set),
            device=device,
        )
    if chosen.out is not None:
        write_json(chosen.out, report)
    print(describe(report))  # noqa: T201
    return 0


def _settings(pairs: list[str]) -> dict[str, Any]:
    """Settings from KEY=VALUE; values are read as in the configuration."""
    import yaml

    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise AvpipeError(f"--set {pair}: expected KEY=VALUE, such as --set stride_frames=8.")
        settings[key] = yaml.safe_load(value)
    return settings
