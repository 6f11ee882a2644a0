"""The command line: help, the last line, and one clear line with status 2 for all bad input."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
import runs

from star.__main__ import main as program
from star.cli.main import main
from star.config import Config, fields_of, load

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_data(tmp_path_factory.mktemp("data"), pool=12, test=2)


@pytest.fixture
def quick(tiny_llama: Path, data: Path, tmp_path: Path) -> list[str]:
    """Return the arguments of a run that ends within a second."""
    words = ["pool.rounds=1", "train.num_train_epochs=1", "acquisition.select=random"]
    return ["run", "-", *runs.words(tiny_llama, data, tmp_path / "out", *words)]


def refused(capsys: pytest.CaptureFixture, arguments: list[str], *parts: str) -> str:
    """Return the one error line; the status is 2 and stdout stays empty."""
    try:
        status = main(arguments)
    except SystemExit as error:  # argparse
        status = error.code
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert "Traceback" not in said.err
    (line,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert said.err.endswith(f"{line}\n")  # last, where it is seen
    for part in parts:
        assert part in line
    return line


# --- what is right -----------------------------------------------------------------------------


def test_help_explains_every_key(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    for key, item in fields_of(Config):
        assert f"  {key}=" in said and item.metadata["help"] in said
    assert "star run configs/quickstart.yaml" in said
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(f"{verb} " in said for verb in ("run", "score", "estimate", "replay"))


def test_version(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"star-al {importlib.metadata.version('star-al')}\n"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_resolved_configuration(
    place: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "a.yaml").write_text("seed: 3\npool: {rounds: 4}\n")
    words = ["pool.rounds=5", "run_name=x"]
    words.insert(place, "--print-config")  # in front of the words, between them, behind them
    assert main(["run", str(tmp_path / "a.yaml"), *words]) == 0
    (tmp_path / "b.yaml").write_text(capsys.readouterr().out)
    expected = load(tmp_path / "a.yaml", ["pool.rounds=5", "run_name=x"])
    assert load(tmp_path / "b.yaml") == expected


def test_the_last_line_is_the_folder(
    quick: list[str], capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    assert main([*quick, "tracking.save_adapters=last"]) == 0
    out = capsys.readouterr().out
    folder = Path(out.splitlines()[-1])
    result = json.loads((folder / "result.json").read_text())
    last = result["rounds"][-1]
    after = [
        f"done: accuracy {last['accuracy']:.3f} with {last['labeled']} labels; area under the "
        f"learning curve {result['auc']:.3f}",
        f"  results:          star report {folder}",
        f"  the last adapter: {folder / 'rounds/00/adapter'}",
    ]
    assert caplog.messages[-3:] == after  # nothing was scored: no replay
    assert main([*after[1].split()[2:], "--format", "csv"]) == 0
    capsys.readouterr()
    # Again: the same lines, and that there is nothing to do. An adapter not kept is not named.
    assert main([*quick, "tracking.save_adapters=last"]) == 0
    assert capsys.readouterr().out == out
    assert caplog.messages[-4:] == [f"{folder} is finished already; nothing to do", *after]
    assert main([*quick, "run_name=x"]) == 0
    assert caplog.messages[-1].startswith("  results: ")


def test_an_estimate(quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--flops-per-second", "1e9", "--json", str(tmp_path / "a.json")]
    assert main(["estimate", *quick[1:], *words]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "a.json").read_text())
    assert f"{found['total']['tokens']:,}" in said and "peak memory" in said
    assert not (tmp_path / "out").exists()  # no run folder
    refused(capsys, ["estimate", *quick[1:], *words[:3], "/dev/null/a.json"], "/dev/null/a.json")
    kept = (tmp_path / "a.json").read_bytes()
    refused(capsys, ["estimate", *quick[1:], *words], "give --force")
    file = tmp_path / "a.yaml"
    file.write_text("seed: 1\n")
    over = ["estimate", str(file), *quick[2:], *words[:3], str(file), "--force"]
    refused(capsys, over, "it is the input")
    assert (tmp_path / "a.json").read_bytes() == kept
    settings = ["model.name_or_path=./gone", "adapter.target_modules=[q_prj]"]
    for setting, part in zip(settings, ("gone", "q_prj"), strict=True):
        refused(capsys, ["estimate", *quick[1:], setting, *words[:2]], part)


def test_scores_of_a_file(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "what is 1", "continuation": " 2 3", "id": 7}, {"prompt": "tom has"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out.jsonl"
    arguments = ["score", str(tiny_llama), str(tmp_path / "in.jsonl"), "-o", str(out)]
    assert main([*arguments, "--max-new-tokens", "4"]) == 0
    scored = [json.loads(line) for line in out.read_text().splitlines()]
    assert scored[0]["id"] == 7 and scored[0]["num_tokens"] == 2
    assert all({"nll", "entropy", "perplexity"} <= row.keys() for row in scored)
    assert scored[1]["num_tokens"] <= 4 and "continuation" in scored[1]


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["run", "-", "pool.round=3"], ["'pool.round'", "did you mean 'pool.rounds'?"]),
        (["run", "-", "pool.rounds=0"], ["pool.rounds", "at least 1", "got 0"]),
        (["run", "-", "seed=many"], ["seed", "many"]),
        (["run", "-", "adapter.lora_dropout=0"], ["lora_dropout", "passes"]),
        (["run", "gone.yaml"], ["gone.yaml not found"]),
        (["run", "-", "--seed=3"], ["--seed=3"]),
        (["run", "-", "--print-confg"], ["--print-confg"]),
        (["run"], ["CONFIG"]),
        (["runn"], ["'runn'", "run"]),
        ([], ["VERB"]),
        (["score", "m", "gone.jsonl", "-o", "x"], ["gone.jsonl not found"]),
        (["estimate", "-", "pool.round=3"], ["'pool.round'", "did you mean 'pool.rounds'?"]),
        (["estimate", "-", "--preset", "papr"], ["--preset", "papr"]),
        (["estimate", "-", "--flops-per-second", "fast"], ["--flops-per-second", "'fast'"]),
        (["estimate", "-", "--flops-per-second", "0"], ["--flops-per-second", "positive"]),
        (["estimate", "-", "--bytes-per-second", "1e12"], ["--flops-per-second"]),
        (["score", "m", "in.jsonl", "stray", "-o", "x"], ["stray"]),
    ],
    ids=lambda value: "_".join(value),
)
def test_bad_words(arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture) -> None:
    refused(capsys, arguments, *parts)


GOOD = '{"question": "what is 1 ?", "answer": "1"}\n'


@pytest.mark.parametrize(
    "train, parts",
    [
        (None, ["train.jsonl"]),
        ("", ["train.jsonl holds no rows"]),
        (GOOD + '{"question": "what\n', ["train.jsonl, line 2", "malformed JSON"]),
        (GOOD + "[1]\n", ["train.jsonl, line 2", "must be an object"]),
        (GOOD + '{"question": "what"}\n', ["line 2", "no column 'answer'", "question"]),
        (GOOD + '{"question": "what", "answer": " "}\n', ["line 2", "'answer' is empty"]),
    ],
)
def test_bad_data(
    train: str | None,
    parts: list[str],
    quick: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "test.jsonl").write_text(GOOD)
    if train is not None:
        (tmp_path / "bad" / "train.jsonl").write_text(train)
    refused(capsys, [*quick, f"task.data_dir={tmp_path / 'bad'}"], *parts)


@pytest.mark.parametrize(
    "words, parts",
    [
        (["task.data_dir=gone"], ["task.data_dir", "gone not found"]),
        (["pool.initial_size=99"], ["12 available / 99 requested"]),
        (["model.name_or_path=package://no_such_package/x.gguf"], ["pip install"]),
        (["model.name_or_path=nobody/no-such-model"], ["nobody/no-such-model"]),
        (["model.name_or_path=./gone"], ["no such folder"]),
        (["adapter.target_modules=[q_prj]"], ["'q_prj'", "did you mean 'q_proj'?"]),
        (["train.learning_rate=1e30", "train.num_train_epochs=3"], ["round 0", "update"]),
        (
            ["task.overlong=error", "evaluation.max_new_tokens=243"],
            ["pool row ", "longer than the 13 tokens that a prompt may have", "task.overlong"],
        ),
        (["evaluation.max_new_tokens=256"], ["max_new_tokens=256", "no room"]),
        (["output_dir=/dev/null/x"], ["/dev/null/x", "output_dir"]),
        (["acquisition.select=top_k", "acquisition.continuation=choices"], ["choice task"]),
    ],
    ids=lambda value: str(value[0])[:40],
)
def test_bad_settings(
    words: list[str], parts: list[str], quick: list[str], capsys: pytest.CaptureFixture
) -> None:
    refused(capsys, [*quick, *words], *parts)


def test_labels_that_differ_in_blanks_are_shown_apart(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for split, label in (("train", "a  b"), ("test", "a b")):
        rows = ({"text": split, "label": label}, {"text": f"{split} 2", "label": "c"})
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["task.name=classification", f"task.data_dir={tmp_path}"]
    refused(capsys, [*quick, *words], "'a  b' and 'a b'", "look the same")


def test_a_loss_that_is_not_finite_keeps_the_state(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["train.learning_rate=1e30", "train.num_train_epochs=3", "run_name=x"]
    line = refused(capsys, [*quick, *words], "round 0, update", "rows [", "learning_rate")
    assert "nan" in line or "inf" in line
    assert {"config.yaml", "environment.json", "initial.json"} <= {
        path.name for path in (tmp_path / "out" / "x").iterdir()
    }


def test_overlong_prompts_are_counted(quick: list[str], caplog: pytest.LogCaptureFixture) -> None:
    assert main([*quick, "evaluation.max_new_tokens=243", "task.overlong=drop", "run_name=d",
                 "pool.initial_size=1"]) == 0  # fmt: skip
    assert "pool: " in caplog.text and "left out" in caplog.text
    assert "test: " in caplog.text and "cut from the left" in caplog.text


def test_a_foreign_folder_is_left_alone(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "out" / "thesis"
    folder.mkdir(parents=True)
    (folder / "chapter.tex").write_text("precious")
    refused(capsys, [*quick, "run_name=thesis"], "chapter.tex", "run_name")
    assert [path.name for path in folder.iterdir()] == ["chapter.tex"]
    assert main([*quick, "run_name=mine"]) == 0
    capsys.readouterr()
    refused(capsys, [*quick, "run_name=mine", "seed=4"], "seed is 0 there, 4 here")


# --- our own faults, interruptions, the module -------------------------------------------------


def test_our_own_faults_are_not_hidden(
    quick: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fault(config: Config, **_: object) -> None:
        raise ZeroDivisionError

    def stop(config: Config, **_: object) -> None:
        raise KeyboardInterrupt

    for run in (fault, stop):
        stub = types.ModuleType("star.active_learning.loop")
        stub.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "star.active_learning.loop", stub)
        if run is fault:
            with pytest.raises(ZeroDivisionError):
                main(quick)
        else:
            monkeypatch.setattr(sys, "argv", ["star", *quick])
            monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest's own stays
            assert program() == 130
            assert "start the same command again" in capsys.readouterr().err


FAULT = """
import sys, types
stub = types.ModuleType("star.active_learning.loop")
sys.modules["star.active_learning.loop"] = stub
stub.run = lambda config, rows: 1 / 0
import runpy
sys.argv = ["star", "run", "-"]
runpy.run_module("star", run_name="__main__")
"""


def test_status_one_for_our_own_faults() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULT], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_the_module_is_the_command() -> None:
    script = Path(sys.executable).parent / "star"
    for command in ([sys.executable, "-m", "star"], [str(script)]):
        done = subprocess.run(
            [*command, "run", "-", "--print-config", "seed=3"],
            env=ENVIRONMENT, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert "seed: 3" in done.stdout.splitlines()
        done = subprocess.run(
            [*command, "run", "-", "sed=3"], env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr == "error: the command line: unknown key 'sed'; did you mean 'seed'?\n"
