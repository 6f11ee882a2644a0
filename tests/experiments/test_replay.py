"""Replay: it repeats the run's own choice, agrees with plain numpy and with real runs, and refuses
what the stored scores cannot answer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import torch
from runs import Runner

import star
from star import seeding
from star.acquisition.decision import decide
from star.acquisition.scores import Scores
from star.cli.main import main
from star.config import Config, fields_of, load
from star.errors import InputError
from star.experiments import replay

MEASURES = ("predictive_entropy", "max_entropy", "margin", "least_confidence")
SMALL = ("pool.initial_size=4", "pool.query_size=3", "pool.rounds=3", "train.num_train_epochs=1")
BASE = "acquisition.continuation=base"
BALD = ("acquisition.measure=bald", "acquisition.combine=none")
RELEASED = ("acquisition.normalization=base_minmax", "acquisition.mc_dropout.passes=0")


@pytest.fixture(scope="module")
def runner(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with runs.runner(tiny_llama, tmp_path_factory, *SMALL, pool=20, test=2) as go:
        yield go


@pytest.fixture
def copied(runner: Runner, tmp_path: Path) -> Path:
    """Return a copy of the default run, to be spoilt."""
    return Path(shutil.copytree(runner(BASE), tmp_path / "copy"))


def arrays(run: Path, t: int) -> dict[str, np.ndarray]:
    with np.load(run / f"rounds/{t:02d}/scores.npz") as stored:
        return {name: stored[name] for name in stored.files}


def edit(run: Path, *leave_out: str, **changed: Any) -> None:
    """Write the scores of round 0 again, without some arrays and with others in their place."""
    kept = {k: v for k, v in (arrays(run, 0) | changed).items() if k not in leave_out}
    np.savez(run / "rounds/00/scores.npz", **kept)
    runs.earlier(run)


def snapshot(run: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in run.rglob("*") if p.is_file()}


# --- the run's own choice ----------------------------------------------------------------------

OWN = [
    (f"acquisition.measure={MEASURES[0]}", "acquisition.combine=none", BASE),
    (f"acquisition.measure={MEASURES[1]}", "acquisition.combine=subtract", BASE),
    (f"acquisition.measure={MEASURES[2]}", "acquisition.combine=dynamic", BASE),
    (f"acquisition.measure={MEASURES[3]}", "acquisition.combine=dynamic", BASE),
    ("acquisition.normalization=rank", "acquisition.reduction=sum"),
    ("acquisition.normalization=zscore", "acquisition.reduction=mean"),
    ("acquisition.normalization=base_minmax", "acquisition.reduction=mean"),
    ("acquisition.base_weight.schedule=exponential", "acquisition.base_weight.rounds=7",
     "acquisition.base_weight.decay=0.8"),
    (*BALD, "acquisition.reduction=mean", "acquisition.normalization=base_minmax"),
    (*BALD, *runs.CHOICES),
    (runs.CHOICES[0], "acquisition.combine=subtract"),  # auto
    (*RELEASED, "acquisition.continuation=gold", "acquisition.measure=max_entropy",
     "acquisition.entropy_floor=1e-6", "acquisition.base_weight.rounds=10"),
    ("acquisition.mc_dropout.passes=1", "acquisition.mc_dropout.masks=token"),
    # From nine numbers on numpy adds pairwise, in an order that depends on how they lie in memory.
    ("acquisition.mc_dropout.passes=11", "acquisition.measure=max_entropy"),
    ("pool.query_size=9",),  # the last query takes what is left
    ("acquisition.random_share=0.4", "acquisition.select=softmax", BASE),
]  # fmt: skip
OWN_SLOW = [
    *[
        words
        for measure in MEASURES
        for combine in ("none", "subtract", "dynamic")
        if (words := (f"acquisition.measure={measure}", f"acquisition.combine={combine}", BASE))
        not in OWN
    ],
    ("acquisition.normalization=minmax", "acquisition.reduction=mean"),
    ("acquisition.normalization=none", "acquisition.reduction=mean"),
    ("acquisition.normalization=base_minmax", "acquisition.reduction=sum"),
    ("acquisition.base_weight.schedule=constant", "acquisition.base_weight.value=0.2"),
    BALD,
    (*runs.CHOICES, "acquisition.combine=subtract"),
    ("acquisition.mc_dropout.passes=11", runs.CHOICES[0], "acquisition.measure=max_entropy"),
]


def named(quick: list[tuple[str, ...]], slow: list[tuple[str, ...]]) -> list[Any]:
    """Return the parameters of a test, each with its values as its name."""
    return [
        pytest.param(words, id="-".join(word.split("=")[1] for word in words), marks=marks)
        for some, marks in ((quick, ()), (slow, pytest.mark.slow))
        for words in some
    ]


@pytest.mark.parametrize("words", named(OWN, OWN_SLOW))
def test_no_words_repeat_the_run(words: tuple[str, ...], runner: Runner) -> None:
    run = runner(*words)
    before = snapshot(run)
    rows = star.replay(run)
    assert snapshot(run) == before
    assert [row["round"] for row in rows] == [0, 1]
    for row, picked in zip(rows, runs.queries(run), strict=True):
        assert row["indices"] == picked  # their order too
        assert (row["overlap"], row["jaccard"]) == (1.0, 1.0)
        assert row["rank_correlation"] == pytest.approx(1.0, abs=1e-12)
        assert row["query_size"] == row["selected"] == len(picked)
        assert row["chance"] == len(picked) / row["pool"]
        notes = runs.read(run / f"rounds/{row['round']:02d}/metrics.json")["query"]
        for name in ("base_weight", "effective_weight", "near_ties"):
            assert row[name] == notes[name]
        assert row["label_free"] == ("acquisition.continuation=gold" not in words)
        # To the last bit: scores that agree up to rounding could still swap a near tie.
        config = load(run / "config.yaml")
        made = decide(
            Scores.load(run / f"rounds/{row['round']:02d}/scores.npz"),
            config.acquisition,
            t=row["round"],
            rounds=3,
            count=config.pool.query_size,
            seed=config.seed,
        )
        stored = arrays(run, row["round"])
        assert made.full.tobytes() == stored["full"].tobytes()
        assert made.blended.tobytes() == stored["blended"].tobytes()
        assert made.base is None or made.base.tobytes() == stored["base"].tobytes()


# --- other strategies: what a real run picked, and what plain numpy says -----------------------

ASKED = [
    ("acquisition.select=random",),
    ("acquisition.measure=margin", "acquisition.combine=none", "acquisition.reduction=mean"),
    ("acquisition.normalization=base_minmax", "acquisition.reduction=mean"),
    ("acquisition.mc_dropout.passes=2", "acquisition.measure=least_confidence"),
    ("acquisition.measure=max_entropy", "acquisition.combine=subtract"),
    ("acquisition.base_weight.schedule=cosine", "acquisition.normalization=rank"),
    ("pool.query_size=5",),
]


@pytest.mark.parametrize("words", named(ASKED[:4], ASKED[4:]))
def test_the_first_query_is_that_of_a_run_with_these_words(
    words: tuple[str, ...], runner: Runner
) -> None:
    # Round 0 has the same labels, adapter and pool under every strategy.
    row = star.replay(runner(BASE), words)[0]
    assert row["indices"] == runs.queries(runner(BASE, *words))[0]


def test_no_question_is_answered_by_the_run_itself(runner: Runner) -> None:
    own = star.replay(runner(BASE))[0]["indices"]
    others = [star.replay(runner(BASE), words)[0]["indices"] for words in ASKED]
    assert sum(other == own for other in others) < len(others) / 2


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("combine", ["none", "subtract", "dynamic"])
def test_plain_numpy_says_the_same(
    combine: str, measure: str, reduction: str, runner: Runner
) -> None:
    run, passes, count = runner(BASE), 2, 4
    rows = star.replay(run, [
        f"acquisition.combine={combine}", f"acquisition.measure={measure}",
        f"acquisition.reduction={reduction}", "acquisition.normalization=base_minmax",
        f"acquisition.mc_dropout.passes={passes}", f"pool.query_size={count}",
        "acquisition.base_weight.schedule=constant", "acquisition.base_weight.value=0.3",
    ])  # fmt: skip
    for t, row in enumerate(rows):
        stored = arrays(run, t)
        full = stored[f"full_{measure}"][:, :passes].sum(1) / passes
        base = stored[f"base_{measure}"][:, 0]
        low, high = stored[f"base_range_{measure}"][0]
        if reduction == "mean":
            full, base = full / stored["full_num_tokens"], base / stored["base_num_tokens"]
            low, high = stored[f"base_range_{measure}"][1]
        base = (base - low) / (high - low)
        blend = {"none": full, "subtract": full - base, "dynamic": 0.3 * base + 0.7 * full}[combine]
        expected = [int(stored["index"][i]) for i in np.argsort(-blend, kind="stable")[:count]]
        assert row["indices"] == expected
        picked = runs.queries(run)[t]
        both = len(set(expected) & set(picked))
        assert row["overlap"] == both / 4 and row["jaccard"] == both / (7 - both)
        assert row["chance"] == 3 / len(full) and (row["query_size"], row["selected"]) == (4, 3)
        pair = np.stack([blend, stored["blended"]]).argsort(1).argsort(1)  # nothing is tied
        assert row["rank_correlation"] == pytest.approx(np.corrcoef(pair)[0, 1])
        assert row["base_weight"] == (0.3 if combine == "dynamic" else None)
        if combine == "none":
            assert row["effective_weight"]["full"] == pytest.approx(1.0)


def test_random_has_no_scores(runner: Runner) -> None:
    rows = star.replay(runner(BASE), ["acquisition.select=random"])
    for row, picked in zip(rows, runs.queries(runner(BASE)), strict=True):
        assert row["rank_correlation"] is row["base_weight"] is row["near_ties"] is None
        assert row["effective_weight"] == {"base": None, "full": None}
        assert row["overlap"] == len(set(row["indices"]) & set(picked)) / 3
    assert rows == star.replay(runner(BASE), ["acquisition.select=random"])


def test_random_draws_from_the_stream_of_seed_and_round(runner: Runner) -> None:
    run = runner(BASE, "seed=1")
    for t, row in enumerate(star.replay(run, ["acquisition.select=random"])):
        index = arrays(run, t)["index"]
        order = torch.randperm(len(index), generator=seeding.generator(1, "random", t))
        assert row["indices"] == sorted(index[order[:3].numpy()].tolist())


def test_bald_where_it_is_stored(runner: Runner) -> None:
    # On choices every run with two passes keeps it; on answers those alone that asked for it.
    row = star.replay(runner(*runs.CHOICES), BALD)[0]
    assert row["indices"] == runs.queries(runner(*BALD, *runs.CHOICES))[0]
    assert row["effective_weight"]["base"] is None
    back = star.replay(runner(*BALD), ["acquisition.measure=margin"])[0]
    assert back["indices"] == runs.queries(runner(*BALD[1:], "acquisition.measure=margin"))[0]


def test_a_query_larger_than_the_pool(runner: Runner) -> None:
    row = star.replay(runner(BASE), ["pool.query_size=99"])[0]
    assert row["query_size"] == row["pool"] == 16 == len(row["indices"])
    assert row["overlap"] == row["chance"] == row["jaccard"] == 3 / 16


def test_a_run_that_has_not_finished(copied: Path) -> None:
    (copied / "result.json").unlink()
    shutil.rmtree(copied / "rounds/02")
    shutil.rmtree(copied / "rounds/01")
    assert [row["round"] for row in star.replay(copied)] == [0]


# --- what the stored scores cannot answer ------------------------------------------------------


@pytest.mark.parametrize(
    "words, parts",
    [
        (["seed=1"], ["'seed'", "can change acquisition.strategy", "pool.query_size"]),
        (["acquisition.mesure=margin"], ["did you mean 'acquisition.measure'?"]),
        (["pool.rounds=4"], ["'pool.rounds'"]),
        (["acquisition.continuation=gold"], ["'acquisition.continuation'"]),
        (["acquisition.entropy_floor=1e-6"], ["'acquisition.entropy_floor'"]),
        (["acquisition.mc_dropout.masks=token"], ["'acquisition.mc_dropout.masks'"]),
        (["acquisition={measure: margin}"], ["'acquisition'"]),
        (["acquisition[continuation]=gold"], ["'acquisition[continuation]'"]),
        (["margin"], ["expected key=value, got 'margin'"]),
        (["=3"], ["expected key=value, got '=3'"]),
        (["acquisition.measure=surprise"], ["acquisition.measure", "surprise"]),
        (["pool.query_size=0"], ["pool.query_size must be at least 1"]),
        (["acquisition.mc_dropout.passes=4"], ["passes", "1 to 3", "got 4"]),
        (["acquisition.mc_dropout.passes=0"], ["passes", "1 to 3", "got 0"]),
        (["acquisition.base_weight.rounds=2"], ["base_weight.rounds=2", "pool.rounds=3"]),
        (["acquisition.measure=bald"], ["combine=none"]),
        (BALD, ["00/scores.npz has no full_bald", "full_margin"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_bad_words(words: list[str], parts: list[str], runner: Runner, capsys: Any) -> None:
    refused(capsys, [str(runner(BASE)), *words], *parts)


def refused(capsys: pytest.CaptureFixture, arguments: list[str], *parts: str) -> None:
    """Check for status 2, one line on stderr with ``parts`` in it, and nothing on stdout."""
    assert main(["replay", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    for part in parts:
        assert part in said.err


def test_what_a_run_has_not_kept(runner: Runner) -> None:
    with pytest.raises(InputError, match="stored pass without dropout; got 1"):
        star.replay(runner(*RELEASED), ["acquisition.mc_dropout.passes=1"])
    with pytest.raises(InputError, match=r"all passes together; .* at 3, got 2"):
        star.replay(runner(*BALD), ["acquisition.mc_dropout.passes=2"])
    with pytest.raises(InputError, match="one continuation for both views"):
        # auto, and the full model alone: each view its own answer.
        star.replay(runner("acquisition.combine=none"), ["acquisition.combine=subtract"])
    with pytest.raises(InputError, match="one continuation for both views"):
        star.replay(runner("acquisition.continuation=model"), ["acquisition.combine=subtract"])
    with pytest.raises(InputError, match="keeps no scores to replay: its strategy looks at none"):
        star.replay(runner("acquisition.select=random"))
    with pytest.raises(InputError, match="keeps no scores to replay: no round with a query"):
        star.replay(runner("pool.rounds=1"))


def test_clipped_and_unclipped_entropies_are_not_mixed(runner: Runner) -> None:
    entropy, floor = "acquisition.measure=max_entropy", "acquisition.entropy_floor=1e-3"
    clipped = runner(BASE, entropy, floor)
    plain = runner(BASE, entropy, floor, "acquisition.combine=none")
    for run, other in ((clipped, "none"), (clipped, "subtract"), (plain, "dynamic")):
        with pytest.raises(InputError, match=r"entropy_floor=0\.001 clips"):
            star.replay(run, [f"acquisition.combine={other}"])
        assert star.replay(run, [f"acquisition.combine={other}", "acquisition.measure=margin"])
    assert star.replay(plain, ["acquisition.combine=subtract"])


def test_an_older_run_without_ranges(copied: Path) -> None:
    edit(copied, *(f"base_range_{measure}" for measure in MEASURES))
    scale = "acquisition.normalization=base_minmax"
    assert star.replay(copied)[0]["overlap"] == 1.0
    assert star.replay(copied, [scale, "acquisition.combine=none"])
    with pytest.raises(InputError, match="has no base_range_predictive_entropy"):
        star.replay(copied, [scale])


def test_components_that_are_not_needed_may_be_missing(copied: Path) -> None:
    edit(copied, "base_predictive_entropy", "full_num_tokens")
    row = star.replay(copied, ["acquisition.combine=none"])[0]
    assert row["effective_weight"]["base"] is None
    assert star.replay(copied, ["acquisition.measure=margin"])
    with pytest.raises(InputError, match="has no base_predictive_entropy"):
        star.replay(copied)
    with pytest.raises(InputError, match="has no full_num_tokens"):
        star.replay(copied, ["acquisition.combine=none", "acquisition.reduction=mean"])


def test_scores_that_are_all_equal(copied: Path) -> None:
    edit(copied, full_margin=np.full((16, 3), -0.5))
    row = star.replay(copied, ["acquisition.combine=none", "acquisition.measure=margin"])[0]
    assert row["near_ties"] == 16 and row["indices"] == arrays(copied, 0)["index"][:3].tolist()
    assert row["rank_correlation"] is row["effective_weight"]["full"] is None
    assert replay.table([row]).splitlines()[1].split()[-1] == "16"


def test_damaged_scores(copied: Path) -> None:
    full = arrays(copied, 0)["full_predictive_entropy"]
    for wrong, message in (
        (np.where(np.arange(len(full))[:, None] == 2, np.nan, full), "finite"),
        (full[:-1], "shape"),
        (full[:, :2], "has 2 passes, the replay needs 3"),
        (full.astype(str), "must hold finite numbers"),
    ):
        edit(copied, full_predictive_entropy=wrong)
        with pytest.raises(InputError, match=message):
            star.replay(copied)
    (copied / "rounds/00/scores.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match="cannot be read"):
        star.replay(copied)


# --- the command -------------------------------------------------------------------------------


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    refused(capsys, [str(tmp_path / "gone")], "gone not found")
    refused(capsys, [str(tmp_path)], "no config.yaml")


def test_the_table(runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run, out = runner(BASE), tmp_path / "rows.json"
    # Words are found behind the option too.
    assert main(["replay", str(run), "--json", str(out), "acquisition.measure=margin"]) == 0
    said = capsys.readouterr().out.splitlines()
    rows = star.replay(run, ["acquisition.measure=margin"])
    assert json.loads(out.read_text()) == rows
    names = "round N K overlap chance Jaccard rank corr. lambda eff. base eff. full near ties"
    assert " ".join(said[0].split()) == names
    for line, row in zip(said[1:3], rows, strict=True):
        shown = [row[k] for k in ("overlap", "chance", "jaccard", "rank_correlation")]
        shown += [row["base_weight"], *row["effective_weight"].values()]
        assert line.split() == [
            str(row["round"]), str(row["pool"]), "3", *(f"{v:.3f}" for v in shown),
            str(row["near_ties"]),
        ]  # fmt: skip
    mean = said[3].split()
    assert mean[:3] == ["mean", "-", "-"]
    assert float(mean[3]) == pytest.approx(np.mean([r["overlap"] for r in rows]), abs=6e-4)
    assert float(mean[8]) == pytest.approx(
        np.mean([r["effective_weight"]["base"] for r in rows]), abs=6e-4
    )
    assert "the run's own unlabelled pool" in said[4] and len(said) == 5
    assert len({len(line) for line in said[:4]}) == 1


def test_the_table_of_a_random_choice_and_of_a_label_using_run(
    runner: Runner, capsys: pytest.CaptureFixture
) -> None:
    run = runner("acquisition.continuation=gold")
    assert main(["replay", str(run), "acquisition.select=random"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].split()[6:] == ["-"] * 5 and said[3].split()[6:] == ["-"] * 5
    assert said[5].startswith("label-using")


def test_rows_that_cannot_be_written(
    runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    refused(capsys, [str(runner(BASE)), "--json", str(tmp_path / "no" / "x.json")], "x.json")
    (tmp_path / "folder").mkdir()
    refused(capsys, [str(runner(BASE)), "--json", str(tmp_path / "folder")], "it is a folder")
    refused(capsys, [str(runner(BASE)), "--json", "-"], "cannot write to '-'")
    refused(capsys, [str(runner(BASE)), "--json", str(tmp_path / ("x" * 256))], "255 bytes")
    dear = tmp_path / "dear.json"
    dear.write_text("[1]")
    refused(capsys, [str(runner(BASE)), "--json", str(dear)], "give --force")
    assert dear.read_text() == "[1]" and len(list(tmp_path.iterdir())) == 2
    assert main(["replay", str(runner(BASE)), "--json", str(dear), "--force"]) == 0
    assert len(json.loads(dear.read_text())) > 0
    assert not list((tmp_path / "folder").iterdir())


def test_help(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["replay", "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "own unlabelled pool" in " ".join(said.split())
    for key in replay.REPLAYABLE:
        assert key in said or f".{key.rpartition('.')[2]}" in said
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "replay " in capsys.readouterr().out


def test_the_keys_are_the_schema_s() -> None:
    keys = {key for key, _ in fields_of(Config) if key.startswith("acquisition.")}
    # What decides the scores, the embeddings or the first labels: they would have to be made anew.
    closed = {"continuation", "entropy_floor", "mc_dropout.masks", "passes", "tfb_tolerance"}
    closed |= {"embeddings", "pooling", "initial", "name"}
    assert set(replay.REPLAYABLE) - {"pool.query_size"} == keys - {
        f"acquisition.{name}" for name in closed
    }


def test_replaying_needs_no_model_library() -> None:
    text = (
        "import sys, star.experiments.replay, star\n"
        "assert star.replay is star.experiments.replay.replay\n"
        "heavy = {'transformers', 'peft', 'accelerate', 'datasets', 'tokenizers'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", text], check=True)
