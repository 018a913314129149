"""Settings of all tests."""

import os
from collections.abc import Callable

import pytest
import torch

from eoi.settings import Settings
from helpers import tiny

torch.set_num_threads(1)
os.environ["SC2PATH"] = os.devnull  # the tests are the same where the game is installed


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """settings(algorithm, env, **keys): a tiny checked configuration."""
    return tiny
