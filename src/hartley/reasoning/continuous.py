"""Continuous tokens: feed back a mixture of token embeddings, so that one chain of thought carries many traces.

    alpha_t = softmax(logits_t / temperature),   z_t = E^T alpha_t,   append z_t as an input embedding

E is the input embedding. After `steps - 1` such tokens the next logits are those of the answer. Training against the
empirical law alpha* of several target traces per prompt ("continuous supervised fine-tuning"):

    loss = sum_{t < m} KL(alpha*_t || alpha_t) + cross-entropy of the answer

The inputs E^T alpha*_t are known beforehand, so that one causal pass trains all steps. Two ways to make decoding
random, as policy gradients need: several tokens drawn from alpha_t and averaged, or a Dirichlet draw around alpha_t.

Source: Gozeten et al. (2025), arXiv 2505.23648, and its release. The release's sequential training loop gives the same
gradients. When not to use: a model that was not trained for it, or tasks whose states are not tokens; sampling several
discrete chains and voting is the strong competitor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, one_hot

from hartley.checks import require, require_between

Mode = Literal["soft", "mts", "dirichlet", "discrete"]


@dataclass(frozen=True)
class ContinuousTrace:
    """A batch of continuous chains.

    Attributes
    ----------
    answer_logits : of the token after the last continuous one.
    alphas : the model's law at each step.
    mixtures : what was fed back: alpha, the share of each drawn token, a Dirichlet draw, or a one-hot row.
    samples : with "mts" the drawn tokens, else None.
    """

    answer_logits: Float[Tensor, "batch vocab"]
    alphas: Float[Tensor, "batch thoughts vocab"]
    mixtures: Float[Tensor, "batch thoughts vocab"]
    samples: Int[Tensor, "batch thoughts k"] | None


@torch.no_grad()
def continuous_generate(
    model: Any,
    input_ids: Int[Tensor, "batch prompt"],
    steps: int,
    mode: Mode = "soft",
    *,
    k: int | None = None,
    gamma: float = 1.0,
    floor: float = 1e-3,
    temperature: float = 1.0,
    attention_mask: Int[Tensor, "batch prompt"] | None = None,
    generator: torch.Generator | None = None,
) -> ContinuousTrace:
    """Think for `steps - 1` continuous tokens, with a key-value cache.

    Parameters
    ----------
    model : a causal language model of transformers.
    steps : m, the answer included; 1 answers at once.
    mode : "soft" feeds alpha back; "mts" the mean of `k` drawn tokens; "dirichlet" a draw from Dir(gamma alpha);
        "discrete" the likeliest token. "mts" with k = 1 is ordinary sampling.
    floor : with "dirichlet", tokens less likely are left out and the rest renormalised.
    temperature : of alpha; the one that the model was trained with.
    attention_mask : for prompts padded on the left.

    Raises
    ------
    ValueError : no steps, an unknown mode, "mts" without `k`, or a gamma, floor or temperature out of range.
    """
    require(steps >= 1, "steps", steps, "at least 1")
    require(mode in ("soft", "mts", "dirichlet", "discrete"), "mode", mode, '"soft", "mts", "dirichlet" or "discrete"')
    require(mode != "mts" or (k is not None and k >= 1), "k", k, 'at least 1 token a step with mode "mts"')
    require_between("gamma", gamma, 0)
    require_between("floor", floor, 0, 1, closed="left")
    require_between("temperature", temperature, 0)
    embedding = model.get_input_embeddings().weight
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    alphas, mixtures, samples = [], [], []
    inputs: dict[str, Tensor] = {"input_ids": input_ids}
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    past = None
    for step in range(steps):
        out = model(**inputs, attention_mask=mask, position_ids=positions, past_key_values=past, use_cache=True)
        past, logits = out.past_key_values, out.logits[:, -1].float()
        if step == steps - 1:
            break
        alpha = (logits / temperature).softmax(-1)
        if mode == "mts":
            drawn = torch.multinomial(alpha, k or 1, replacement=True, generator=generator)
            mixture = torch.zeros_like(alpha).scatter_add_(
                1, drawn, torch.full_like(drawn, 1 / drawn.shape[1], dtype=alpha.dtype)
            )
            samples.append(drawn)
        elif mode == "dirichlet":
            mixture = dirichlet_sample(alpha, gamma, floor=floor, generator=generator)
        else:
            mixture = alpha if mode == "soft" else one_hot(alpha.argmax(-1), alpha.shape[-1]).to(alpha)
        alphas.append(alpha)
        mixtures.append(mixture)
        inputs = {"inputs_embeds": (mixture.to(embedding) @ embedding)[:, None]}
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], -1)
        positions = positions[:, -1:] + 1
    none = logits.new_zeros(len(logits), 0, logits.shape[-1])
    return ContinuousTrace(
        logits,
        torch.stack(alphas, 1) if alphas else none,
        torch.stack(mixtures, 1) if mixtures else none,
        torch.stack(samples, 1) if samples else None,
    )


def replay_logits(
    model: Any, input_ids: Int[Tensor, "batch prompt"], mixtures: Float[Tensor, "batch thoughts vocab"]
) -> Float[Tensor, "batch steps vocab"]:
    """Logits of all steps, the answer's last, with these mixtures fed back: one causal pass, with gradients.

    For training on target mixtures, and for the policy's probability of a trace that was drawn before. Prompts are not
    padded.
    """
    table = model.get_input_embeddings()
    embeddings = torch.cat([table(input_ids), mixtures.to(table.weight) @ table.weight], 1)
    logits: Tensor = model(inputs_embeds=embeddings).logits
    return logits[:, input_ids.shape[1] - 1 :]


def csft_loss(
    model: Any,
    input_ids: Int[Tensor, "batch prompt"],
    targets: Float[Tensor, "batch thoughts vocab"],
    answers: Int[Tensor, "batch"],
) -> Float[Tensor, ""]:
    """Continuous supervised fine-tuning: KL of each step's target law, plus the answer's cross-entropy, in nats.

    Parameters
    ----------
    targets : rows that sum to one, fed back as inputs; one-hot rows are ordinary chain-of-thought training, and no
        rows (0 thoughts) training without a chain of thought.

    Raises
    ------
    ValueError : targets that are no distributions.
    """
    sums = targets.sum(-1)
    proper = bool((targets >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
    require(proper, "targets", targets, "rows of probabilities that sum to one")
    logits = replay_logits(model, input_ids, targets)
    steps = kl_div(logits[:, :-1].log_softmax(-1), targets.to(logits), reduction="sum") / len(targets)
    return steps + cross_entropy(logits[:, -1], answers)


def mts_log_prob(
    logits: Float[Tensor, "*batch vocab"],
    samples: Int[Tensor, "*batch k"],
    *,
    variant: Literal["paper", "release"] = "paper",
) -> Float[Tensor, "*batch"]:
    """Log-probability of the drawn tokens, for a policy ratio: the mean over the k tokens (geometric mean of ratios).

    "release" divides the logits by k and takes the sum; draw with `temperature=k` to match it.
    """
    require(variant in ("paper", "release"), "variant", variant, '"paper" or "release"')
    if variant == "release":
        return (logits / samples.shape[-1]).log_softmax(-1).gather(-1, samples).sum(-1)
    return logits.log_softmax(-1).gather(-1, samples).mean(-1)


def dirichlet_sample(
    alphas: Float[Tensor, "*batch vocab"],
    gamma: float = 1.0,
    *,
    floor: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch vocab"]:
    """A draw from Dir(gamma alpha) on the tokens with alpha >= floor; mean alpha, variance falling with gamma."""
    support = (alphas >= floor) | (alphas == alphas.amax(-1, keepdim=True))
    kept = torch.where(support, alphas, 0.0).double()
    concentration = torch.where(support, gamma * kept / kept.sum(-1, keepdim=True), 1.0)
    # Gamma(a) = Gamma(a + 1) U^(1/a), in logarithms: draws for a small a would underflow.
    uniform = torch.rand(concentration.shape, generator=generator, dtype=torch.float64, device=alphas.device)
    log_gamma = torch._standard_gamma(concentration + 1, generator).log() + uniform.log() / concentration
    return log_gamma.masked_fill(~support, -torch.inf).softmax(-1).to(alphas.dtype)


def dirichlet_log_prob(
    logits: Float[Tensor, "*batch vocab"],
    mixtures: Float[Tensor, "*batch vocab"],
    gamma: float = 1.0,
    *,
    support: Bool[Tensor, "*batch vocab"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Log-density of mixtures under Dir(gamma alpha) on a support, where alpha is renormalised.

    For a policy ratio both policies need the same support, for example the union of alpha >= 1e-3 under either; by
    default it is where the mixtures are positive. Entries of the mixtures are read as at least 1e-30.
    """
    inside = mixtures > 0 if support is None else support
    require(bool(inside.any(-1).all()), "support", inside, "at least one token in every row")
    log_alpha = logits.double().masked_fill(~inside, -torch.inf).log_softmax(-1)
    a = torch.where(inside, gamma * log_alpha.exp(), 1.0).clamp(min=1e-30)
    log_x = mixtures.double().clamp(min=1e-30).log()
    terms = torch.where(inside, (a - 1) * log_x - torch.lgamma(a), 0.0)
    return terms.sum(-1) + torch.lgamma(torch.where(inside, a, 0.0).sum(-1))
