"""Controls of endpoints: put there by the decorators, and found again beneath other decorators."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from maxage.errors import SettingsError
from maxage.routing.control import Control, combined

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_ATTRIBUTE: Final = "__maxage_control__"
_DEEPEST: Final = 5
"""Decorators around an endpoint that are looked through."""


def add_control(endpoint: Endpoint, **said: Any) -> Endpoint:
    """Add what a decorator says to the control of the endpoint.

    Raises:
        SettingsError: the endpoint takes no attributes, as a bound method does not.
    """
    # Python hands out the function of a static method, not the object around it.
    marked: Any = endpoint
    if type(marked) in (staticmethod, classmethod):
        marked = marked.__func__
    try:
        setattr(marked, _ATTRIBUTE, combined((Control(**said), _own(marked) or Control())))
    except AttributeError:
        raise SettingsError(
            f"The decorator got {endpoint!r}, which it cannot mark; decorate the function itself."
        ) from None
    return endpoint


def control_of(endpoint: Any) -> Control | None:
    """Return the control of the endpoint, also from beneath other decorators; None: none.

    A function in a closure or an attribute is only perhaps the endpoint beneath a decorator. It may
    be another one that the endpoint calls: from it only what costs a hit is taken over.
    """
    for _ in range(_DEEPEST):
        # Bounded: a function may name itself as the one that it wraps.
        if (control := _own(endpoint)) is not None:
            return control
        if (called := _surely_called(endpoint)) is None:
            break
        endpoint = called
    layer: dict[int, Any] = {id(endpoint): endpoint}
    for _ in range(_DEEPEST):
        inner = [called for one in layer.values() for called in _inner(one)]
        layer = {id(one): one for one in inner if _is_function(one)}
        for one in layer.values():
            if (control := _own(one)) is not None:
                return Control(cache=control.cache, invalidates=control.invalidates)
    return None


def _surely_called(endpoint: Any) -> Any:
    """Return the function of a partial, a bound method, a callable object or a decorator with
    `wraps`; None: none."""
    if isinstance(endpoint, functools.partial):
        return endpoint.func  # pyright: ignore[reportUnknownMemberType] -- a partial of anything
    called = getattr(endpoint, "__func__", None) or getattr(endpoint, "__wrapped__", None)
    if called is not None:
        return called
    method = inspect.getattr_static(endpoint.__class__, "__call__", None)
    return method if _own(method) is not None else None


def control_of_method(endpoint: type[Any], method: str) -> Control | None:
    """Return the control of one method of a Starlette HTTPEndpoint, with what the class says."""
    of_class = _own(endpoint)
    handler = getattr(endpoint, method.lower(), None)
    if handler is None and method == "HEAD":
        handler = getattr(endpoint, "get", None)
    control = control_of(handler)
    if control is None or of_class is None:
        return control or of_class
    return combined((control, of_class))


def _own(endpoint: Any) -> Control | None:
    control = getattr(endpoint, _ATTRIBUTE, None)
    return control if isinstance(control, Control) else None


def _is_function(inner: Any) -> bool:
    return inspect.isroutine(inner) or isinstance(inner, functools.partial)


def _inner(endpoint: Any) -> Iterator[Any]:
    """Yield the objects that a decorator without `wraps` may call."""
    if (called := _surely_called(endpoint)) is not None:
        yield called
        return
    for cell in getattr(endpoint, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:
            # It has no value yet.
            continue
    if not isinstance(endpoint, type) and not hasattr(endpoint, "__code__"):
        # A decorator that is a class keeps the function in an attribute.
        yield from getattr(endpoint, "__dict__", {}).values()
