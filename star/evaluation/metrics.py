"""The calibration measures as ``evaluate.Metric`` objects. They need neither Hub nor network.

``star.evaluation.metrics.load("ece")`` gives what ``evaluate.load`` gives for a metric of the Hub.
No other room imports this one, so that nobody waits for ``evaluate`` who doesn't ask for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike, NDArray

from star.evaluation import calibration, proper_scores, ranking
from star.evaluation.outcomes import checked_pair

# float64 throughout: an integer column would cut a reference of 0.5 to 0 without a word.
NUMBER = datasets.Value("float64")
ANSWERS = datasets.Features({"predictions": NUMBER, "references": NUMBER})
CLASSES = datasets.Features({"predictions": datasets.Sequence(NUMBER), "references": NUMBER})

ANSWER_INPUTS = """
    predictions: (N,) confidence in each answer, the probability given to it.
    references: (N,) 1 where that answer is right, 0 where it is wrong.
"""
CLASS_INPUTS = """
    predictions: (N, C) each row a distribution over the classes.
    references: (N,) the right class's index.
"""


class ExpectedCalibrationError(evaluate.Metric):
    """``{"ece": fraction}``; ``compute`` also takes ``bins`` and ``scheme``."""

    def _info(self) -> evaluate.MetricInfo:
        return _answers_info(calibration.expected_calibration_error)

    def _compute(
        self,
        predictions: ArrayLike,
        references: ArrayLike,
        bins: int = 15,
        scheme: str = "equal_width",
    ) -> dict[str, float]:
        ece = calibration.expected_calibration_error(
            predictions, references, bins=bins, scheme=scheme
        )
        return {"ece": ece}


class Overconfidence(evaluate.Metric):
    """``{"overconfidence": number in [-1, 1]}``, mean confidence − accuracy."""

    def _info(self) -> evaluate.MetricInfo:
        return _answers_info(calibration.overconfidence)

    def _compute(self, predictions: ArrayLike, references: ArrayLike) -> dict[str, float]:
        return {"overconfidence": calibration.overconfidence(predictions, references)}


class BinaryBrierScore(evaluate.Metric):
    """``{"binary_brier": number in [0, 1]}``."""

    def _info(self) -> evaluate.MetricInfo:
        return _answers_info(proper_scores.binary_brier)

    def _compute(self, predictions: ArrayLike, references: ArrayLike) -> dict[str, float]:
        return {"binary_brier": proper_scores.binary_brier(predictions, references)}


class AUROC(evaluate.Metric):
    """``{"auroc": fraction}`` of 1 − confidence against error; ``None`` with one outcome alone."""

    def _info(self) -> evaluate.MetricInfo:
        return _answers_info(ranking.auroc)

    def _compute(self, predictions: ArrayLike, references: ArrayLike) -> dict[str, float | None]:
        confidence, correct = checked_pair(predictions, references)
        # −p has the order of 1 − p, which would round tiny confidences into ties.
        return {"auroc": ranking.auroc(-confidence, 1.0 - correct)}


class AreaUnderRiskCoverage(evaluate.Metric):
    """``{"aurc": fraction}``."""

    def _info(self) -> evaluate.MetricInfo:
        return _answers_info(ranking.area_under_risk_coverage)

    def _compute(self, predictions: ArrayLike, references: ArrayLike) -> dict[str, float]:
        confidence, correct = checked_pair(predictions, references)
        return {"aurc": ranking.area_under_risk_coverage(confidence, correct)}


class BrierScore(evaluate.Metric):
    """``{"brier": number in [0, 2]}`` over classes."""

    def _info(self) -> evaluate.MetricInfo:
        return _classes_info(proper_scores.brier)

    def _compute(self, predictions: ArrayLike, references: ArrayLike) -> dict[str, float]:
        return {"brier": proper_scores.brier(predictions, _indices(references))}


class NegativeLogLikelihood(evaluate.Metric):
    """``{"nll": nats}`` over classes."""

    def _info(self) -> evaluate.MetricInfo:
        return _classes_info(proper_scores.negative_log_likelihood)

    def _compute(self, predictions: ArrayLike, references: ArrayLike) -> dict[str, float]:
        return {"nll": proper_scores.negative_log_likelihood(predictions, _indices(references))}


METRICS: dict[str, type[evaluate.Metric]] = {
    "ece": ExpectedCalibrationError,
    "overconfidence": Overconfidence,
    "binary_brier": BinaryBrierScore,
    "auroc": AUROC,
    "aurc": AreaUnderRiskCoverage,
    "brier": BrierScore,
    "nll": NegativeLogLikelihood,
}


def load(name: str, **settings: Any) -> evaluate.Metric:
    """Return a fresh metric, to be fed by ``add``, ``add_batch`` or ``compute`` itself.

    ``ece``, ``overconfidence``, ``binary_brier``, ``auroc`` and ``aurc`` take confidences and
    outcomes, so that ``evaluate.combine`` can hold them together; ``brier`` and ``nll`` take
    distributions over the classes and labels. ``compute`` returns the measure under its name.

    Args:
        name: A key of ``METRICS``.
        settings: Of ``evaluate.Metric``: ``cache_dir`` for what was added, by default a folder in
            Hugging Face's cache; ``keep_in_memory``; ``num_process``, ``process_id`` and
            ``experiment_id`` where several processes add.

    Raises:
        ValueError: No such metric.
    """
    if name not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {name!r}")
    return METRICS[name](**settings)


def _answers_info(measure: Callable[..., Any]) -> evaluate.MetricInfo:
    return _info(measure, ANSWERS, ANSWER_INPUTS)


def _classes_info(measure: Callable[..., Any]) -> evaluate.MetricInfo:
    return _info(measure, CLASSES, CLASS_INPUTS)


def _info(
    measure: Callable[..., Any], features: datasets.Features, inputs: str
) -> evaluate.MetricInfo:
    text = inspect.getdoc(measure) or ""
    # The docstring's own summary and source, so that they are written once.
    summary, source = text.partition("\n\n")[0], text.partition("Source: ")[2]
    return evaluate.MetricInfo(
        description=summary, citation=source, inputs_description=inputs, features=features
    )


def _indices(references: ArrayLike) -> NDArray[np.int64]:
    label = np.asarray(references, dtype=np.float64)
    if not (np.isfinite(label).all() and (label == np.floor(label)).all()):
        raise ValueError("labels must be integers")
    return label.astype(np.int64)
