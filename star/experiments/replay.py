"""What would another strategy have picked? The stored score components answer without a model.

``scores.npz`` keeps every measure of both views, pass by pass, summed over tokens; from these each
measure, reduction, scale, λ(t), blend and selection can be had again. Each round is asked on the
run's *own* unlabelled pool and the run's own adapter: other picks would have led to other labels,
another adapter and another pool, and none of that is replayed.

The file is not called ``replay``: a module of that name would hide the function ``star.replay``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from star.acquisition import blending
from star.acquisition.candidates import candidates
from star.acquisition.components import Context
from star.acquisition.decision import decide
from star.acquisition.scores import Scores
from star.acquisition.strategies import strategy_of
from star.active_learning.memory import stored_context, unlabelled
from star.active_learning.run_reader import RunReader
from star.config import (
    Config,
    fields_of,
    label_free,
    load,
    needs_scores,
    scored_continuation,
)
from star.data.loading import is_choice
from star.errors import InputError
from star.files import write_json

REPLAYABLE = (
    "acquisition.strategy",
    "acquisition.select",
    "acquisition.coldness",
    "acquisition.preselect",
    "acquisition.random_share",
    "acquisition.candidates",
    "acquisition.candidates_by",
    "acquisition.measure",
    "acquisition.reduction",
    "acquisition.combine",
    "acquisition.normalization",
    "acquisition.base_weight.schedule",
    "acquisition.base_weight.value",
    "acquisition.base_weight.rounds",
    "acquisition.base_weight.decay",
    "acquisition.mc_dropout.passes",
    "pool.query_size",
)
"""Keys whose other values can be replayed; ``passes`` can only be lowered."""


def replay(run: str | Path, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return what a strategy picks from the scores of each round of a run, beside what was picked.

    Each round is asked on the run's own unlabelled pool: the counterfactual does not go on to the
    next round. Reads the run folder, finished or not, and changes nothing in it.

    Args:
        run: A run folder.
        overrides: ``key=value`` words over the run's configuration, keys of ``REPLAYABLE``. None
            gives the run's own selection. ``acquisition.mc_dropout.passes`` takes the first so many
            stored passes; ``acquisition.select=random`` draws from the stream of the run's seed.
            What was scored stays what the run scored, also where ``acquisition.continuation=auto``
            would be another answer under the ``combine`` that is asked for.
            ``acquisition.candidates=M`` picks among M of what was scored: the overlap is then the
            recall of the true top K.

    Returns:
        One row a round with a query:

        - ``round``; ``pool``: N, unlabelled examples; ``query_size``: K, examples picked here;
          ``selected``: examples the run picked, K too unless the words change it.
        - ``overlap``: share of the K that the run picked too; ``chance``: its expectation for K
          drawn at random; ``jaccard``: |both| / |either|.
        - ``rank_correlation``: Spearman's, of the blended scores with the run's.
        - ``base_weight``: λ(t), nominal; ``effective_weight``: ``{"base", "full"}``, the rank
          correlation of each view with the blend; ``near_ties`` at the K-th score.
        - ``label_free``: whether the run's scores read no answer that was not bought.
        - ``indices``: the K pool indices, best first.

        ``None`` where there is no such number: no score decides a random choice, ``base_weight``
        belongs to ``combine: dynamic``, and a constant has no rank correlation.

    Raises:
        InputError: No run folder, no scores in it, an array that is missing or damaged, or a
            question that needs the model again.
    """
    folder = RunReader.checked(run)
    ran, asked = _configurations(folder, overrides)
    scored = "scores" in strategy_of(asked.acquisition).needs
    rounds = [t for t in range(folder.complete_rounds()) if _replayable(folder, t, scored)]
    if not rounds:
        reason = "no round with a query is complete"
        if "scores" not in strategy_of(ran.acquisition).needs:
            reason = "its strategy looks at none"
        raise InputError(f"{run} keeps no scores to replay: {reason}")
    return [_round(folder, t, ran, asked) for t in rounds]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of :func:`replay` as aligned text, their mean, and what must be known."""
    lines = ["".join(f"{name:>{width}}" for name, width, _, _ in _COLUMNS)]
    lines += [_line([value(row) for _, _, _, value in _COLUMNS]) for row in rows]
    means: list[Any] = ["mean", None, None]
    for _, _, _, value in _COLUMNS[3:]:
        known = [v for v in map(value, rows) if v is not None]
        means.append(sum(known) / len(known) if known else None)
    lines.append(_line(means))
    lines.append("each round is asked on the run's own unlabelled pool; no consequence is replayed")
    if not all(row["label_free"] for row in rows):
        lines.append("label-using: this run's scores read answers that were not bought")
    return "\n".join(lines)


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of :func:`replay` as a JSON list, whole or not at all.

    Raises:
        InputError: ``path`` cannot be written.
    """
    try:
        write_json(path, list(rows))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


# Name, width in characters, format and value of each column.
_COLUMNS: tuple[tuple[str, int, str, Callable[[Mapping[str, Any]], Any]], ...] = (
    ("round", 5, "d", lambda row: row["round"]),
    ("N", 8, "d", lambda row: row["pool"]),
    ("K", 6, "d", lambda row: row["query_size"]),
    ("overlap", 9, ".3f", lambda row: row["overlap"]),
    ("chance", 8, ".3f", lambda row: row["chance"]),
    ("Jaccard", 9, ".3f", lambda row: row["jaccard"]),
    ("rank corr.", 12, ".3f", lambda row: row["rank_correlation"]),
    ("lambda", 8, ".3f", lambda row: row["base_weight"]),
    ("eff. base", 11, ".3f", lambda row: row["effective_weight"]["base"]),
    ("eff. full", 11, ".3f", lambda row: row["effective_weight"]["full"]),
    ("near ties", 11, "g", lambda row: row["near_ties"]),
)


def _line(values: Sequence[Any]) -> str:
    cells = []
    for value, (_, width, form, _) in zip(values, _COLUMNS, strict=True):
        text = "-" if value is None else value if isinstance(value, str) else f"{value:{form}}"
        cells.append(f"{text:>{width}}")
    return "".join(cells)


def _configurations(folder: RunReader, overrides: Sequence[str]) -> tuple[Config, Config]:
    """Return the run's configuration and the one that is asked for.

    Raises:
        InputError: What the stored scores cannot answer.
    """
    keys = {key for key, _ in fields_of(Config)}
    keys |= {key.rpartition(".")[0] for key in keys}  # whole sections
    for word in overrides:
        key, equals, _ = word.partition("=")
        # A key that is none, and its nearest, is for load to say.
        wrong = (
            f"a replay cannot change '{key}'"
            if key and equals
            else f"expected key=value, got '{word}'"
        )
        plain = key.replace("[", ".").replace("]", "")  # OmegaConf takes both
        if not (key and equals) or plain in keys - set(REPLAYABLE):
            raise InputError(f"{wrong}; it can change {', '.join(REPLAYABLE)}")
    ran, asked = load(folder.config), load(folder.config, overrides)
    if needs_scores(asked.acquisition):
        _refuse_what_needs_the_model(ran, asked)
    return ran, asked


def _refuse_what_needs_the_model(ran: Config, asked: Config) -> None:
    old, new = ran.acquisition, asked.acquisition
    kept, wanted = old.mc_dropout.passes, new.mc_dropout.passes
    if wanted > kept or (wanted == 0 < kept):
        held = f"1 to {kept}, the stored passes" if kept else "0, the stored pass without dropout"
        raise InputError(f"acquisition.mc_dropout.passes can be replayed with {held}; got {wanted}")
    if new.measure == "bald" and wanted != kept:
        raise InputError(
            "acquisition.measure=bald is stored over all passes together; leave "
            f"acquisition.mc_dropout.passes at {kept}, got {wanted}"
        )
    own = scored_continuation(old, is_choice(ran.task)) == "model"
    if new.combine == "subtract" and own:
        raise InputError(
            "acquisition.combine=subtract needs one continuation for both views, and each view of "
            f"this run scored its own (acquisition.continuation={old.continuation}); replay none "
            "or dynamic"
        )
    crossed = (old.combine == "dynamic") != (new.combine == "dynamic")
    if crossed and new.entropy_floor > 0 and new.measure == "max_entropy":
        raise InputError(
            f"acquisition.entropy_floor={new.entropy_floor:g} clips max_entropy under "
            f"combine=dynamic alone; the scores of this run (combine={old.combine}) cannot answer "
            f"for combine={new.combine}, replay another measure"
        )


def _replayable(folder: RunReader, t: int, scored: bool) -> bool:
    """Whether a round has a query, and has kept of what it chose; ``scored``: by its scores."""
    if scored or not folder.selected_file(t).is_file():
        return folder.scores(t).is_file()
    return len(unlabelled(folder, t)) > 0


def _round(folder: RunReader, t: int, ran: Config, asked: Config) -> dict[str, Any]:
    """Return a round's row of :func:`replay`."""
    a = asked.acquisition
    passes = max(1, a.mc_dropout.passes)
    if folder.scores(t).is_file():
        stored = Scores.load(folder.scores(t), passes=passes)
    else:
        stored = Scores({"index": unlabelled(folder, t)})
    size, told = len(stored.index), stored_context(folder, ran, t, passes)
    stored = _among(stored, asked, told, t)
    made = decide(
        stored,
        a,
        t=t,
        # An earlier version noted no number of rounds, and let λ(t) run over those asked for.
        rounds=folder.metrics(t).get("rounds", asked.pool.rounds),
        count=asked.pool.query_size,
        seed=asked.seed,
        dtype=asked.model.dtype,
        context=told,
    )
    chosen, correlation = made.indices, None
    if made.blended is not None:  # and so has the run scores
        correlation = blending.spearman(made.blended, stored.arrays["blended"])
    picked = folder.selected(t)
    both = len(set(chosen) & set(picked))
    return {
        "round": t,
        "pool": size,
        "query_size": len(chosen),
        "selected": len(picked),
        "overlap": both / len(chosen),
        "chance": len(picked) / size,
        "jaccard": both / len({*chosen, *picked}),
        "rank_correlation": correlation,
        "base_weight": made.base_weight,
        "effective_weight": made.effective_weight,
        "near_ties": made.near_ties,
        "label_free": label_free(ran),
        "indices": chosen,
    }


def _among(stored: Scores, asked: Config, told: Context, t: int) -> Scores:
    """Return the scores of the candidates that are asked for, where there are more."""
    labelled = [*told.answers()] if asked.acquisition.candidates_by == "embeddings" else []
    how = {"labelled": labelled, "seed": asked.seed, "t": t, "embed": told.embed}
    chosen = candidates(stored.index, asked.acquisition, **how)
    return stored if len(chosen) == len(stored.index) else stored.at(np.isin(stored.index, chosen))
