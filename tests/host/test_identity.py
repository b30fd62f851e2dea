"""Finished windows are taken for those of the same MODEL, CLIP and VAE, in a later session, too, and of no other."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from conftest import find_host, python_of


def identities() -> dict[str, str]:
    host = find_host()
    assert host is not None
    command = [python_of(host), str(Path(__file__).with_name("identities.py")), str(host)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {case["case"]: json.dumps(case["identity"]) for case in map(json.loads, done.stdout.splitlines())}


def test_an_identity_is_one_model_s_alone_and_lasts() -> None:
    found = identities()
    alike = {name: [other for other in found if found[other] == found[name]] for name in found}
    assert len(found) > 30 and all(others == [name] for name, others in alike.items()), alike
    again = identities()
    assert [name for name in found if found[name] != again[name]] == []
