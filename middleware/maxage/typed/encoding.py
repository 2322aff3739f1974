"""Encodings: how pydantic writes values of a type as plain JSON, in a form that it reads back.

No single option of pydantic reads back all that it writes: names or aliases, computed fields,
numbers that JSON does not have, bytes that are no text. So a value is written by the first encoding
that gives the same value back.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from hashlib import blake2b
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast, final, get_args, get_origin

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import (
    GenerateJsonSchema,
    JsonSchemaValue,
    JsonSchemaWarningKind,
)
from pydantic_core import to_json

from maxage.typed.fidelity import difference

Model = TypeVar("Model")

_ANY_FLOAT_AND_BYTES: Final = ConfigDict(
    ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings"
)


class UnfaithfulEncodingError(Exception):
    """No encoding gives the value back; the argument is the path of the first part that differs."""


class Encoded(NamedTuple):
    """A value as it is written."""

    data: bytes
    kind: bytes
    """The type's fingerprint and the encoding; part of the seal."""


class _Encoding(NamedTuple, Generic[Model]):
    """One way to write a value and to read it back."""

    kind: bytes
    dump: Callable[[Model], bytes]
    load: Callable[[bytes], Model]


@final
class Encodings(Generic[Model]):
    """The encodings of one type, the preferred one first.

    Args:
        model: the type; all that pydantic's TypeAdapter takes.
    """

    def __init__(self, model: type[Model]) -> None:
        self._model: Final = model
        self._adapter: Final[TypeAdapter[Model]] = TypeAdapter(model)

    def encode(self, value: Model) -> Encoded:
        """Return the value as plain JSON.

        Raises:
            UnfaithfulEncodingError: reading gives another value, or pydantic does not write it.
        """
        lost: list[str] = []
        for encoding in self._encodings:
            try:
                data = encoding.dump(value)
                different = difference(value, encoding.load(data), self._name)
                if different is None:
                    return Encoded(data, encoding.kind)
                lost.append(different)
            except Exception as error:  # noqa: BLE001 - serialisers and validators raise anything
                lost.append(self._path_in(error))
        raise UnfaithfulEncodingError(lost[0])

    def decode(self, encoded: Encoded) -> Model:
        """Return the value that was written.

        Raises:
            ValueError: the type or its validators have changed; a validator raises other errors.
        """
        position = self.kinds.index(encoded.kind)
        return self._encodings[position].load(encoded.data)

    def converted(self, value: object) -> Model | None:
        """Return a value of another type as this type; None if pydantic does not accept it."""
        try:
            converted = self._adapter.validate_python(value)
        except Exception:  # noqa: BLE001 - validators raise anything
            return None
        return None if type(converted) is type(value) else converted

    @cached_property
    def kinds(self) -> tuple[bytes, ...]:
        """The kinds of values that this process can read."""
        return tuple(encoding.kind for encoding in self._encodings)

    @cached_property
    def _encodings(self) -> tuple[_Encoding[Model], ...]:
        schema = json.dumps(
            self._schema, sort_keys=True, default=lambda part: type(part).__qualname__
        ).encode()
        return tuple(
            _Encoding(blake2b(b"%d " % number + schema, digest_size=16).digest(), dump, load)
            for number, (dump, load) in enumerate(self._ways())
        )

    def _ways(self) -> Iterator[tuple[Callable[[Model], bytes], Callable[[bytes], Model]]]:
        """Yield how to write and to read; a new way goes last, since its number names it."""
        adapter = self._adapter
        load = partial(adapter.validate_json, by_alias=False, by_name=True)
        dump = partial(adapter.dump_json, by_alias=False, warnings=False)
        yield dump, load
        # Without computed fields, and with the text of `Json` fields.
        yield partial(dump, round_trip=True), load
        by_alias = partial(adapter.validate_json, by_alias=True, by_name=False)
        yield partial(dump, by_alias=True, round_trip=True), by_alias
        yield partial(_dump_any_float, adapter), load
        with suppress(PydanticUserError):
            # Models, dataclasses and TypedDicts have a configuration of their own.
            other: TypeAdapter[Model] = TypeAdapter(self._model, config=_ANY_FLOAT_AND_BYTES)
            yield (
                partial(other.dump_json, by_alias=False, round_trip=True, warnings=False),
                partial(other.validate_json, by_alias=False, by_name=True),
            )

    @cached_property
    def _schema(self) -> Mapping[str, Any]:
        """What the type is made of: a value of a type that had other fields is a miss."""
        schema = partial(self._adapter.json_schema, schema_generator=_Fingerprint)
        try:
            return {"by_name": schema(by_alias=False), "by_alias": schema(by_alias=True)}
        except Exception:  # noqa: BLE001 - a type may make its own schema, or is not complete
            return {"title": getattr(self._model, "__qualname__", "")}

    @property
    def _name(self) -> str:
        full = str(self._model)
        return full if get_origin(self._model) else getattr(self._model, "__name__", full)

    def _path_in(self, error: Exception) -> str:
        """Return the path of the part that an error is about; it shows no data."""
        path = self._name
        if isinstance(error, ValidationError):
            fields = set(_property_names(self._schema))
            for part in error.errors(include_url=False, include_input=False)[0]["loc"]:
                path += f".{part}" if part in fields else "[]"
        return path


def _dump_any_float(adapter: TypeAdapter[Any], value: Any) -> bytes:
    """Write NaN and infinity as text, which pydantic reads as floats."""
    plain = adapter.dump_python(value, by_alias=False, round_trip=True, warnings=False)
    return to_json(plain, inf_nan_mode="strings")


def _property_names(schema: object) -> Iterator[str]:
    """Yield the names of all fields in a JSON schema."""
    if isinstance(schema, dict):
        parts = cast("dict[str, object]", schema)
        properties = parts.get("properties")
        if isinstance(properties, dict):
            yield from cast("dict[str, object]", properties)
        for part in parts.values():
            yield from _property_names(part)
    elif isinstance(schema, list):
        for part in cast("list[object]", schema):
            yield from _property_names(part)


class _Fingerprint(GenerateJsonSchema):
    """The JSON schema of any type, the same in each process and without warnings."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = set(  # noqa: RUF012 - pydantic's
        get_args(JsonSchemaWarningKind)
    )

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        """Name a type that has no JSON schema."""
        del error_info
        kind = schema.get("cls")
        return {"core": schema["type"], "class": getattr(kind, "__qualname__", "")}

    def encode_default(self, dft: Any) -> Any:
        """Sort a set: its order differs from process to process."""
        encoded = super().encode_default(dft)
        return sorted(encoded, key=repr) if isinstance(dft, (set, frozenset)) else encoded
