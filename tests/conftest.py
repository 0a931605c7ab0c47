"""Shapes and dtypes in signatures are checked by beartype while the tests run; no test opens a socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jaxtyping

from hartley.papers.base import ROOMS

jaxtyping.install_import_hook([f"hartley.{name}" for name in (*ROOMS, "importance")], "typecheck.check")

import pytest
import torch

torch.set_num_threads(1)  # two test processes share two cores


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Signatures unchecked, as users run the library: for tests of what is refused at the door."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0] if isinstance(address, tuple) else address
            if host not in ("127.0.0.1", "::1", "localhost"):
                raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
