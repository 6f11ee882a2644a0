"""What made a record's runs: code, versions, machines, seeds, days."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from star.experiments.report.record import Record

Part = dict[str, Any]  # of an environment


def provenance(record: Record) -> dict[str, Any]:
    """Return what made a record's finished runs, each kind once.

    ``runs`` (finished) of ``cells``, ``seeds``, ``started`` (days), ``star``, ``packages`` and
    ``hardware`` as ``environment.json`` has them.
    """
    done = record.results()
    used = [record.environments[place] for place in sorted(set().union(*(c.places for c in done)))]
    kinds: dict[str, list[Any]] = {"star": [], "packages": [], "hardware": []}
    for environment in used:
        for key, known in kinds.items():
            part = getattr(environment, key)
            if part and part not in known:
                known.append(part)
    return {
        "runs": len(done),
        "cells": len(record.cells),
        "seeds": sorted({cell.seed for cell in done}),
        "started": sorted({cell.started for cell in done if cell.started}),
        **kinds,
    }


def provenance_line(record: Record) -> str:
    """Return in a line what made a record's runs: code, seeds, days, machines, versions."""
    made = provenance(record)
    if not made["runs"]:
        return f"No finished run of {made['cells']}."
    whole = made["runs"] == made["cells"]
    count = f"{made['runs']} runs" if whole else f"{made['runs']} of {made['cells']} runs"
    days = list(dict.fromkeys([made["started"][0], made["started"][-1]])) if made["started"] else []
    versions: dict[str, list[str]] = {}
    for packages in made["packages"]:
        for name, version in packages.items():
            if version is not None and version not in versions.setdefault(name, []):
                versions[name].append(version)
    parts = [
        f"{count}, seeds {numbers(made['seeds'])}",
        f"started {' to '.join(days)}" if days else "",
        " and ".join(dict.fromkeys(map(_machine, made["hardware"]))),
        " and ".join(dict.fromkeys(map(_code, made["star"]))),
        ", ".join(f"{name} {' or '.join(found)}" for name, found in versions.items() if found),
    ]
    return "; ".join(part for part in parts if part) + "."


def _machine(hardware: Part) -> str:
    cores = f"{hardware.get('cores')} cores of {hardware.get('cpu')}"
    gpus = hardware.get("gpus")
    gpus = gpus if isinstance(gpus, tuple) else ()
    cards = [f"{gpus.count(card)} × {card}" for card in dict.fromkeys(gpus)]
    return " with ".join([cores, *cards])


def _code(star: Part) -> str:
    commit = f" commit {str(star['commit'])[:10]}" if star.get("commit") else ""
    changed = " with changes" if star.get("dirty") else ""
    return f"star {star.get('version')}{commit}{changed}"


def numbers(values: Iterable[int]) -> str:
    """Return numbers in words, ascending: three or more in a row as ``3 to 9``."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and runs[-1][-1] + 1 == value:
            runs[-1].append(value)
        else:
            runs.append([value])
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(parts)
