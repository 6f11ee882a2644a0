"""What each process of test_distributed.py runs: score, generate, train; rank 0 writes results."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import tiny

from star.acquisition import uncertainty
from star.config import McDropoutConfig, RegularizerConfig, TrainConfig
from star.models import adapter, mc_dropout, tfb, training
from star.models.batching import Batching
from star.models.distributed import collect, end, is_main, leave, share, state
from star.models.generation import generate
from star.models.likelihood import choice_log_probs, token_scores

# Seven: no even split, and the last update has rows for one process alone.
ROWS = tiny.random_rows(7, seed=6)


def results(folder: str, *, processes: int) -> dict[str, object]:
    model = tiny.load(folder)
    model.batching = Batching(rows=2)
    choices = [[replace(row, continuation=(c,)) for c in (20, 30)] for row in ROWS]
    with tiny.learned(model) as adapted:
        plain = token_scores(model, ROWS, uncertainty.from_logits)
        config = McDropoutConfig(passes=2, masks="token")
        with mc_dropout.passes(adapted, config, seed=0, round_=0).installed() as passes:
            noisy = token_scores(
                model,
                ROWS,
                uncertainty.from_logits,
                passes=passes,
                over_passes=lambda logs: {"bald": uncertainty.bald(logs)},
            )
        searched = tfb.search(model, tfb.Posterior(adapted, seed=0, round_=0), ROWS, 0.01)
        found: dict[str, object] = {
            "sigma": searched.sigma,
            "plain": {name: value.tolist() for name, value in plain.items()},
            "noisy": {name: value.tolist() for name, value in noisy.items()},
            "choices": choice_log_probs(model, choices).tolist(),
            "answers": generate(model, [row.prompt for row in ROWS], max_new_tokens=6),
            "one row": token_scores(model, ROWS[:1], uncertainty.from_logits)[
                "max_entropy"
            ].tolist(),
        }
    with adapter.fresh(model, replace(tiny.ADAPTER, lora_dropout=0.0), seed=0, round_=0) as adapted:
        fitted = training.fit(
            model,
            adapted,
            ROWS,
            config=TrainConfig(
                learning_rate=3e-3,
                num_train_epochs=3,
                per_device_train_batch_size=6 // processes,
            ),
            regularizer=RegularizerConfig(kind="loss", beta=0.5),
            seed=0,
            round_=0,
            validation=ROWS[:3],
        )
    found["training"] = [list(entry.values()) for entry in fitted.log]
    found["validation"] = fitted.validation
    return found


def main() -> None:
    folder, out, processes = sys.argv[1:]
    assert state().num_processes == int(processes), "not one job of so many processes"
    found = results(folder, processes=int(processes))
    # Every process must hold the same, not the first alone.
    everyone = collect(dict.fromkeys(share(int(processes)), found), int(processes))
    if is_main():
        Path(out).write_text(json.dumps(everyone))
    state().wait_for_everyone()
    leave()
    end(0)


if __name__ == "__main__":
    main()
