"""Between two log entries nothing is read back from the device.

Seen on the CPU, where the operations that would do so are the same.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import make_trainer

READS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "is_nonzero",
    "equal",
    "unique_dim",
    "_unique2",
}


class NothingReadBack(TorchDispatchMode):
    """Raises where a GPU would have to wait: numbers for Python, and shapes that hang on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().partition("::")[2].partition(".")[0]
        assert name not in READS, f"{name} reads a value back"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            assert not any(x is not None and x.dtype == torch.bool for x in args[1]), (
                f"{name} by a mask reads its size back"
            )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("world", ["pac_men", "windy_maze", "firefighters"])
def test_an_iteration_reads_nothing_back(world, runs, settings):
    trainer = make_trainer(*(settings("eoi_qmix", world, seed=seed) for seed in range(runs)))
    trainer.play()
    trainer.learn()  # the optimiser makes its state, once
    with NothingReadBack():
        trainer.play()
        trainer.learn()
    assert trainer.at.updates > 0


def test_operations_that_wait_are_found():
    x = torch.arange(4.0)
    for wait in (lambda: x.sum().item(), lambda: x[x > 1], lambda: bool((x > 1).any())):
        with NothingReadBack(), pytest.raises(AssertionError, match="back"):
            wait()
