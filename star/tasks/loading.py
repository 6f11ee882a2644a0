"""Reading stored splits: a folder of files, or the Hugging Face Hub.

JSON lines and JSON are read here, so that a bad row is named by file and line; CSV, Parquet and the
Hub go through ``datasets``, which is imported only then.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from star.errors import InputError, nearest

SUFFIXES = ("jsonl", "json", "csv", "parquet")
_COMMIT = re.compile(r"@([0-9a-f]{40})/")
Row = Mapping[str, Any]
Placed = tuple[str, Row]
"""Where a row stands, in words for a message, and the row."""


@dataclass(frozen=True)
class Table:
    """Rows of one stored split.

    Attributes:
        rows: Columns by name, in stored order.
        places: Where each row stands (``train.jsonl, line 3``), for messages.
        source: What identifies the data: a file's name and SHA-256, or Hub id and revision.
        numbers: The 0-based stored row of each; empty = 0, 1, 2, …
    """

    rows: list[Row]
    places: list[str]
    source: dict[str, Any]
    numbers: Sequence[int] = ()

    def __post_init__(self) -> None:
        if not self.numbers:
            object.__setattr__(self, "numbers", range(len(self.rows)))

    def at(self, numbers: Sequence[int]) -> Table:
        """Return some rows of a whole split, by their stored numbers."""
        rows, places = [self.rows[i] for i in numbers], [self.places[i] for i in numbers]
        return Table(rows, places, self.source, numbers)


def read_folder(data_dir: str | Path, split: str, *, limit: int | None = None) -> Table:
    """Return the rows of ``<data_dir>/<split>.{jsonl,json,csv,parquet}``.

    Args:
        data_dir: Folder of splits.
        split: Name of a file without its suffix.
        limit: Read the first so many rows only; what is malformed behind them goes unnoticed.

    Raises:
        InputError: No such folder or file, two files for one split, no rows, or malformed content.
    """
    path = _find(Path(data_dir), split)
    try:
        placed = list(islice(_READERS[path.suffix[1:]](path), limit))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    if not placed:
        raise InputError(f"{path} holds no rows")
    return Table(
        rows=[row for _, row in placed],
        places=[place for place, _ in placed],
        source={"file": path.name, "sha256": digest},
    )


def _find(folder: Path, split: str) -> Path:
    if not folder.exists():
        parent = next((p for p in folder.absolute().parents if p.is_dir()), Path("/"))
        names = [entry.name for entry in parent.iterdir()]
        raise InputError(
            f"task.data_dir: folder {folder} not found; {_listing(parent)}"
            f"{nearest(folder.name, names)}"
        )
    if not folder.is_dir():
        raise InputError(
            f"task.data_dir must be the folder that holds {split}.{'|'.join(SUFFIXES)}, "
            f"got the file {folder}"
        )
    found = [path for suffix in SUFFIXES if (path := folder / f"{split}.{suffix}").is_file()]
    if not found:
        raise InputError(
            f"task.data_dir: no {split}.{'|'.join(SUFFIXES)} in {folder}; {_listing(folder)}"
        )
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(f"task.data_dir: {folder} holds {names}; keep one file a split")
    return found[0]


def _listing(folder: Path, limit: int = 10) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{folder} holds {', '.join(names[:limit]) or 'nothing'}{more}"


def _read_lines(path: Path) -> Iterator[Placed]:
    # Bytes are split at line feeds alone: U+2028 and others are legal inside a JSON string.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}, line {number}"
            text = _decode(line, place, first=number == 1)
            if text.strip():
                yield place, _as_row(_parse(text, place), place)


def _read_json(path: Path) -> Iterator[Placed]:
    """Yield the rows of a JSON array; of JSON lines too, which are often named ``.json``."""
    text = _decode(path.read_bytes(), str(path), first=True)
    if not text.lstrip().startswith("["):
        yield from _read_lines(path)
        return
    for number, row in enumerate(_parse(text, str(path))):
        place = f"{path}, row {number} (from 0)"
        yield place, _as_row(row, place)


def _decode(content: bytes, place: str, *, first: bool) -> str:
    try:
        return content.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not UTF-8 ({error.reason} at byte {error.start})") from None


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 4,300 digits
        raise InputError(f"{place}: malformed JSON: {error}") from None


def _as_row(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"{place}: a row must be an object {{...}}, got {json.dumps(value)[:60]}")
    return value


def _read_csv(path: Path) -> Iterator[Placed]:
    import datasets

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            names, first = next(lines, []), next(lines, None)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not readable as CSV: {error}") from None
    if first is None:  # which `datasets` would call an error
        return
    if len(set(names)) < len(names):
        raise InputError(f"{path}: the header names a column twice: {', '.join(names)}")
    # All columns as text: left to itself pandas reads 007 as 7 and the answer "NA" as missing.
    features = datasets.Features({name: datasets.Value("string") for name in names})
    yield from _read_table(
        path,
        datasets.Dataset.from_csv,
        features=features,
        keep_default_na=False,
        encoding="utf-8-sig",
    )


def _read_parquet(path: Path) -> Iterator[Placed]:
    import datasets

    yield from _read_table(path, datasets.Dataset.from_parquet)


def _read_table(path: Path, read: Callable[..., Any], **options: Any) -> Iterator[Placed]:
    import datasets

    # In a folder of its own: the cache of `datasets` would otherwise outlive an edit of the file.
    with tempfile.TemporaryDirectory() as cache, _quiet():
        try:
            table = read(str(path), cache_dir=cache, keep_in_memory=True, **options)
        except (ValueError, NotImplementedError, datasets.exceptions.DatasetBuildError) as error:
            # pandas' and Arrow's errors are of the first two; `datasets` may wrap them in its own.
            what = " ".join(str(error.__cause__ or error).split())
            raise InputError(f"{path}: not readable as {path.suffix[1:]}: {what}") from None
    for number, row in enumerate(table):
        yield f"{path}, row {number} (from 0)", row


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep bars and logged errors of ``datasets`` off the screen; errors are raised as well."""
    import datasets

    level = datasets.logging.get_verbosity()
    bars = datasets.is_progress_bar_enabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


_READERS: dict[str, Callable[[Path], Iterator[Placed]]] = {
    "jsonl": _read_lines,
    "json": _read_json,
    "csv": _read_csv,
    "parquet": _read_parquet,
}


def read_hub(
    hub_id: str, hub_config: str | None, *, revision: str, split: str, limit: int | None = None
) -> Table:
    """Return the rows of a split on the Hugging Face Hub, or of its cached copy.

    Raises:
        InputError: Not found, gated, no such revision or split, or the Hub cannot be reached.
    """
    import datasets

    folder = f"set task.data_dir to a folder that holds {split}.jsonl"
    try:
        table = datasets.load_dataset(hub_id, hub_config, revision=revision, split=split)
    except datasets.exceptions.DatasetNotFoundError as error:
        what = " ".join(str(error).split())
        mend = f"check task.revision, or {folder}"
        if "gated" in what:
            mend = (
                f"accept its terms at https://huggingface.co/datasets/{hub_id} and sign in with "
                f"'hf auth login' (or set HF_TOKEN), or {folder}"
            )
        raise InputError(f"Hub data set {hub_id}: {what.rstrip('.')}; {mend}") from None
    except ValueError as error:  # a split or configuration that is not there; it lists those
        what = " ".join(str(error).split())
        raise InputError(f"Hub data set {hub_id}: {what}") from None
    except (OSError, datasets.exceptions.DatasetBuildError) as error:  # no connection, no cache
        what = " ".join(str(error).split())
        raise InputError(
            f"Hub data set {hub_id} cannot be had: {what}; connect to the Hub (HF_HUB_OFFLINE "
            f"unset), or {folder}"
        ) from None
    found = _COMMIT.search(" ".join(table.info.download_checksums or {}))
    rows = list(table.select(range(min(limit or len(table), len(table)))))
    if not rows:
        raise InputError(f"Hub data set {hub_id}, split {split} holds no rows")
    return Table(
        rows=rows,
        places=[f"{hub_id}, split {split}, row {number} (from 0)" for number in range(len(rows))],
        source={
            "hub_id": hub_id,
            "hub_config": hub_config,
            "split": split,
            "revision": found[1] if found else revision,
        },
    )
