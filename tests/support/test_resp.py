"""The RESP codec of the tests."""

import pytest

from tests.support.resp import (
    ProtocolError,
    command_end,
    command_words,
    decode,
    encode,
    frame_end,
)


class TestResp:
    """The wire protocol."""

    @pytest.mark.parametrize(
        "frame",
        [
            b"+OK\r\n",
            b"-ERR no\r\n",
            b":12\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$4\r\na\r\nb\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
            b"%1\r\n+a\r\n*1\r\n#t\r\n",
            b">2\r\n+a\r\n_\r\n",
            b"|1\r\n+a\r\n+b\r\n:1\r\n",
            b"~1\r\n,1.5\r\n",
        ],
    )
    def test_a_frame_ends_where_it_ends(self, frame: bytes) -> None:
        """No prefix of a frame is a frame, and what follows it is not part of it."""
        assert [frame_end(frame[:size]) for size in range(1, len(frame))] == [None] * (
            len(frame) - 1
        )
        assert frame_end(frame + b"+more\r\n") == len(frame)

    def test_commands_survive_the_way(self) -> None:
        """Words come out as they went in, line breaks and empty words included."""
        raw = encode("SET", b"k\r\n", 1, "")
        assert command_words(raw) == (b"SET", b"k\r\n", b"1", b"")
        assert command_end(raw + b"*1\r\n") == len(raw)
        assert command_words(b"PING  x\r\n") == (b"PING", b"x")
        assert decode(b"*2\r\n$1\r\na\r\n$-1\r\n") == [b"a", None]

    def test_garbage_is_not_a_frame(self) -> None:
        """Bytes that cannot begin a frame, and lengths that are none, are errors."""
        for junk in (b"hello\r\n", b"$x\r\n"):
            with pytest.raises(ProtocolError):
                frame_end(junk)
