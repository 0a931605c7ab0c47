"""Recipes on two processes: both see all answers, and end with the same policy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")


@pytest.mark.slow
def test_two_processes_see_one_batch(tmp_path: Path) -> None:
    tests = Path(__file__).parent.parent
    paths = os.pathsep.join([str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(tests / "rl" / "distributed.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert first["group"] == second["group"] == [0] * 4 + [1] * 4
    assert first["rewards"] == second["rewards"]
    assert first["mask"] == second["mask"]
    assert first["weights"] == pytest.approx(second["weights"])
    assert first["finite"]
    assert second["finite"]
