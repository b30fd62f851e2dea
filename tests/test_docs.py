"""The help pages say what the nodes say."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))
# what the host itself says
HOST = "VAE is invalid: None.", "Value not in list", "Return type mismatch", "Required input is missing"


@cache
def messages() -> str:
    """Every text in the sources of nodes and core, one a line; what is filled in when it is said ends a line."""
    found: list[str] = []
    for folder in ("nodes", "sora_core"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(" ".join(node.value.split()))
    return re.sub(r"[:;,().]+", " ", "\n".join(found)).replace("  ", " ")


def runs(quote: str) -> list[list[str]]:
    """Words in a row that no mark and no value interrupts: numbers, sizes and what is quoted differ every time."""
    parts = re.split(r"[:;,()]|\.\.\.|\S*[\d'`]\S*|\b[A-Z]{2,}\b", quote)
    return [[word.strip(".") for word in part.split() if word.strip(".")] for part in parts]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_quoted_messages_are_those_of_the_sources(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").partition("## When it complains")[2].split())
    quotes = [quote for quote in re.findall(r"\*\*(.+?)\*\*", text) if not quote.startswith(HOST)]
    assert text
    for quote in quotes:
        longest = max(runs(quote), key=len)
        shown = [" ".join(longest[skip:]) for skip in range(min(3, len(longest)))]  # the first words may be a name
        assert any(words in messages() for words in shown), (quote, shown[0])
