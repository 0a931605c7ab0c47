"""What every laboratory shares: it is a frozen record of settings, and the claims run on it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from hartley.checks import nearest


@dataclass(frozen=True)
class Lab:
    """A problem that claims are tested on; subclasses add fields, which users set by ``--set field=value``.

    Attributes
    ----------
    quick : a smaller version of the same measurement (at most 20 s a claim on two cores), else the full one (3 min).
    """

    quick: bool = True

    @classmethod
    def from_settings(cls, settings: Mapping[str, str], *, quick: bool) -> Self:
        """Build the lab from ``key=value`` texts, each read as the type of its field.

        Raises
        ------
        ValueError : an unknown key (the nearest ones are suggested) or a value that cannot be read.
        """
        types = typing.get_type_hints(cls)
        names = {f.name for f in dataclasses.fields(cls)} - {"quick"}
        values: dict[str, Any] = {}
        for key, text in settings.items():
            if key not in names:
                raise ValueError(f"unknown setting {key!r} of {cls.__name__}: {nearest(key, names)}")
            values[key] = _read(key, text, types[key])
        return cls(quick=quick, **values)


def _read(key: str, text: str, kind: Any) -> Any:
    alternatives = [a for a in typing.get_args(kind) if a is not type(None)] or [kind]
    for alternative in alternatives:
        if alternative is bool and text.lower() in ("true", "false", "1", "0"):
            return text.lower() in ("true", "1")
        if alternative in (int, float, str):
            try:
                return alternative(text)
            except ValueError:
                continue
    raise ValueError(f"setting {key} = {text!r}: expected {kind}")
