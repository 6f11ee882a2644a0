"""What a run is asked to do: names, types and ranges, how words become a configuration, presets.

The imports are the list of what is handed on.
"""

from star.config.acquisition import AcquisitionConfig, BaseWeightConfig, McDropoutConfig
from star.config.checks import check
from star.config.derived import (
    NEEDS_NO_SCORES,
    NOT_IN_HASH,
    UNORDERED,
    as_said,
    config_hash,
    embedding_view,
    encoder_of,
    is_unordered,
    label_free,
    needs_scores,
    own_strategy,
    passes_that_differ,
    rows_per_update,
    scored_continuation,
    starts_cold,
    strategy_name,
)
from star.config.keys import describe, fields_of, get
from star.config.reading import PRESETS, hash_of_file, load, preset_path, to_yaml
from star.config.schema import (
    AdapterConfig,
    AnnotationConfig,
    Config,
    EvaluationConfig,
    ModelConfig,
    PoolConfig,
    RegularizerConfig,
    TaskConfig,
    TrackingConfig,
    TrainConfig,
)
