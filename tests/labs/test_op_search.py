"""The task against plain Python: verdicts, traces, kinds of token, the calculator."""

from __future__ import annotations

import torch

from hartley.labs.op_search import (
    ATTEMPTS,
    CANDIDATES,
    DIGITS,
    END_THINK,
    EOS,
    KINDS,
    MINUS,
    PAD,
    PLUS,
    RESPONSE,
    RETRY,
    TIMES,
    calculator,
    draw_images,
    draw_problems,
    running_values,
    search_traces,
    token_kinds,
    verify,
)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _apply(operator: int, left: int, right: int) -> int:
    return {PLUS: left + right, MINUS: left - right, TIMES: left * right}[operator] % 10


def _reached(digits: list[int], operators: list[int]) -> list[int]:
    value, values = digits[0], []
    for operator, digit in zip(operators, digits[1:], strict=True):
        value = _apply(operator, value, digit)
        values.append(value)
    return values


def _is_right(prompt: list[int], response: list[int]) -> bool:
    """The rule, said plainly."""
    if EOS not in response:
        return False
    before = response[: response.index(EOS)]
    if before.count(END_THINK) != 1:
        return False
    answer = before[before.index(END_THINK) + 1 :]
    legal = len(answer) == 3 and all(PLUS <= token <= TIMES for token in answer)
    return legal and _reached(prompt[:4], answer)[-1] == prompt[5]


def test_problems_have_the_solutions_they_say() -> None:
    problems = draw_problems(200, _generator())
    for prompt, solutions in zip(problems.prompts.tolist(), problems.solutions, strict=True):
        expected = [_reached(prompt[:4], c)[-1] == prompt[5] for c in CANDIDATES.tolist()]
        assert solutions.tolist() == expected
        assert any(expected)
    count = problems.solutions.sum(1)
    assert torch.equal(problems.difficulty == 2, count <= 2)
    assert torch.equal(problems.difficulty == 0, count >= 5)


def test_prompts_to_avoid_are_avoided() -> None:
    test = draw_problems(3000, _generator())
    fresh = draw_problems(3000, torch.Generator().manual_seed(1), avoid=test)
    assert not {tuple(p) for p in test.prompts.tolist()} & {tuple(p) for p in fresh.prompts.tolist()}


def test_verdicts_equal_the_rule() -> None:
    """On right and wrong traces, on traces with one token changed, and on noise around a short ending."""
    generator = _generator()
    problems = draw_problems(1500, generator)
    ids = search_traces(problems, generator)
    changed = ids.clone()
    places = torch.randint(RESPONSE, (1500, 1), generator=generator)
    changed.scatter_(1, places, torch.randint(18, (1500, 1), generator=generator))
    noise = torch.randint(10, 16, (1500, 8), generator=generator)
    noise[::2, 3] = END_THINK
    noise[::2, 7] = EOS
    right = 0
    for responses in (ids, changed, noise, noise[:, :1]):
        verdict = verify(problems.prompts, responses)
        expected = [_is_right(p, r) for p, r in zip(problems.prompts.tolist(), responses.tolist(), strict=True)]
        assert verdict.correct.tolist() == expected
        assert verdict.truncated.tolist() == [EOS not in r for r in responses.tolist()]
        right += sum(expected)
    assert right > 1000


def test_end_of_thinking() -> None:
    prompt = torch.tensor([[1, 2, 3, 4, 16, 0, 17]] * 4)
    ids = torch.full((4, 6), PAD)
    ids[0, :5] = torch.tensor([END_THINK, PLUS, PLUS, PLUS, EOS])  # 1 + 2 + 3 + 4 = 10
    ids[1, :2] = torch.tensor([EOS, END_THINK])
    ids[2] = torch.tensor([END_THINK, PLUS, PLUS, PLUS, PLUS, EOS])
    ids[3] = torch.tensor([END_THINK, END_THINK, PLUS, PLUS, PLUS, EOS])
    verdict = verify(prompt, ids)
    assert verdict.correct.tolist() == [True, False, False, False]
    assert verdict.end_think.tolist() == [0, -1, 0, 0]


def test_traces_are_what_a_searcher_writes() -> None:
    generator = _generator()
    problems = draw_problems(2000, generator)
    traces = search_traces(problems, generator)
    firsts = right = 0
    for prompt, trace in zip(problems.prompts.tolist(), traces.tolist(), strict=True):
        body = trace[: trace.index(EOS)]
        assert set(trace[len(body) + 1 :]) <= {PAD}
        thinking, answer = body[: body.index(END_THINK)], body[body.index(END_THINK) + 1 :]
        attempts = [thinking[7 * i : 7 * i + 6] for i in range(len(thinking) // 7 + 1)]
        assert len(attempts) <= ATTEMPTS
        assert thinking[6::7] == [RETRY] * (len(attempts) - 1)
        for attempt in attempts:
            assert attempt[1::2] == _reached(prompt[:4], attempt[::2])
        assert all(a[-1] != prompt[5] for a in attempts[:-1])  # who has found it stops
        assert answer == attempts[-1][::2]
        firsts += attempts[0][-1] == prompt[5]
        right += attempts[-1][-1] == prompt[5]
    assert firsts < right
    # An expert (0.3) or a blind hit: the mean share of solutions is 0.16. Four standard errors of 2000 draws.
    blind = float(problems.solutions.float().mean())
    expected = 0.3 + 0.7 * blind
    assert abs(firsts / 2000 - expected) < 4 * (expected * (1 - expected) / 2000) ** 0.5


def test_who_never_gives_up_tries_three_times() -> None:
    generator = _generator()
    problems = draw_problems(500, generator)
    traces = search_traces(problems, generator, expert=0.0, give_up=0.0)
    wrong = ~verify(problems.prompts, traces).correct
    assert wrong.any()
    assert ((traces[wrong] == RETRY).sum(1) == ATTEMPTS - 1).all()
    assert verify(problems.prompts, search_traces(problems, generator, expert=1.0)).correct.all()


def test_kinds_of_token() -> None:
    ids = torch.tensor([[PLUS, 3, RETRY, TIMES, 4, END_THINK, PLUS, MINUS, PLUS, EOS, PAD]])
    kinds = [KINDS[k] if k >= 0 else "" for k in token_kinds(ids)[0].tolist()]
    assert kinds == ["operator", "value", "choice", "operator", "value", "choice", *["answer"] * 4, ""]


def test_calculator_says_what_the_traces_hold() -> None:
    generator = _generator()
    problems = draw_problems(400, generator)
    traces = search_traces(problems, generator)
    kinds = token_kinds(traces)
    for place in range(RESPONSE):
        told = calculator(problems.prompts, traces[:, :place])
        value = kinds[:, place] == KINDS.index("value")
        assert torch.equal(told[value], traces[value, place])
        assert (told[~value] == -1).all()


def test_a_calculator_that_errs() -> None:
    generator = _generator()
    problems = draw_problems(4000, generator)
    ids = torch.full((4000, 1), PLUS)
    right = (problems.prompts[:, 0] + problems.prompts[:, 1]) % 10
    wrong = calculator(problems.prompts, ids, error=0.25, generator=generator) != right
    assert abs(float(wrong.float().mean()) - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert (calculator(problems.prompts, ids, error=1.0, generator=generator) != right).all()
    # It goes on from what it showed.
    shown = torch.cat([ids, (right[:, None] + 1) % 10, torch.full((4000, 1), TIMES)], 1)
    assert torch.equal(calculator(problems.prompts, shown), (right + 1) * problems.prompts[:, 2] % 10)


def test_images_show_their_digit() -> None:
    """Each picture is one of its digit, and no test picture is a training picture."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    known = {tuple(row): (int(label), number < 1200) for number, (row, label) in enumerate(zip(x, y, strict=True))}
    for half in ("train", "test"):
        problems = draw_problems(100, _generator(), images=half)
        assert problems.images is not None
        digits = problems.prompts[:, DIGITS]
        for pixels, digit in zip(problems.images.flatten(0, 1).tolist(), digits.flatten().tolist(), strict=True):
            assert known[tuple(16 * p for p in pixels)] == (digit, half == "train")
    assert draw_images(torch.tensor(3), "test", _generator()).shape == (64,)


def test_running_values() -> None:
    digits = torch.tensor([7, 5, 3, 9])
    assert running_values(digits, torch.tensor([MINUS, MINUS, TIMES])).tolist() == [2, 9, 1]
