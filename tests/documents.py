"""Parses the documentation: code blocks and their commands, inline code, links and headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]

GUIDES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
"""Documents whose code blocks are run."""

DOCUMENTS = (
    *GUIDES,
    ROOT / "BENCHMARKS.md",
    ROOT / "model" / "demo" / "README.md",
    ROOT / "tests" / "golden" / "README.md",
)
"""These, and records of measurements."""


@dataclass(frozen=True)
class Block:
    """A fenced code block. The language is "" if none is given."""

    path: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands without comments, each on one line. In blocks with output, commands begin with "$ "."""
        text = re.sub(r"-d '[^']*'", lambda body: re.sub(r"\n\s*", " ", body[0]), self.text)
        lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
        if any(line.startswith("$ ") for line in lines):
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return tuple(filter(None, (re.sub(r"(^|\s+)# .*", "", line).strip() for line in lines)))


@cache
def _tokens(path: Path) -> tuple[Token, ...]:
    return tuple(MarkdownIt("commonmark").enable("table").parse(path.read_text()))


def _inline(path: Path, kind: str) -> Iterator[Token]:
    for token in _tokens(path):
        yield from (child for child in token.children or () if child.type == kind)


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a document."""
    return [
        Block(path, token.map[0] + 1, token.info, token.content)
        for token in _tokens(path)
        if token.type == "fence" and token.map
    ]


def spans(path: Path) -> list[str]:
    """The inline code of a document, each on one line."""
    return [re.sub(r"\s+", " ", token.content) for token in _inline(path, "code_inline")]


def links(path: Path) -> list[str]:
    """The targets of links and images."""
    found = [*(str(token.attrs["href"]) for token in _inline(path, "link_open"))]
    return found + [str(token.attrs["src"]) for token in _inline(path, "image")]


def anchors(path: Path) -> set[str]:
    """The anchors of headings, as GitHub makes them: lower case, hyphens for spaces, no punctuation."""
    tokens = _tokens(path)
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
