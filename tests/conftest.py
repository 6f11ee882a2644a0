"""What all tests share: the --slow option, a tiny model made on the spot, and no network."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from star.models.language_model import LanguageModel

# Whoever is started in the background ignores interrupts, and so would the programs under test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before anything imports a Hugging Face library: they read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# As the command line sets it: threads that wait asleep, or a busy machine is thirty times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Scores and models cached by an older version of the code must not answer for today's.
_CACHE = tempfile.TemporaryDirectory(prefix="star-cache-")
os.environ["STAR_CACHE"] = _CACHE.name

import hypothesis
import pytest
import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
# Shared machines stall at any moment, and a failure must come again on the next run.
hypothesis.settings.register_profile("star", deadline=None, derandomize=True)
hypothesis.settings.load_profile("star")

WORDS = (
    "what is the answer final question of and plus minus times has more many how tom ann eggs "
    "pens he she gives buys then left so yes no true false red blue green A B C D : . ? = + - *"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_unconfigure() -> None:
    _CACHE.cleanup()


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a 2-layer LLaMA with random weights and a word-level tokenizer.

    58 words, hidden size 32, 4 heads over 2 key-value heads, 256 positions, ids 0 to 3 = pad,
    start, end, unknown. It knows nothing, but its distributions are far from flat.
    """
    import tiny
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", *"0123456789", *WORDS.split()]
    table = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    core = Tokenizer(table)
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=256,
    )
    # Twenty times the usual range, or all distributions would be flat and all scores alike.
    return tiny.write_llama(tmp_path_factory.mktemp("tiny_llama"), tokenizer, spread=0.4)


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> LanguageModel:
    """Return that LLaMA in memory."""
    import tiny

    return tiny.load(tiny_llama)


@pytest.fixture
def adapted(model: LanguageModel) -> Iterator[Any]:
    """Yield it with an adapter that has learned."""
    import tiny

    with tiny.learned(model) as adapted:
        yield adapted
