"""A language model as the predictor of information pursuit: the scores of answer tokens are the probabilities.

    predict = TokenPredictor(model, tokenizer, ["cat", "dog", "owl"], questions=["Does it fly?", "Does it bark?"])
    game = InformationPursuit(predict, 2, alpha=0.1).calibrate(answers, labels, rng)

Each history becomes a prompt, one line a question that was answered. The probability of a class is that of the first
token of its name after the prompt, among the first tokens of all names.

Source: Chan, Ge, Dobriban, Hassani, Vidal (2025), arXiv 2507.03279, which reads predictions off a model this way. Such
probabilities are seldom calibrated: the conformal criterion is meant for them, and so is `temperature`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from hartley.checks import require, require_between

Render = Callable[[Float[np.ndarray, " queries"], Bool[np.ndarray, " queries"]], str]
"""Answers and which of them are known -> the prompt after which the class is named."""


class TokenPredictor:
    """Probabilities of classes from the answers so far, by any causal language model of transformers.

    Parameters
    ----------
    model, tokenizer : prompts are padded on the left here, whatever the tokenizer does.
    classes : their names; the first tokens must differ, a space before each name included.
    questions : texts of the questions, for yes (1) and no (0) answers; or give `render`.
    render : makes the prompt, see `Render`; it must end where the name follows.
    temperature : divides the scores.
    batch_size : prompts in one pass.

    Attributes
    ----------
    mass : probability that the model gives to all class tokens together, of each prompt of the last call. Where it is
        small the model does not answer with a class, whatever the probabilities among them.

    Raises
    ------
    ValueError : fewer than two classes, names that begin with the same token, neither questions nor `render`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        classes: Sequence[str],
        questions: Sequence[str] | None = None,
        *,
        render: Render | None = None,
        temperature: float = 1.0,
        batch_size: int = 32,
    ) -> None:
        require(len(classes) >= 2, "classes", list(classes), "at least two")
        require((questions is None) != (render is None), "questions", questions, "questions or render, one of them")
        require_between("temperature", temperature, 0)
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        self.model, self.tokenizer, self.temperature, self.batch_size = model, tokenizer, temperature, batch_size
        self.classes, self.questions = list(classes), questions
        self.render = self._lines if render is None else render
        names = [tokenizer(f" {name}", add_special_tokens=False)["input_ids"] for name in classes]
        for name, ids in zip(classes, names, strict=True):
            require(len(ids) > 0, "classes", name, "names of at least one token")
        self.tokens = [ids[0] for ids in names]
        clash = [name for name, token in zip(classes, self.tokens, strict=True) if self.tokens.count(token) > 1]
        require(not clash, "classes", clash, "names whose first tokens differ")
        self.mass: Float[np.ndarray, " batch"] = np.empty(0)

    def __call__(
        self, values: Float[np.ndarray, "batch queries"], known: Bool[np.ndarray, "batch queries"]
    ) -> Float[np.ndarray, "batch classes"]:
        """Probabilities of the classes. Equal histories share one pass through the model."""
        import torch

        prompts = [self.render(value, mask) for value, mask in zip(values, known, strict=True)]
        texts = list(dict.fromkeys(prompts))
        found, masses = [], []
        for first in range(0, len(texts), self.batch_size):
            rows = [self.tokenizer(text)["input_ids"] for text in texts[first : first + self.batch_size]]
            require(all(rows), "render", "", "prompts of at least one token")
            width = max(map(len, rows))
            device = self.model.device
            ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            with torch.inference_mode():
                out = self.model(input_ids=ids, attention_mask=mask, position_ids=positions)
            logits = out.logits[:, -1].double()
            scores = logits[:, self.tokens]
            found.append((scores / self.temperature).softmax(-1))
            masses.append((scores.logsumexp(-1) - logits.logsumexp(-1)).exp())
        where = {text: i for i, text in enumerate(texts)}
        order = [where[prompt] for prompt in prompts]
        self.mass = torch.cat(masses).cpu().numpy()[order]
        return np.asarray(torch.cat(found).cpu().numpy()[order])

    def _lines(self, value: Float[np.ndarray, " queries"], mask: Bool[np.ndarray, " queries"]) -> str:
        questions = self.questions or ()
        require(len(questions) == len(value), "questions", len(questions), f"one an answer, {len(value)}")
        require(
            bool(np.isin(value[mask], (0.0, 1.0)).all()), "values", value[mask].tolist(), "answers 0 (no) or 1 (yes)"
        )
        told = [f"{q} {'Yes' if v else 'No'}.\n" for q, v, m in zip(questions, value, mask, strict=True) if m]
        return f"It is one of these: {', '.join(self.classes)}.\n{''.join(told)}It is:"
