"""The same function for torch and numpy: arrays become tensors on the way in, tensors arrays on the way out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def numpy_too(function: Function) -> Function:
    """Let a function of tensors take numpy arrays as well; then it returns arrays. Memory is shared, not copied."""

    @functools.wraps(function)
    def either(*args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(value, np.ndarray) for value in (*args, *kwargs.values())):
            return function(*args, **kwargs)
        result = function(*map(_tensor, args), **{name: _tensor(value) for name, value in kwargs.items()})
        return result.detach().numpy() if isinstance(result, torch.Tensor) else result

    return either  # type: ignore[return-value]


def _tensor(value: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
