"""Pool strategies of scikit-activeml, by name: ``acquisition.strategy=skactiveml:CoreSet``.

Kottke et al. 2021, scikit-activeml: A Library and Toolbox for Active Learning Algorithms. A
strategy there takes all rows X with labels y, NaN where there is none, and for some a classifier
that it trains on X. Here X are the embeddings that ``acquisition.embeddings`` names, and the
classifier is one that has been trained: it answers with the round's probabilities of the choices,
the mean over the passes. Strategies that train a model of their own many times over, or ask it
about rows that no pool has, cannot be fed so and are refused.

The package is an extra, ``pip install 'star-al[skactiveml]'``, and imported when it is named.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from star.cache import digest
from star.errors import InputError, nearest
from star.provenance import installed

if TYPE_CHECKING:
    from star.acquisition.components import Components  # late: it brings torch

NAME, DISTRIBUTION = "skactiveml", "scikit-activeml"

EMBEDDED = ("CoreSet", "GreedySamplingX", "MaxHerding", "ProbCover", "RandomSampling", "TypiClust")
CLASSIFIED = ("Badge", "Clue", "Falcun", "UncertaintySampling")
KNOWN = sorted((*EMBEDDED, *CLASSIFIED, "DiscriminativeAL"))


def fingerprint() -> str:
    """Return the hash of what stands behind the names: the version that is installed.

    Raises:
        InputError: None is.
    """
    version = installed(DISTRIBUTION)
    if version is None:
        raise InputError(
            f"acquisition.strategy={NAME}:… needs {DISTRIBUTION}, which is not installed; pip "
            "install 'star-al[skactiveml]'"
        )
    return digest([DISTRIBUTION, version])


def version_of(strategy: str | None) -> dict[str, str | None]:
    """Return what ``environment.json`` says beside a strategy's name: of scikit-activeml alone."""
    named = strategy is not None and strategy.startswith(f"{NAME}:")
    return {"version": installed(DISTRIBUTION)} if named else {}


@dataclass(frozen=True)
class PoolStrategy:
    """A strategy of scikit-activeml, with the signature of one's own.

    Attributes:
        name: Of its class in ``skactiveml.pool``.
    """

    name: str

    @property
    def needs(self) -> tuple[str, ...]:
        """What it looks at, words of ``needs.NEEDS``."""
        return ("log_probs", "embeddings") if self.name in CLASSIFIED else ("embeddings",)

    def __call__(self, pool: Components) -> NDArray[Any]:
        """Return K pool indices, best first; where all are picked anyway, as they stand.

        Raises:
            InputError: No choices were scored, and it takes a classifier.
        """
        size, count = len(pool.index), pool.query_size
        if count == size:
            return pool.index
        # A gradient in the last layer, of whose input it is a multiple (arXiv 1906.03671).
        view = "head" if self.name == "Badge" else None
        rows = np.concatenate([pool.embeddings(view), pool.embeddings(view, labelled=True)])
        _, bought = np.unique(pool.labelled.answers, return_inverse=True)
        labels = np.concatenate([np.full(size, np.nan), bought.astype(np.float64)])
        more: dict[str, Any] = {}
        if self.name in CLASSIFIED:
            chances = np.exp(pool.log_probs("full")).mean(axis=1)
            model = "estimator" if self.name == "Clue" else "clf"
            more = {model: _trained(chances), f"fit_{model}": False}
        seed = int(pool.random.integers(2**31))
        if self.name == "DiscriminativeAL":
            more = {"discriminator": _discriminator(seed)}
        kind = getattr(_package("pool"), self.name)
        options: dict[str, Any] = {"random_state": seed}
        if "cluster_algo_dict" in inspect.signature(kind).parameters:  # not all seed their k-means
            options["cluster_algo_dict"] = {"random_state": seed}
        strategy = kind(**options)
        # Threads add up in the order in which they end, so clusters could come out otherwise.
        from threadpoolctl import threadpool_limits

        with warnings.catch_warnings(), threadpool_limits(1, user_api="openmp"):
            warnings.simplefilter("ignore")  # its own: of few labels, of kernels, of versions
            picked = strategy.query(rows.astype(np.float64), labels, batch_size=count, **more)
        return pool.index[np.asarray(picked)]


def strategy(name: str) -> PoolStrategy:
    """Return the strategy of a name.

    Raises:
        InputError: The package is not there, or has no such strategy, or not one that can be fed.
    """
    fingerprint()
    if name in KNOWN:
        return PoolStrategy(name)
    if hasattr(_package("pool"), name):
        raise InputError(
            f"acquisition.strategy={NAME}:{name} trains a model of its own again and again, which "
            f"star cannot give it; there are {', '.join(KNOWN)}"
        )
    raise InputError(
        f"acquisition.strategy={NAME}:{name}: {DISTRIBUTION} {installed(DISTRIBUTION)} has no such "
        f"strategy{nearest(name, KNOWN)}; there are {', '.join(KNOWN)}"
    )


def _package(module: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"{NAME}.{module}")


def _trained(probabilities: NDArray[np.float64]) -> Any:
    """Return a classifier that has been trained, and knows the (N, C) probabilities of the pool.

    It is asked about the unlabelled rows alone, all of them, in their order.
    """

    class Trained(_package("base").SkactivemlClassifier):  # type: ignore[misc]
        classes_ = np.arange(probabilities.shape[1])

        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            raise TypeError("it is trained")

        def predict_proba(self, X: Any) -> NDArray[np.float64]:
            if len(X) != len(probabilities):
                raise ValueError(f"{len(probabilities)} rows have probabilities, got {len(X)}")
            return probabilities.copy()

    return Trained()


def _discriminator(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000)
    return _package("classifier").SklearnClassifier(model, random_state=seed)
