"""Reading evaluation.json and eval.json, or refusing them in words."""

from __future__ import annotations

import json
import os
from typing import Any, TypeVar

from pydantic import ValidationError

from avpipe.errors import AvpipeError
from avpipe.io.manifest import verified
from avpipe.schema.gzsl import GzslRecord
from avpipe.schema.retrieval import RetrievalRecord
from avpipe.schema.stored import SCHEMA_VERSION, Record, Stored, Versioned

StrPath = str | os.PathLike[str]
S = TypeVar("S", bound=Stored)
E = TypeVar("E", bound=Versioned)
R = TypeVar("R", bound=Record)

RECORDS: dict[str, type[GzslRecord] | type[RetrievalRecord]] = {"gzsl": GzslRecord, "retrieval": RetrievalRecord}
_FAULTS_SHOWN = 3
_EVALUATION = "Expected an evaluation.json. Delete it and run the same command again."
_RECORD = "Expected an eval.json; make it again with Snakemake."


def read_evaluation(path: StrPath, model: type[E]) -> E:
    """An evaluation.json of this version.

    Raises:
        AvpipeError: it is not readable as one; the message says how to have it made again.
    """
    return _validated(path, _versioned(path, _EVALUATION), model, _EVALUATION)


def read_record(path: StrPath, model: type[R]) -> R:
    """An eval.json of this version and of one task.

    Raises:
        AvpipeError: it is not readable as one, or of another task.
    """
    values = _versioned(path, _RECORD, may_be_given=True)
    found, expected = values.get("kind"), model.model_fields["kind"].default
    if found != expected:
        raise AvpipeError(f"{path} is a result of the kind {found!r}; expected {expected!r}. Give another eval.json.")
    return _validated(path, values, model, _RECORD)


def read_any_record(path: StrPath) -> GzslRecord | RetrievalRecord:
    """An eval.json of this version and of either task.

    Raises:
        AvpipeError: it is not readable as one.
    """
    values = _versioned(path, _RECORD, may_be_given=True)
    model = RECORDS.get(str(values.get("kind")))
    if model is None:
        raise AvpipeError(
            f"{path} is not a result of this version of avpipe: its kind is {values.get('kind')!r}, expected "
            f"{' or '.join(RECORDS)}. {_RECORD}"
        )
    return _validated(path, values, model, _RECORD)


def read_summary(path: StrPath, model: type[S]) -> S:
    """A JSON file without a version, which an earlier job wrote and eval.json takes over.

    Raises:
        AvpipeError: its fields are others.
    """
    return _validated(path, _object(path, ""), model, "Delete it and run the same command again.")


def _versioned(path: StrPath, remedy: str, *, may_be_given: bool = False) -> dict[str, Any]:
    values = _object(path, remedy, may_be_given=may_be_given)
    if values.get("schema_version") != SCHEMA_VERSION:
        raise AvpipeError(
            f"{path} is not a result of this version of avpipe: its schema_version is "
            f"{values.get('schema_version', 'none')}, expected {SCHEMA_VERSION}. {remedy}"
        )
    return values


def _object(path: StrPath, remedy: str, *, may_be_given: bool = False) -> dict[str, Any]:
    try:
        values = json.loads(verified(path, may_be_given=may_be_given).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AvpipeError(f"{path} was not read as JSON: {error}. {remedy}") from None
    if not isinstance(values, dict):
        raise AvpipeError(f"{path} is not a result of this version of avpipe: it holds no JSON object. {remedy}")
    return values


def _validated(path: StrPath, values: dict[str, Any], model: type[S], remedy: str) -> S:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        more = f"; and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
        raise AvpipeError(
            f"{path} is not a result of this version of avpipe: {'; '.join(faults[:_FAULTS_SHOWN])}{more}. {remedy}"
        ) from None
