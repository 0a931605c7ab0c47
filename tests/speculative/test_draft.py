"""Drafts carry their law; what was not drawn from it is refused."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from speculative.enumeration import greedy_tuples, tuples

from hartley.speculative import Draft
from hartley.speculative.draft import draw

Q = torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64)


@pytest.mark.parametrize("law", ["with", "without", "greedy"])
def test_drafts_follow_their_law(law: str) -> None:
    # Chi-square over all tuples, fixed seed; false alarms at 1e-4 if it were redrawn.
    rows = 30_000
    generator = torch.Generator().manual_seed(0)
    draft = Draft.sample(Q.expand(rows, -1), 2, law, generator)  # type: ignore[arg-type]
    expected = dict(greedy_tuples(Q[0].tolist(), 2) if law == "greedy" else tuples(Q[0].tolist(), 2, law))
    found, counts = draft.tokens.unique(dim=0, return_counts=True)
    assert {tuple(t) for t in found.tolist()} == set(expected)
    weights = [expected[tuple(t)] * rows for t in found.tolist()]
    assert scipy.stats.chisquare(counts.numpy(), weights).pvalue > 1e-4


def test_greedy_ties_go_to_the_lowest_id() -> None:
    tied = torch.tensor([[0.2, 0.3, 0.3, 0.2]], dtype=torch.float64)
    assert Draft.sample(tied, 3, "greedy").tokens[0, :2].tolist() == [1, 2]


def test_rows_with_fewer_tokens_than_drafts_leave_dead_drafts() -> None:
    q = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    without = Draft.sample(q, 3, "without")
    assert without.count.tolist() == [1, 2]
    assert without.tokens[0, 0] == 1
    greedy = Draft.sample(q, 3, "greedy")
    assert greedy.mask.tolist() == [[True, True, False], [True, True, False]]


def test_zero_weights_are_never_drawn() -> None:
    weights = torch.zeros(1000, 5, dtype=torch.float64)
    weights[:, 3] = 1e-300
    assert (draw(weights, 4, torch.Generator().manual_seed(0)) == 3).all()


def test_same_generator_state_gives_the_same_drafts() -> None:
    first, second = (Draft.sample(Q, 3, "with", torch.Generator().manual_seed(5)).tokens for _ in range(2))
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": [[4]]}, "ids in \\[0, 4\\)"),
        ({"tokens": [[0]], "q": [[0.0, 1.0, 0.0, 0.0]]}, "not drawn from q"),
        ({"tokens": [[1, 1]], "law": "without"}, "no repeats"),
        ({"tokens": [[]]}, "at least one draft"),
        ({"tokens": [[0], [1]]}, "1 rows, as q"),
        ({"tokens": [[0]], "law": "beam"}, "one of"),
        ({"tokens": [[0]], "q": [[0.5, 0.5, 0.5, 0.5]]}, "sum to one"),
    ],
)
def test_bad_drafts(unchecked: None, arguments: dict[str, object], message: str) -> None:
    rows = torch.tensor(arguments.get("q", Q.tolist()), dtype=torch.float64)
    tokens = torch.tensor(arguments["tokens"], dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        Draft(tokens, rows, arguments.get("law", "with"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "law", "message"), [(0, "with", "n = 0"), (5, "without", "vocabulary"), (1, "x", "law")])
def test_bad_sampling(unchecked: None, n: int, law: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Draft.sample(Q, n, law)  # type: ignore[arg-type]
