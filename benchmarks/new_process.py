"""A call in a fresh interpreter, for what must not share memory, allocator settings or imports with another."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar
from unittest import mock

Result = TypeVar("Result")


def in_new_process(
    function: Callable[..., Result], *arguments: Any, environment: Mapping[str, str] | None = None
) -> Result:
    """The result of a call.

    Args:
        function: at the top of a module.
        arguments: what it is called with.
        environment: variables of the process that are not set already.
    """
    unset = {name: value for name, value in (environment or {}).items() if name not in os.environ}
    with mock.patch.dict(os.environ, unset), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
