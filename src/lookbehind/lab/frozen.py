"""Values: compared, hashed and written by their fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lookbehind._words import allowed
from lookbehind.lab.declared import source_of

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Adaptive = Literal["adaptive", "adaptive_per_tensor"]


class Frozen(BaseModel):
    """A value: compared, hashed and written by its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _fields(cls, values: Any) -> Any:
        unknown = sorted(values.keys() - cls.model_fields.keys()) if isinstance(values, Mapping) else []
        if unknown:
            raise ValueError(f"{cls.__name__} has no field {unknown[0]!r}; {allowed(unknown[0], cls.model_fields)}")
        return values

    def __hash__(self) -> int:
        # Tables share runs, which are looked up a million times.
        found = self.__dict__.get("hash")
        if found is None:
            fields = type(self).model_fields
            found = self.__dict__["hash"] = hash((type(self), *(self.__dict__[name] for name in fields)))
        return int(found)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("hash", None)
        return copied

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


class Declared(Frozen):
    """A workload. What a study has declared of it, the data set or the model, is told apart by its source too."""

    dataset: str
    model: str
    source: str = ""

    @model_validator(mode="before")
    @classmethod
    def _with_source(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "source" not in values:
            source = source_of(dataset=str(values.get("dataset")), model=str(values.get("model")))
            return {**values, "source": source} if source else values
        return values

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values."""
        changed = dict(update or {})
        if changed.keys() & {"dataset", "model"}:
            names = {name: changed.get(name, getattr(self, name)) for name in ("dataset", "model")}
            changed["source"] = source_of(**names)
        return super().model_copy(update=changed, deep=deep)
