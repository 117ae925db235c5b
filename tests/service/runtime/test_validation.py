"""Messages of wrong values."""

import math
from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from service.runtime.validation import explain

Region = tuple[float, float, float, float]


def refuse(message: str) -> object:
    def validate(_: object) -> object:
        raise ValueError(message)

    return Annotated[str, BeforeValidator(validate)]


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (Annotated[int, Field(ge=1)], 0, "must be at least 1, not 0"),
        (Annotated[float, Field(le=2)], "nan", "must be a number, not 'nan'"),
        (Annotated[float, Field(ge=0)], math.nan, "must be a number, not nan"),
        (Annotated[int, Field(strict=True)], "7", "must be a number without quotes, not '7'"),
        (bool, "maybe", "must be true or false, not 'maybe'"),
        (int, "one", "must be an integer, not 'one'"),
        (Region, "0,0,1,1", "must be a list, not '0,0,1,1'"),
        (list[int], "1", "must be a list, not '1'"),
        (Annotated[list[int], Field(min_length=1)], [], "must have at least 1 item, not 0"),
        (Annotated[list[int], Field(min_length=2)], [1], "must have at least 2 items, not 1"),
        (refuse("must be a number in decimal notation"), "6_4", "must be a number in decimal notation, not '6_4'"),
        (refuse("must be one of scale, turn, not 'rotat'"), "[rotat]", "must be one of scale, turn, not 'rotat'"),
        (refuse("ends before it begins: 5-0"), "5-0", "ends before it begins: 5-0"),
    ],
)
def test_messages_tell_what_is_right_and_the_value_once(annotation: Any, value: object, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(annotation).validate_python(value)
    (error,) = refused.value.errors()
    assert explain(error) == message
