"""Several seeds that share a GPU: a step of each in turn, on CUDA streams of their own, recorded as CUDA graphs.

The models here are small, so that on a GPU a step is a long queue of short kernels and the processor cannot launch
them fast enough. Replaying a recorded step leaves nothing to launch, and the steps of several seeds, each on a
stream of its own, fill the GPU together. No seed's result depends on the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from avpipe.gzsl.trainer import StageTrainer
from avpipe.training.loop import train_stepwise
from avpipe.training.runtime import TERMINATED, Interrupt

_log = logging.getLogger(__name__)
_EAGER_STEPS = 3  # of each kind, before it is recorded: lazy initialisation must be over by then
_DONE = object()


def train_side_by_side(trainers: Iterable[StageTrainer], interrupt: Interrupt) -> Iterator[StageTrainer]:
    """Train all at once, a step of each in turn; gives each as soon as it is done.

    Raises:
        SystemExit: with code 143 after SIGTERM or Ctrl-C, once all states are saved.
    """
    loops = [(trainer, _on_own_stream(trainer, interrupt)) for trainer in trainers]
    is_stopped = False
    while loops:
        for trainer, loop in list(loops):
            try:
                next(loop)
            except StopIteration:
                loops.remove((trainer, loop))
                yield trainer
            except SystemExit:  # its state is saved; the others follow with their next step
                loops.remove((trainer, loop))
                is_stopped = True
    if is_stopped:
        raise SystemExit(TERMINATED)


def _on_own_stream(trainer: StageTrainer, interrupt: Interrupt) -> Iterator[None]:
    """The training loop with everything that it does on a stream of its own, its steps recorded."""
    loop = train_stepwise(trainer, interrupt)
    device = trainer.model.device
    if device.type != "cuda":
        yield from loop
        return
    trainer.run_step = RecordedSteps(trainer.run_step, trainer.kind_of_step, [trainer.dropout_draws])
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))  # on which the model was made
    while True:
        with torch.cuda.stream(stream):
            is_done = next(loop, _DONE) is _DONE
        if is_done:
            break
        yield
    stream.synchronize()  # what follows reads the model on another stream


class RecordedSteps:
    """Runs the steps of one model, each kind of step recorded after its first few calls.

    Args:
        run_step: does one step, `run_step(rows, step)`, in tensors that stay at their place but for `rows`.
        kind_of_step: steps of one kind differ in their rows alone.
        generators: those that the step draws from; a replay goes on where their streams are.
    """

    def __init__(
        self,
        run_step: Callable[[Tensor, int], None],
        kind_of_step: Callable[[int], int],
        generators: list[torch.Generator],
    ) -> None:
        self._run_step, self._kind_of_step, self._generators = run_step, kind_of_step, generators
        self._rows: Tensor | None = None  # from which recorded steps read
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._calls: dict[int, int] = {}
        self._is_refused = False

    def __call__(self, rows: Tensor, step: int) -> None:
        """One step, on the current stream, which must not be the default one."""
        if self._rows is None:
            self._rows = torch.empty_like(rows)
        self._rows.copy_(rows)
        kind = self._kind_of_step(step)
        graph = self._graphs.get(kind)
        if graph is None and self._calls.get(kind, 0) >= _EAGER_STEPS and not self._is_refused:
            graph = self._record(kind, self._rows, step)
        if graph is not None:
            graph.replay()
            return
        self._calls[kind] = self._calls.get(kind, 0) + 1
        self._run_step(self._rows, step)

    def _record(self, kind: int, rows: Tensor, step: int) -> torch.cuda.CUDAGraph | None:
        """Record a step without running it; None where the method does something that cannot be recorded."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        try:
            with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
                self._run_step(rows, step)
        except RuntimeError as error:
            _log.warning("The training step cannot be recorded as a CUDA graph and runs call by call: %s", error)
            self._is_refused = True
            return None
        self._graphs[kind] = graph
        return graph
