"""One module a paper: what it claims, and the experiment that checks it."""

from hartley.papers.base import Claim, Curve, Paper, Trial, find_paper, load_papers

__all__ = ["Claim", "Curve", "Paper", "Trial", "find_paper", "load_papers"]
