"""Every key that a message of avpipe names is one that the configuration has, in the form in which it can be set."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from avpipe.config.explain import places
from avpipe.config.models import Config

SOURCE = Path(__file__).parents[2] / "src" / "avpipe"
PLACES = set(places(Config))
SECTIONS = {part for place in PLACES for part in place[:-1]}
# A dotted name: sections, names of one's own as <name> or as a value that the message puts in, and the key.
DOTTED = re.compile(r"(?<![\w./<{-])(?:[a-z]\w*|\{\})(?:\.(?:[a-z]\w*|<\w+>|\{\}))+(?![\w/(])")
NO_KEYS = ("json", "yaml", "csv", "md", "h5", "py", "npy", "txt", "svg", "pkl", "parquet", "pth", "pickle")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Texts of a module with their lines, {} where a value is put in; no docstrings and no descriptions of keys."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped = {id(node) for call in ast.walk(tree) if isinstance(call, ast.Call)
               for word in call.keywords if word.arg == "description" for node in ast.walk(word.value)}  # fmt: skip
    skipped |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    skipped |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)


def named_keys(text: str) -> list[str]:
    """The dotted keys in a text; a section's name makes one, and what looks like a file does not."""
    if re.fullmatch(r"\{\}\.[a-z]\w*_\w+", text):  # a key of a place that is put in
        return [text]
    found = [each.rstrip(".") for each in DOTTED.findall(text)]
    return [
        key for key in found
        if key.split(".")[-1] not in NO_KEYS and any(part in SECTIONS for part in key.split("."))
        and (key.startswith("{}") or key.split(".")[0] in SECTIONS | {"datasets"})
    ]  # fmt: skip


def can_be_set(key: str) -> bool:
    """Whether a key is written as it has to be from the top of a file of settings."""
    parts = key.split(".")
    # What is put in at the start is a place of its own, which the other texts of the module are checked for.
    starts = [place[len(place) - len(parts) + 1 :] for place in PLACES] if parts[0] == "{}" else [*PLACES]
    wanted = parts[1:] if parts[0] == "{}" else parts
    return any(len(place) == len(wanted) and all(map(_fits, wanted, place)) for place in starts)


def _fits(part: str, of_place: str) -> bool:
    return part == of_place or part == "{}" or (of_place == "<name>" and part != "{}")


NO_ADVICE = (
    "features.{}.{}",  # a key of eval.json
    "retrieval.min_audio_frames",  # why a clip fell out
)
MESSAGES = [(f"{path.relative_to(SOURCE)}:{line}", key) for path in sorted(SOURCE.rglob("*.py"))
            for line, text in texts(path) for key in named_keys(text) if key not in NO_ADVICE]  # fmt: skip


@pytest.mark.parametrize(("where", "key"), MESSAGES)
def test_a_key_in_a_message_can_be_set_as_it_is_written(where, key):
    assert can_be_set(key), f"{where} names {key}"


def test_there_are_messages_and_wrong_ones_are_found():
    assert len(MESSAGES) > 20
    for wrong in ("features.vggish.postprocess", "datasets.{}.features.vggish.postproces", "gzsl.word_names",
                  "{}.gzsl.wrd_names", "datasets.<name>.weights.vgish", "source.path"):  # fmt: skip
        assert named_keys(f"Set {wrong}: false.") == [wrong] and not can_be_set(wrong)
    for right in ("datasets.{}.features.vggish.postprocess", "weights.vggish_pca", "{}.own_splits.<name>.seed"):
        assert named_keys(f"Set {right}.") == [right] and can_be_set(right)
