"""What ``acquisition.candidates`` must keep to."""

from __future__ import annotations

from star.config.acquisition import AcquisitionConfig
from star.config.derived import needs_scores
from star.config.schema import Config
from star.errors import InputError


def check_candidates(config: Config) -> None:
    """Raise ``InputError`` where a subset of the pool is scored and something needs all of it."""
    a = config.acquisition
    if a.candidates is None:
        if a.candidates_by != AcquisitionConfig.candidates_by:
            raise InputError(
                f"acquisition.candidates_by={a.candidates_by} says which candidates are scored; "
                "set acquisition.candidates, how many"
            )
        return
    said = f"acquisition.candidates={a.candidates}"
    if not needs_scores(a):
        raise InputError(
            f"{said} bounds what is scored, and acquisition.select={a.select} scores nothing; "
            "leave it out"
        )
    if a.candidates < config.pool.query_size:
        raise InputError(
            f"{said} must be at least pool.query_size={config.pool.query_size}, which are picked "
            "among them"
        )
    if a.normalization == "base_minmax":
        raise InputError(
            f"{said}: acquisition.normalization=base_minmax needs the base scores of the whole "
            "pool; set another, or leave the candidates out"
        )
    if a.random_share and a.candidates_by == "embeddings":
        raise InputError(
            f"{said} spread over embeddings are no uniform sample, and acquisition.random_share="
            f"{a.random_share:g} draws one; set acquisition.candidates_by=random"
        )
