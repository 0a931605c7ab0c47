"""How uncertain: entropies, divergences, spectra, volumes, windows. Nats; the last axis holds the outcomes."""

from hartley.measures.divergences import (
    cross_entropy,
    ensemble_disagreement,
    hellinger_distance,
    js_divergence,
    kl_divergence,
    renyi_divergence,
    total_variation,
)
from hartley.measures.logits import (
    HeadEntropy,
    RowStatistics,
    entropy,
    head_entropy,
    normalized_entropy,
    renyi_entropy,
    row_statistics,
    surprisal,
    tsallis_entropy,
    varentropy,
)
from hartley.measures.probabilities import (
    conditional_mutual_information,
    entropy_from_probs,
    js_complexity,
    mutual_information,
    varentropy_from_probs,
)
from hartley.measures.spectral import (
    gaussian_entropy,
    gaussian_information,
    log_det_gains,
    log_volume,
    spectrum_entropy,
    vendi_score,
    von_neumann_entropy,
)
from hartley.measures.temperature import temperature_for_entropy
from hartley.measures.windows import exponential_average, windowed

__all__ = [
    "HeadEntropy",
    "RowStatistics",
    "conditional_mutual_information",
    "cross_entropy",
    "ensemble_disagreement",
    "entropy",
    "entropy_from_probs",
    "exponential_average",
    "gaussian_entropy",
    "gaussian_information",
    "head_entropy",
    "hellinger_distance",
    "js_complexity",
    "js_divergence",
    "kl_divergence",
    "log_det_gains",
    "log_volume",
    "mutual_information",
    "normalized_entropy",
    "renyi_divergence",
    "renyi_entropy",
    "row_statistics",
    "spectrum_entropy",
    "surprisal",
    "temperature_for_entropy",
    "total_variation",
    "tsallis_entropy",
    "varentropy",
    "varentropy_from_probs",
    "vendi_score",
    "von_neumann_entropy",
    "windowed",
]
