"""What somebody else wrote runs nothing here: no pickle, no code of a model's, no YAML objects.

The first part reads the source: every call by which Python, PyTorch, numpy, PyYAML or Hugging
Face's libraries run what a file says. The second opens folders that would do it.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import architectures
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from star.cli.main import main
from star.errors import InputError
from star.experiments.table_file import read_table
from star.files import read_npz
from star.models import saved_adapter
from star.names import inside

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "star").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])

# --- the source --------------------------------------------------------------------------------

PICKLES = {"pickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "jsonpickle"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
ALWAYS = {  # whatever they are called on
    "read_pickle": "pandas' pickles",
    "unsafe_load": "YAML objects",
    "full_load": "YAML objects",
    "UnsafeLoader": "YAML objects",
    "FullLoader": "YAML objects",
    "popen": "a shell",
}
OF_MODULES = {("os", "system"): "a shell", ("torch.hub", "load"): "a repository's code"}


def faults(source: str) -> Iterator[str]:
    """Yield what in a file could run, or unpickle, what another file says."""
    tree = ast.parse(source)
    safe = any(
        isinstance(node, ast.ClassDef)
        and [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"]
        for node in ast.walk(tree)
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"imports {n.name}" for n in node.names if _top(n.name) in PICKLES)
        elif isinstance(node, ast.ImportFrom):
            if _top(node.module or "") in PICKLES:
                yield f"imports {node.module}"
            yield from (f"imports {n.name}" for n in node.names if n.name in ALWAYS)
        elif isinstance(node, ast.Attribute) and node.attr in ALWAYS:
            yield f"{ast.unparse(node)}: {ALWAYS[node.attr]}"
        elif isinstance(node, ast.Dict):
            yield from _words(
                {k.value: v for k, v in zip(node.keys, node.values, strict=True)
                 if isinstance(k, ast.Constant)}
            )  # fmt: skip
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                    yield from _words({target.slice.value: node.value})
        elif isinstance(node, ast.Call):
            yield from _call(node, safe=safe)


def _dotted(node: ast.expr) -> str:
    """Return ``a.b.c``; what is no name is empty."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _top(module: str) -> str:
    return module.partition(".")[0]


WANTED = {  # a word that may only be said so
    "trust_remote_code": False,
    "allow_pickle": False,
    "weights_only": True,
    "use_safetensors": True,
    "safe_serialization": True,
    "shell": False,
}


def _words(words: dict[Any, ast.expr]) -> Iterator[str]:
    for name, value in words.items():
        if name in WANTED and not _is(value, WANTED[name]):
            yield f"{name}={ast.unparse(value)}"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _call(node: ast.Call, *, safe: bool) -> Iterator[str]:
    words = {word.arg: word.value for word in node.keywords if word.arg is not None}
    yield from _words(words)
    called = _dotted(node.func)
    owner, _, name = called.rpartition(".")
    if called in RUNS_TEXT:
        yield f"calls {called}"
    elif (owner, name) in OF_MODULES:
        yield f"calls {called}: {OF_MODULES[owner, name]}"
    elif called == "torch.load" and not _is(words.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    elif called in ("np.load", "numpy.load") and not _is(words.get("allow_pickle"), False):
        yield f"{called} without allow_pickle=False"
    elif called in ("yaml.load", "yaml.load_all", "yaml.compose"):
        loader = words.get("Loader")
        named = "" if loader is None else ast.unparse(loader)
        if named not in ("yaml.SafeLoader", "yaml.CSafeLoader") and not (safe and named):
            yield f"{called} without a SafeLoader"


def test_nothing_runs_what_a_file_says() -> None:
    assert len(FILES) > 200
    found = {path: list(faults(path.read_text(encoding="utf-8"))) for path in FILES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import joblib.externals",
        "eval('1')",
        "exec(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text, Loader=loader())",
        "yaml.unsafe_load(text)",
        "from yaml import FullLoader",
        "subprocess.run(words, shell=True)",
        "os.system(words)",
        "os.popen(words)",
        "pandas.read_pickle(path)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=trusted)",
        "options = {'trust_remote_code': trusted}",
        "options['trust_remote_code'] = True",
        "model.save_pretrained(folder, safe_serialization=False)",
        "AutoModel.from_pretrained(name, use_safetensors=None)",
    ],
)
def test_the_rules_see_what_they_are_for(source: str) -> None:
    assert list(faults(source))


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "re.compile('a')",
        "np.load(path, allow_pickle=False)",
        "yaml.compose(text, Loader=yaml.SafeLoader)",
        "class Own(yaml.SafeLoader): pass\nyaml.load(text, Loader=Own)",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
    ],
)
def test_the_rules_let_the_rest_be(source: str) -> None:
    assert list(faults(source)) == []


def test_datasets_has_no_loading_scripts() -> None:
    """From version 4 on a data set on the Hub is files, never a Python script."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [bound] = [name for name in project["dependencies"] if name.startswith("datasets")]
    assert int(bound.partition(">=")[2].split(",")[0].split(".")[0]) >= 4


# --- folders -----------------------------------------------------------------------------------

# What a class would be loaded from, and what is left behind if anybody does.
CODE = """
import pathlib
pathlib.Path({ran!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig):
    model_type = "own"
class Model(LlamaForCausalLM):
    config_class = Config
class Tokenizer(PreTrainedTokenizerFast):
    pass
"""
MODEL = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}


class Bomb:
    """What leaves a mark when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.ran),)


def words(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def own_model(folder: Path, ran: Path) -> None:
    words(folder, "config.json", auto_map=MODEL, model_type="own", architectures=["Model"])


def own_tokenizer(folder: Path, ran: Path) -> None:
    classes = ["own.Tokenizer", "own.Tokenizer"]
    words(
        folder,
        "tokenizer_config.json",
        auto_map={"AutoTokenizer": classes},
        tokenizer_class="Tokenizer",
    )


def pickled(folder: Path, ran: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(Bomb(ran), folder / "pytorch_model.bin")


def shards(folder: Path, file: str) -> dict[str, torch.Tensor]:
    """Let all tensors be in a file of that name; return them."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, file)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return tensors


def pickled_shard(folder: Path, ran: Path) -> None:
    shards(folder, "part.bin")
    torch.save(Bomb(ran), folder / "part.bin")


def shard_elsewhere(folder: Path, ran: Path) -> None:
    save_file(shards(folder, "../part.safetensors"), folder.parent / "part.safetensors")


def shard_at_the_root(folder: Path, ran: Path) -> None:
    place = folder.parent / "root.safetensors"
    save_file(shards(folder, str(place)), place)


def no_list(folder: Path, ran: Path) -> None:
    shards(folder, "part.safetensors")
    (folder / "model.safetensors.index.json").write_text("[]")


REFUSED: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "a model of its own": (own_model, "code of its own (auto_map), which is not run here"),
    "a tokenizer of its own": (own_tokenizer, "code of its own (auto_map), which is not run here"),
    "pickled weights": (pickled, "no safetensors weights; pickled weights are not loaded"),
    "a pickled shard": (pickled_shard, "names 'part.bin', which is no .safetensors file"),
    "a shard elsewhere": (shard_elsewhere, "'../part.safetensors', which is not inside"),
    "a shard at the root": (shard_at_the_root, "which is not inside of the model's folder"),
    "no list of shards": (no_list, "has no weight_map"),
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return architectures.make("llama", tmp_path_factory.mktemp("whole") / "llama")


def copied(llama: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return a model's folder with code beside it, and the mark that the code would leave."""
    folder, ran = tmp_path / "inside" / "model", tmp_path / "RAN"
    shutil.copytree(llama, folder)
    (folder / "own.py").write_text(CODE.format(ran=str(ran)))
    return folder, ran


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_would_run_code_is_refused_in_one_line(
    name: str, llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, ran = copied(llama, tmp_path)
    make, part = REFUSED[name]
    make(folder, ran)
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text('{"prompt": "a", "continuation": " b"}')
    capfd.readouterr()
    assert main(["score", str(folder), str(rows), "-o", str(out)]) == 2
    [line] = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: model ") and part in line
    assert "trust_remote_code" not in line  # nothing here can be told to
    assert not out.exists() and not ran.exists()


def test_code_and_pickles_beside_a_model_that_needs_none_are_left_alone(
    llama: Path, tmp_path: Path
) -> None:
    folder, ran = copied(llama, tmp_path)
    words(folder, "config.json", auto_map=MODEL)
    words(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Tokenizer", None]})
    torch.save(Bomb(ran), folder / "pytorch_model.bin")
    assert type(tiny.load(folder).causal).__module__.startswith("transformers.")
    assert not ran.exists()


def test_shards_inside_are_read(llama: Path, tmp_path: Path) -> None:
    folder, _ = copied(llama, tmp_path)
    save_file(shards(folder, "part.safetensors"), folder / "part.safetensors", {"format": "pt"})
    assert tiny.load(folder).packable


@pytest.mark.parametrize("name", ["a.safetensors", "parts/a.safetensors", "..a", "a..b/c"])
def test_names_inside(name: str) -> None:
    assert inside(name)


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/a", "..", "..\\a", "C:\\a", "C:a", "\\\\host\\share\\a", "\\a"]
)
def test_names_that_lead_out(name: str) -> None:
    assert not inside(name)


def test_a_pickled_adapter_is_refused(llama: Path, tmp_path: Path) -> None:
    folder, ran = tmp_path / "adapter", tmp_path / "RAN"
    folder.mkdir()
    torch.save(Bomb(ran), folder / "adapter_model.bin")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with (
        pytest.raises(InputError, match=r"pickle alone \(adapter_model\.bin\), which is not load"),
        saved_adapter.load(tiny.load(llama), folder),
    ):
        pass
    assert not ran.exists()


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    import numpy as np

    ran = tmp_path / "RAN"
    np.savez(tmp_path / "a.npz", a=np.array([Bomb(ran)], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_npz(tmp_path / "a.npz")
    assert not ran.exists()


def test_objects_in_a_table_are_refused(tmp_path: Path) -> None:
    ran = tmp_path / "RAN"
    path = tmp_path / "t.yaml"
    path.write_text(f"title: !!python/object/apply:os.mkdir ['{ran}']\n")
    with pytest.raises(InputError, match="is not YAML"):
        read_table(path)
    assert not ran.exists()
