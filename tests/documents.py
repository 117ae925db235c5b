"""What the documentation shows: blocks, the commands in them, code within lines, links and headings."""

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
"""What users and newcomers read and follow."""

DOCUMENTS = (
    *GUIDES,
    ROOT / "BENCHMARKS.md",
    ROOT / "model" / "demo" / "README.md",
    ROOT / "tests" / "golden" / "README.md",
)
"""These, and records of what was done once."""


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language ("" where it names none) and its text."""

    path: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> tuple[str, ...]:
        """Each command on one line, without its comment. Where a block shows output, too, commands begin with "$ "."""
        lines = re.sub(r"\s*\\\n\s*", " ", self.text).splitlines()
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
    """What stands between backticks within lines, each on one line."""
    return [re.sub(r"\s+", " ", token.content) for token in _inline(path, "code_inline")]


def links(path: Path) -> list[str]:
    """Where links lead, and pictures come from."""
    found = [*(str(token.attrs["href"]) for token in _inline(path, "link_open"))]
    return found + [str(token.attrs["src"]) for token in _inline(path, "image")]


def anchors(path: Path) -> set[str]:
    """The names of headings in addresses, as GitHub makes them: lower case, hyphens for spaces, no other marks."""
    tokens = _tokens(path)
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
