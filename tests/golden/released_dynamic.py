"""A pool small enough to score by hand, and the nine queries the released code makes on it.

    python tests/golden/released_dynamic.py    writes released_dynamic.json beside it

Plain Python in float64 from the formulas of the paper and the faults of the released code; nothing
of star is imported, so that an error of star's cannot repeat itself here.

* PE(x) = −Σ_i log p(s_i), ME(x) = −Σ_i Σ_v p log p with 0·log 0 = 0; s = the gold answer; sums.
* Base view: neither clips. Full view: under ``dynamic`` ME clips p at 1e-6 from below and does not
  renormalise; under ``subtract`` it does not clip.
* u_base on [0, 1] over the whole pool, labelled rows too; u_full as it is, in nats.
* ``dynamic``: λ u_base + (1 − λ) u_full, λ = 1 − 0.1 (t + 1). ``subtract``: u_full − u_base.
* The blend on [0, 1] over the unlabelled rows; the largest is bought, of equal ones the smaller
  pool index. One initial label, one more after each of rounds 0 … 8.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

VOCABULARY = 6
UNIT = 10**9  # probabilities are whole numbers of 1e-9, so that the file holds them exactly
FLOOR = 1e-6
QUERIES = 9
INITIAL = 4  # has the largest base score of both measures: labelled rows still set the scale
# Pool index to the gold answer's tokens. Indices have gaps, as where duplicates were left out.
ANSWERS = {
    0: [2],
    2: [0, 5],
    3: [1, 4, 3],
    4: [5, 3, 0, 1],
    7: [3],
    8: [1, 4, 3],  # the same as row 3 in every view: a tie in every round
    9: [4, 4],
    11: [0, 2, 5, 1],
    12: [5, 1, 2],
    15: [2, 0],
    16: [1],
    20: [3, 5, 0],
}
TWINS = (3, 8)

Distribution = list[int]


def numbers(*key: int) -> list[int]:
    """Return VOCABULARY whole numbers in 0 … 999 that look random (a linear congruence)."""
    state = 12345
    for part in key:
        state = (state * 1103515245 + 7919 * (part + 3) + 12345) % 2**31
    out = []
    for _ in range(VOCABULARY):
        state = (state * 1103515245 + 12345) % 2**31
        out.append(state // 65536 % 1000)
    return out


def distribution(view: int, index: int, place: int) -> Distribution:
    """Return one position's probabilities in units of 1e-9; ``view`` −1 is base, t the full one.

    The base is flatter. The full view has one probability of exactly 0 and one below 1e-6 in every
    position, never the gold token's but in row 12, whose gold token is all but impossible.
    """
    token = ANSWERS[index][place]
    index = TWINS[0] if index == TWINS[1] else index
    raw = numbers(view + 1, index, place)
    power = 1 if view < 0 or index == INITIAL else 2 + (index + view) % 3
    weights = [(n + 60) ** power for n in raw]
    if view < 0 and index == INITIAL:
        weights = [100 + n // 40 for n in raw]
    shares = [w * UNIT // sum(weights) for w in weights]
    small: dict[int, int] = {}
    if view >= 0 or index in (0, 9):  # the base has some too, which nothing clips
        small[(token + 1 + view % 2) % VOCABULARY] = 0
        small[(token + 3) % VOCABULARY] = 1 + raw[0] % 900
    if index == 12 and place == 1 and view >= 0:
        small[token] = 700 - 50 * view
    for v, share in small.items():
        shares[v] = share
    rest = max((v for v in range(VOCABULARY) if v not in small), key=lambda v: shares[v])
    shares[rest] += UNIT - sum(shares)
    return shares


def score(view: list[Distribution], answer: list[int], measure: str, floor: float) -> float:
    """Return one row's score in nats."""
    total = 0.0
    for shares, token in zip(view, answer, strict=True):
        p = [share / UNIT for share in shares]
        if measure == "predictive_entropy":
            total -= math.log(p[token])
        else:
            clipped = [max(value, floor) for value in p]
            total -= sum(value * math.log(value) for value in clipped if value > 0)
    return total


def scaled(values: dict[int, float]) -> dict[int, float]:
    low, high = min(values.values()), max(values.values())
    return {index: (value - low) / (high - low) for index, value in values.items()}


def queries(pool: dict[int, dict], measure: str, combine: str) -> list[dict]:
    """Return what is scored and bought after each of the nine rounds."""
    base = {i: score(row["base"], ANSWERS[i], measure, 0.0) for i, row in pool.items()}
    scaled_base = scaled(base)
    unlabelled = sorted(set(pool) - {INITIAL})
    rounds = []
    for t in range(QUERIES):
        weight = 1 - 0.1 * (t + 1)
        floor = FLOOR if combine == "dynamic" else 0.0
        full = {i: score(pool[i]["full"][t], ANSWERS[i], measure, floor) for i in unlabelled}
        mixed = {
            i: weight * scaled_base[i] + (1 - weight) * full[i]
            if combine == "dynamic"
            else full[i] - scaled_base[i]
            for i in unlabelled
        }
        blend = scaled(mixed)
        chosen = min(unlabelled, key=lambda i: (-blend[i], i))
        rounds.append(
            {
                "round": t,
                "weight": weight,
                "index": unlabelled,
                "base": [base[i] for i in unlabelled],
                "full": [full[i] for i in unlabelled],
                "blended": [blend[i] for i in unlabelled],
                "selected": chosen,
            }
        )
        unlabelled = [i for i in unlabelled if i != chosen]
    return rounds


def content() -> dict:
    """Return all that the JSON file holds."""
    pool = {
        index: {
            "answer": answer,
            "base": [distribution(-1, index, j) for j in range(len(answer))],
            "full": [
                [distribution(t, index, j) for j in range(len(answer))] for t in range(QUERIES)
            ],
        }
        for index, answer in ANSWERS.items()
    }
    return {
        "unit": UNIT,
        "initial": INITIAL,
        "pool": [{"index": index, **row} for index, row in pool.items()],
        "runs": [
            {"combine": combine, "measure": m, "rounds": queries(pool, m, combine)}
            for combine in ("dynamic", "subtract")
            for m in ("predictive_entropy", "max_entropy")
        ],
    }


def text() -> str:
    """Return the file: JSON, one pool row or round a line."""
    whole = content()
    pool = ",\n".join(json.dumps(row) for row in whole["pool"])
    runs = ",\n".join(
        f'{{"combine": "{run["combine"]}", "measure": "{run["measure"]}", "rounds": [\n'
        + ",\n".join(json.dumps(one) for one in run["rounds"])
        + "\n]}"
        for run in whole["runs"]
    )
    head = f'{{"unit": {UNIT}, "initial": {INITIAL}, "pool": [\n{pool}\n'
    return head + f'], "runs": [\n{runs}\n]}}\n'


if __name__ == "__main__":
    Path(__file__).with_suffix(".json").write_text(text(), encoding="utf-8")
