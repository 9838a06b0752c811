"""How long Snakemake plans UCF-GZSL: a folder with every published clip name (empty files), no job is run.

python benchmarks/plan_ucf.py path/to/UCF/class-split path/to/word_embeddings_ucf_normed.npy
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from avpipe.gzsl.splits import read_split

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Make the folder, plan, print jobs, seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("class_split", type=Path, help="the published class-split folder")
    parser.add_argument("words", type=Path, help="the published class vectors")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        n_clips = make_videos(chosen.class_split, folder / "UCF-101")
        settings = {
            "weights": {"c3d": "random:0", "vggish": "random:0", "selavi": "random:0"},
            "datasets": {
                "ucf_gzsl": {
                    "source": {"path": str(folder / "UCF-101")},
                    "features": {"vggish": {"postprocess": False}},
                    "gzsl": {
                        "class_split": str(chosen.class_split.resolve()),
                        "word_vectors": str(chosen.words.resolve()),
                    },
                }
            },
        }
        (folder / "ucf.yaml").write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "snakemake", "-n", "results/ucf_gzsl/eval.json"]
        began = time.perf_counter()
        done = subprocess.run(
            [*command, "--configfile", str(folder / "ucf.yaml")], cwd=ROOT, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - began
    output = done.stdout + done.stderr
    if done.returncode != 0:
        sys.exit(output)
    (jobs,) = re.findall(r"^total\s+(\d+)", output, re.MULTILINE)[:1]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{n_clips} clips, {jobs} jobs planned in {seconds:.1f} s, peak memory {peak:.0f} MB")


def make_videos(class_split: Path, folder: Path) -> int:
    """An empty file for every clip of the published split; returns their number."""
    split = read_split(class_split, "main_split")
    clips = {clip: label for subset in split.clips.values() for clip, label in subset.items()}
    for clip, label in clips.items():
        path = folder / label / f"{clip}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return len(clips)


if __name__ == "__main__":
    main()
