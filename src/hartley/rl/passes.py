"""Pass@k: the probability that at least one of k answers is right, estimated from n >= k of them.

With c right answers among n the chance that k of them, drawn without replacement, are all wrong is C(n-c, k) / C(n, k);
one minus that is unbiased, where 1 - (1 - c/n)^k is not.

Source: Chen et al. (2021), "Evaluating Large Language Models Trained on Code", eq. 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hartley.arrays import numpy_too
from hartley.checks import require


@numpy_too
def pass_at_k(correct: Int[Tensor, "*prompts"], samples: int, k: int) -> Float[Tensor, "*prompts"]:
    """Unbiased pass@k of each prompt; torch or numpy in, the same kind out.

    Parameters
    ----------
    correct : number of right answers of each prompt.
    samples : answers that each prompt was given.
    k : answers that one may hand in, at most `samples`.

    Returns
    -------
    Probabilities, float64.

    Raises
    ------
    ValueError : k outside 1 .. samples, or a count outside 0 .. samples.
    """
    require(1 <= k <= samples, "k", k, f"a number from 1 to samples = {samples}")
    require(bool(((correct >= 0) & (correct <= samples)).all()), "correct", correct, f"counts from 0 to {samples}")
    drawn = torch.arange(k, dtype=torch.float64, device=correct.device)
    # C(n-c, k) / C(n, k) as a product of k factors; they pass through 0 where fewer than k answers are wrong.
    wrong = (samples - correct[..., None] - drawn).clamp(min=0) / (samples - drawn)
    return 1 - wrong.prod(-1)
