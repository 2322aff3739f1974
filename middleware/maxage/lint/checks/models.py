"""Typed models: whether the objects of a `RedisCache` come back from JSON as they were."""

from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from maxage.lint.application import Application
from maxage.lint.code.function import Function
from maxage.lint.code.values import known
from maxage.lint.codes import Code
from maxage.lint.finding import Finding
from maxage.lint.samples import samples
from maxage.typed.encoding import Encodings, UnfaithfulEncodingError
from maxage.typed.redis_cache import RedisCache


def check_models(app: Application) -> Iterator[Finding]:
    """Yield the typed caches whose objects would not be stored, since they lose a part."""
    seen = set[int]()
    for name, cache in _typed_caches(app):
        if id(cache) in seen:
            continue
        seen.add(id(cache))
        lost = lost_part(cache.model)
        if lost:
            reason = (
                f"Objects of {name} lose {lost} when they are read back from JSON, so that they "
                "are not stored."
            )
            mend = (
                "Let each field be written as it is read: no exclude, a validator for each "
                "serializer, no private attributes, and types that JSON can tell apart."
            )
            yield from _found(app, name, cache, reason, mend)


def lost_part(model: Any) -> str:
    """Return the part of a type's objects that JSON does not give back; empty: none is known."""
    private = _private(model)
    if private:
        return private
    try:
        values = samples(model)
        encodings: Encodings[Any] = Encodings(model)
        for value in values:
            encodings.encode(value)
        if not values:
            TypeAdapter(model).json_schema()
    except UnfaithfulEncodingError as error:
        return str(error)
    except PydanticInvalidForJsonSchema:
        return "a part that JSON does not know"
    except Exception:  # noqa: BLE001 - a type that is not complete, or makes its own schema
        return ""
    return ""


def _private(model: Any) -> str:
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name in model.__private_attributes__:
            return f"{model.__name__}.{name}"
    return ""


def _typed_caches(app: Application) -> Iterator[tuple[str, RedisCache[Any]]]:
    places: list[tuple[str, Mapping[str, Any]]] = [
        (module.__name__, vars(module)) for module in app.modules
    ]
    for route in (*app.reads, *app.writes):
        places += [(one.function.call.__module__, one.function.names) for one in route.all_scopes]
    for module, names in places:
        for name, value in [(name, known(each).thing) for name, each in list(names.items())]:
            if isinstance(value, RedisCache):
                yield f"{module}.{name}", value  # pyright: ignore[reportUnknownMemberType] -- of any type


def _found(
    app: Application, name: str, cache: RedisCache[Any], reason: str, mend: str
) -> Iterator[Finding]:
    """Yield the finding at the first route whose functions name the cache, or at none."""
    for route in (*app.reads, *app.writes):
        for scope in route.all_scopes:
            if _uses(scope.function, cache):
                yield from route.report(Code.MODEL, reason, mend)
                return
    yield Finding(code=Code.MODEL, route="*", reason=reason, mend=mend, source=name)


def _uses(function: Function, cache: RedisCache[Any]) -> bool:
    code: CodeType = function.call.__code__
    used = {*code.co_names, *code.co_freevars}
    return any(value is cache and name in used for name, value in function.names.items())
