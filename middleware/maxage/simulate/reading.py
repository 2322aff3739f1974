"""Access logs, read line by line: files, also gzipped, and stdin."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, final

from maxage.errors import SettingsError
from maxage.simulate.json_line import parse_json
from maxage.simulate.logged import LoggedRequest, MalformedLineError
from maxage.simulate.text_line import parse_text

_GZIP: Final = b"\x1f\x8b"
_LONGEST: Final = 65_536
"""Bytes of a line that is looked at."""
_REPORTED: Final = 4096
"""Lines between two reports of progress."""

Progress = Callable[[int], object]
"""Is told how many bytes of all files together have been read, as they lie on the disk."""


@final
class LogReader:
    """Reads logs, and counts the lines without a request.

    Args:
        names: of files; `-` is stdin.
        progress: is called with the position.
    """

    def __init__(self, names: list[str], progress: Progress | None = None) -> None:
        self._names: Final = names
        self._progress: Final[Progress] = progress or _unseen
        self.lines = 0
        self.malformed: Final[dict[str, int]] = {}
        """How many lines lack something, by its name."""
        self.examples: Final[dict[str, str]] = {}
        """The first of these lines, with file and number."""
        self.cut: Final[list[str]] = []
        """Files whose end cannot be read: a gzip file that is still written, or damaged."""

    @property
    def size(self) -> int | None:
        """The bytes of all files; None: it reads stdin."""
        if "-" in self._names:
            return None
        return sum(_size(name) for name in self._names)

    def __iter__(self) -> Iterator[LoggedRequest]:
        """Yield the requests, in the order of the lines.

        Raises:
            SettingsError: a file cannot be read.
        """
        done = 0
        for name in self._names:
            with _opened(name) as raw:
                yield from self._requests(name, raw, done)
            done += _size(name)
            self._progress(done)

    def _requests(self, name: str, raw: io.BufferedReader, done: int) -> Iterator[LoggedRequest]:
        lines = self._text(name, raw)
        for number, line in enumerate(lines, 1):
            self.lines += 1
            if number % _REPORTED == 0 and name != "-":
                self._progress(done + raw.tell())
            text = line.strip()
            if not text or text.startswith("#"):
                # Blank, or a comment such as those of W3C formats.
                continue
            try:
                yield parse_json(text) if text.startswith("{") else parse_text(text)
            except MalformedLineError as error:
                self._count(str(error), f"{name}:{number}")

    def _count(self, lack: str, place: str) -> None:
        self.malformed[lack] = self.malformed.get(lack, 0) + 1
        self.examples.setdefault(lack, place)

    def _text(self, name: str, raw: io.BufferedReader) -> Iterator[str]:
        opened = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP else raw
        try:
            while line := opened.readline(_LONGEST):
                yield line.decode("utf-8", "replace")
        except (EOFError, OSError, zlib.error):
            self.cut.append(name)


def _opened(name: str) -> io.BufferedReader:
    try:
        # stdin stays open when this is closed.
        return open(0 if name == "-" else name, "rb", closefd=name != "-")
    except OSError as error:
        raise SettingsError(f"the log {name!r} cannot be read: {error.strerror}.") from None


def _unseen(done: int) -> None:
    """Show no progress."""
    del done


def _size(name: str) -> int:
    try:
        return Path(name).stat().st_size
    except OSError:
        return 0
