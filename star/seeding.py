"""One root seed, many named and independent random streams.

A stream is named by the run's seed, a purpose (``"initial"``, ``"adapter"``, ``"mc_dropout"``, ...)
and further keys such as the round. Two names never share numbers, and drawing from one never moves
another, so adding a step to the program changes no other step's draws.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch  # late, where it is drawn: whoever asks for a seed alone need not wait for it


def derive(seed: int, purpose: str, *keys: int | str) -> int:
    """Return the seed of a named stream, in ``[0, 2**63)``.

    The first 63 bits of SHA-256 over ``[seed, purpose, *keys]`` written as JSON. JSON keeps ``1``
    and ``"1"`` apart, and ``("ab", "c")`` and ``("a", "bc")``; the value is the same on every
    platform and in every version of Python, which ``hash()`` does not promise.

    Raises:
        TypeError: A key is neither an integer nor a string.
    """
    name = [operator.index(seed), purpose]
    # operator.index takes numpy integers too and refuses floats, whose text is not one-to-one.
    name += [key if isinstance(key, str) else operator.index(key) for key in keys]
    digest = hashlib.sha256(json.dumps(name).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, *keys: int | str) -> torch.Generator:
    """Return a new generator at the start of a named stream.

    It is on the CPU, whatever the model runs on: the same numbers are drawn on every device.
    """
    import torch

    return torch.Generator(device="cpu").manual_seed(derive(seed, purpose, *keys))


@contextmanager
def forked(seed: int, purpose: str, *keys: int | str) -> Iterator[None]:
    """Let library code draw from a named stream, then restore torch's global one.

    For code that takes no generator (weight initialisation, ``nn.Dropout``). The CPU's and all CUDA
    devices' states are put back at the end, after an exception too.
    """
    import torch

    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, purpose, *keys))
        yield
