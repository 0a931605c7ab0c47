"""The noisy branch on a tiny LLaVA with images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("trl")

from datasets import Dataset
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from trl import GRPOConfig

from hartley.rl import Recipe, grpo, token_statistics, vogue
from hartley.rl.trl import RecipeGRPOTrainer

WORDS = ["<pad>", "<eos>", "<image>", "user:", "bot:", *"0123456789"]
TEMPLATE = (
    "{% for m in messages %} user: {% for c in m.content %}"
    "{% if c.type == 'image' %} <image> {% else %} {{ c.text }} {% endif %}{% endfor %}{% endfor %} bot:"
)


def processor() -> LlavaProcessor:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<eos>",
        extra_special_tokens={"image_token": "<image>"},
    )
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}),
        tokenizer=tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def model() -> LlavaForConditionalGeneration:
    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**size, num_hidden_layers=2, image_size=8, patch_size=4, projection_dim=16)
    text = LlamaConfig(
        **size,
        vocab_size=len(WORDS),
        num_hidden_layers=1,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        initializer_range=0.5,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return LlavaForConditionalGeneration(
            LlavaConfig(vision_config=vision.to_dict(), text_config=text.to_dict(), image_token_index=2)
        )


def trainer(folder: Path, recipe: Recipe, **changes: Any) -> RecipeGRPOTrainer:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)) for _ in range(6)]
    data = Dataset.from_dict({"prompt": [[{"role": "user", "content": "1 2"}]] * 6, "image": images})
    config = GRPOConfig(
        str(folder),
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=5,
        max_steps=2,
        num_iterations=2,
        learning_rate=1e-3,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )

    def reward(completions: list[Any], **kwargs: Any) -> list[float]:
        return [float(i % 2) for i in range(len(completions))]

    return RecipeGRPOTrainer(
        model(), reward, config, train_dataset=data, processing_class=processor(), recipe=recipe, **changes
    )


def noise(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return pixels + 0.5 * torch.randn(pixels.shape, generator=generator)


def test_the_noisy_branch_is_scored_with_its_own_images(tmp_path: Path) -> None:
    plain = trainer(tmp_path, grpo())
    run = trainer(tmp_path, vogue(start=0.5, end=0.5), perturb=noise)
    batches = []
    for each in (plain, run):
        torch.manual_seed(3)
        each.model.train()
        batches.append(each._generate_and_score_completions(next(iter(each.get_train_dataloader()))))
    before, batch = batches
    assert torch.equal(before["completion_ids"], batch["completion_ids"])  # sampled from the raw images
    noisy = batch["field_noisy"]
    assert noisy.view(-1, 4).float().std(1).max() == 0  # a group goes one way
    moved = (before["pixel_values"] - batch["pixel_values"]).abs().flatten(1).amax(1) > 0
    assert torch.equal(moved, noisy)
    assert noisy.any()
    assert (batch["field_visual_uncertainty"] > 0).all()
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    logits = run.model(input_ids=ids, attention_mask=seen, pixel_values=batch["pixel_values"]).logits
    keep = batch["completion_ids"].shape[1]
    stats = token_statistics(logits[:, -keep - 1 : -1].detach(), batch["completion_ids"])
    mask = batch["tool_mask"].bool()
    for name in ("old_per_token_logps", "recipe_log_probs"):
        torch.testing.assert_close(batch[name][mask], stats.log_probs[mask], atol=1e-4, rtol=1e-4)
    bonus = batch["advantages"].abs() - before["advantages"].abs()
    assert (bonus[mask] * batch["advantages"][mask].sign() >= -1e-5).all()  # raised, never lowered


def test_training_with_images(tmp_path: Path) -> None:
    run = trainer(tmp_path, vogue(), perturb=noise)
    run.train()
    assert all(p.isfinite().all() for p in run.model.parameters())


def test_what_a_noisy_branch_needs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="noisy"):
        trainer(tmp_path, vogue())
