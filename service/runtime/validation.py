"""Messages for pydantic errors."""

import re

from pydantic import AfterValidator
from pydantic_core import ErrorDetails

_SHOWN = 100
"""Characters of an invalid value that the message repeats."""


def matching(pattern: str, words: str) -> AfterValidator:
    """Text that matches a pattern as a whole, or an error that says "must be …" in words."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(check)


def explain(error: ErrorDetails, *, show_input: bool = True) -> str:
    """One error as a message that follows the field's name: "must be at least 1, not 0"."""
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is unknown"
        case "unknown_field":
            return error["msg"]
        case "string_pattern_mismatch":
            message = f"must match {error['ctx']['pattern']}"
        case "model_attributes_type" | "model_type":
            return "must be a JSON object, sent as Content-Type: application/json"
        case "int_type" | "float_type" if isinstance(error["input"], str):
            message = "must be a number without quotes"
        case "bool_parsing" | "bool_type":
            message = "must be true or false"
        case "int_parsing" | "int_from_float":
            message = "must be an integer"
        case "float_parsing":
            message = "must be a number"
        case "greater_than_equal" | "less_than_equal" if _is_nan(error["input"]):
            message = "must be a number"
        case "list_type" | "tuple_type":
            message = "must be a list"
        case "too_short":
            least = error["ctx"]["min_length"]
            return f"must have at least {least} item{'s' * (least > 1)}, not {error['ctx']['actual_length']}"
        case "path_not_directory":
            message = "must be an existing folder"
        case "path_not_file":
            message = "must be an existing file"
        case "value_error":
            message = error["msg"].removeprefix("Value error, ")
            if not message.startswith("must") or ", not " in message:
                return message  # it has the value, or a part of it
        case _:
            message = error["msg"].replace("Input should", "must", 1)
            message = message.replace("greater than or equal to", "at least").replace(
                "less than or equal to", "at most"
            )
    value = error["input"]
    if not show_input or not isinstance(value, str | int | float | None):
        return message
    shown = repr(value[:_SHOWN]) if isinstance(value, str) else _number(value)
    return f"{message}, not {shown}"


def _is_nan(value: object) -> bool:
    """Comparisons with NaN are false, so that it is refused for whichever bound comes first."""
    return str(value).strip().lower().lstrip("+-") == "nan"


def _number(value: float | None) -> str:
    """In JSON's spelling. Of a very long integer only the length."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > _SHOWN:
        return f"a number of {value.bit_length()} bits"
    return str(value)
