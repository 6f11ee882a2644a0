"""Training-free Bayesianisation of a trained adapter (TFB; Shi et al. 2025, arXiv 2412.05723).

Each module's B = U diag(d) Vᵀ; the adapter is the same with B' = U diag(d) and A' = Vᵀ A, and gets
noise on A' of deviation σ/dᵢ in row i. B'·noise = U·E with every element of E from N(0, σ²), so a
pass adds s·U·E to the weights, s the adapter's scale: isotropic in the columns that B reaches, of
covariance s²·σ²·U Uᵀ in each input column. In A's own terms a pass has A + V diag(1/d)·E in A's
place, beside B as it is, and that is what is folded. Directions that B does not reach, dᵢ within
rounding of 0, get no noise.

σ, the same in all modules, is the largest that changes the NLL of the training rows, in nats a
token that the loss is taken of, by at most a fraction ε of itself: the mean over ten draws, as many
as the authors take. The draws are the first ten passes, so that they promise something of what
scores, and σ does not depend on S. It is searched for by bisection on a grid of steps of 9 %, on
which rounding (another batch size, another number of processes) leaves it where it is.

The authors' code (their repository, ``modelwrappers/tfblora.py``) differs: it divides the change by
the number of rows once more, takes the model's own predictions in the place of labels and the NLL
of the draws' mean probability, and looks between 0.001 and 0.015 in five steps.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor

from star import seeding
from star.errors import InputError
from star.models import adapter, likelihood
from star.models.encoding import TokenRow
from star.models.language_model import LanguageModel
from star.models.passes import Passes, matrix_a

logger = logging.getLogger(__name__)

KIND = "TFB"
DRAWS = 10
GRID = range(-160, 1)  # σ = 2^(k/8), a millionth to 1
SEARCHES = math.ceil(math.log2(len(GRID) + 1))  # values of σ that are tried, at most


class Posterior:
    """The family of a trained adapter's posteriors, σ left open.

    Args:
        adapted: The model with the adapter, trained.
        seed: Of the run.
        round_: With the seed, the pass and the module it names a noise, whatever σ scales it by.

    Raises:
        InputError: B is 0 in all modules, or what is added to the weights is not s·B·A (DoRA).
    """

    def __init__(self, adapted: PeftModel, *, seed: int, round_: int) -> None:
        self._adapted, self._key = adapted, (seed, round_)
        self._modules: dict[str, tuple[Tensor, Tensor]] = {}  # A (r, in); V diag(1/d) (r, rank)
        for name, layer in adapter.layers(adapted):
            if adapter.is_variant(layer):
                raise InputError(
                    f"acquisition.passes=tfb is of plain LoRA, but {name} has another kind (DoRA)"
                )
            a, b = (getattr(layer, part)[adapter.NAME].weight for part in ("lora_A", "lora_B"))
            self._modules[name] = a.data, reached(b.detach())
        if not any(root.shape[1] for _, root in self._modules.values()):
            raise InputError(
                "acquisition.passes=tfb needs a trained adapter, but B is 0 in all modules: all "
                "passes would be equal; train it longer or at a higher rate"
            )

    def passes(self, sigma: float, count: int) -> Passes:
        """Return S = ``count`` passes at ``sigma``."""

        def sub_network(pass_: int) -> dict[str, Tensor]:
            noisy = {}
            for name, (a, root) in self._modules.items():
                stream = seeding.generator(self._key[0], "tfb", self._key[1], pass_, name)
                noise = torch.randn(root.shape[1], a.shape[1], generator=stream)
                noisy[matrix_a(name)] = a + sigma * (root @ noise.to(a.device)).to(a.dtype)
            return noisy

        drawn = {"sigma": sigma, "key": list(self._key)}
        return Passes(self._adapted, count, sub_network, kind=KIND, drawn=drawn)


def reached(b: Tensor) -> Tensor:
    """Return V diag(1/d) of B = U diag(d) Vᵀ, of the directions that B reaches.

    Args:
        b: (out, r).

    Returns:
        (r, rank) in float32; the rank is counted in the precision of ``b``.
    """
    _, d, rows = torch.linalg.svd(b.double(), full_matrices=False)
    kept = d > d.max() * max(b.shape) * torch.finfo(b.dtype).eps
    return (rows[kept].T / d[kept]).float()


@dataclass(frozen=True)
class Search:
    """A σ and how it came about.

    Attributes:
        sigma: The largest of the grid that holds.
        nll: Of the training rows without noise, in nats a token.
        noisy: The mean under the noise of ``sigma``.
        tokens: Logical work: prompt and answer tokens through the model.
    """

    sigma: float
    nll: float
    noisy: float
    tokens: int


def search(
    model: LanguageModel, posterior: Posterior, rows: Sequence[TokenRow], tolerance: float
) -> Search:
    """Return the largest σ under which the rows' NLL stays within ``tolerance``, a fraction of it.

    Args:
        model: With the adapter on.
        posterior: Of that adapter.
        rows: What it was trained on.
        tolerance: ε.

    Raises:
        InputError: The least noise is too much.
    """
    size = sum(len(row.continuation) for row in rows)
    plain = float(likelihood.nll(model, rows).sum()) / size
    noisy: dict[int, float] = {}

    def holds(k: int) -> bool:
        with posterior.passes(2.0 ** (k / 8), DRAWS).installed() as passes:
            try:
                values = likelihood.nll(model, rows, passes=passes)
            except InputError:  # of a model's answer that is no number any more
                return False
        noisy[k] = float(values.mean(axis=1).sum()) / size
        return abs(noisy[k] - plain) <= tolerance * plain

    k = largest(holds, GRID)
    if k is None:
        raise InputError(
            f"acquisition.passes=tfb: no noise leaves the training NLL of {plain:.3g} nats a token "
            f"within acquisition.tfb_tolerance={tolerance:g} of itself; raise that, or train less"
        )
    tokens = sum(len(row) for row in rows) * (1 + DRAWS * len(noisy))
    found = Search(2.0 ** (k / 8), plain, noisy[k], tokens)
    logger.info(
        "TFB: sigma %.3g; training NLL %.4g nats a token, %.4g under %d draws",
        *(found.sigma, plain, found.noisy, DRAWS),
    )
    return found


def largest(holds: Callable[[int], bool], among: range) -> int | None:
    """Return the largest number that holds and whose next does not, by bisection; ``None``: none.

    Of what holds up to a number and not beyond, that number.
    """
    low, high = 0, len(among)  # the first ``low`` hold, what is from ``high`` on does not
    while low < high:
        middle = (low + high) // 2
        if holds(among[middle]):
            low = middle + 1
        else:
            high = middle
    return among[low - 1] if low else None
