"""Bad input of every kind: one line that says what, what was got and what is allowed; status 2.

Nothing stands on stdout, there is no traceback, and what lay in the output folder (a finished run)
is untouched, with nothing new beside it. A case is the words of a command, the parts of the line,
and what makes the things that the words name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import runs

from star.cli.main import main


@dataclass(frozen=True)
class Place:
    """Where a case lives. Words may name ``{here}``, ``{out}``, ``{run}``, ``{model}``, ``{data}``.

    Attributes:
        here: An empty folder, the current one.
        out: The output folder, with a finished run in it.
        run: That run, of random choice.
        scored: Another one, of two rounds with scores, in a folder of its own.
        model: A tiny model's folder.
        data: A folder of good data.
    """

    here: Path
    out: Path
    run: Path
    scored: Path
    model: Path
    data: Path


SCORED = ("pool.rounds=2", "acquisition.select=top_k", "tracking.save_adapters=all")
QUICK = ("pool.rounds=1", "train.num_train_epochs=1", "acquisition.select=random")

Make = Callable[[Place], object]
Words = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    words: tuple[str, ...]
    parts: tuple[str, ...]
    make: Make | None = None


def run(*words: str, says: tuple[str, ...] | str, make: Make | None = None) -> Case:
    """Return a case of ``star run`` on good data, with the words over it."""
    return Case(("run", "-", "{base}", *words), _parts(says), make)


def case(*words: str, says: tuple[str, ...] | str, make: Make | None = None) -> Case:
    return Case(words, _parts(says), make)


def _parts(says: tuple[str, ...] | str) -> tuple[str, ...]:
    return (says,) if isinstance(says, str) else says


def file(name: str, content: str | bytes) -> Make:
    """Return what makes a file, and its folder."""

    def make(place: Place) -> None:
        path = place.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def yaml(content: str | bytes, *says: str) -> Case:
    """Return a case of a configuration file."""
    return Case(("run", "run.yaml"), ("run.yaml", *says), file("run.yaml", content))


GOOD = '{"question": "what is 1 ?", "answer": "1"}\n'


def data(
    train: str | bytes | None,
    *says: str,
    words: tuple[str, ...] = (),
    name: str = "train.jsonl",
    more: dict[str, str] | None = None,
) -> Case:
    """Return a case of a data folder: its train split, and a test split that is good."""

    def make(place: Place) -> None:
        content = {name: train, "test.jsonl": GOOD, **(more or {})}
        for path, text in content.items():
            if text is not None:
                file(f"bad/{path}", text)(place)

    return Case(("run", "-", "{base}", "task.data_dir=bad", *words), says, make)


def score(rows: str | bytes, *says: str, words: tuple[str, ...] = ()) -> Case:
    """Return a case of ``star score``: its rows."""
    given = ("score", "{model}", "in.jsonl", "-o", "out.jsonl", *words)
    return Case(given, says, file("in.jsonl", rows))


def table(place: Place) -> None:
    """Make a small table, t.yaml."""
    file("t.yaml", "seeds: 1\ncolumns: {a: {config: c.yaml}}\nrows: {random: {}}\n")(place)
    file("c.yaml", "seed: 0\n")(place)


ROW = '{"prompt": "what is 1 ?", "continuation": " 2"}\n'

WORDS = {
    "unknown-key": run("pool.round=3", says=("'pool.round'", "did you mean 'pool.rounds'?")),
    "alias": run("train.lr=1e-3", says=("'train.lr'", "did you mean 'train.learning_rate'?")),
    "unknown-section": run("lora.rank=3", says=("'lora.rank'", "'adapter.r'")),
    "no-equals": run("pool.rounds", says=("key=value", "'pool.rounds'")),
    "section-as-value": run("pool=3", says=("pool is a section", "3")),
    "too-small": run("pool.rounds=0", says=("pool.rounds must be at least 1, got 0",)),
    "too-large": run("adapter.lora_dropout=1", says=("lora_dropout must be less than 1", "got 1")),
    "nan": run("train.learning_rate=.nan", says=("train.learning_rate", "greater than 0", "nan")),
    "no-number": run("seed=many", says=("seed", "'many'")),
    "half-number": run("pool.query_size=1.5", says=("pool.query_size", "1.5")),
    "no-such-value": run("model.dtype=float64", says=("model.dtype", "'float64'", "'bfloat16'")),
    "no-such-selection": run("acquisition.select=top", says=("'top'", "'top_k'")),
    "strategy-is-a-selection": run(
        "acquisition.strategy=random", says=("module:function", "set acquisition.select=random")
    ),
    "strategy-with-a-dot": run(
        "acquisition.strategy=my_strategy.kcenter",
        says=("module:function", "did you mean 'my_strategy:kcenter'?"),
    ),
    "strategy-not-there": run(
        "acquisition.select=top_k",
        "acquisition.strategy=no_such_module:f",
        says=("acquisition.strategy=no_such_module:f", "No module named"),
    ),
    "strategy-without-function": run(
        "acquisition.select=top_k",
        "acquisition.strategy=star.acquisition.controls:longest_frist",
        says=("star.acquisition.controls has no longest_frist", "did you mean 'longest_first'?"),
    ),
    "no-dropout": run(
        "acquisition.select=top_k",
        "adapter.lora_dropout=0",
        says=("passes > 0 with adapter.lora_dropout=0", "set lora_dropout > 0 or passes=0"),
    ),
    "best-of-nothing": run("train.keep=best", says=("train.keep=best", "task.validation_size > 0")),
    "no-modules": run("adapter.target_modules=[]", says=("target_modules is empty",)),
    "word-among-modules": run(
        "adapter.target_modules=auto,q_proj", says=("write it alone", "['auto', 'q_proj']")
    ),
    "no-such-module": run(
        "adapter.target_modules=q_prj", says=("'q_prj'", "did you mean 'q_proj'?")
    ),
    "no-such-view": run("evaluation.views=[bass]", says=("base, full and mc", "'bass'")),
    "interpolation": run("output_dir=${oc.env:HOME}", says=("output_dir", "not supported")),
    "prompt-backslash": run(
        r"task.prompt={question}\nSo", says=("task.prompt: a backslash", "is a line break")
    ),
    "prompt-half-quoted": run(
        'task.prompt="{question}', says=("cannot read task.prompt", "write 'task.prompt=\"TEXT\"'")
    ),
    "prompt-column": run(
        "task.prompt={questoin} so",
        says=("line 1", "no column 'questoin'", "did you mean 'question'?"),
    ),
    "prompt-brace": run("task.prompt={question is", says=("task.prompt", "{question is")),
    "prompt-answer": run("task.prompt={answer}, is it?", says=("task.prompt", "answer")),
    "columns-half": run("task.columns=text", says=("{question: COLUMN, answer: COLUMN}", "'text'")),
    "columns-role": run("task.columns=query:text", says=("question and answer", "'query'")),
    "one-choice": run("task.choices=yes", says=("task.choices", "two or more", "'yes'")),
    "choices-elsewhere": case(
        "run", "-", "task.choices=a,b", says=("task.choices", "task.name=jsonl", "arithmetic")
    ),
    "run-name-out": run("run_name=../x", says=("run_name", "inside output_dir", "'../x'")),
    "run-name-lines": run('run_name="a\\nb"', says=("run_name", "one line", r"'a\nb'")),
    "nul": run('run_name="a\\0b"', says=("run_name", r"'a\x00b'")),
    "not-utf-8": run("run_name=a\udcff", says=("run_name", "UTF-8", r"a\udcff")),
    "long-name": run(f"run_name={'x' * 300}", says=("x" * 30, "name")),
    "output-in-a-file": run("output_dir=/dev/null/x", says=("/dev/null/x", "output_dir")),
    "pool-too-small": run("pool.initial_size=99", says=("12 available / 99 requested",)),
    "pool-too-small-for-a-limit": run(
        *("pool.initial_size=99", "task.pool_limit=30"),
        says=("12 available / 99 requested", "task.validation_size\n"),
    ),
    "no-room": run("evaluation.max_new_tokens=256", says=("max_new_tokens=256", "no room")),
    "choices-of-numbers": run(
        "acquisition.select=top_k", "acquisition.continuation=choices", says="choice task"
    ),
    "data-of-a-family": case(
        "run", "-", "output_dir={out}", "task.data_dir=bad", says=("reads no files", "bad")
    ),
    "blank": run("output_dir=''", says=("output_dir is blank", "''")),
    "nothing": run("output_dir=", says=("output_dir must be text", "nothing")),
    "number-of-a-thousand-digits": run(f"seed={'9' * 30}", says=("seed must be less than", "999")),
    "too-many-bins": run(
        "evaluation.ece_bins=1001", says=("evaluation.ece_bins must be at most 1000, got 1001",)
    ),
    "no-such-number": run("train.max_steps=few", says=("a whole number or null", "got 'few'")),
    "no-such-truth": run("tracking.progress=maybe", says=("true or false", "got 'maybe'")),
    "near-value": run("acquisition.combine=dynamik", says=("did you mean 'dynamic'?",)),
    "preset": case("run", "-", "--preset", "papr", says=("--preset", "paper", "'papr'")),
}

FILES = {
    "yaml-not-there": case("run", "gone.yaml", says="configuration file gone.yaml not found"),
    "yaml-folder": case("run", ".", says="not found"),
    "yaml-tab": yaml("\tseed: 1\n", "not readable as YAML"),
    "yaml-list": yaml("- a\n", "mapping of sections"),
    "yaml-number": yaml("3\n", "not readable as YAML"),
    "yaml-twice": yaml("seed: 1\nseed: 2\n", "duplicate key seed"),
    "yaml-python": yaml("seed: !!python/object/apply:os.getcwd []\n", "not readable as YAML"),
    "yaml-bytes": yaml(b"\xff\xfe\x00", "not readable as YAML"),
    "yaml-key": yaml("pool: {roundz: 3}\n", "'pool.roundz'", "did you mean 'pool.rounds'?"),
    "yaml-no": yaml("task: {name: jsonl, choices: [yes, no]}\n", "task.choices", "quote it"),
    "yaml-list-as-text": yaml("task: {choices: 'a, b'}\n", "choices must be a list", "[a, b]"),
    "yaml-value": yaml("train: {learning_rate: fast}\n", "must be a number, got 'fast'"),
    "run-a-table": case(
        "run", "t.yaml", says=("t.yaml is a table of runs", "star sweep t.yaml"), make=table
    ),
    "estimate-a-table": case(
        "estimate", "t.yaml", says=("is a table of runs", "star sweep t.yaml"), make=table
    ),
    "replay-a-table": case("replay", "t.yaml", says=("t.yaml is a file", "a run"), make=table),
    "sweep-a-configuration": case(
        "sweep", "c.yaml", says=("configuration of one run", "star run c.yaml"), make=table
    ),
    "report-a-configuration": case(
        "report", "c.yaml", says=("configuration of one run", "star run c.yaml"), make=table
    ),
    "run-a-run": case("run", "{run}", says=("it is a run folder", "config.yaml")),
    "yaml-surrogate": yaml('run_name: "a\\ud800"\n', "run"),
    "yaml-empty-section": yaml("pool:\n", "pool is a section"),
}

COMMANDS = {
    "no-verb": case(says="VERB"),
    "verb": case("runn", says=("'runn'", "run")),
    "no-config": case("run", says="CONFIG"),
    "option": case("run", "-", "--print-confg", says="--print-confg"),
    "stray-word": case("score", "m", "in.jsonl", "stray", "-o", "x", says="stray"),
    "estimate-speed": case("estimate", "-", "--flops-per-second", "0", says=("positive",)),
    "estimate-word": case("estimate", "-", "--flops-per-second", "fast", says="'fast'"),
    "estimate-half": case("estimate", "-", "--bytes-per-second", "1e9", says="--flops-per-second"),
    "report-nothing": case("report", "gone", says=("gone is not there", "a table file")),
    "report-empty-folder": case("report", ".", says=("neither results.json nor a run",)),
    "report-figures": case("report", "x", "--figures", "png", says=("without --output DIR",)),
    "report-typo": case(
        *("report", "t.yaml", "--output-dir", "typo"),
        says=("no run folders in typo/t", "star sweep", "--output-dir"),
        make=table,
    ),
    "report-no-record": case(
        "report", "results.json", says=("results.json", "no"), make=file("results.json", "{}")
    ),
    "report-torn-record": case(
        "report", "results.json", says="not JSON", make=file("results.json", '{"table": ')
    ),
    "estimate-model": case("estimate", "-", "model.name_or_path=./gone", says="no such folder"),
    "estimate-data": case("estimate", "-", "task.name=jsonl", says=("needs task.data_dir",)),
    "sweep-key": case(
        *("sweep", "t.yaml", "--executor", "print", "train.lr=1"),
        says=("cell t/a/random/seed0: unknown key 'train.lr'", "'train.learning_rate'"),
        make=table,
    ),
    "sweep-row": case(
        *("sweep", "t.yaml", "--rows", "randm"),
        says=("--rows: no 'randm'", "did you mean 'random'?"),
        make=table,
    ),
    "sweep-seeds": case(
        *("sweep", "t.yaml", "--seeds", "9"),
        says=("--seeds", "has 1 seeds, got 9"),
        make=table,
    ),
    "sweep-seed-word": case(
        *("sweep", "t.yaml", "seed=1"),
        says=("seed is the sweep's own", "--seeds"),
        make=table,
    ),
    "sweep-unknown": case(
        "sweep", "t.yaml", says=("unknown key 'rwos'", "'rows'"), make=file("t.yaml", "rwos: {}")
    ),
    "replay-over-file": case(
        *("replay", "{run}", "--json", "a.json"),
        says=("a.json: it is there already", "--force"),
        make=file("a.json", "mine"),
    ),
    "sweep-gone": case("sweep", "absent.yaml", says="absent.yaml cannot be read"),
    "replay-gone": case("replay", "gone", says="run folder gone not found"),
    "replay-no-run": case("replay", ".", says=("not a run folder", "config.yaml")),
    "replay-key": case(
        "replay", "{run}", "train.learning_rate=1", says=("'train.learning_rate'; it can change",)
    ),
    "replay-word": case(
        "replay", "{run}", "acquisition", says=("key=value, got 'acquisition'", "it can change")
    ),
    "replay-no-key": case(
        "replay", "{run}", "acquisition.mesure=x", says=("did you mean 'acquisition.measure'?",)
    ),
    "replay-nothing": case("replay", "{run}", says=("no scores to replay", "looks at none")),
    "score-gone": case("score", "m", "gone.jsonl", "-o", "x", says="gone.jsonl not found"),
    "score-nowhere": score(ROW, "gone", words=("-o", "gone/out.jsonl")),
    "score-passes": score(ROW, "adapter", words=("--mc-passes", "3")),
    "score-batch": score(ROW, "at least 1, got 0", words=("--batch-size", "0")),
}

DATA = {
    "no-folder": run("task.data_dir=gone", says=("task.data_dir", "gone not found", "holds")),
    "file-as-folder": run(
        "task.data_dir=a.jsonl", says=("must be the folder", "a.jsonl"), make=file("a.jsonl", GOOD)
    ),
    "no-train": data(None, "no train.jsonl", "test.jsonl"),
    "no-test": data(GOOD, "no dev.jsonl", words=("task.test_split=dev",)),
    "two-files": data(GOOD, "train.jsonl and train.csv", "one", more={"train.csv": "a\n"}),
    "no-rows": data("", "train.jsonl holds no rows"),
    "torn-row": data(GOOD + '{"question": "what\n', "train.jsonl, line 2", "malformed JSON"),
    "no-object": data(GOOD + "[1]\n", "train.jsonl, line 2", "must be an object"),
    "no-column": data(GOOD + '{"question": "q"}\n', "line 2", "no column 'answer'"),
    "no-answer": data(GOOD + '{"question": "q", "answer": " "}\n', "line 2", "'answer' is empty"),
    "no-choice": data(GOOD * 2, "line 1", "task.choices", "'1'", words=("task.choices=a,b",)),
    "bytes": data(b'{"question": "\xff"}\n', "line 1", "not UTF-8"),
    "same-questions": data(
        GOOD * 7,
        "1 available / 2 requested; 6 rows with the question of an earlier row left out",
        "train.jsonl, line 2, line 3, line 4, line 5, line 6, …",
        "lower pool.initial_size or task.validation_size\n",
        words=("pool.initial_size=2",),
    ),
    "same-questions-in-part": data(
        GOOD * 2 + '{"question": "q", "answer": "2"}\n',
        "1 available / 2 requested; 1 row with the question",
        "or raise task.pool_limit=2",
        words=("pool.initial_size=2", "task.pool_limit=2"),
    ),
    "all-too-long": data(
        GOOD + json.dumps({"question": "eggs " * 300, "answer": "1"}) + "\n",
        "1 available / 2 requested; 1 left out by task.overlong=drop",
        words=("pool.initial_size=2", "task.overlong=drop"),
    ),
    "csv-twice": data("a,a\n1,2\n", "header", "twice", name="train.csv"),
    "csv-column": data(
        "text,label\nwhat,1\n", "no column 'question'", "text, label", name="train.csv"
    ),
    "parquet-torn": data("PAR1", "not readable as Parquet", name="train.parquet"),
    "csv-extra": data("question,answer\nwhat,1,2\n", "line 2", "3 fields", name="train.csv"),
    "json-twice": data('{"question": "a", "question": "b", "answer": "1"}\n', "line 1", "question"),
    "json-nan": data('{"question": NaN, "answer": "1"}\n', "line 1", "'question'"),
    "surrogate": data('{"question": "a \\ud800", "answer": "1"}\n', "line 1", r"\ud800"),
    "same-column": data(
        GOOD, "question and answer are both 'answer'", words=("task.columns=question:answer",)
    ),
    "choices-alike": run(
        "task.choices=[caf\u00e9, cafe\u0301]", says=("task.choices", "look the same", "keep one")
    ),
    "score-surrogate": score('{"prompt": "a", "note": "\\ud800"}\n', "line 1", "'note'"),
    "score-nan": score('{"prompt": "a", "note": NaN}\n', "line 1", "note"),
    "score-own-column": score(
        '{"prompt": "a", "nll": "mine"}\n', "line 1", "its own nll", "rename it"
    ),
    "score-over-input": score(ROW, "is the input", words=("-o", "in.jsonl")),
    "score-no-json": score(ROW + "{\n", "in.jsonl, line 2", "malformed JSON"),
    "score-no-object": score("[1]\n", "line 1", "must be an object"),
    "score-no-prompt": score('{"text": "a"}\n', "'prompt'", "text"),
    "score-empty": score('{"prompt": "a", "continuation": ""}\n', "'continuation'", "not empty"),
    "score-no-rows": score("\n", "in.jsonl has no rows"),
    "score-bytes": score(b"\xff", "in.jsonl", "not UTF-8"),
}

DATA["score-over-file"] = Case(
    ("score", "{model}", "in.jsonl", "-o", "out.jsonl"),
    ("out.jsonl: it is there already", "--force"),
    lambda place: [file(name, ROW)(place) for name in ("in.jsonl", "out.jsonl")],
)
MODELS = {
    "model-gone": run("model.name_or_path=./gone", says=("gone", "no such folder")),
    "model-hub": run("model.name_or_path=nobody/no-such-model", says="nobody/no-such-model"),
    "model-package": run("model.name_or_path=package://no_such/x.gguf", says="pip install"),
    "model-folder": run("model.name_or_path={here}", says="{here}"),
}


def damaged(verb: str, path: str, change: Callable[[bytes], bytes | None], *says: str) -> Case:
    """Return a case of a run folder, ``damaged``, of which a file was changed, or lost."""

    def make(place: Place) -> None:
        folder = place.here / "damaged"
        shutil.copytree(place.scored, folder)
        content = change((folder / path).read_bytes())
        if content is None:
            (folder / path).unlink()
        else:
            (folder / path).write_bytes(content)

    words = {
        "report": ("report", "damaged"),
        "replay": ("replay", "damaged"),
        "run": ("run", "-", "{base}", *SCORED, "output_dir=.", "run_name=damaged"),
    }
    return Case(words[verb], (path.rpartition("/")[2], *says), make)


def lost(content: bytes) -> None:
    return None


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """Return the content with a bit of its middle byte changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def instead(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode())

    return change


def queried(*indices: object) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({"indices": indices}).encode()


WAY = "restore it"
FOLDERS = {
    "report-result-cut": damaged("report", "result.json", cut, "remove it"),
    "report-result-edited": damaged("report", "result.json", instead('"auc": 0', '"auc": 1')),
    "report-config-edited": damaged("report", "config.yaml", instead("seed: 0", "seed: 7"), WAY),
    "report-config-lost": damaged("report", "config.yaml", lost, "damaged"),
    "report-metrics-lost": damaged("report", "rounds/01/metrics.json", lost, WAY),
    "report-metrics-torn": damaged("report", "rounds/00/metrics.json", cut, WAY),
    "report-scores-cut": damaged("report", "rounds/00/scores.npz", cut, WAY),
    "replay-config-cut": damaged("replay", "config.yaml", cut, WAY),
    "replay-scores-flipped": damaged("replay", "rounds/00/scores.npz", flipped, WAY),
    "replay-query-text": damaged("replay", "rounds/00/selected.json", queried("a"), WAY),
    "replay-query-twice": damaged("replay", "rounds/00/selected.json", queried(3, 3), WAY),
    "replay-query-outside": damaged("replay", "rounds/00/selected.json", queried(10**6), WAY),
    "run-result-cut": damaged("run", "result.json", cut, "remove it"),
    "run-query-lost": damaged("run", "rounds/00/selected.json", lost, WAY),
    "run-adapter-flipped": damaged(
        "run", "rounds/00/adapter/adapter_model.safetensors", flipped, WAY
    ),
    "run-initial-edited": damaged("run", "initial.json", queried(1, 2), WAY),
    "run-environment-torn": damaged("run", "environment.json", cut, WAY),
}


def changed(
    what: str, name: str, change: Callable[[bytes], bytes | None], *says: str, words: Words = ()
) -> Case:
    """Return a case of ``star score`` with a model, or an adapter, of which a file was changed."""

    def make(place: Place) -> None:
        folder = place.here / what
        source = place.model if what == "model" else place.scored / "rounds/00/adapter"
        shutil.copytree(source, folder)
        content = change((folder / name).read_bytes())
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        file("in.jsonl", ROW)(place)

    model = "./model" if what == "model" else "{model}"
    adapter = ("--adapter", "adapter") if what == "adapter" else ()
    return Case(("score", model, "in.jsonl", "-o", "out.jsonl", *adapter, *words), says, make)


def setting(key: str, value: object) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content), key: value}).encode()


def renamed(content: bytes) -> bytes:
    """Return safetensors whose names no module has."""
    return content.replace(b"self_attn.q_proj", b"self_attn.x_proj")


WEIGHTS, ADAPTED = "model.safetensors", "adapter_model.safetensors"
MODELS |= {
    "model-weights-lost": changed("model", WEIGHTS, lost, "model", "safetensors"),
    "model-weights-torn": changed("model", WEIGHTS, cut, "model"),
    "model-weights-renamed": changed("model", WEIGHTS, renamed, "model", "weights"),
    "model-size": changed("model", "config.json", setting("hidden_size", 64), "config.json", "64]"),
    "model-kind": changed("model", "config.json", setting("model_type", "x"), "model type `x`"),
    "model-config-torn": changed("model", "config.json", cut, "model", "config.json"),
    "model-config-lost": changed("model", "config.json", lost, "model", "config.json"),
    "model-no-tokenizer": changed("model", "tokenizer.json", lost, "model", "tokenizer"),
    "model-tokenizer-torn": changed("model", "tokenizer.json", cut, "tokenizer.json", "not JSON"),
}
ADAPTERS = {
    "adapter-gone": score(ROW, "gone", words=("--adapter", "gone")),
    "adapter-folder": score(ROW, "adapter_", words=("--adapter", ".")),
    "adapter-weights-lost": changed("adapter", ADAPTED, lost, "adapter", "safetensors"),
    "adapter-weights-torn": changed("adapter", ADAPTED, cut, "adapter"),
    "adapter-weights-renamed": changed("adapter", ADAPTED, renamed, "adapter", "q_proj"),
    "adapter-rank": changed("adapter", "adapter_config.json", setting("r", 9), "adapter", "9"),
    "adapter-kind": changed(
        "adapter",
        "adapter_config.json",
        setting("peft_type", "PROMPT_TUNING"),
        "PROMPT_TUNING",
        "LORA",
    ),
    "adapter-unknown-kind": changed(
        "adapter", "adapter_config.json", setting("peft_type", "NONE_SUCH"), "NONE_SUCH"
    ),
    "adapter-config-torn": changed("adapter", "adapter_config.json", cut, "adapter_config.json"),
}

CASES = WORDS | FILES | COMMANDS | DATA | MODELS | ADAPTERS | FOLDERS


@pytest.fixture(scope="module")
def ready(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Return the output folder, the finished run in it, good data, and a run with scores."""
    folder = tmp_path_factory.mktemp("ready")
    good = runs.write_data(folder / "data", pool=12, test=2)
    done = runs.go(tiny_llama, good, folder / "out", *QUICK, "run_name=done")
    scored = runs.go(tiny_llama, good, folder, *QUICK, *SCORED, "run_name=scored")
    return folder / "out", done, good, scored


@pytest.fixture
def place(
    ready: tuple[Path, ...],
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    monkeypatch.chdir(tmp_path)
    out, done, good, scored = ready
    return Place(here=tmp_path, out=out, run=done, scored=scored, model=tiny_llama, data=good)


def spelt(words: tuple[str, ...], place: Place) -> list[str]:
    """Return the words with the places in them; ``{base}`` stands for those of a quick run."""
    names = {f"{{{name}}}": str(value) for name, value in vars(place).items()}
    out = []
    for word in words:
        if word == "{base}":
            out += runs.words(place.model, place.data, place.out, *QUICK)
            continue
        for name, value in names.items():
            word = word.replace(name, value)
        out.append(word)
    return out


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return every file's content below a folder, and its folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name: str, place: Place, capsys: pytest.CaptureFixture) -> None:
    it = CASES[name]
    if it.make is not None:
        it.make(place)
    before = tree(place.out)
    here = tree(place.here)
    try:
        status = main(spelt(it.words, place))
    except SystemExit as end:  # argparse
        status = end.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n")
    for part in it.parts:
        wanted = part.replace("{here}", str(place.here))
        assert wanted in err
    after = tree(place.out)
    assert {path: after.get(path, b"gone") for path in before} == before
    assert sorted(set(after) - set(before)) == []
    assert tree(place.here) == here


def test_there_are_enough_of_every_kind() -> None:
    assert len(CASES) >= 75
    assert min(map(len, (WORDS, FILES, COMMANDS, DATA, MODELS, ADAPTERS, FOLDERS))) >= 5
