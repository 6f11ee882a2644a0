"""The order in which people are asked: the strategy's, else a random one that stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from projects import GOLD, make
from test_project import asked, give

from star.cli.main import main
from star.project.project import Project

SORTED = [{"id": f"m{i}", "text": f"ann has {i} eggs"} for i in range(80)]
SIZES = ("task.test_size=10", "pool.initial_size=30", "pool.query_size=20", "pool.rounds=3")


def first_of(project: Path) -> list[int]:
    """Return the stored rows that are asked for training, without the test rows."""
    opened = Project.of(project)
    tested = {e.index for e in opened.data.test.examples}
    return [i for i in opened.query().missing if i not in tested]


def halves(rows: list[int]) -> int:
    """Return how many of the first ten stand in the file's first half."""
    return sum(i < 40 for i in rows[:10])


@pytest.fixture
def project(tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    made = make(tmp_path, tiny_llama, *SIZES, "acquisition.select=random", content=SORTED)
    capsys.readouterr()
    return made


def label(project: Path, rows: list[dict[str, str]]) -> None:
    assert give(project, [{"id": r["id"], "label": GOLD.get(r["id"], "true")} for r in rows]) == 0


def test_the_beginning_of_a_draw_is_of_the_whole_file(project: Path) -> None:
    first = first_of(project)
    assert len(first) == 30 and first != sorted(first)
    assert 1 <= halves(first) <= 9  # of a hypergeometric draw: outside once in 5000
    rows = asked(project)
    assert [r["id"] for r in rows[10:]] == [f"m{i}" for i in first]  # the test rows are before them
    label(project, rows[:25])  # what others answered moves nothing
    assert first_of(project) == first[15:]
    label(project, rows[25:])
    assert main(["train", str(project)]) == 0
    stored = json.loads((project / "initial.json").read_text())["indices"]
    assert stored == sorted(stored) == sorted(first)  # as of a simulated run
    query = Project.of(project).query().missing
    selected = json.loads((project / "rounds/00/selected.json").read_text())["indices"]
    assert selected == sorted(selected) == sorted(query)
    assert query != selected and 1 <= halves(query) <= 9
    label(project, asked(project)[:3])
    assert Project.of(project).query().missing == query[3:]


def test_the_page_asks_in_the_same_order(project: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra 'web' is not installed")
    from page import Page

    wanted = [row["id"] for row in asked(project)]
    page = Page(project)
    given = []
    for _ in range(14):
        given.append(page.next()["item"]["id"])
        page.decide(given[-1], "true")
    assert given == wanted[:14]
    assert [row["id"] for row in asked(project, "-k", "3")] == wanted[14:17]


@pytest.mark.parametrize(
    ("words", "best_first"),
    [
        (["acquisition.measure=margin"], True),
        (["acquisition.strategy=star.strategies:longest_first"], True),
        (["acquisition.select=random", "acquisition.random_share=0.5"], False),
    ],
)
def test_a_strategy_s_own_order_is_kept(
    words: list[str], best_first: bool, tiny_llama: Path, tmp_path: Path
) -> None:
    project = make(tmp_path, tiny_llama, *SIZES, *words, content=SORTED)
    give_all = asked(project)
    label(project, give_all)
    assert main(["train", str(project)]) == 0
    selected = json.loads((project / "rounds/00/selected.json").read_text())["indices"]
    query = Project.of(project).query().missing
    assert (query == selected) == best_first and sorted(query) == sorted(selected)


def test_what_a_model_has_chosen_first_is_shown_at_random(tiny_llama: Path, tmp_path: Path) -> None:
    words = ("acquisition.initial=typiclust", "pool.initial_size=12")
    project = make(tmp_path, tiny_llama, *SIZES, *words, content=SORTED)
    label(project, asked(project))
    assert main(["train", str(project)]) == 0
    stored = json.loads((project / "initial.json").read_text())["indices"]
    first = first_of(project)
    assert first != stored == sorted(first) and first == first_of(project)
