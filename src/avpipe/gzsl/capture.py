"""A training step as a CUDA graph: recorded once, then replayed with one call instead of a thousand launches.

The models here are small, so that on a GPU a step is a long queue of short kernels and the processor cannot launch
them fast enough. Replaying a recorded step leaves nothing to launch, and the steps of several seeds, each on a
stream of its own, fill the GPU together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

_log = logging.getLogger(__name__)
_EAGER_STEPS = 3  # of each kind, before it is recorded: lazy initialisation must be over by then


class CapturedSteps:
    """Runs the steps of one model, each kind of step recorded after its first few calls.

    Args:
        step: does one step of a kind, `step(kind)`, from tensors that stay at their place.
        generators: those that the step draws from; a replay goes on where their streams are.
    """

    def __init__(self, step: Callable[[int], None], generators: list[torch.Generator]) -> None:
        self._step, self._generators = step, generators
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._calls: dict[int, int] = {}
        self._is_refused = False

    def __call__(self, kind: int) -> None:
        """One step of a kind, on the current stream, which must not be the default one."""
        graph = self._graphs.get(kind)
        if graph is None and self._calls.get(kind, 0) >= _EAGER_STEPS and not self._is_refused:
            graph = self._record(kind)
        if graph is not None:
            graph.replay()
            return
        self._calls[kind] = self._calls.get(kind, 0) + 1
        self._step(kind)

    def _record(self, kind: int) -> torch.cuda.CUDAGraph | None:
        """Record a step without running it; None where the method does something that cannot be recorded."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        try:
            with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
                self._step(kind)
        except RuntimeError as error:
            _log.warning("The training step cannot be recorded as a CUDA graph and runs call by call: %s", error)
            self._is_refused = True
            return None
        self._graphs[kind] = graph
        return graph
