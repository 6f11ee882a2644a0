"""What the entries of the dictionary of strategies hand to the functions they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_decision import ask, scores

from star.config import AcquisitionConfig, config_hash, load
from star.errors import InputError

POOL = scores(30, seed=3)


def picks(select: str, **settings: Any) -> list[int]:
    """Return where in the pool the seven stand that an entry picks."""
    a = AcquisitionConfig(select=select, **settings)  # type: ignore[arg-type]
    return np.searchsorted(POOL.index, ask(POOL, a, 7).indices).tolist()


@pytest.mark.parametrize("name", ["softmax", "power", "softrank"])
def test_a_cold_draw_is_top_k(name: str) -> None:
    assert picks(name, coldness=1e6) == picks("top_k") != picks(name)


def test_a_draw_without_an_end_is_refused() -> None:
    with pytest.raises(InputError, match="coldness"):
        load(None, ["acquisition.select=power", "acquisition.coldness=0"])


def test_a_key_at_its_default_is_no_other_run() -> None:
    assert config_hash(load(None, ["acquisition.coldness=1"])) == config_hash(load())
    assert config_hash(load(None, ["acquisition.coldness=2"])) != config_hash(load())
