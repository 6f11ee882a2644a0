"""A tiny model whose tokenizer has a chat template, of several kinds that are in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny

CHATML = (
    "{{ '<|begin|>' }}{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPACED = (  # an answer stands between blanks, and there is no generation prompt
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '<|begin|>[INST] ' + message['content'] | trim + ' [/INST]' }}"
    "{% else %}{% generation %}{{ ' ' + message['content'] | trim + ' <|im_end|>' }}"
    "{% endgeneration %}{% endif %}{% endfor %}"
)
THINKING = (  # an answer that was not thought about has an empty block in front
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
UNENDED = (  # nothing says that an answer has ended
    "{% for message in messages %}"
    "{{ '### ' + message['role'] + ':\n' + message['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "spaced": SPACED, "thinking": THINKING, "unended": UNENDED}
SPECIAL = ("<|end|>", "<|begin|>", "<|im_start|>", "<|im_end|>")


def tokenizer(template: str | None = CHATML) -> Any:
    """Return a tokenizer of bytes with a few merges, which puts a start token before a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "e"), ("e", "s"), ("Ġ", "a"), ("e", "Ċ"), ("Ġ", "y")]
    words = [*SPECIAL, *letters, *(a + b for a, b in merges)]
    core = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 1)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|end|>",
        bos_token="<|begin|>",
        additional_special_tokens=list(SPECIAL[2:]),
        model_max_length=512,
    )
    made.chat_template = template
    return made


def write_model(folder: Path, template: str | None = CHATML) -> Path:
    """Write a 2-layer LLaMA with random weights, 512 positions, and that tokenizer."""
    return tiny.write_llama(folder, tokenizer(template), spread=0.12)
