"""avpipe evaluate-released: test checkpoints of the published AVCA-GZSL code."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from avpipe.cli.options import check_folder, read_settings

_HELP = """\
Calibrates with stage A's checkpoint on the validation clips and tests stage B's of the same epoch, as the published
program does. Sizes are read from the files; what they do not say is set with --set: norm_inputs (ale, devise, sje,
apn), normalize_decoder_outputs (avgzslnet). Of the pickle args.pkl nothing is needed; it is not opened.

example:
  avpipe evaluate-released --method avca --stage-a runs/attention_ucf_val_cls --stage-b runs/attention_ucf_all_cls \\
    --features UCF/features/cls_features --class-split UCF --split cls_split
"""


def add(commands: Any) -> None:
    """Add the command: test checkpoints of the published code."""
    parser = commands.add_parser(
        "evaluate-released",
        help="test checkpoints of the published AVCA-GZSL code",
        description="Test checkpoints of the published AVCA-GZSL code.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_HELP,
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
    parser.add_argument("--out", type=Path, help="the JSON file to write, accuracies in %")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="default: a GPU if any")
    parser.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    from avpipe.devices import leased_device
    from avpipe.io.manifest import write_json

    if chosen.out is not None:
        check_folder(chosen.out)
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
            flags=read_settings(chosen.set),
            device=device,
        )
    if chosen.out is not None:
        write_json(chosen.out, report.to_json())
    print(describe(report))  # noqa: T201
    return 0
