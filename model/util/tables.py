"""Tables of plain text."""

from collections.abc import Collection, Sequence


def align(rows: Sequence[Sequence[str]], left: Collection[int] = ()) -> str:
    """Format rows of cells as columns; those in ``left`` are left-aligned, all others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        aligned = (cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in enumerate(cells))
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)
