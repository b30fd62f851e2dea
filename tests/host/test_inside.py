"""What only the host's own process can tell; see inside.py."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from conftest import find_host, python_of


def cases(part: str) -> list[dict[str, Any]]:
    host = find_host()
    assert host is not None
    command = [python_of(host), str(Path(__file__).with_name("inside.py")), str(host), part]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_identity_is_one_model_s_alone_and_lasts() -> None:
    """Finished windows are those of the same MODEL, CLIP and VAE, in a later session, too, and of no other."""
    found, again = ({case["case"]: json.dumps(case["identity"]) for case in cases("identities")} for _ in range(2))
    alike = {name: [other for other in found if found[other] == found[name]] for name in found}
    assert len(found) > 30 and all(others == [name] for name, others in alike.items()), alike
    assert [name for name in found if found[name] != again[name]] == []


def test_an_identity_outlasts_a_run() -> None:
    """What the host notes on hooks and context windows while it samples does not make another model of them: a clip
    that was cancelled goes on in the same session."""
    found = cases("runs")
    assert found and all(case["before"] == case["after"] for case in found)


def test_attention_is_torch_s_where_the_host_asks_for_no_other() -> None:
    found = {case["case"]: case["torch"] for case in cases("attention")}
    assert len(found) == 5 and found == {option: not option for option in found}


def test_strengths_are_not_rounded_by_the_precision_of_the_host() -> None:
    errors = {case["case"]: case["error"] for case in cases("clock")}
    assert len(errors) == 6 and not {case: error for case, error in errors.items() if error > 1e-3}
