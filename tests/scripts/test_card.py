"""The benchmark of a GPU: every part of it, on a CPU with a tiny shape, with few packages."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from benchmark import card
from benchmark.card_bench import LLAMA, Card, Figure, rows_of
from benchmark.card_parts import ranks

SCRIPTS = Path(__file__).parents[2] / "scripts"

# A machine with a GPU may have no more than torch, transformers, peft and accelerate: here star and
# the benchmark cannot import anything else. (Other packages may: they know how to go without.)
ABSENT = """
import builtins, runpy, sys
absent = {"omegaconf", "datasets", "evaluate", "bitsandbytes", "pandas", "pyarrow", "gguf", "scipy",
          "sklearn", "matplotlib", "threadpoolctl", "fastapi"}
nowhere = {"omegaconf", "datasets", "evaluate", "bitsandbytes"}
plain = builtins.__import__

def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    asking = (globals or {}).get("__name__", "").partition(".")[0]
    top = name.partition(".")[0]
    if not level and (top in nowhere or top in absent and asking in ("star", "benchmark")):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return plain(name, globals, locals, fromlist, level)

builtins.__import__ = guarded
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_every_part_runs_on_a_cpu_with_few_packages(tmp_path: Path) -> None:
    file = tmp_path / "card.json"
    command = [sys.executable, "-c", ABSENT, str(SCRIPTS / "benchmark"), "--gpu", "--smoke"]
    done = subprocess.run(
        [*command, "--json", str(file)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(file.read_text())
    assert [part["name"] for part in found["parts"]] == list(card.PARTS)
    assert not any(part["error"] for part in found["parts"])
    missing = [f["what"] for part in found["parts"] for f in part["figures"] if f["value"] is None]
    assert missing == ["NF4"]
    for part in found["parts"]:
        assert part["figures"] and part["what"] in done.stdout
        for figure in part["figures"]:
            assert figure["value"] is None or figure["value"] >= 0
            assert f"| {part['name']} | {figure['what']} |" in done.stdout
    aims = {f["aim"] for part in found["parts"] for f in part["figures"]}
    assert aims >= {"≥ 0.6", "≥ 0.41", "≥ 0.5", "≤ 1.15"}


def broken(card: Card) -> Iterator[Figure]:
    yield Figure("before", 1.0)
    raise torch.OutOfMemoryError("no\nroom")


def endless(card: Card) -> Iterator[Figure]:
    time.sleep(20)
    yield Figure("never", 1.0)


def test_a_part_that_fails_leaves_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    parts = {"a": (broken, 5, "A"), "b": (endless, 0.1, "B"), "i": card.PARTS["i"]}
    monkeypatch.setattr(card, "PARTS", parts)
    file = tmp_path / "card.json"
    start = time.perf_counter()
    assert card.main(["--smoke", "--json", str(file)]) == 1
    assert time.perf_counter() - start < 15
    a, b, last = json.loads(file.read_text())["parts"]
    assert a["error"] == "OutOfMemoryError: no room" and a["figures"][0]["value"] == 1
    assert b["error"].startswith("TimeoutError: ended after") and last["error"] is None
    out = capsys.readouterr().out
    assert "OutOfMemoryError: no room" in out and "| i | matrix product |" in out


def test_all_parts_together_are_within_eight_minutes() -> None:
    assert sum(seconds for _, seconds, _ in card.PARTS.values()) <= 480


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_the_user_can_mend_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert card.main([]) == 2
    assert card.main(["--smoke", "--parts", "ix"]) == 2
    assert card.main(["--smoke", "--json", "/nowhere/card.json"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)


def test_rows_have_about_the_lengths_of_gsm8k() -> None:
    rows = rows_of(LLAMA)
    assert len(rows) == 2048 and rows == rows_of(LLAMA)
    prompts, answers = (
        [len(p) for p in part]
        for part in zip(*((r.prompt, r.continuation) for r in rows), strict=True)
    )
    assert 75 < sum(prompts) / 2048 < 95 and 115 < sum(answers) / 2048 < 145
    assert max(map(len, rows)) <= 750


def test_ranks_agree_or_do_not() -> None:
    one = torch.randn(20, generator=torch.Generator().manual_seed(0)).numpy()
    assert ranks(one, 3 * one + 1) == pytest.approx(1) and ranks(one, -one) == pytest.approx(-1)
