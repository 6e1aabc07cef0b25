"""Values: compared, hashed and written by their fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache, cached_property
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
            raise ValueError(_no_field(cls, unknown[0]))
        return values

    # Tables share runs, which are looked up a million times. So values, hash and address are kept.
    @cached_property
    def _values(self) -> tuple[Any, ...]:
        return tuple(self.__dict__[name] for name in type(self).model_fields)

    @cached_property
    def _hash(self) -> int:
        return hash((type(self), *self._values))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: Any) -> bool:
        if self is other:
            return True
        return type(self) is type(other) and self._hash == other._hash and self._values == other._values

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()  # a hash of words is another one in each process
        return {**state, "__dict__": {name: self.__dict__[name] for name in type(self).model_fields}}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values."""
        copied = super().model_copy(update=update, deep=deep)
        for kept in ("_values", "_hash", "address"):
            copied.__dict__.pop(kept, None)
        return copied

    @cached_property
    def address(self) -> str:
        """Sixteen digits that stand for the fields.

        What is at its default does not count, nor does the order of fields: a new field whose default is the old
        behaviour moves no address.
        """
        # Python's json writes a number the same way in every version. A copy may hold 1 where the field says 1.0.
        exact = type(self).model_validate(self.model_dump(warnings=False))
        content = json.dumps(exact.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(f"{type(self).__name__} {content}".encode()).hexdigest()[:16]


@cache
def _no_field(kind: type[Frozen], name: str) -> str:
    """Return the sentence, once: reading a run tries the other kinds of workloads too."""
    return f"{kind.__name__} has no field {name!r}; {allowed(name, kind.model_fields)}"


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
