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
def messages() -> list[list[str]]:
    """The words of every text in the sources of nodes and core, without what is filled in when it is said."""
    found: list[list[str]] = []
    for folder in ("nodes", "sora_core"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                texts = [part.value for part in parts if isinstance(part, ast.Constant)]
                if texts and all(isinstance(text, str) for text in texts):
                    found.append(plain(" ".join(texts)).split())
    return found


def plain(text: str) -> str:
    return " ".join(re.sub(r"[:;,().]+", " ", text).split())


def words_of(quote: str) -> list[str]:
    """All but numbers, sizes, types and what is quoted, which differ every time."""
    return plain(re.sub(r"\S*[\d'`]\S*|\b[A-Z]{2,}\b", " ", quote)).split()


def in_common(some: list[str], others: list[str]) -> int:
    """Length of the longest list of words that both have in this order."""
    best = [0] * (len(others) + 1)
    for word in some:
        row = [0]
        for i, other in enumerate(others):
            row.append(best[i] + 1 if word == other else max(best[i + 1], row[i]))
        best = row
    return best[-1]


def said(quote: str) -> bool:
    """Whether for each part of a quote, up to a colon, one message has its words in their order, all but a few names
    that are filled in."""
    parts = [words for words in map(words_of, re.split(r"[:;]", quote)) if words]
    for words in parts:
        least = len(words) - min(3, (len(words) + 1) // 3)
        near = (message for message in messages() if sum(word in message for word in words) >= least)
        if not any(in_common(words, message) >= least for message in near):
            return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_quoted_messages_are_those_of_the_sources(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").partition("## When it complains")[2].split())
    quotes = [quote for quote in re.findall(r"\*\*(.+?)\*\*", text) if not quote.startswith(HOST)]
    assert text
    assert not [quote for quote in quotes if not said(quote)]
