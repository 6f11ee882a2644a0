"""What the files of a run folder are called; nowhere else is one of these names spelled."""

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
INITIAL = "initial.json"
RESULT = "result.json"  # written last: its presence means done
ROUNDS = "rounds"  # the folder of the rounds' folders, 00, 01, ...
UNFINISHED = ".unfinished"  # among them: what the round under way has done so far

METRICS = "metrics.json"
PREDICTIONS = "predictions.jsonl"
TRAINING = "training.jsonl"
SCORES = "scores.npz"
SELECTED = "selected.json"
LABELS = "labels.json"  # where people label: what the round was trained and tested on
BOUGHT = "bought.json"
EMBEDDINGS = "embeddings.npz"
ADAPTER = "adapter"

TRACKERS = "trackers"  # a folder beside the rounds', where trackers keep what is theirs
JOURNAL = "decisions.jsonl"  # where people label: the audit trail
DATA = "data"  # where people label: the folder of the rows

FAILURE = ".failed.txt"  # behind the folder's name, beside it: why a sweep's run failed
