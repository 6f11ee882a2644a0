"""Panels side by side: written whole, the same bytes every time, or refused."""

from pathlib import Path

import pytest

from star.errors import InputError
from star.experiments.report.style import panels_figure

PANELS = {
    "one": {f"series {i}": [(20.0, 0.1 * i, 0.1 * i - 0.05, 0.1 * i + 0.05)] for i in range(9)},
    "two": {"series 0": [(20.0, 0.25, None, None), (65.0, 0.5, 0.25, 0.75)]},
}


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_the_same_panels_give_the_same_bytes(ending: str, tmp_path: Path) -> None:
    paths = [tmp_path / "new folder" / f"{i}.{ending}" for i in range(2)]
    for path in paths:
        assert panels_figure(PANELS, path, x="labels", y="AUROC") == path
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not any(word in paths[0].read_bytes() for word in (b"CreationDate", b"dc:date"))
    assert sorted((tmp_path / "new folder").iterdir()) == paths


def test_a_panel_holds_what_it_is_given(tmp_path: Path) -> None:
    path = panels_figure(PANELS, tmp_path / "drawn.svg", x="labels", y="AUROC", log_x=True)
    other = {**PANELS, "two": {"series 0": [(20.0, 0.25, None, None)]}}
    fewer = panels_figure(other, tmp_path / "fewer.svg", x="labels", y="AUROC", log_x=True)
    named = panels_figure(
        {"one": {"star": [(0.0, 0.5, 0.25, 0.75)]}},
        tmp_path / "named.svg",
        x="kind",
        y="share",
        ticks={"one": ["odd"]},
    )
    assert len({p.read_bytes() for p in (path, fewer, named)}) == 3


def test_figure_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="png"):
        panels_figure(PANELS, tmp_path / "a.xyz", x="", y="")
    with pytest.raises(InputError, match="at least one"):
        panels_figure({}, tmp_path / "panels.png", x="", y="")
    assert not list(tmp_path.iterdir())
