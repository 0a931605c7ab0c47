"""Choose the next token: truncation rules as bands of logits, samplers with feedback, adapters for `generate`."""

from typing import TYPE_CHECKING, Any

from hartley.decoding.bands import Band, KeptStatistics, apply_band, kept_mask, kept_statistics, sample_band
from hartley.decoding.entropy_top_k import entropy_top_k, entropy_top_k_threshold
from hartley.decoding.locally_typical import typical_band
from hartley.decoding.mirostat import (
    Mirostat,
    MirostatState,
    mirostat_threshold,
    mirostat_update,
    zipf_exponent,
    zipf_rank,
)
from hartley.decoding.top_h import top_h_threshold
from hartley.decoding.truncation import min_p_threshold, top_k_threshold, top_p_threshold

if TYPE_CHECKING:
    from hartley.decoding.processors import BandProcessor, EntropyTopK, LocallyTypical, MirostatProcessor, TopH

__all__ = [
    "Band",
    "BandProcessor",
    "EntropyTopK",
    "KeptStatistics",
    "LocallyTypical",
    "Mirostat",
    "MirostatProcessor",
    "MirostatState",
    "TopH",
    "apply_band",
    "entropy_top_k",
    "entropy_top_k_threshold",
    "kept_mask",
    "kept_statistics",
    "min_p_threshold",
    "mirostat_threshold",
    "mirostat_update",
    "sample_band",
    "top_h_threshold",
    "top_k_threshold",
    "top_p_threshold",
    "typical_band",
    "zipf_exponent",
    "zipf_rank",
]


def __getattr__(name: str) -> Any:
    if name in {"BandProcessor", "EntropyTopK", "LocallyTypical", "MirostatProcessor", "TopH"}:
        from hartley.decoding import processors  # imports transformers

        return getattr(processors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
