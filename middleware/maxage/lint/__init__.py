"""Lint: find in routes and source which parts of an application a cache would break."""

from maxage.lint.codes import Code
from maxage.lint.finding import Finding
from maxage.lint.linter import lint
from maxage.lint.text import text_of

__all__ = ["Code", "Finding", "lint", "text_of"]
