"""Every figure that prose quotes is what a committed record says.

A section that has the line ``<!-- figures checked -->`` names each of its figures (a number with a
decimal, a sign, ± or %, and a p-value) in a comment behind the text, since the last such comment::

    STAR is +9.9 ± 2.8* points ahead on `choice`, and 1.1 ± 2.6 behind pe (p = 0.33).
    <!-- figures
    +9.9 ± 2.8*  main: choice/star-pe versus_random
    1.1 ± 2.6    minus main: choice/star-pe versus_naive
    p = 0.33     main: choice/star-pe versus_naive.p_corrected
    -->

A line is the figure as it is printed, two blanks or more, and its place: ``TABLE: COLUMN/ROW
FIELD[.PART]`` of ``scripts/results/TABLE/table.json``, in percent or points (``fraction`` behind
it: 0.099), ``minus`` before it for the other sign; ``TABLE: COLUMN/ROW - OTHER auc`` (or
``accuracy``, the final one), a difference paired by seed; ``FOLDER/table.md: cell | cell | HEAD``,
in the row that has these cells (``percent`` behind it: times 100); ``FOLDER/probes.json: TASK
LABELS KEY - KEY``, of probe (a), paired by seed; ``given: why``, of no record. ``rows of
FOLDER/table.md``: the rows of the Markdown table above stand there as they are. With its
interval a difference has a star just where it is significant. Numbers may be rounded as wished.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made import cell, record
from quoting import BLOCK, CHECKED, Misquoted, check, figures
from readmes import READMES, ROOT

from star.experiments.report.formats import json as to_json
from star.experiments.report.record import write_record
from star.experiments.report.summary import summary

RESULTS = ROOT / "scripts" / "results"
DOCUMENTS = (
    "tests/quoted/sample.md",
    *(
        path.relative_to(ROOT).as_posix()
        for path in READMES
        if BLOCK.search(path.read_text(encoding="utf-8"))
    ),
)
GAINS = [0.10, 0.11, 0.12, 0.13, 0.14, 0.15]  # 12.5 ± 2.0 points


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_quoted_figure_is_what_its_record_says(name: str) -> None:
    assert check((ROOT / name).read_text(encoding="utf-8"), RESULTS) > 0


def test_the_pages_with_results_are_among_them() -> None:
    pages = {"README.md", "scripts/results/README.md", "scripts/results/probes/README.md"}
    assert pages <= set(DOCUMENTS)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of one record: star, worse and alike against random on six seeds."""
    folder = tmp_path_factory.mktemp("results")
    rows = {"random": [0.0] * 6, "star": GAINS, "worse": [-one for one in GAINS]}
    rows["alike"] = [0.05, -0.05, 0.04, -0.03, 0.02, 0.0]
    cells = [
        cell(row, k, [0.2 + one, 0.4 + one, 0.6 + one], ece=0.25)
        for row, gains in rows.items()
        for k, one in enumerate(gains)
    ]
    made = record(*cells)
    write_record(folder / "main" / "results.json", made)
    (folder / "main" / "table.json").write_text(to_json(summary(made)), encoding="utf-8")
    table = "| a | b | c |\n| --- | --- | --- |\n| x | 1 | -0.834 ± 0.161 |\n| x | 2 | 0.5 |\n"
    (folder / "main" / "table.md").write_text(f"{table}\nand\n\n{table}", encoding="utf-8")
    (folder / "once").mkdir()
    (folder / "once" / "table.md").write_text(table, encoding="utf-8")
    gap = [{"task": "a", "labeled": 20, "one": 0.5 + x, "two": 0.25} for x in (0.0, 0.25, 0.5)]
    (folder / "once" / "probes.json").write_text(json.dumps({"gap": gap}), encoding="utf-8")
    return folder


def document(text: str, *lines: str) -> str:
    return "\n".join([f"# A\n{CHECKED}\n{text}\n\n<!-- figures", *lines, "-->"])


RIGHT = [
    ("12.5 ± 2.0*", "main: task/star versus_random"),
    ("+12.5 ± 2.0* %", "main: task/star versus_random"),
    ("+12.5", "main: task/star versus_random"),
    ("+13", "main: task/star versus_random.mean"),
    ("−12.5 ± 2.0*", "main: task/worse versus_random"),
    ("12.5 ± 2.0*", "minus main: task/worse versus_random"),
    ("0.125", "main: task/star versus_random fraction"),
    ("+0.5 ± 4.1", "main: task/alike versus_random"),
    ("12.0 ± 4.8", "main: task/star - alike auc"),
    ("+12.0 ± 4.8", "main: task/star - alike accuracy"),
    ("72.5 %", "main: task/star accuracy"),
    ("0.3 %", "given: a coincidence"),
    ("p < 0.001", "main: task/star versus_random.p_corrected"),
    ("p = 0.77", "main: task/alike versus_random.p_t"),
    ("6", "main: task/star n"),
    ("3", "main: task/star versus_random.family"),
    ("0.27", "main: task/star ece fraction"),
    ("−0.83 ± 0.16", "once/table.md: x | 1 | c"),
    ("50 %", "once/table.md: x | 2 | c percent"),
    ("0.75", "once/probes.json: a 20 one"),
    ("+0.50 ± 0.62", "once/probes.json: a 20 one - two"),
]


@pytest.mark.parametrize("shown, place", RIGHT)
def test_a_figure_is_found_where_it_says(results: Path, shown: str, place: str) -> None:
    assert check(document(f"That is {shown}, no more.", f"{shown}  {place}"), results) == 1


@pytest.mark.parametrize(
    "shown, place, said",
    [
        ("12.6 ± 2.0*", "main: task/star versus_random", "is 12.5 ± 1.96"),
        ("12.5 ± 2.1*", "main: task/star versus_random", "is 12.5 ± 1.96"),
        ("12.5 ± 2.0", "main: task/star versus_random", "and marked"),
        ("+0.5 ± 4.1*", "main: task/alike versus_random", "is 0.5"),
        ("12.5 ± 2.0*", "main: task/worse versus_random", "is -12.5"),
        ("+12.5 ± 2.0*", "minus main: task/star versus_random", "is -12.5"),
        ("12.0 ± 4.8*", "main: task/star - alike auc", "is 12"),
        ("p < 0.001", "main: task/alike versus_random.p_t", "is 0.7"),
        ("p = 0.79", "main: task/alike versus_random.p_t", "is 0.7"),
        ("7.0", "main: task/star n", "is 6"),
        ("12.5 ± 2.0*", "main: task/none versus_random", "main has no task/none versus_random"),
        ("12.5", "main: task/star colour", "main has no task/star colour"),
        ("12.5", "main: task/star - none auc", "no task/star - none auc"),
        ("12.5", "main: task/star - random ece", "no task/star - random ece"),
        ("12.5", "man: task/star auc", "no record man"),
        ("12.5", "main", "no record main"),
        ("12.5", "main: versus_random", "is not COLUMN/ROW FIELD"),
        ("0.84 ± 0.16", "once/table.md: x | 1 | c", "is -0.834"),
        ("0.5", "once/table.md: x | 3 | c", "has 0 cells"),
        ("0.5", "once/table.md: x | c", "has 2 cells"),
        ("0.5", "main/table.md: x | 2 | c", "has 2 cells"),
        ("0.6", "once/probes.json: a 20 one - two", "is 0.5"),
        ("0.5", "once/probes.json: a 21 one", "once has no a 21 one"),
        ("0.5", "once/probes.json: a 20 three", "once has no a 20 three"),
        ("0.5", "once/probes.json: a", "is not TASK LABELS KEY"),
        ("0.5 points", "main: task/star auc", "is not FIGURE"),
    ],
)
def test_a_figure_that_its_record_does_not_say(
    results: Path, shown: str, place: str, said: str
) -> None:
    with pytest.raises(Misquoted, match=said):
        check(document(f"That is {shown}, no more.", f"{shown}  {place}"), results)


def test_what_is_named_nowhere_or_not_there(results: Path) -> None:
    line = "+12.5  main: task/star versus_random"
    for text in (
        "+12.5 and +12.5",
        "+12.5 and 3.1 ± 2",
        "+12.5 of 40 %",
        "+12.5, p = 0.3",
        "−3: +12.5",
    ):
        with pytest.raises(Misquoted, match="named nowhere below it"):
            check(document(text, line), results)
    assert check(
        document("+12.5 of 40 seeds, `0.5`, [x](a/0.5.md), arXiv 2403.01165", line), results
    )
    with pytest.raises(Misquoted, match=r"above: \+12\.5"):
        check(document("12.5 it is", line), results)
    with pytest.raises(Misquoted, match=r"named nowhere below it: 3\.5"):
        check(f"{document('+12.5', line)}\nAnd then 3.5 more.", results)
    # Below another heading, or without the line that asks for it, nothing need be named.
    assert check(f"{document('+12.5', line)}\n## B\nAnd then 3.5 more.", results) == 1
    assert check(document("+12.5 and 3.5", line).replace(CHECKED, ""), results) == 1
    with pytest.raises(Misquoted, match=r"is 12\.5"):
        check(document("+12.6", line.replace("5", "6", 1)).replace(CHECKED, ""), results)


def test_a_comment_in_a_command_ends_no_section(results: Path) -> None:
    text = "```bash\n# 0.5 of it\n```\nThat is 3.5.\n"
    with pytest.raises(Misquoted, match=r"named nowhere below it: 3\.5"):
        check(f"# A\n{CHECKED}\n{text}", results)


def test_rows_are_copied_as_they_are(results: Path) -> None:
    table = "| a |  b | c |\n|---|---|---|\n| x | 1 | -0.834 ± 0.161 |\n"
    line = "rows of once/table.md"
    assert check(document(table, line), results) == 1
    with pytest.raises(Misquoted, match=r"not a row of table\.md: \| x \| 1 \| -0\.835"):
        check(document(table.replace("834", "835"), line), results)
    with pytest.raises(Misquoted, match="no table above"):
        check(document("nothing", line), results)
    with pytest.raises(Misquoted, match=r"named nowhere below it: 2\.5"):
        check(document(f"{table}\n2.5 more", line), results)


@pytest.mark.parametrize(
    "text, found",
    [
        ("from −0.0 ± 0.3 (`a`) to +0.1 ± 0.6", ["−0.0 ± 0.3", "+0.1 ± 0.6"]),
        ("53.9 ± 2.2, **55.8 ± 2.5***", ["53.9 ± 2.2", "55.8 ± 2.5*"]),
        ("40 % (31 % to 64%)", ["40 %", "31 %", "64%"]),
        ("ten seeds, 800 rows, 2026-11-21, 10-fold, v1.2, x0.5", []),
        ("(p = 0.02, p < 0.001)", ["p = 0.02", "p < 0.001"]),
        ("at 0.57 to 0.74.", ["0.57", "0.74"]),
        ("| 1 | 59.0 ± 1.9 ↑ |", ["59.0 ± 1.9"]),
    ],
)
def test_what_counts_as_a_figure(text: str, found: list[str]) -> None:
    assert figures(text) == found
