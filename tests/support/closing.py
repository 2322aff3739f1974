"""What starts with its creation and ends with its `with` block."""

from typing import Self


class Closing:
    """Base of classes whose `close` runs at the end of a `with` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End it; a second call does nothing."""
        raise NotImplementedError
