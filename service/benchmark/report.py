"""The result of a benchmark: one table."""

from dataclasses import dataclass, field

from model.util.tables import align

Row = dict[str, str | float]


@dataclass(frozen=True)
class Report:
    """A table of measurements.

    Attributes:
        title: what was measured.
        rows: value of each column, the first of which names the row. The last row has all columns.
        peak_mib: peak memory of each process in MiB.
    """

    title: str
    rows: list[Row]
    peak_mib: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        columns = list(self.rows[-1])
        cells = [[_format(row.get(column, "")) for column in columns] for row in self.rows]
        lines = [self.title, align([columns, *cells], {0})]
        if self.peak_mib:
            lines.append(
                "peak memory in MiB: " + ", ".join(f"{name} {peak:.0f}" for name, peak in self.peak_mib.items())
            )
        return "\n".join(lines)


def _format(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"
