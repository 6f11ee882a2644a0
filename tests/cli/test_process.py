"""``star`` as a process: its streams, its encodings, interrupts, and what it loads to answer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import runs
import torch

import star
from star.cli.main import main

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONIO", "LC_"))}
STAR = f"{sys.executable} -m star"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; its status is the last program's that failed."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("star ", f"{STAR} ")],
        env=ENVIRONMENT | environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        errors="surrogateescape",
    )  # fmt: skip


@pytest.mark.parametrize("words, unbuffered", [("--help", ""), ("run - --print-config", "1")])
def test_a_reader_that_went_away_is_no_fault(words: str, unbuffered: str) -> None:
    # Gone before the first word is written.
    command = f"(sleep 0.3; exec star {words}) | true"
    done = shell(command, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")


@pytest.mark.parametrize("words, unbuffered", [("--version", ""), ("run - --print-config", "1")])
def test_a_full_disk_behind_stdout_is_said(words: str, unbuffered: str) -> None:
    done = shell(f"star {words} >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot") and done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize(
    "command, status",
    [
        ("star run - sed=1 2>/dev/full", 2),
        ("star run - sed=1 2>&-", 2),
        ("star run - --print-config >/dev/full 2>&1", 2),
        ("star run - --print-config >&- 2>&- <&-", 0),
    ],
)
def test_streams_that_are_full_or_closed(command: str, status: int) -> None:
    done = shell(command)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize(
    "environment, shown",
    [
        ({"LC_ALL": "C"}, "λ"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "λ"),
        ({"PYTHONIOENCODING": "ascii"}, "λ"),
        ({"PYTHONIOENCODING": "latin-1"}, r"\u03bb"),
    ],
    ids=lambda value: " ".join(value),
)
def test_no_encoding_stops_an_answer(
    environment: dict[str, str], shown: str, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text("run_name: λ\n", encoding="utf-8")
    done = shell(f"star run {tmp_path / 'run.yaml'} --print-config", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"run_name: {shown}" in done.stdout.splitlines()


def test_a_name_that_is_not_utf_8() -> None:
    for words, part in (
        (r"run $'/tmp/no\xffne.yaml'", r"/tmp/no\udcffne.yaml not found"),
        (r"run - $'output_dir=no\xffne'", r"'output_dir' must be text in UTF-8"),
        (r"$'\xff'", r"invalid choice: '\udcff'"),
    ):
        done = shell(f"star {words}", LC_ALL="C")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert part in done.stderr


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, ASCII], ids=["C", "ASCII"])
def test_names_beyond_ascii_in_a_locale_without_it(
    locale: dict[str, str], finished: list[str], tmp_path: Path
) -> None:
    place = dict(word.split("=", 1) for word in finished)
    shutil.copytree(Path(place["output_dir"]) / "done", tmp_path / "né λ" / "é")
    rows = "'né λ/picks.json'"
    done = shell(f"cd '{tmp_path}' && star replay 'né λ/é' --json {rows}", **locale)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "né λ/picks.json").read_text(encoding="utf-8"))
    done = shell(f"cd '{tmp_path}' && star run - task.name=jsonl 'task.data_dir=né μ'", **locale)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "né μ not found" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, ASCII], ids=["C", "ASCII"])
def test_a_run_in_a_locale_without_its_letters(
    locale: dict[str, str], tiny_llama: Path, tmp_path: Path
) -> None:
    data = runs.write_data(tmp_path / "né λ", pool=8, test=2)
    rows = (data / "train.jsonl").read_text(encoding="utf-8").replace("eggs", "œufs")
    (data / "train.jsonl").write_text(rows, encoding="utf-8")
    words = ["pool.rounds=1", "train.num_train_epochs=1", "acquisition.name=ünsure", "run_name=é"]
    words = runs.words(tiny_llama, Path("né λ"), Path("sortie é"), *words)
    quoted = " ".join(f"'{word}'" for word in words)
    done = shell(f"cd '{tmp_path}' && star run - {quoted}", **locale)
    assert (done.returncode, done.stdout) == (0, "sortie é/é\n"), done.stderr
    assert "Traceback" not in done.stderr
    folder = tmp_path / "sortie é/é"
    assert star.load_config(folder / "config.yaml").task.data_dir == "né λ"
    assert "name: ünsure\n" in (folder / "config.yaml").read_text(encoding="utf-8")
    assert runs.result(folder)["strategy"] == "ünsure"


def no_such_name() -> None:
    raise UnicodeEncodeError("iso8859-1", "runs/λ", 5, 6, "ordinal not in range(256)")


@pytest.mark.parametrize(
    "meets, parts",
    [
        (no_such_name, (r"runs/\u03bb", "PYTHONUTF8=1")),
        (lambda: torch.empty(10**15), ("not enough memory", "allocate", "smaller")),
    ],
    ids=["name", "memory"],
)
def test_what_a_machine_has_not(
    meets: Callable[[], object],
    parts: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr("star.cli.run.execute", lambda options: meets())
    assert main(["run", "-"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert all(part in err for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["init p --data hub:nobody/none --labels a,b", "run - model.name_or_path=nobody/none"]
)
def test_a_hub_that_is_not_there_is_a_line(words: str, tmp_path: Path) -> None:
    away = {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    data = f" task.data_dir={runs.write_data(tmp_path / 'data')}" if "run" in words else ""
    done = shell(f"cd {tmp_path}; echo task.name: jsonl | star {words}{data}", **away)
    said = [line for line in done.stderr.splitlines() if "task's own prompt" not in line]
    assert done.returncode == 2 and len(said) == 1 and said[0].startswith("error: "), done.stderr


@pytest.mark.parametrize(
    "command, seed",
    [
        ("echo 'seed: 3' | star run - --print-config", 3),
        ("echo 'seed: 3' | star run - --print-config seed=4", 4),
        ("star run - --print-config <<< 'seed: 3'", 3),
        ("star run - --print-config </dev/null", 0),
        ("star run - --print-config <&-", 0),
        ("true | star run - --print-config", 0),
        ("echo 'seed: 3' | WORLD_SIZE=2 star run - --print-config", 0),
    ],
)
def test_a_configuration_on_stdin(command: str, seed: int) -> None:
    done = shell(command)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"seed: {seed}" in done.stdout.splitlines()


@pytest.mark.parametrize("text, part", [("sed: 3", "'seed'"), ("[1]", "mapping"), (r"\xff", "not")])
def test_a_wrong_configuration_on_stdin(text: str, part: str) -> None:
    done = shell(f"printf '{text}' | star run -")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: stdin") and done.stderr.count("\n") == 1
    assert part in done.stderr


@pytest.mark.parametrize("delay", [0.3, 1.5])
def test_an_interrupt_at_the_start(delay: float, tmp_path: Path) -> None:
    words = ["run", "configs/quickstart.yaml", f"output_dir={tmp_path}", "tracking.progress=false"]
    process = subprocess.Popen(
        [sys.executable, "-m", "star", *words],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert err.splitlines()[-1] == "interrupted; start the same command again to go on"
    assert "Traceback" not in err


UNREAD = """
import json, os, sys
from star.__main__ import main
for words in json.loads(sys.argv[1]):
    if not (child := os.fork()):
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
        sys.argv[1:] = words
        sys.exit(main())
    print(words[0], os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize(
    "commands",
    [
        (
            ("replay", "{run}"),
            ("report", "{run}"),
            ("sweep", "configs/tables/extraction.yaml", "--seeds", "1", "--executor", "print"),
            ("run", "-", "{finished}"),
        ),
        pytest.param(
            (
                ("estimate", "-", "{finished}", "--flops-per-second", "1e12"),
                ("report", "{run}", "--format", "json"),
                ("report", "scripts/results/main", "--output", "{new}"),
                ("run", "-", "{finished}", "run_name=anew"),
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["at once", "after work"],
)
def test_no_verb_complains_that_nobody_reads(
    commands: tuple[tuple[str, ...], ...], finished: list[str], tmp_path: Path
) -> None:
    place = dict(word.split("=", 1) for word in finished)
    names = {"{run}": f"{place['output_dir']}/done", "{new}": str(tmp_path / "new")}
    spelt = [
        [names.get(w, w) for word in words for w in (finished if word == "{finished}" else [word])]
        for words in commands
    ]
    done = subprocess.run(
        [sys.executable, "-c", UNREAD, json.dumps(spelt)],
        env=ENVIRONMENT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout == ""
    said = done.stderr.splitlines()
    assert [line for line in said if line.endswith(" 141")] == [f"{c[0]} 141" for c in commands]
    for noise in ("Traceback", "Broken", "Exception", "error"):
        assert noise not in done.stderr


LOADED = """
import sys
from star.cli.main import main
import star
try:
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = ("torch", "transformers", "peft", "datasets", "accelerate", "pandas", "matplotlib")
print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""


@pytest.fixture(scope="module")
def finished(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the words of a run that has finished."""
    folder = tmp_path_factory.mktemp("finished")
    data = runs.write_data(folder / "data", pool=16, test=2)
    words = runs.words(tiny_llama, data, folder, "pool.rounds=2", "run_name=done")
    runs.go(tiny_llama, data, folder, *words)
    return words


@pytest.mark.parametrize(
    "words, said",
    [
        (["--help"], "VERB"),
        (["run", "--help"], "acquisition.select"),
        (["--version"], "star-al"),
        (["run", "-", "sed=1"], "'seed'"),
        (["run", "-", "--print-config"], "seed: 0"),
        (["report", "scripts/results/main"], "| random"),
        (["report", "{run}"], "| star-predictive_entropy"),
        (["replay", "{run}", "acquisition.measure=margin"], "overlap"),
        (["sweep", "absent.yaml"], "cannot be read"),
        (["score", "m", "absent.jsonl", "-o", "x"], "absent.jsonl not found"),
        (["run", "-", "{finished}"], "nothing to do"),
        (["run", "-", "{finished}", "run_name=x", "task.data_dir=gone"], "gone not found"),
        (["run", "-", "{finished}", "run_name=x", "model.name_or_path=./gone"], "no such folder"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_torch_is_not_waited_for(words: list[str], said: str, finished: list[str]) -> None:
    place = dict(word.split("=", 1) for word in finished)
    run = f"{place['output_dir']}/done"
    spelt = [w for word in words for w in (finished if word == "{finished}" else [word])]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *(word.replace("{run}", run) for word in spelt)],
        env=ENVIRONMENT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert said in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
