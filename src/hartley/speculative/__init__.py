"""Draft several tokens with a small model, verify them at once with the large one, lose nothing."""

from hartley.speculative.acceptance import acceptance
from hartley.speculative.decision import Decision, Verdict, Verifier, output_law, verify
from hartley.speculative.draft import Draft
from hartley.speculative.generate import (
    VERIFIERS,
    Block,
    Generation,
    Statistics,
    check_tokenizers,
    speculative_blocks,
    speculative_generate,
)
from hartley.speculative.greedy import greedy
from hartley.speculative.huggingface import Speculative
from hartley.speculative.kseq import kseq, kseq_guarantee, kseq_rho
from hartley.speculative.optimal import optimal
from hartley.speculative.optimum import optimal_acceptance, optimal_acceptance_lp, optimal_acceptance_subset
from hartley.speculative.rejection import recursive_rejection, single

__all__ = [
    "VERIFIERS",
    "Block",
    "Decision",
    "Draft",
    "Generation",
    "Speculative",
    "Statistics",
    "Verdict",
    "Verifier",
    "acceptance",
    "check_tokenizers",
    "greedy",
    "kseq",
    "kseq_guarantee",
    "kseq_rho",
    "optimal",
    "optimal_acceptance",
    "optimal_acceptance_lp",
    "optimal_acceptance_subset",
    "output_law",
    "recursive_rejection",
    "single",
    "speculative_blocks",
    "speculative_generate",
    "verify",
]
