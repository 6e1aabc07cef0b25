"""Values: compared, hashed and written by their fields."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Adaptive = Literal["adaptive", "adaptive_per_tensor"]


class Frozen(BaseModel):
    """A value: compared, hashed and written by its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def address(self) -> str:
        """Sixteen digits that stand for the fields.

        What is at its default does not count, nor does the order of fields: a new field whose default is the old
        behaviour moves no address.
        """
        # Python's json writes a number the same way in every version. A copy may hold 1 where the field says 1.0.
        exact = type(self).model_validate(self.model_dump(warnings=False))
        content = json.dumps(exact.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(f"{type(self).__name__} {content}".encode()).hexdigest()[:16]
