"""What was chosen after a round, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from star.acquisition.candidates import Indices, candidates
from star.acquisition.components import Embed
from star.acquisition.decision import Decision
from star.acquisition.embeddings import Embeddings
from star.acquisition.scores import Scores
from star.active_learning.drawn import NOTHING_DRAWN, Drawn
from star.config import Config
from star.data.pool import Pool


@dataclass(frozen=True)
class Query:
    """What was chosen after a round, and why.

    Attributes:
        decision: What was picked, and what decided it.
        scores: Of the unlabelled pool.
        wanted: K of the configuration; the pool may have had fewer left.
        tokens: Logical work of scoring and embedding.
        embeddings: Those that were asked for.
        drawn: What of it was drawn at random, answered by the round's model.
        among: How many of how many were scored, and by what chosen; ``None``: all.
    """

    decision: Decision
    scores: Scores
    wanted: int
    tokens: int
    embeddings: Embeddings | None = None
    drawn: Drawn = NOTHING_DRAWN
    among: Mapping[str, Any] | None = None

    @property
    def indices(self) -> list[int]:
        """Pool indices to label, best first."""
        return self.decision.indices

    @property
    def record(self) -> dict[str, Any]:
        """The content of ``selected.json``."""
        drawn = self.drawn
        told = {"drawn": {"indices": drawn.indices, "answers": drawn.answers}}
        return {"indices": self.indices, **(told if drawn.indices else {})}

    @property
    def notes(self) -> dict[str, Any]:
        """What ``metrics.json`` says of the query; nothing where there was none."""
        decision = self.decision
        notes: dict[str, Any] = {"size": len(self.indices)} if self.indices else {}
        if len(self.indices) < self.wanted:
            notes["exhausted"] = True
        if self.among is not None:
            notes["candidates"] = dict(self.among)
        if decision.full is not None:
            notes |= {
                name: getattr(decision, name)
                for name in ("base_weight", "effective_weight", "near_ties")
            }
        return notes


NO_QUERY = Query(Decision([]), Scores({}), wanted=0, tokens=0)


def candidates_of(
    config: Config, pool: Pool[Any], t: int, embed: Embed
) -> tuple[Indices, dict[str, Any] | None]:
    """Return what is scored after round ``t``, and what to say of it where it is not all."""
    asked, free = config.acquisition, pool.unlabelled
    how = {"labelled": [*pool.labelled], "seed": config.seed, "t": t}
    index = candidates(free, asked, embed=embed, **how)
    if asked.candidates is None:
        return index, None
    return index, {"scored": len(index), "of": len(free), "by": asked.candidates_by}
