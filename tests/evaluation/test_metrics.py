"""The measures as evaluate.Metric objects: the same numbers, with no network and no Hub."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import evaluate
import numpy as np
import pytest

from star.evaluation import calibration, metrics, proper_scores, ranking

RNG = np.random.default_rng(0)
CONFIDENCE, CORRECT = RNG.random(40), RNG.integers(0, 2, size=40)
DISTRIBUTIONS, LABELS = RNG.dirichlet(np.ones(3), size=40), RNG.integers(0, 3, size=40)
ANSWERS = ("ece", "overconfidence", "binary_brier", "auroc", "aurc")
INPUTS = dict.fromkeys(ANSWERS, (CONFIDENCE, CORRECT))
INPUTS |= dict.fromkeys(("brier", "nll"), (DISTRIBUTIONS, LABELS))
EXPECTED = {
    "ece": calibration.expected_calibration_error(CONFIDENCE, CORRECT),
    "overconfidence": calibration.overconfidence(CONFIDENCE, CORRECT),
    "binary_brier": proper_scores.binary_brier(CONFIDENCE, CORRECT),
    "auroc": ranking.auroc(1 - CONFIDENCE, 1 - CORRECT),
    "aurc": ranking.area_under_risk_coverage(CONFIDENCE, CORRECT),
    "brier": proper_scores.brier(DISTRIBUTIONS, LABELS),
    "nll": proper_scores.negative_log_likelihood(DISTRIBUTIONS, LABELS),
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError(f"connects to {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_every_metric_is_tested() -> None:
    assert list(metrics.METRICS) == list(INPUTS) == list(EXPECTED)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_compute_gives_the_measure(name: str, tmp_path: Path) -> None:
    predictions, references = INPUTS[name]
    metric = metrics.load(name, cache_dir=str(tmp_path))
    assert isinstance(metric, evaluate.Metric)
    found = metric.compute(predictions=predictions, references=references)
    assert found == {name: pytest.approx(EXPECTED[name], abs=1e-12)}
    assert type(found[name]) is float
    assert not list(tmp_path.rglob("*.arrow"))


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("name", metrics.METRICS)
def test_batches_and_single_rows_add_up(name: str, in_memory: bool, tmp_path: Path) -> None:
    predictions, references = INPUTS[name]
    metric = metrics.load(name, cache_dir=str(tmp_path), keep_in_memory=in_memory)
    for _ in range(2):  # a metric forgets what it has computed
        metric.add_batch(predictions=predictions[:25], references=references[:25])
        metric.add_batch(predictions=predictions[25:39], references=references[25:39])
        metric.add(prediction=predictions[39], reference=references[39])
        assert metric.compute() == {name: pytest.approx(EXPECTED[name], abs=1e-12)}


def test_two_metrics_of_a_kind_do_not_mix(tmp_path: Path) -> None:
    first, second = (metrics.load("ece", cache_dir=str(tmp_path)) for _ in range(2))
    first.add_batch(predictions=[1.0], references=[0])
    second.add_batch(predictions=[0.75], references=[1])
    assert first.compute() == {"ece": 1.0}
    assert second.compute() == {"ece": 0.25}


def test_processes_add_up(tmp_path: Path) -> None:
    found: dict[int, dict | None] = {}

    def work(process: int) -> None:
        metric = metrics.load(
            "ece",
            cache_dir=str(tmp_path),
            num_process=2,
            process_id=process,
            experiment_id="two",
        )
        metric.add_batch(predictions=CONFIDENCE[process::2], references=CORRECT[process::2])
        found[process] = metric.compute()

    threads = [threading.Thread(target=work, args=(process,)) for process in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == {0: {"ece": pytest.approx(EXPECTED["ece"], abs=1e-12)}, 1: None}


def test_those_on_answers_can_be_combined(tmp_path: Path) -> None:
    together = evaluate.combine([metrics.load(name, cache_dir=str(tmp_path)) for name in ANSWERS])
    found = together.compute(predictions=CONFIDENCE, references=CORRECT)
    assert found == pytest.approx({name: EXPECTED[name] for name in ANSWERS}, abs=1e-12)


def test_bins_and_scheme_reach_the_error(tmp_path: Path) -> None:
    metric = metrics.load("ece", cache_dir=str(tmp_path))
    settings = {"bins": 3, "scheme": "equal_mass"}
    found = metric.compute(predictions=CONFIDENCE, references=CORRECT, **settings)
    expected = calibration.expected_calibration_error(CONFIDENCE, CORRECT, **settings)
    assert found["ece"] == pytest.approx(expected, abs=1e-12)
    assert expected != pytest.approx(EXPECTED["ece"], abs=1e-3)


def test_degenerate_inputs(tmp_path: Path) -> None:
    metric = metrics.load("auroc", cache_dir=str(tmp_path))
    assert metric.compute(predictions=[0.5, 0.7], references=[1, 1]) == {"auroc": None}
    assert metric.compute(predictions=[1e-20, 1e-30], references=[1, 0]) == {"auroc": 1.0}
    metric = metrics.load("nll", cache_dir=str(tmp_path))
    assert metric.compute(predictions=[[0.0, 1.0]], references=[0]) == {"nll": np.inf}
    metric = metrics.load("aurc", cache_dir=str(tmp_path))
    assert metric.compute(predictions=[0.3], references=[False]) == {"aurc": 1.0}


@pytest.mark.parametrize("name", ANSWERS)
def test_bad_answers_are_refused(name: str, tmp_path: Path) -> None:
    for predictions, references in (
        ([], []),
        ([1.5], [1]),
        ([None], [1]),
        ([0.5], [0.5]),
        ([0.5, 0.5], [1]),
    ):
        metric = metrics.load(name, cache_dir=str(tmp_path), keep_in_memory=True)
        with pytest.raises(ValueError):
            metric.compute(predictions=predictions, references=references)


@pytest.mark.parametrize("name", ["brier", "nll"])
def test_bad_distributions_are_refused(name: str, tmp_path: Path) -> None:
    for predictions, references in (
        ([[0.5, 0.4]], [0]),
        ([[0.5, 0.5]], [2]),
        ([[0.5, 0.5]], [0.5]),
        ([[0.5, 0.5]], [None]),
        ([[0.5, 0.5], [1.0]], [0, 0]),
    ):
        metric = metrics.load(name, cache_dir=str(tmp_path), keep_in_memory=True)
        with pytest.raises(ValueError):
            metric.compute(predictions=predictions, references=references)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(
        ValueError, match="ece, overconfidence, binary_brier, auroc, aurc, brier, nll"
    ):
        metrics.load("accuracy")


@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_metric_says_what_it_is(name: str, tmp_path: Path) -> None:
    metric = metrics.load(name, cache_dir=str(tmp_path))
    assert metric.description.startswith("Return ") and metric.description.rstrip().endswith(".")
    assert "predictions" in metric.inputs_description
    assert not metric.citation or metric.citation[0].isupper()


def test_star_alone_does_not_wait_for_evaluate() -> None:
    code = (
        "import sys, star.evaluation.calibration, star.evaluation.temperature\n"
        "print('evaluate' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
