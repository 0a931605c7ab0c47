"""Into `model.generate`: the hook `custom_generate` of transformers hands the decoding loop to this room.

    model.generate(**inputs, do_sample=True, temperature=0.7, top_p=0.9, max_new_tokens=64,
                   custom_generate=Speculative(draft_model, drafts=4, length=4))

transformers prepares prompts, processors, stopping criteria and lengths as for its own sampling; temperature, top-p and
whatever else the user sets then shape the draft by the very same processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hartley.checks import require
from hartley.speculative.decision import Verifier
from hartley.speculative.draft import Law
from hartley.speculative.generate import Statistics, speculative_blocks


class Speculative:
    """A `custom_generate` callable.

    Parameters
    ----------
    draft : the draft model: a causal model of transformers, or a function ids -> probabilities.
    streamer : receives tokens as they are decided (one prompt only). transformers does not pass its own `streamer`
        argument on to custom loops, so give it here.
    drafts, length, branches, verifier, law, vocabulary, certify, generator : see `speculative_blocks`.

    Attributes
    ----------
    statistics : of the last call.
    """

    def __init__(
        self,
        draft: Any,
        *,
        drafts: int = 4,
        length: int = 4,
        branches: Sequence[int] | None = None,
        verifier: str | Verifier = "kseq",
        law: Law | None = None,
        vocabulary: int | None = None,
        certify: bool = False,
        streamer: Any = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.draft, self.streamer = draft, streamer
        self.options: dict[str, Any] = {
            "drafts": drafts,
            "length": length,
            "branches": branches,
            "verifier": verifier,
            "law": law,
            "vocabulary": vocabulary,
            "certify": certify,
            "generator": generator,
        }
        self.statistics = Statistics()

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **model_kwargs: Any,
    ) -> Any:
        """Called by `generate`; returns ids, or transformers' output record with `return_dict_in_generate=True`."""
        cache = model_kwargs.get("past_key_values")
        cached = cache.get_seq_length() if cache is not None else 0
        require(cached == 0, "past_key_values", f"{cached} cached tokens", "none: the loop keeps its own caches")
        require(generation_config.num_beams == 1, "num_beams", generation_config.num_beams, "1: beams are not samples")
        streaming = self.streamer is not None
        require(not streaming or len(input_ids) == 1, "streamer", len(input_ids), "one prompt")
        # Length is the loop's business, and end-of-sequence is one of transformers' criteria.
        blocks = speculative_blocks(
            model,
            self.draft,
            input_ids,
            max_new_tokens=generation_config.max_length - input_ids.shape[1],
            attention_mask=model_kwargs.get("attention_mask"),
            temperature=1.0 if generation_config.do_sample else 0.0,
            logits_processor=logits_processor,
            stop=lambda ids: bool(stopping_criteria(ids, None).all()),
            **self.options,
        )
        rows: list[list[int]] = [[] for _ in input_ids]
        for block in blocks:
            self.statistics = block.statistics
            for row, tokens in block.tokens.items():
                rows[row] += tokens
                if streaming:
                    self.streamer.put(torch.tensor(tokens))
        if streaming:
            self.streamer.end()
        pad = generation_config._pad_token_tensor
        longest = max(map(len, rows))
        filler = 0 if pad is None else int(pad)
        new = torch.tensor([row + [filler] * (longest - len(row)) for row in rows], device=input_ids.device)
        sequences = torch.cat([input_ids, new], 1)
        if not generation_config.return_dict_in_generate:
            return sequences
        from transformers.generation import GenerateDecoderOnlyOutput

        return GenerateDecoderOnlyOutput(sequences=sequences)
