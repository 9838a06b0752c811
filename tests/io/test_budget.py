"""What a file may cost, and how a user raises it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from avpipe.errors import AvpipeError
from avpipe.formats.pickles import read_pickle
from avpipe.io import budget
from avpipe.io.budget import Budget, LimitError


def test_a_budget_is_shared_by_all_that_is_charged() -> None:
    left = Budget(0)
    left.charge(60 << 20)
    with pytest.raises(LimitError, match=r"67,108,864 bytes that a file of 0 bytes may unpack to \(AVPIPE_READ_LIMITS"):
        left.charge(5 << 20)


def test_it_grows_with_the_file_and_with_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Budget(1 << 30).max_bytes - Budget(0).max_bytes == 64 << 30
    monkeypatch.setenv("AVPIPE_READ_LIMITS", "0.5")
    assert Budget(0).max_bytes == 32 << 20


def test_the_variable_lets_a_file_through_and_its_absence_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of 1 MB that is there a hundred times, in a file of 1 MB."""
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([b"x" * 1_000_000] * 200))
    with pytest.raises(AvpipeError, match=r"x\.pkl was not read: .*AVPIPE_READ_LIMITS multiplies the limits"):
        read_pickle(tmp_path / "x.pkl")
    monkeypatch.setenv("AVPIPE_READ_LIMITS", "2")
    assert len(read_pickle(tmp_path / "x.pkl")) == 200


@pytest.mark.parametrize("text", ["much", "0", "-1", "inf", "nan", ""])
def test_other_values_of_the_variable_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVPIPE_READ_LIMITS", text)
    with pytest.raises(AvpipeError, match="expected a number above 0"):
        Budget(0)


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    left = Budget(1 << 20)
    monkeypatch.setattr(budget.time, "monotonic", lambda: left._end + 1)
    with pytest.raises(LimitError, match="more than 601 seconds"):
        left.charge(1)
