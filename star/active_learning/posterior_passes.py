"""The passes of a round, of the kind that ``acquisition.passes`` names, made when they are used."""

from __future__ import annotations

from peft import PeftModel

from star.active_learning.fitting import Fitting
from star.config import Config, passes_that_differ
from star.models import ensemble, mc_dropout, tfb
from star.models.language_model import LanguageModel
from star.models.passes import Passes


class RoundPasses:
    """The S passes of one round, made once, by whoever asks first.

    Args:
        config: Of the run.
        model: With the round's adapter on.
        adapted: That adapter, trained before the passes are asked for.
        round_: t.
        fitting: How it was trained, and on what: bought labels alone.
    """

    def __init__(
        self,
        config: Config,
        model: LanguageModel,
        adapted: PeftModel,
        round_: int,
        fitting: Fitting,
    ) -> None:
        self._config, self._model, self._adapted, self._round = config, model, adapted, round_
        self._fitting = fitting
        self._made: tuple[Passes, int] | None = None

    def passes(self) -> Passes | None:
        """Return the passes; ``None`` where none are asked for or can differ."""
        return self._all()[0] if passes_that_differ(self._config) else None

    def tokens(self, verb: str) -> int:
        """Return the tokens of making the passes, if they are counted with the verb.

        With the evaluation where that uses them, else with the scoring: also where one of the two
        was read from a round that is shared, so that equal runs count the same.
        """
        owner = "evaluate" if "mc" in self._config.evaluation.views else "score"
        counted = verb == owner and passes_that_differ(self._config)
        return self._all()[1] if counted else 0

    def _all(self) -> tuple[Passes, int]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def _make(self) -> tuple[Passes, int]:
        config, a, t = self._config, self._config.acquisition, self._round
        count, seed = a.mc_dropout.passes, config.seed
        if a.passes == "ensemble":
            return ensemble.train(
                self._model, self._adapted, config.adapter, self._fitting.fit,
                count=count, seed=seed, round_=t,
            )  # fmt: skip
        if a.passes == "tfb":
            posterior = tfb.Posterior(self._adapted, seed=seed, round_=t)
            found = tfb.search(self._model, posterior, self._fitting.rows, a.tfb_tolerance)
            return posterior.passes(found.sigma, count), found.tokens
        return mc_dropout.passes(self._adapted, a.mc_dropout, seed=seed, round_=t), 0
