"""Sequence classification: a head on any encoder or decoder, trained beside the adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from star.active_learning.loop import run
from star.cli.main import main
from star.config import ModelConfig, load
from star.config.schema import AdapterConfig, RegularizerConfig, TrainConfig
from star.errors import InputError
from star.experiments.estimate.estimate import estimate
from star.models import adapter, classifier, likelihood, training
from star.models.batching import Batching
from star.models.classifier import Classifier
from star.models.embedding import embed
from star.models.encoding import TokenRow
from star.models.reading import read

WORDS = ["a", "dull", "bright", "film", "so", "good", "bad", "one", "it", "is", "was", "not", "no"]
HUES = ("red", "green", "blue")
SMALL = {"vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
ENCODERS = {
    "bert": {**SMALL, "intermediate_size": 32, "max_position_embeddings": 40},
    "roberta": {
        **SMALL, "intermediate_size": 32, "max_position_embeddings": 42, "pad_token_id": 0,
    },
    "electra": {
        **SMALL, "embedding_size": 16, "intermediate_size": 32, "max_position_embeddings": 40,
    },
    "distilbert": {
        "vocab_size": 24, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32,
        "max_position_embeddings": 40,
    },
    "llama": {**SMALL, "intermediate_size": 32, "max_position_embeddings": 40},
    "gpt2": {"vocab_size": 24, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40},
    "qwen2": {
        **SMALL, "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 40,
    },
}  # fmt: skip


def make(folder: Path, kind: str, limit: int = 40) -> Path:
    """Write a tiny body without a head, and a tokenizer that puts marks round every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        unk_token="[UNK]", eos_token="[SEP]", model_max_length=limit,
    ).save_pretrained(folder)  # fmt: skip
    config = AutoConfig.for_model(kind, **ENCODERS[kind], initializer_range=0.3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("bert"), "bert")


def loaded(folder: Path, **more: Any) -> Classifier:
    return classifier.load(ModelConfig(name_or_path=str(folder)), HUES, **more)


def texts(count: int = 7) -> list[str]:
    return [
        " ".join(WORDS[(i * j) % len(WORDS)] for j in range(1, 3 + i % 5)) for i in range(count)
    ]


def groups(model: Classifier, count: int = 7) -> list[list[TokenRow]]:
    rows = model.encode(texts(count), [""] * count, eos=False)
    return [[TokenRow(r.index, r.prompt, (c,)) for c in range(len(HUES))] for r in rows]


ADAPTER = AdapterConfig(r=4, target_modules="auto")


@pytest.mark.parametrize("kind", ENCODERS)
def test_class_probabilities_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    model = loaded(make(tmp_path, kind))
    with adapter.fresh(model, ADAPTER, seed=0, round_=0) as adapted:
        with torch.no_grad():
            for layer in (m for _, m in adapter.layers(adapted)):
                layer.lora_B["default"].weight.normal_(std=0.3)
        alone = []
        for text in texts():
            told = model.tokenizer(text, return_tensors="pt")
            told.pop("token_type_ids", None)
            with torch.no_grad():
                alone.append(adapted(**told).logits[0].log_softmax(-1).numpy())
        for rows in (1, 3, 64):
            model.batching = Batching(rows=rows)
            found = likelihood.choice_log_probs(model, groups(model))
            np.testing.assert_allclose(found[:, 0], np.stack(alone), rtol=1e-5, atol=1e-5)
    assert np.stack(alone).std(axis=0).min() > 1e-3  # they do differ


# Bodies and heads in which what fills a batch shows: convolutions, a low-rank attention over the
# whole line, a Fourier transform along it, a head that takes the last place.
SHOWING = {
    "convbert": {**ENCODERS["bert"], "embedding_size": 16},
    "nystromformer": ENCODERS["bert"],
    "fnet": {
        **SMALL, "intermediate_size": 32, "max_position_embeddings": 40, "tpu_short_seq_length": 40,
    },
    "xlnet": {"vocab_size": 24, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32},
}  # fmt: skip


@pytest.mark.parametrize("kind", [*SHOWING, "bert"])
def test_a_row_beside_longer_ones_is_what_it_is_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS, kind, SHOWING.get(kind, ENCODERS["bert"]))
    model = classifier.load(
        ModelConfig(name_or_path=str(make(tmp_path, kind)), attn_implementation="eager"), HUES
    )
    assert bool(model.traits.uneven) == (kind in SHOWING)  # others pay nothing
    rows, made = model.encode(texts(), [""] * 7, eos=False), {}
    assert len({len(row.prompt) for row in rows}) > 3
    with adapter.fresh(model, ADAPTER, seed=0, round_=0):
        for most in (1, 64):
            model.batching = Batching(rows=most)
            made[most] = [likelihood.choice_log_probs(model, groups(model))]
            made[most] += [embed(model, rows, pooling=how) for how in ("mean", "last", "head")]
    for alone, together in zip(made[1], made[64], strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_embeddings_are_the_body_s_mean_states(kind: str, tmp_path: Path) -> None:
    model = loaded(make(tmp_path, kind))
    rows = model.encode(texts(), [""] * 7, eos=False)
    with adapter.fresh(model, ADAPTER, seed=0, round_=0):
        body = getattr(model.causal, model.causal.base_model_prefix)
        alone = []
        for text in texts():
            told = model.tokenizer(text, return_tensors="pt")
            with torch.no_grad():
                alone.append(body(input_ids=told["input_ids"]).last_hidden_state[0].mean(0).numpy())
        for most in (1, 3, 64):
            model.batching = Batching(rows=most)
            np.testing.assert_allclose(embed(model, rows), np.stack(alone), rtol=1e-4, atol=1e-5)


def test_positions_end_where_the_model_says(tmp_path: Path) -> None:
    for kind, most in (("bert", 40), ("roberta", 40), ("llama", 40)):
        model = loaded(make(tmp_path / kind, kind))
        assert model.max_length == most + 1  # and the class, which is no token
        long = model.encode(["film " * 90 + "bad"], ["green"], eos=False)[0]
        cut = model.shortened(long.prompt, most)
        assert len(cut) == most and cut[0] == 1 and cut[-1] == 2
        likelihood.choice_scores(model, [[TokenRow(0, cut, (c,)) for c in range(3)]])


def test_the_head_starts_afresh_by_seed_and_round_and_leaves_nothing_behind(bert: Path) -> None:
    model = loaded(bert)
    assert model.heads == ("classifier",)

    def start(seed: int, round_: int, spoil: bool = False) -> torch.Tensor:
        with adapter.fresh(model, ADAPTER, seed=seed, round_=round_) as adapted:
            named = dict(adapted.named_parameters())
            [weight] = [p for n, p in named.items() if "classifier" in n and "default.weight" in n]
            assert weight.requires_grad
            kept = weight.detach().clone()
            if spoil:
                with torch.no_grad():
                    weight.fill_(9.0)
        return kept

    first = start(0, 0, spoil=True)
    assert torch.equal(start(0, 0), first)
    assert not torch.equal(start(0, 1), first)
    assert not torch.equal(start(1, 0), first)
    assert not any(p.requires_grad for p in model.causal.parameters())


def test_training_learns_the_head_and_the_constraint_holds_b_alone(bert: Path) -> None:
    model = loaded(bert)
    rows = model.encode(["good film", "bad film", "so so"] * 4, list(HUES) * 4, eos=True)
    found = {}
    for kind in ("none", "decoupled"):
        with adapter.fresh(model, ADAPTER, seed=0, round_=0) as adapted:
            result = training.fit(
                model, adapted, rows,
                config=TrainConfig(num_train_epochs=15, learning_rate=0.02),
                regularizer=RegularizerConfig(kind=kind, beta=5.0),  # type: ignore[arg-type]
                seed=0, round_=0,
            )  # fmt: skip
            decayed, _ = adapter.parameter_groups(adapted, RegularizerConfig(kind=kind))
            assert {id(p) for n, p in adapted.named_parameters() if "classifier" in n}.isdisjoint(
                map(id, decayed["params"])
            )
            predicted = likelihood.choice_scores(model, groups_of(rows))[:, 0].argmax(-1)
        found[kind] = result
        assert result.log[0]["loss"] == pytest.approx(np.log(3), abs=0.5)
        assert [HUES[i] for i in predicted] == list(HUES) * 4
    assert found["decoupled"].log[-1]["norm_B"] < 0.8 * found["none"].log[-1]["norm_B"]


def groups_of(rows: list[TokenRow]) -> list[list[TokenRow]]:
    return [[TokenRow(r.index, r.prompt, (c,)) for c in range(len(HUES))] for r in rows]


def write(folder: Path, count: int = 24) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, start in (("train", 0), ("test", 100)):
        rows = [
            {"text": f"{WORDS[i % 13]} {WORDS[(i * 3) % 13]} film {WORDS[(i // 13) % 13]}",
             "label": HUES[i % 3]}
            for i in range(start, start + count)
        ]  # fmt: skip
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def words(bert: Path, folder: Path, *more: str) -> list[str]:
    return [
        *(f"model.name_or_path={bert}", "task.name=classification", "task.classify_by=head"),
        *(f"task.data_dir={write(folder / 'data')}", f"output_dir={folder / 'out'}"),
        *("acquisition.combine=none", "evaluation.views=[full, mc]", "adapter.r=4"),
        *("pool.initial_size=6", "pool.query_size=4", "pool.rounds=3", "tracking.progress=false"),
        *more,
    ]


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["acquisition.select=random"],
        ["acquisition.measure=margin", "acquisition.mc_dropout.passes=0"],
        ["acquisition.measure=bald"],
        ["acquisition.measure=bald", "acquisition.passes=tfb"],
        ["acquisition.measure=bald", "acquisition.passes=ensemble"],
        ["acquisition.select=badge", "acquisition.mc_dropout.passes=0"],
        ["acquisition.select=uherding"],
        ["regularizer.kind=loss", "task.validation_size=4", "train.keep=best"],
    ],
)
def test_a_run_goes_its_rounds(more: list[str], bert: Path, tmp_path: Path) -> None:
    folder = run(load(None, words(bert, tmp_path, *more)))
    result = json.loads((folder / "result.json").read_text())
    assert [r["labeled"] - 6 for r in result["rounds"]] == [
        n + (4 if "task.validation_size=4" in more else 0) for n in (0, 4, 8)
    ]
    assert all(0 <= r["macro_f1"] <= 1 for r in result["rounds"])
    metrics = json.loads((folder / "rounds/02/metrics.json").read_text())
    views = metrics["calibration"].keys() & {"base", "full", "mc"}
    assert views == ({"full"} if "acquisition.mc_dropout.passes=0" in more else {"full", "mc"})


def test_a_run_that_was_interrupted_ends_in_the_same_numbers(bert: Path, tmp_path: Path) -> None:
    import shutil

    whole = run(load(None, words(bert, tmp_path, "run_name=whole")))
    part = run(load(None, words(bert, tmp_path, "run_name=part")))
    (part / "result.json").unlink()
    shutil.rmtree(part / "rounds/02")
    run(load(None, words(bert, tmp_path, "run_name=part")))
    for name in ("rounds/02/predictions.jsonl", "rounds/01/selected.json"):
        assert (whole / name).read_bytes() == (part / name).read_bytes()


def test_a_saved_adapter_is_peft_s_own_and_predicts_alike(bert: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForSequenceClassification

    folder = run(load(None, words(bert, tmp_path, "pool.rounds=1")))
    again = AutoPeftModelForSequenceClassification.from_pretrained(
        str(folder / "rounds/00/adapter"), num_labels=3
    ).eval()
    rows, test = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (folder / "rounds/00/predictions.jsonl", tmp_path / "data/test.jsonl")
    )
    model = loaded(bert)
    labels = sorted(HUES)
    for row, source in zip(rows, test, strict=True):
        told = model.tokenizer(source["text"], return_tensors="pt")
        told.pop("token_type_ids", None)
        with torch.no_grad():
            mine = again(**told).logits[0].log_softmax(-1).numpy()
        np.testing.assert_allclose(row["log_probs"], mine, atol=1e-5)
        assert row["prediction"] == labels[int(mine.argmax())]


def test_what_knows_language_models_alone_says_so(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="star estimate"):
        estimate(load(None, words(bert, tmp_path)))


def test_a_strategy_that_asks_for_the_base_view_is_told(bert: Path, tmp_path: Path) -> None:
    own = ["acquisition.strategy=own_strategies:everything"]
    with pytest.raises(InputError, match="asks for the base view, and this model has none"):
        run(load(None, words(bert, tmp_path, *own)))
    assert not [*(tmp_path / "out").rglob("rounds/00")]  # before anything is trained


@pytest.mark.parametrize("select", ["badge", "top_k"])
def test_a_text_longer_than_the_model_is_cut(select: str, bert: Path, tmp_path: Path) -> None:
    told = words(bert, tmp_path, f"acquisition.select={select}", "acquisition.mc_dropout.passes=0")
    for split in ("train", "test"):
        with (tmp_path / f"data/{split}.jsonl").open("a") as file:
            file.write(json.dumps({"text": "film " * 10_000, "label": "red"}) + "\n")
    folder = run(load(None, [*told, "evaluation.views=full"]))
    assert (folder / "result.json").is_file()


@pytest.mark.parametrize("split, called", [("train", "pool"), ("test", "test")])
def test_a_text_longer_than_the_model_is_named(
    split: str, called: str, bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    told = words(bert, tmp_path, "task.overlong=error")
    file = tmp_path / f"data/{split}.jsonl"
    place = f"{called} row {len(file.read_text().splitlines())}"
    with file.open("a") as lines:
        lines.write(json.dumps({"text": "film " * 10_000, "label": "red"}) + "\n")
    assert main(["run", "-", *told]) == 2
    assert f"{place} is longer than the 40 tokens that a prompt may" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_an_encoder_decoder_is_refused(kind: str, bert: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModel

    sizes = {"d_model": 16, "vocab_size": 24, "encoder_layers": 1, "decoder_layers": 1}
    sizes |= {"num_layers": 1} if kind == "t5" else {}
    AutoModel.from_config(AutoConfig.for_model(kind, **sizes)).save_pretrained(tmp_path)
    for file in bert.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    config = ModelConfig(name_or_path=str(tmp_path))
    for options in ({"num_labels": 3}, {"body": True}, {}):  # under a head, as an encoder, to write
        with pytest.raises(InputError, match=rf"is an encoder-decoder \({kind}\), which star"):
            read(config, str(tmp_path), {}, **options)


@pytest.mark.parametrize(
    "word, part",
    [
        ("acquisition.combine=dynamic", "the base model has no opinion"),
        ("acquisition.combine=subtract", "the base model has no opinion"),
        ("acquisition.select=trust", "weighs two views"),
        ("evaluation.views=[base, full]", "set evaluation.views=full,mc"),
        ("acquisition.continuation=gold", "scores classes"),
        ("evaluation.choice_by=generation", "writes no text"),
        ("train.loss_mask=released", "one loss a row"),
        ("task.verbalizer={red: r}", "no words"),
        ("model.quantization=nf4", "model.quantization=none"),
        ("model.torch_compile=true", "model.torch_compile=false"),
        ("train.max_steps=0; pool.rounds=1", "answers at random"),
    ],
)
def test_what_means_nothing_for_a_fresh_head_is_refused(
    word: str, part: str, bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=part):
        load(None, words(bert, tmp_path, *word.split("; ")))


def test_it_is_loaded_in_silence(
    bert: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", True)  # as a program starts
    loaded(bert)
    assert capfd.readouterr() == ("", "")
