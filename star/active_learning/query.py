"""What was chosen after a round, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from star.acquisition.decision import Decision
from star.acquisition.embeddings import Embeddings
from star.acquisition.scores import Scores
from star.active_learning.drawn import NOTHING_DRAWN, Drawn


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
    """

    decision: Decision
    scores: Scores
    wanted: int
    tokens: int
    embeddings: Embeddings | None = None
    drawn: Drawn = NOTHING_DRAWN

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
        if decision.full is not None:
            notes |= {
                name: getattr(decision, name)
                for name in ("base_weight", "effective_weight", "near_ties")
            }
        return notes


NO_QUERY = Query(Decision([]), Scores({}), wanted=0, tokens=0)
