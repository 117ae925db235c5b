"""Text from files and libraries as part of an error message: one short line that cannot steer a terminal."""

MAX_LENGTH = 200


def printable(text: str) -> str:
    """The text, shortened, with control characters escaped."""
    text = text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}…"
    return text if text.isprintable() else ascii(text)


def error_text(error: Exception) -> str:
    """An error's message as one printable line; the name of its type if it has none."""
    return printable(" ".join(str(error).split()) or type(error).__name__)
