"""Our networks give the numbers of the host's own classes: over grids, batches, texts, levels and lengths of clips."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from conftest import find_host, python_of


def test_our_networks_are_the_host_s() -> None:
    host = find_host()
    assert host is not None
    script = Path(__file__).with_name("parity.py")
    done = subprocess.run([python_of(host), str(script), str(host)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    errors = {case["case"]: case["error"] for case in map(json.loads, done.stdout.splitlines())}
    assert len(errors) == 126
    assert not {case: error for case, error in errors.items() if not error < 1e-4}
