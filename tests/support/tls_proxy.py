"""A TLS endpoint in front of a plain server: packaged Redis servers are built without TLS."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.support.closing import Closing
from tests.support.waiting import PATIENCE

CERTIFICATES: Final = Path(__file__).with_name("tls")
AUTHORITY: Final = CERTIFICATES / "authority.pem"
CERTIFICATE: Final = CERTIFICATES / "server.pem"
KEY: Final = CERTIFICATES / "server.key"
"""For localhost and 127.0.0.1; it protects nothing but tests."""


class TlsProxy(Closing):
    """Takes TLS connections on the loopback address, and passes their bytes on to a server.

    Args:
        server_port: the port of the server.
        delay: seconds until the handshake of each connection begins.
        asks_client: whether clients need a certificate too.
    """

    def __init__(self, server_port: int, *, delay: float = 0, asks_client: bool = False) -> None:
        self._target = server_port
        self.delay = delay
        self.accepted = 0
        """Connections so far."""
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(CERTIFICATE, KEY)
        if asks_client:
            self._tls.load_verify_locations(AUTHORITY)
            self._tls.verify_mode = ssl.CERT_REQUIRED
        self._loop = asyncio.SelectorEventLoop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._loop.call_soon_threadsafe(self._start, self._accept())

    @property
    def url(self) -> str:
        """The rediss:// URL, with the authority that signed the certificate."""
        return f"rediss://localhost:{self.port}/0?ssl_ca_certs={AUTHORITY}"

    def close(self) -> None:
        """End the proxy with all its connections."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(PATIENCE)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listening.close()

    async def _accept(self) -> None:
        while True:
            accepted, _ = await self._loop.sock_accept(self._listening)
            self.accepted += 1
            self._start(self._serve(accepted))

    async def _serve(self, accepted: socket.socket) -> None:
        with suppress(OSError):
            await asyncio.sleep(self.delay)
            # Nothing is read before the handshake begins.
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, accepted, ssl=self._tls
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            inner, outer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                await asyncio.gather(_pass(reader, outer), _pass(inner, writer))
            finally:
                outer.close()
                transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
