"""The schema: defaults, precedence, and one clear line for everything that is wrong."""

import dataclasses
import json
import math
from functools import cache
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star import config as schema
from star.config import (
    Config,
    config_hash,
    describe,
    fields_of,
    get,
    label_free,
    load,
    strategy_name,
    to_yaml,
)
from star.config.derived import hash_of
from star.config.words import ALIASES
from star.errors import InputError

ROOT = Path(__file__).parents[2]
# accelerate/ is Accelerate's own format, tables/ are lists of runs.
SHIPPED = sorted(
    path
    for path in (ROOT / "configs").rglob("*.yaml")
    if path.relative_to(ROOT / "configs").parts[0] not in ("accelerate", "tables")
)


def refused(path: Path | None, *words: str) -> str:
    """Return the message; it must be one line, since it is printed after ``error: ``."""
    with pytest.raises(InputError) as caught:
        load(path, words)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# --- what is right -----------------------------------------------------------------------------


def test_nothing_said_means_the_defaults() -> None:
    assert load() == Config()
    # The paper's, and what the contracts of the package promise.
    defaults = load()
    assert (defaults.adapter.r, defaults.adapter.lora_alpha) == (64, 16)
    assert defaults.adapter.lora_dropout == 0.1
    assert defaults.adapter.target_modules == "auto"
    assert defaults.output_dir == "runs"
    assert label_free(defaults)


def test_defaults_then_file_then_words(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 5\npool: {rounds: 3, query_size: 7}\n")
    config = load(path, ["pool.rounds=4", "pool.rounds=6", "model.dtype=bfloat16"])
    assert config.seed == 5
    assert config.pool == schema.PoolConfig(initial_size=20, query_size=7, rounds=6)
    assert config.model.dtype == "bfloat16"
    assert load(path).pool.rounds == 3


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")) == Config()
    assert load(written(tmp_path, "# only a comment\n")) == Config()


@pytest.mark.parametrize(
    "word, value",
    [
        ("train.learning_rate=1e-4", 1e-4),
        ("train.learning_rate=1", 1.0),
        ("tracking.progress=false", False),
        ("task.pool_limit=null", None),
        ("regularizer.beta=0.5", 0.5),
        ("task.prompt=a = b", "a = b"),
        ("adapter.target_modules=[q_proj,v_proj]", ["q_proj", "v_proj"]),
        ("output_dir=/tmp/a b", "/tmp/a b"),
        ("model.name_or_path=package://a/b.gguf", "package://a/b.gguf"),
        ("acquisition.base_weight.schedule=cosine", "cosine"),
        ("run_name=007", "007"),
        ("task.revision=0123456", "0123456"),
        ("task.revision=12e4567", "12e4567"),
        ("task.test_split=no", "no"),
    ],
)
def test_words_have_the_types_of_the_schema(word: str, value: object) -> None:
    got = get(load(None, [word]), word.partition("=")[0])
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    "word, value",
    [
        ("task.prompt={text} is", "{text} is"),
        ("task.prompt={text}", "{text}"),
        ("task.prompt=Q: {question}", "Q: {question}"),
        ("task.prompt={question} # so", "{question} # so"),
        ("task.prompt=# {question}", "# {question}"),
        ("task.prompt=*{a}*", "*{a}*"),
        ("task.prompt=[a] b", "[a] b"),
        ('task.prompt="{text}\\nThe answer is"', "{text}\nThe answer is"),
        (r"task.prompt='a\n'", r"a\n"),
        ("output_dir=C:\\new", "C:\\new"),
        ("run_name=2024-01-01", "2024-01-01"),
        ("task.choices=a,b", ["a", "b"]),
        ("task.choices=yes, no", ["yes", "no"]),
        ("task.choices=[yes, no, 007]", ["yes", "no", "007"]),
        ("task.choices=['a,b', c]", ["a,b", "c"]),
        ("evaluation.views=full", ["full"]),
        ("adapter.target_modules=q_proj", ["q_proj"]),
        ("adapter.target_modules=q_proj,v_proj", ["q_proj", "v_proj"]),
        ("adapter.target_modules=all-linear", "all-linear"),
        ("task.columns=question:a,answer:1", {"question": "a", "answer": "1"}),
        ("task.columns={question:a, answer: no}", {"question": "a", "answer": "no"}),
        ("task.columns={question: my text}", {"question": "my text"}),
        ("task.columns=question:a:b", {"question": "a:b"}),
    ],
)
def test_words_without_quotes_mean_what_they_say(word: str, value: object) -> None:
    key = word.partition("=")[0]
    assert get(load(None, ["task.name=jsonl", word]), key) == value


def test_columns_and_choices_of_a_users_file(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "task: {name: jsonl, columns: {question: text, answer: label}, choices: ['yes', 'no']}\n",
    )
    task = load(path).task
    assert task.columns == {"question": "text", "answer": "label"}
    assert task.choices == ["yes", "no"]
    assert load(path, ["task.columns.answer=gold"]).task.columns == {
        "question": "text",
        "answer": "gold",
    }


def test_the_resolved_yaml_loads_as_itself(tmp_path: Path) -> None:
    words = ["train.learning_rate=1e-7", "task.name=jsonl", "task.choices=['null','no','1']"]
    words += ["task.prompt='Q: {question}'", "run_name=007", "regularizer.beta=0.1", "seed=3"]
    config = load(None, words)
    again = load(written(tmp_path, to_yaml(config)))
    assert again == config
    assert config_hash(again) == config_hash(config)


def test_a_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().pool.rounds = 3  # type: ignore[misc]


def test_help_names_every_key_with_a_line() -> None:
    text = describe()
    for key, item in fields_of(Config):
        assert f"  {key}=" in text
        assert item.metadata["help"], key
    assert "top_k | random" in text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_files_load_and_open_with_their_command(path: Path) -> None:
    load(path)
    head = path.read_text(encoding="utf-8").partition("\n\n")[0]
    comment = [line for line in head.splitlines() if line.startswith("#")]
    assert any(f"star run {path.relative_to(ROOT)}" in line for line in comment)


# --- names and hashes --------------------------------------------------------------------------


def test_hash_leaves_out_where_the_output_goes() -> None:
    words = ["output_dir=x", "run_name=y", "tracking.progress=false", "tracking.cache_dir=z"]
    assert config_hash(load(None, words)) == config_hash(load())
    assert len(config_hash(load())) == 16


def test_hash_stays_where_keys_are_added() -> None:
    # What committed results hold: a cell's hash is of the keys there were when it was run.
    assert config_hash(load()) == "24a72945e1d84bed"
    assert config_hash(load(ROOT / "configs/quickstart.yaml", preset="star")) == "0bc4bb628e56d042"


def test_hash_leaves_out_an_added_key_at_its_default_alone() -> None:
    tree = dataclasses.asdict(load())
    added = [key for key, item in fields_of(Config) if item.metadata["added"]]
    for key in added:
        *sections, name = key.split(".")
        section = tree
        for part in sections:
            section = section[part]
        del section[name]
    assert hash_of(tree) == config_hash(load())
    tree["train"]["learning_rate"] = 1.0
    assert hash_of(tree) != config_hash(load())


def other_value(key: str, item: dataclasses.Field) -> str:
    """Return another value of a key, as a word has it."""
    value = get(Config(), key)
    if isinstance(value, bool):
        return json.dumps(not value)
    if isinstance(value, (int, float)):
        if isinstance(value, float):
            return str(value / 2 or 0.5)
        return str(value + 1)
    if key in ("evaluation.views", "tracking.log_with"):
        return {"evaluation.views": "[full]", "tracking.log_with": "[wandb]"}[key]
    if str(item.type).startswith("Literal["):
        words = [word.strip(" '") for word in str(item.type)[8:-1].split(",")]
        return next(word for word in words if word != value)
    if "int" in str(item.type) or "float" in str(item.type):
        return "3"
    if key == "annotation.masking":
        return "patterns"
    if key in ("acquisition.strategy", "adapter.target_modules"):
        return {"acquisition.strategy": "a:f", "adapter.target_modules": "[a]"}[key]
    return (
        "[a]" if "list" in str(item.type) else "{question: a}" if "dict" in str(item.type) else "a"
    )


@cache
def loaded(*words: str) -> Config:
    return load(None, words)


@pytest.mark.parametrize("key, item", list(fields_of(Config)), ids=lambda value: str(value)[:40])
def test_hash_has_every_other_key(key: str, item: dataclasses.Field) -> None:
    # Companions that make the changed value a valid one; the same on both sides of the comparison.
    companions = {
        "model.revision": ["model.name_or_path=org/name"],
        "model.double_quantization": ["model.quantization=nf4"],
        "task.columns": ["task.name=jsonl"],
        "task.choices": ["task.name=jsonl"],
        "task.verbalizer": ["task.name=classification"],
        "task.oracle": ["task.name=jsonl", "task.data_dir=x"],
        "task.hub_id": ["task.name=classification"],
        "task.classify_by": [
            "task.name=classification",
            "acquisition.combine=none",
            "evaluation.views=[full]",
        ],
        "train.keep": ["task.validation_size=5"],
        "acquisition.combine": ["acquisition.continuation=base"],
        "acquisition.measure": ["acquisition.combine=none"],
        "acquisition.base_weight.rounds": ["pool.rounds=2"],
        "acquisition.candidates": ["pool.query_size=2"],
        "acquisition.candidates_by": ["acquisition.candidates=1000"],
    }.get(key, [])
    changed = load(None, [*companions, f"{key}={other_value(key, item)}"])
    plain = loaded(*companions)
    assert get(changed, key) != get(plain, key)
    left_out = key.partition(".")[0] in schema.NOT_IN_HASH
    assert (config_hash(changed) == config_hash(plain)) == left_out


@pytest.mark.parametrize(
    "words, name",
    [
        ([], "star-predictive_entropy"),
        (["acquisition.select=random"], "random"),
        (["acquisition.combine=none"], "predictive_entropy"),
        (["acquisition.combine=none", "acquisition.measure=max_entropy"], "max_entropy"),
        (
            ["acquisition.combine=subtract", "acquisition.continuation=base"],
            "subtract-predictive_entropy",
        ),
        (["acquisition.continuation=gold"], "star-predictive_entropy-gold"),
        (["acquisition.name=mine", "acquisition.select=random"], "mine"),
    ],
)
def test_strategy_names(words: list[str], name: str) -> None:
    assert strategy_name(load(None, words)) == name


def test_what_reads_labels_says_so() -> None:
    gold = "acquisition.continuation=gold"
    assert not label_free(load(None, [gold]))
    assert label_free(load(None, [gold, "acquisition.select=random"]))


# --- what is wrong: what, what was got, what is allowed ----------------------------------------


@pytest.mark.parametrize(
    "word, parts",
    [
        ("pool.round=3", ["the command line", "'pool.round'", "did you mean 'pool.rounds'?"]),
        ("pol.rounds=3", ["unknown key 'pol.rounds'", "did you mean 'pool.rounds'?"]),
        ("train.query_size=3", ["did you mean 'pool.query_size'?"]),
        ("sed=3", ["did you mean 'seed'?"]),
        ("acquisition.mc_dropout.pases=3", ["did you mean 'acquisition.mc_dropout.passes'?"]),
        ("pool=3", ["pool is a section", "3"]),
        ("acquisition=random", ["acquisition is a section", "'random'"]),
        ("pool.rounds", ["expected key=value", "'pool.rounds'"]),
        ("=3", ["expected key=value"]),
        ("--seed=3", ["expected key=value"]),
        ("seed=abc", ["seed", "abc"]),
        ("seed=1.5", ["seed", "1.5"]),
        ("seed=null", ["seed must be a whole number, got nothing"]),
        ("pool.rounds=1e3", ["pool.rounds"]),
        ("train.learning_rate=fast", ["train.learning_rate", "fast"]),
        ("tracking.progress=maybe", ["tracking.progress", "maybe"]),
        ("model.dtype=float64", ["model.dtype", "float64", "'float32'", "'bfloat16'"]),
        ("acquisition.select=top", ["acquisition.select", "'top'", "'top_k'"]),
        ("task.name=gsm", ["task.name", "'gsm'", "'gsm8k'"]),
        ("adapter.target_modules=null", ["adapter.target_modules"]),
        ("adapter.target_modules={a: b}", ["adapter.target_modules"]),
        ("task.choices={a: b}", ["task.choices must be a list", "[a, b]"]),
        ("task.choices=[a", ["task.choices=[a", "'task.choices=[A, B]' or task.choices=A,B"]),
        ("task.columns=text", ["task.columns must be {question: COLUMN", "'text'"]),
        ('task.prompt="a', ['task.prompt="a', "write 'task.prompt=\"TEXT\"'"]),
        (r"task.prompt={text}\nSo", ["a backslash outside of quotes", "is a line break"]),
        ("output_dir=a\udcff", ["UTF-8", r"a\udcff"]),
        ('run_name="a\\nb"', ["run_name must be one line", r"'a\nb'"]),
        ('task.prompt="a\\0b"', ["task.prompt", "control characters"]),
        ("pool.rouns=3", ["did you mean 'pool.rounds'?"]),
        ("pool.zzz=3", ["pool has initial_size, query_size, rounds"]),
        ("seed=${x}", ["seed", "interpolation"]),
        ("output_dir=${oc.env:HOME}", ["output_dir", "interpolation"]),
        ("adapter.target_modules=['${x}']", ["adapter.target_modules", "not supported"]),
        (
            "adapter.target_modules.0=x",
            ["adapter.target_modules must be auto, all-linear, or a list"],
        ),
        ("seed=???", ["seed", "not supported"]),
        ("seed=[1", ["seed=[1"]),
    ],
)
def test_words_that_are_wrong(word: str, parts: list[str]) -> None:
    message = refused(None, word)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("value", ["", "x"])
@pytest.mark.parametrize("key", [key for key, _ in fields_of(Config)])
def test_what_a_key_cannot_take_is_said_in_our_words(key: str, value: str) -> None:
    """A library's say names its own classes, and neither what is allowed nor what was got."""
    try:
        load(None, [f"{key}={value}"])
    except InputError as error:
        said = str(error)
        assert key in said or key.rpartition(".")[2] in said
        assert any(part in said for part in ("got ", "needs", "is empty", "belongs to", "leave it"))
        for word in (
            "Incompatible",
            "NoneType",
            "'None'",
            "got None",
            "Literal",
            "Optional",
            "obj",
        ):
            assert word not in said
    else:
        assert value or str(dict(fields_of(Config))[key].type).startswith("Optional")


@pytest.mark.parametrize("key, item", list(fields_of(Config)), ids=lambda value: str(value)[:40])
def test_bounds(key: str, item: dataclasses.Field) -> None:
    below = {"ge": -1, "gt": 0}
    above = {"le": 1, "lt": 0}
    for name, bound in item.metadata.items():
        if name in ("help", "added"):
            continue
        step = below.get(name, above.get(name))
        message = refused(None, f"{key}={bound + step}")
        assert key in message
        assert str(bound) in message
    if "float" in str(item.type):
        for word in (".nan", ".inf", "-.inf"):
            assert key in refused(None, f"{key}={word}")


def test_bounds_let_the_edges_in() -> None:
    words = ["pool.rounds=1", "train.warmup_ratio=1", "seed=0", "regularizer.beta=0"]
    config = load(None, [*words, "adapter.lora_dropout=0", "acquisition.mc_dropout.passes=0"])
    assert config.train.warmup_ratio == 1.0
    assert config.adapter.lora_dropout == 0.0


@pytest.mark.parametrize(
    "words, parts",
    [
        (["adapter.target_modules=[]"], ["adapter.target_modules", "empty"]),
        (["train.keep=best"], ["task.validation_size"]),
        (["train.max_steps=0"], ["all MC-dropout passes would be equal", "pool.rounds=1"]),
        (["task.choices=[a,b]"], ["task.choices", "jsonl", "arithmetic"]),
        (["task.columns.question=a"], ["task.columns", "jsonl"]),
        (["adapter.lora_dropout=0"], ["lora_dropout", "passes"]),
        (
            ["acquisition.combine=subtract", "acquisition.continuation=model"],
            ["subtract", "continuation", "got model"],
        ),
        (
            ["acquisition.base_weight.rounds=4", "pool.rounds=5"],
            ["base_weight.rounds=4", "pool.rounds=5", "null"],
        ),
        (
            ["train.schedule_from=test", "train.lr_scheduler_type=cosine"],
            ["schedule_from=test", "linear", "got cosine"],
        ),
        (["acquisition.measure=bald"], ["bald", "combine=none", "got dynamic"]),
        (
            [
                "acquisition.measure=bald",
                "acquisition.combine=none",
                "acquisition.mc_dropout.passes=1",
            ],
            ["bald", "passes >= 2", "got 1"],
        ),
    ],
)
def test_settings_that_contradict_each_other(words: list[str], parts: list[str]) -> None:
    message = refused(None, *words)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "name", ["embedded://tiny", "package://a/b.gguf", "./model", "/models/a", "~/a", "model"]
)
def test_a_revision_is_of_a_model_on_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"model.name_or_path={name}", "model.revision=v1"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert f"model.revision belongs to a model on the Hub, got v1 for {name}" in refused(
        None, *words
    )
    assert load(None, [*words, "model.revision=null"]).model.revision is None
    assert load(None, ["model.name_or_path=org/name", "model.revision=v1"]).model.revision == "v1"


def test_random_choice_scores_nothing_and_needs_no_dropout() -> None:
    load(None, ["adapter.lora_dropout=0", "acquisition.select=random"])


def test_of_a_repeated_key_the_last_wins_as_it_was_typed() -> None:
    assert load(None, ["run_name=a", "run_name=01"]).run_name == "01"
    assert load(None, ["run_name=01", "run_name=a"]).run_name == "a"
    assert load(None, ["run_name=01", "run_name=null"]).run_name is None


@pytest.mark.parametrize(
    "text, part",
    [
        ("- a\n", "mapping of sections"),
        ("pool: 3\n", "pool is a section"),
        ("pool:\n", "pool is a section"),
        ("pool: {roundz: 3}\n", "did you mean 'pool.rounds'?"),
        ("pool: {rounds: x}\n", "pool.rounds"),
        ("pool: [\n", "not readable as YAML"),
        ("\tseed: 1\n", "not readable as YAML"),
        ("seed: 1\nseed: 2\n", "duplicate key seed"),
        ("seed: !!python/object/apply:os.getcwd []\n", "not readable as YAML"),
        ("3\n", "not readable as YAML"),
        ('model:\n  name_or_path: "${"\n', "model.name_or_path: no viable alternative"),
        ("1: 2\n", "unknown key '1'"),
        # YAML would make them 7, false and [true, false].
        ("run_name: 007\n", "quote it"),
        ("task: {test_split: no}\n", "quote it"),
        ("task: {name: jsonl, choices: [yes, no]}\n", "quote it"),
        ("adapter: {target_modules: [a, [b]]}\n", "quote it"),
        ("task: {name: jsonl, choices: [null, other]}\n", "got None as YAML reads it; quote it"),
        ("task: {name: classification, verbalizer: {a: }}\n", "got None as YAML reads it"),
        ("evaluation: {views: [full, ~]}\n", "got None as YAML reads it"),
        ("task: {prompt: '${seed}'}\n", "interpolation"),
        ("task: {name: jsonl, prompt: '${seed}'}\n", "interpolation"),
    ],
)
def test_files_that_are_wrong(text: str, part: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    message = refused(path)
    assert part in message
    assert path.name in message


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    assert "gone.yaml not found" in refused(tmp_path / "gone.yaml")
    assert "not found" in refused(tmp_path)
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not readable" in refused(tmp_path / "run.yaml")


@given(st.text(max_size=20))
def test_any_word_loads_or_is_refused_in_one_line(word: str) -> None:
    try:
        load(None, [word])
    except InputError as error:
        assert str(error)


@pytest.mark.parametrize(
    "key, right",
    [
        ("train.lr", "train.learning_rate"),
        ("lr", "train.learning_rate"),
        ("optimizer.lr", "train.learning_rate"),
        ("train.epochs", "train.num_train_epochs"),
        ("train.batch_size", "train.per_device_train_batch_size"),
        ("evaluation.batch_size", "evaluation.per_device_eval_batch_size"),
        ("eval.eval_batch_size", "evaluation.per_device_eval_batch_size"),
        ("adapter.rank", "adapter.r"),
        ("lora_r", "adapter.r"),
        ("adapter.alpha", "adapter.lora_alpha"),
        ("adapter.dropout", "adapter.lora_dropout"),
        ("model.name", "model.name_or_path"),
        ("model.path", "model.name_or_path"),
        ("task.path", "task.data_dir"),
        ("task.dataset", "task.name"),
        ("pool.k", "pool.query_size"),
        ("output", "output_dir"),
        ("rounds", "pool.rounds"),
        ("train.learning_rat", "train.learning_rate"),
        ("train.max_step", "train.max_steps"),
    ],
)
def test_what_others_call_a_key_leads_to_it(key: str, right: str) -> None:
    message = refused(None, f"{key}=1")
    assert message == f"the command line: unknown key '{key}'; did you mean '{right}'?"


def test_aliases_lead_to_keys() -> None:
    known = {key for key, _ in fields_of(Config)}
    for alias, keys in ALIASES.items():
        assert set(keys) <= known, alias


# --- the schema itself -------------------------------------------------------------------------


def test_every_value_of_the_defaults_has_its_declared_type() -> None:
    hints = get_type_hints(schema.PoolConfig)
    assert set(hints.values()) == {int}
    for key, _ in fields_of(Config):
        value = get(Config(), key)
        assert not (isinstance(value, float) and not math.isfinite(value)), key


@pytest.mark.parametrize("key, got", [("0", "0"), ("yes", "True"), ("1.0", "1.0")])
def test_a_key_that_yaml_takes_for_no_text_must_be_quoted(
    key: str, got: str, tmp_path: Path
) -> None:
    """The command line takes it as it is typed."""
    path = tmp_path / "run.yaml"
    for name in (key, f"'{key}'"):
        path.write_text(f"task: {{name: classification, verbalizer: {{{name}: bad, b: good}}}}")
        if name == key:
            with pytest.raises(InputError, match=rf"task.verbalizer: .*got {got} .*quote it"):
                load(path)
            continue
        assert load(path).task.verbalizer == {key: "bad", "b": "good"}
    words = ["task.name=classification", f"task.verbalizer={{{key}: bad, b: good}}"]
    assert load(None, words).task.verbalizer == {key: "bad", "b": "good"}
