"""Lint: what a cache would break in an application, found in its routes and their source."""

from maxage.lint.codes import Code
from maxage.lint.finding import Finding
from maxage.lint.linter import lint
from maxage.lint.text import text_of

__all__ = ["Code", "Finding", "lint", "text_of"]
