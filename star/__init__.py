"""STAR: pool-based active learning for fine-tuning LLMs (arXiv 2403.01165).

``star.run(config)`` runs the algorithm, ``star.predict(run, texts)`` asks the model it has trained,
``star.score_texts(model, rows)`` scores texts,
``star.replay(run, overrides)`` asks a run's scores what another strategy would have picked,
``star.load_results(table)`` gives the results of tables as a data frame.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "run": "star.active_learning.loop",
    "score_texts": "star.models.score_texts",
    "predict": "star.active_learning.predictor",
    "replay": "star.experiments.replay",
    "load_results": "star.experiments.report.results",
    "load_config": "star.config:load",
    "Config": "star.config",
    "InputError": "star.errors",
}
__all__ = [
    "Config",
    "InputError",
    "load_config",
    "load_results",
    "predict",
    "replay",
    "run",
    "score_texts",
]


def __getattr__(name: str) -> Any:
    # Late, so that `star --help` does not wait for torch.
    if name not in _PUBLIC:
        raise AttributeError(f"module 'star' has no attribute '{name}'")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(import_module(module), attribute or name)
