"""Locally typical sampling: keep the outcomes whose surprisal is nearest to the entropy.

    d_i = |-log p_i - H(p)|,   keep {i : d_i <= d*},   d* = min {d : sum of p_i over d_i <= d is at least the mass}

Since -log p_i = Z - z_i, the kept set is a band of logits around the centre Z - H, found without sorting. All outcomes
at the final distance are kept, so a uniform distribution is kept whole. The rule minimises the largest distance, not
the sum of distances.

Source: Meister, Pimentel, Wiher, Cotterell (2023), "Locally Typical Sampling", section 4.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hartley.checks import require, require_between
from hartley.decoding._select import nearest_until
from hartley.decoding.bands import Band


def typical_band(logits: Float[Tensor, "*batch vocab"], mass: float = 0.9, *, min_tokens_to_keep: int = 1) -> Band:
    """Band of logits whose outcomes are locally typical.

    Parameters
    ----------
    logits : already divided by the temperature; -inf marks tokens that are out.
    mass : probability to reach, in (0, 1). Near 1 the band is the nucleus (`top_p_threshold`) in nearly every row, by
        construction: whenever the mode is likelier than 1 - mass it must be in. The method differs from top-p at small
        masses, about 0.2, where it often drops the mode.
    min_tokens_to_keep : widen the band to at least this many outcomes, nearest first.

    Raises
    ------
    ValueError : a mass outside (0, 1), min_tokens_to_keep below 1, or a row without a finite maximum.
    """
    require_between("mass", mass, 0, 1)
    require(min_tokens_to_keep >= 1, "min_tokens_to_keep", min_tokens_to_keep, "at least 1")
    band = nearest_until(logits, "typical", mass)
    if min_tokens_to_keep > 1:
        fewest = nearest_until(logits, "typical", float(min_tokens_to_keep), count=True)
        band = Band(torch.minimum(band.low, fewest.low), torch.maximum(band.high, fewest.high))
    return band
