"""CUDA graphs: the kernels of an update, recorded once and launched together.

The networks here are so small that a GPU waits for Python between two kernels. A recorded update
is launched by one call. It runs the same kernels on the same memory, so its results are those of
the update it was recorded from.
"""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from eoi.components.batch import Batch
from eoi.learners.base import PerRun, Scalar
from eoi.utils.trees import map_tensors

Update = Callable[[Batch, Scalar], dict[str, PerRun]]
Shape = tuple[object, ...]

WARM = 3  # plain updates before a recording: they make the optimiser's state and cuBLAS's memory
LIMIT = 8  # recordings; batches of further shapes are learned from without


class Graphs:
    """An update, recorded for each shape of batch that comes often.

    Batches of episodes of several lengths are learned from without a recording. Statistics are in
    memory that the next update of the same shape writes over.
    """

    def __init__(self, update: Update):
        """`update` reads nothing back, and writes parameters and buffers in place."""
        self._update = update
        self._stream = torch.cuda.Stream()
        self._seen: Counter[Shape] = Counter()
        self._recorded: dict[Shape, _Recorded] = {}

    def __call__(self, batch: Batch, t: Scalar) -> dict[str, PerRun]:
        if batch.valid is not None:  # memory unrolled over other lengths is another program
            return self._plain(batch, t)
        shape = _shape(batch)
        if shape not in self._recorded:
            self._seen[shape] += 1
            if self._seen[shape] <= WARM or len(self._recorded) == LIMIT:
                return self._plain(batch, t)
            self._recorded[shape] = _Recorded(self._update, batch, t)
        return self._recorded[shape](batch, t)

    def _plain(self, batch: Batch, t: Scalar) -> dict[str, PerRun]:
        """Off the default stream, as a recording will be."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            stats = self._update(batch, t)
        torch.cuda.current_stream().wait_stream(self._stream)
        return stats


class _Recorded:
    """One recording, with memory of its own for the batch."""

    def __init__(self, update: Update, batch: Batch, t: Scalar):
        self._batch, self._t = map_tensors(torch.clone, batch), t.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._stats = update(self._batch, self._t)

    def __call__(self, batch: Batch, t: Scalar) -> dict[str, PerRun]:
        map_tensors(Tensor.copy_, self._batch, batch)
        self._t.copy_(t)
        self._graph.replay()
        return self._stats


def _shape(batch: Batch) -> Shape:
    """Sizes of all tensors of a batch, and the phases it is for."""
    found: list[torch.Size] = []
    map_tensors(lambda x: found.append(x.shape) or x, batch)
    return (batch.phases, *found)
