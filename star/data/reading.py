"""Reading stored splits: a folder of files, or the Hugging Face Hub.

The Hub goes through ``datasets``, which is imported only then.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from star.data.columns import COLUMNS, Columns, Row, place_of
from star.data.readers import READERS
from star.data.sequences import Made, items_at
from star.errors import InputError, nearest
from star.files import kind_of
from star.names import inside

SUFFIXES = tuple(READERS)
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"@([0-9a-f]{40})/")


@dataclass(frozen=True)
class Table:
    """Rows of one stored split.

    Attributes:
        rows: Columns by name, in stored order; no list where they need not all be in memory.
        places: Where each row stands (``train.jsonl, line 3``), for messages.
        source: What identifies the data: a file's name and SHA-256, or Hub id and revision.
        numbers: The 0-based stored row of each, ascending; empty = 0, 1, 2, …
    """

    rows: Sequence[Row]
    places: Sequence[str]
    source: dict[str, Any]
    numbers: Sequence[int] = ()

    def __post_init__(self) -> None:
        if not self.numbers:
            object.__setattr__(self, "numbers", range(len(self.rows)))

    def at(self, numbers: Sequence[int]) -> Table:
        """Return some rows of a whole split, by their stored numbers."""
        rows, places = items_at(self.rows, numbers), items_at(self.places, numbers)
        return Table(rows, places, self.source, numbers)

    def row(self, number: int) -> Row:
        """Return a row by its stored number."""
        return self.rows[bisect_left(self.numbers, number)]


def read_folder(data_dir: str | Path, split: str, *, limit: int | None = None) -> Table:
    """Return the rows of ``<data_dir>/<split>.{jsonl,json,csv,parquet,arrow}``.

    Args:
        data_dir: Folder of splits.
        split: Name of a file without its suffix.
        limit: Read the first so many rows only; what is malformed behind them goes unnoticed.

    Raises:
        InputError: No such folder or file, two files for one split, no rows, or malformed content.
    """
    path = _find(Path(data_dir), split)
    ending = path.suffix[1:]
    rows: Sequence[Row]
    places: Sequence[str]
    try:
        if ending in COLUMNS:
            table = COLUMNS[ending](path).first(limit)
            rows = Made(table.__getitem__, len(table))
            places = Made(partial(place_of, path), len(table))
        else:
            placed = list(islice(READERS[ending](path), limit))
            rows, places = [row for _, row in placed], [place for place, _ in placed]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    if not rows:
        raise InputError(f"{path} holds no rows")
    return Table(rows, places, source={"file": path.name, "sha256": digest})


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
        raise InputError(_missing(folder, split))
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(f"task.data_dir: {folder} holds {names}; keep one file a split")
    return found[0]


def _missing(folder: Path, split: str) -> str:
    """Return what to say of a folder without a file for a split."""
    for suffix in SUFFIXES:
        path = folder / f"{split}.{suffix}"
        kind = kind_of(path)
        if kind is not None:
            return f"task.data_dir: {path} must be a file, it is {kind}"
    others = [f.stem for f in sorted(folder.iterdir()) if f.suffix[1:] in SUFFIXES and f.is_file()]
    others = [name for name in others if name not in (split, "train")]
    # The pool's split has one name; the test split's can be chosen.
    mend = f"; or set task.test_split={others[0]}" if others and split != "train" else ""
    return f"task.data_dir: no {split}.{'|'.join(SUFFIXES)} in {folder}; {_listing(folder)}{mend}"


def _listing(folder: Path, limit: int = 10) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{folder} holds {', '.join(names[:limit]) or 'nothing'}{more}"


def check_hub_id(hub_id: str) -> None:
    """Refuse what names no data set of the Hub, or a folder here, which would be read instead.

    Raises:
        InputError: Either.
    """
    if not _HUB_ID.fullmatch(hub_id) or not inside(hub_id):
        raise InputError(f"a data set of the Hub is called OWNER/NAME, got {hub_id!r}")
    if Path(hub_id).exists():
        raise InputError(
            f"Hub data set {hub_id}: there is a {'file' if Path(hub_id).is_file() else 'folder'} "
            "of that name here; start from another folder, or set task.data_dir to it"
        )


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
    words = {
        column: feature.names
        for column, feature in table.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    rows = Columns(table.with_format("arrow")[:], words).first(limit)
    if not rows:
        raise InputError(f"Hub data set {hub_id}, split {split} holds no rows")
    return Table(
        rows=Made(rows.__getitem__, len(rows)),
        places=Made(lambda number: f"{hub_id}, split {split}, row {number} (from 0)", len(rows)),
        source={
            "hub_id": hub_id,
            "hub_config": hub_config,
            "split": split,
            "revision": found[1] if found else revision,
        },
    )
