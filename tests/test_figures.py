"""Pictures of learning curves from result files."""

from pathlib import Path

import pytest

from star.errors import InputError
from star.experiments.report.style import mean_curves_figure


def result(strategy: str, accuracy: list[float], **changes: object) -> dict:
    rounds = [
        {"round": t, "labeled": 20 * (t + 1), "accuracy": a, "accuracy_stderr": 0.02}
        for t, a in enumerate(accuracy)
    ]
    return {
        "status": "done",
        "task": "arithmetic",
        "strategy": strategy,
        "seed": 0,
        "config_hash": "0123456789abcdef",
        "label_free": True,
        "rounds": rounds,
        "auc": sum(accuracy) / len(accuracy),
        **changes,
    }


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_figure(ending: str, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / f"curve.{ending}"
    many = {f"strategy {i}": [result(str(i), [0.1 * i, 0.1 * i + 0.1])] for i in range(9)}
    assert mean_curves_figure(many, path, title="arithmetic") == path
    assert path.stat().st_size > 5_000


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_the_same_results_give_the_same_bytes(ending: str, tmp_path: Path) -> None:
    both = [result("star", [0.25, 0.5]), result("star", [0.5, 0.75], seed=1)]
    paths = [tmp_path / f"{i}.{ending}" for i in range(2)]
    for path in paths:
        mean_curves_figure({"star": both}, path, title="arithmetic")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not any(word in paths[0].read_bytes() for word in (b"CreationDate", b"dc:date"))
    assert sorted(tmp_path.iterdir()) == paths


def test_figure_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="png"):
        mean_curves_figure({"star": [result("star", [0.5])]}, tmp_path / "a.xyz", title="")
    with pytest.raises(InputError, match="at least one"):
        mean_curves_figure({}, tmp_path / "curve.png", title="")
    with pytest.raises(InputError, match="star: needs runs over the same label counts"):
        uneven = [result("star", [0.5]), result("star", [0.5, 0.6])]
        mean_curves_figure({"star": uneven}, tmp_path / "curve.png", title="")
    assert not list(tmp_path.iterdir())
