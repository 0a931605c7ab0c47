"""`hartley generate`: continue a prompt with one sampler, or with several side by side."""

from __future__ import annotations

from typing import Annotated

import typer

DEFAULT_COMPARISON = ("top-p", "min-p", "top-h", "locally-typical", "mirostat")


def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="Text to continue.")],
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            "--sampler", "-s", help="top-h, locally-typical, mirostat, entropy-top-k, top-p, ...; repeatable."
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", "-t", help="Divides the logits before the sampler.")
    ] = 1.0,
    tokens: Annotated[int, typer.Option("--tokens", "-n", min=1, help="Most tokens to generate.")] = 60,
    model: Annotated[
        str, typer.Option(help="smollm2, or a folder or hub name of a causal language model.")
    ] = "smollm2",
    compare: Annotated[
        bool, typer.Option("--compare", help="Several samplers side by side, with their metrics.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same text.")] = 0,
    chat: Annotated[bool, typer.Option("--chat", help="Put the prompt through the model's chat template.")] = False,
) -> None:
    """Continue PROMPT. Parameters of the sampler follow as options: --sampler top-h --alpha 0.3.

    With --compare, or several --sampler, the texts stand side by side with mean log-likelihood under the untempered
    model, entropy, repetition and distinct bigrams. Samplers: temperature, top-k, top-p, min-p, eta, epsilon, typical
    (transformers' own), top-h, locally-typical, mirostat, entropy-top-k.
    """
    from rich.columns import Columns
    from rich.console import Console
    from rich.markup import escape
    from rich.panel import Panel
    from rich.table import Table

    from hartley.labs.generation import build_sampler, generate_tokens, text_metrics
    from hartley.labs.models import language_model

    names = list(sampler or (DEFAULT_COMPARISON if compare else ("top-h",)))
    parameters = _parameters(context.args)
    # Each parameter goes to the samplers that have it; one that none has is an error that names the nearest.
    built = {name: build_sampler(name, parameters, temperature=temperature, others=names) for name in names}
    console = Console()
    with Console(stderr=True).status(f"loading {model}"):
        network, tokenizer = language_model(model)
    if chat:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
    else:
        text = prompt
    ids = tokenizer(text, return_tensors="pt").input_ids
    if ids.shape[1] == 0:
        raise ValueError("the prompt is empty: expected at least one token")
    results = {}
    with Console(stderr=True).status("generating") as status:
        for name, processors in built.items():
            status.update(f"generating with {name}")
            results[name] = generate_tokens(network, ids, processors, tokens, seed=seed, stop=tokenizer.eos_token_id)
    texts = {n: tokenizer.decode(r[0], skip_special_tokens=True) for n, r in results.items()}
    if len(results) == 1 and not compare:
        console.print(prompt + texts[names[0]], markup=False, highlight=False)
        return
    console.print(Columns([Panel(escape(t), title=n) for n, t in texts.items()], equal=True, expand=True))
    table = Table(box=None, pad_edge=False)
    for column in ("sampler", "tokens", "log p/token", "perplexity", "entropy", "rep-4", "distinct-2"):
        table.add_column(column, justify="left" if column == "sampler" else "right")
    for name, result in results.items():
        m = text_metrics(network, ids, result, stop=tokenizer.eos_token_id)
        table.add_row(
            name,
            f"{m.length:.0f}",
            f"{m.log_likelihood:.2f}",
            f"{m.perplexity:.1f}",
            f"{m.entropy:.2f}",
            f"{m.repetition:.3f}",
            f"{m.distinct:.2f}",
        )
    console.print(table)


def _parameters(arguments: list[str]) -> dict[str, str]:
    """`--alpha 0.3 --rule=partial` as a dictionary."""
    parameters = {}
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise ValueError(f"unexpected argument {option!r}: the prompt is one argument, put it in quotes")
        name, equals, value = option[2:].partition("=")
        if not equals:
            if not rest:
                raise ValueError(f"--{name} needs a value")
            value = rest.pop(0)
        parameters[name.replace("-", "_")] = value
    return parameters
