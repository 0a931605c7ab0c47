"""Bad input is refused at the door: the argument, its value and what would be accepted, in one line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise `ValueError` unless `condition` holds.

    Parameters
    ----------
    name, value : the argument at fault, as the caller knows it.
    expected : what would be accepted, e.g. ``"a number in (0, 1)"``.
    """
    if not condition:
        raise ValueError(f"{name} = {value!r}: expected {expected}")


def require_between(
    name: str, value: float, low: float = -math.inf, high: float = math.inf, *, closed: str = "neither"
) -> None:
    """Raise `ValueError` unless `value` lies between `low` and `high`; NaN never does.

    `closed` says which ends belong to the interval: "neither", "left", "right" or "both".
    """
    left, right = closed in ("left", "both"), closed in ("right", "both")
    inside = (low <= value if left else low < value) and (value <= high if right else value < high)
    interval = f"{'[' if left else '('}{low:g}, {high:g}{']' if right else ')'}"
    require(inside, name, value, f"a number in {interval}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the nearest of the known names, for "unknown ..." errors."""
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.4)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(options)}"
