"""Parts of messages: text from files and libraries, as one short line that cannot steer a terminal, counts and
durations."""

MAX_LENGTH = 200


def printable(text: str) -> str:
    """The text, shortened, with control characters escaped."""
    text = text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}…"
    return text if text.isprintable() else ascii(text)


def error_text(error: Exception) -> str:
    """An error's message as one printable line; the name of its type if it has none."""
    return printable(" ".join(str(error).split()) or type(error).__name__)


def counted(number: int, noun: str) -> str:
    """ "1 key", "1,024 keys"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3.5 h", "12 days"."""
    for unit, size in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 100 * size or (unit == "h" and seconds < 48 * size):
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds / 86_400:,.2g} days" if seconds < 8.64e6 else f"{seconds / 86_400:,.0f} days"
