"""What every test of this room returns: the statistic, its evidence, the null it speaks of, effect and sample size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hartley.checks import require


@dataclass(frozen=True)
class AuditResult:
    """One test. `print` shows it as one line.

    Attributes
    ----------
    test : name of the test.
    null : the hypothesis that `pvalue` and `log_evalue` speak against, in words.
    statistic : the test statistic.
    pvalue : probability of a statistic at least as extreme under the null. Adjusting for several tests is the
        caller's: ``scipy.stats.false_discovery_control([r.pvalue for r in results])``.
    effect : size of the departure, whatever the sample size.
    effect_name : what `effect` is, with its unit.
    size : number of observations that the test used.
    log_evalue : logarithm of an e-value (mean at most 1 under the null), where the test has one. Evidence of
        independent looks adds up, and 1 / e is a p-value.
    """

    test: str
    null: str
    statistic: float
    pvalue: float
    effect: float
    effect_name: str
    size: int
    log_evalue: float | None = None

    def __post_init__(self) -> None:
        require(math.isnan(self.pvalue) or 0 <= self.pvalue <= 1, "pvalue", self.pvalue, "a probability")

    def __str__(self) -> str:
        evidence = "" if self.log_evalue is None else f", log e = {self.log_evalue:.3g}"
        return (
            f"{self.test}: statistic {self.statistic:.4g}, p = {self.pvalue:.3g}{evidence}, "
            f"{self.effect_name} {self.effect:.4g}, n = {self.size} (null: {self.null})"
        )
