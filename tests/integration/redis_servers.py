"""A Redis of the user's own: users with the rights of docs/redis.md, and TLS in front."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import redis
import trustme

PAGE = Path(__file__).resolve().parents[2] / "docs" / "redis.md"

_START_SECONDS = 10


def documented_rights(user: str) -> list[str]:
    """Return the rules of a user's ``ACL SETUSER`` line in docs/redis.md, as it stands there."""
    lines = re.findall(rf"^ACL SETUSER {user} (.+)$", PAGE.read_text(), re.MULTILINE)
    assert len(lines) == 1, f"{PAGE.name} has {len(lines)} ACL lines for {user}, not one"
    return lines[0].split()


def add_user(
    admin: redis.Redis, user: str, password: str, model: str, *, without: str | None = None
) -> None:
    """Create a user as docs/redis.md says, for any model.

    Parameters
    ----------
    without : str, optional
        A rule to leave out.
    """
    rules = [
        rule.replace("PASSWORD", password).replace("{default}", f"{{{model}}}")
        for rule in documented_rights(user)
        if rule != without
    ]
    assert f">{password}" in rules
    admin.execute_command("ACL", "SETUSER", user, *rules)


def url_as(server_url: str, user: str, password: str) -> str:
    return f"redis://{user}:{quote(password, safe='')}@127.0.0.1:{urlsplit(server_url).port}/0"


class Authority:
    """A certificate authority with its certificate in a file."""

    def __init__(self, path: Path) -> None:
        self._authority = trustme.CA()
        self.path = path
        self._authority.cert_pem.write_to_path(path)

    def server_context(self, *names: str) -> ssl.SSLContext:
        """Return the settings of a server whose certificate is for ``names``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names).configure_cert(context)
        return context


@contextlib.contextmanager
def tls_in_front_of(server_url: str, context: ssl.SSLContext) -> Iterator[int]:
    """Yield the port of a TLS listener that hands on to a server built without TLS."""
    # One thread for all connections: an SSL socket must not be read and written by two at once.
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = urlsplit(server_url)
        # Cancelled is how it ends here, and asyncio would log it as an error.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            behind_reader, behind_writer = await asyncio.open_connection(to.hostname, to.port)
            await asyncio.gather(pump(reader, behind_writer), pump(behind_reader, writer))
        writer.close()

    async def end() -> None:
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def call(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_START_SECONDS)

    server = call(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        call(end())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
