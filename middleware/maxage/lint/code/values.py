"""Values: the object behind an expression, as far as the source shows it."""

import ast
import inspect
import sqlite3
from collections.abc import Collection
from types import ModuleType
from typing import Any, Final, Literal, NamedTuple, cast, get_args, get_origin

from starlette.requests import HTTPConnection

from maxage.lint.code.function import Function, function_of


class Value(NamedTuple):
    """The object behind an expression."""

    kind: Literal["object", "part", "instance", "request", "unknown"]
    """`object`: this very object of the module, `part`: something in such an object, `instance`: an
    object of this class."""
    thing: Any = None


class Method(NamedTuple):
    """A method, with its object as far as that is known."""

    function: Any
    of: Value


UNKNOWN: Final = Value("unknown")
PART: Final = Value("part")
_NO_CLASSES: Final = frozenset({"builtins", "collections.abc", "types", "typing"})


def instance_of(kind: type[Any]) -> Value:
    """Return an object of a class; a request is one of its own kind."""
    return Value("request") if issubclass(kind, HTTPConnection) else Value("instance", kind)


def known(thing: Any) -> Value:
    """Return an object of the module; a proxy that raises without its context is not known."""
    try:
        isinstance(thing, Collection)
        for name in ("__dict__", "__module__", "__name__", "__globals__", "dependency"):
            getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - code of the application
        return UNKNOWN
    return Value("object", thing)


def plain_class(annotation: Any) -> type[Any] | None:
    """Return the class that an annotation names, in `Annotated` or beside None; None: no one."""
    annotation = getattr(annotation, "__value__", annotation)
    origin: Any = get_origin(annotation)
    if origin is None:
        return annotation if isinstance(annotation, type) else None
    if hasattr(annotation, "__metadata__"):
        return plain_class(get_args(annotation)[0])
    if isinstance(origin, type) and origin.__module__ not in _NO_CLASSES:
        return plain_class(origin)
    named = [one for one in get_args(annotation) if one is not type(None)]
    return plain_class(named[0]) if len(named) == 1 else None


def is_a(value: Value, *modules: str) -> bool:
    """Return whether a value is of a class, or has a base class, of one of these modules."""
    if value.kind not in {"instance", "object"}:
        return False
    return any(_is_in(base.__module__, modules) for base in _class_of(value).__mro__)


def is_from(value: Value, *modules: str) -> bool:
    """Return whether a value is a function or class of one of these modules."""
    module = getattr(value.thing, "__module__", None)
    return value.kind == "object" and isinstance(module, str) and _is_in(module, modules)


def _is_in(module: str, modules: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in modules)


def _class_of(value: Value) -> type[Any]:
    return cast("type[Any]", value.thing if value.kind == "instance" else type(value.thing))


def is_shared(value: Value) -> bool:
    """Return whether a value is a container of the module, or a part of one."""
    if value.kind != "object":
        return value.kind == "part"
    no_container = isinstance(value.thing, (str, bytes, range, type))
    return isinstance(value.thing, Collection) and not no_container


def attribute(of: Value, name: str) -> Value:
    """Return the value of an attribute."""
    if of.kind == "object" and isinstance(of.thing, (ModuleType, type)):
        # A lazy module may raise anything.
        try:
            return known(getattr(of.thing, name))
        except Exception:  # noqa: BLE001 - code of the application
            return UNKNOWN
    if of.kind == "object" and name in getattr(of.thing, "__dict__", {}):
        return known(of.thing.__dict__[name])
    return _declared(of, name) if of.kind in {"object", "instance"} else UNKNOWN


def _declared(of: Value, name: str) -> Value:
    """Return the value of an attribute by the class of its object."""
    kind = _class_of(of)
    found: Any = inspect.getattr_static(kind, name, None)
    if isinstance(found, (staticmethod, classmethod)):
        found = found.__func__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- of any function
    if inspect.isfunction(found):
        return Value("object", Method(found, of))
    annotated = plain_class(getattr(kind, "__annotations__", {}).get(name))
    return UNKNOWN if annotated is None else instance_of(annotated)


def returned(called: Value) -> Value:
    """Return the value of a call: an object of the class, or of the annotated one."""
    if called.kind != "object":
        return UNKNOWN
    thing = called.thing.function if isinstance(called.thing, Method) else called.thing
    if thing is sqlite3.connect:
        return Value("instance", sqlite3.Connection)
    if isinstance(thing, type):
        return instance_of(thing)
    if not inspect.isfunction(thing):
        return UNKNOWN
    given = _object_of_module(thing)
    if given.kind == "object":
        return given
    annotation: Any = getattr(thing, "__annotations__", {}).get("return")
    if isinstance(annotation, str):
        function = function_of(thing)
        annotation = None if function is None else function.annotation("return")
    # The caller of a generator gets the values that it yields.
    arguments = get_args(annotation)
    yields = arguments and "Generator" in str(get_origin(annotation))
    kind = plain_class(arguments[0] if yields else annotation)
    return UNKNOWN if kind is None else instance_of(kind)


def _object_of_module(call: Any) -> Value:
    """Return the object of its module that a function gives each time."""
    function = function_of(call)
    for node in function.walk() if function is not None else ():
        match node:
            case ast.Return(value=ast.Name(id=name)) | ast.Yield(value=ast.Name(id=name)):
                is_global = function is not None and name in call.__globals__
                if is_global and name not in call.__code__.co_varnames:
                    return known(call.__globals__[name])
            case _:
                pass
    return UNKNOWN


def called_function(value: Value) -> tuple[Function, dict[str, Value]] | None:
    """Return the application's own function that a call runs, with the value of its `self`."""
    method = value.thing if isinstance(value.thing, Method) else None
    call: Any = method.function if method else value.thing
    if value.kind != "object" or not (inspect.isfunction(call) or inspect.ismethod(call)):
        return None
    function = function_of(call)
    if function is None:
        return None
    names = [parameter.arg for parameter in function.parameters[:1]]
    return function, {names[0]: method.of} if method and names else {}
