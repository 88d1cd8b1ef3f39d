"""A Snowflake account for tests: the emulator, a key pair, and databases created by `setup.sql`."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from boat.warehouse.snowflake import Login, SnowflakeWarehouse
from tests.cloud.snowflake.emulator import HISTORY

ROOT = Path(__file__).parents[3]
SETUP = ROOT / "deployments" / "snowflake" / "setup.sql"
NAME = "organisation-account"
USER = "BOAT_SERVICE"
PASSPHRASE = "correct horse"


@dataclass(frozen=True)
class Account:
    """A running emulator with its login.

    Attributes:
        port: Port on 127.0.0.1.
        key: The user's private key, PEM with `PASSPHRASE`.
    """

    port: int
    key: bytes

    @property
    def options(self) -> str:
        """Return the options of a warehouse URL for this emulator."""
        return f"host=127.0.0.1&port={self.port}&protocol=http&unload=false"

    def login(self, database: str, key: bytes | None = None) -> Login:
        der = serialization.load_pem_private_key(key or self.key, PASSPHRASE.encode()).private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        address: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "protocol": "http"}
        return Login.from_key(der, account=NAME, user=USER, database=database, warehouse="BOAT", role="BOAT", **address)

    def database(self, tag: str = "test", unload: bool = False, name: str = "") -> SnowflakeWarehouse:
        """Return a new, empty database."""
        database = name or f"BOAT_{uuid.uuid4().hex[:12].upper()}"
        warehouse = SnowflakeWarehouse(self.login(database), tag, unload)
        if not name:
            with warehouse.transaction() as transaction:
                for statement in emulated_setup(database):
                    transaction.execute(statement)
        return warehouse

    def history(self) -> list[dict[str, str]]:
        """Return all statements so far, with their query tags."""
        answer: list[dict[str, str]] = httpx.get(f"http://127.0.0.1:{self.port}{HISTORY}", timeout=30).json()
        return answer


def statements(script: str) -> list[str]:
    """Return the statements of a SQL script without comments."""
    import sqlglot

    tokens = sqlglot.tokenize(script, read="snowflake")
    texts, start, end = [], None, 0
    for token in tokens:
        if token.token_type == sqlglot.TokenType.SEMICOLON:
            texts.append(script[start:end])
            start = None
        else:
            start = token.start if start is None else start
            end = token.end + 1
    return texts


def emulated_setup(database: str) -> list[str]:
    """Return the statements of `setup.sql` that the emulator supports, for the given database."""
    supported = ("create schema", "create stage", "create file format", "create transient table", "create table")
    return [
        text.replace("boat.", f"{database}.", 1)
        for text in statements(SETUP.read_text())
        if text.lower().startswith(supported)
    ]


def new_key() -> bytes:
    """Return a private key as encrypted PEM."""
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSPHRASE.encode()),
    )


@contextmanager
def running_account(folder: Path) -> Iterator[Account]:
    """Start the emulator, and stop it at the end."""
    from tests.installation import free_ports

    key, (port,) = new_key(), free_ports(1)
    public = serialization.load_pem_private_key(key, PASSPHRASE.encode()).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(pem)
    command = [sys.executable, "-m", "tests.cloud.snowflake.emulator", str(port), str(folder / "public.pem")]
    with (folder / "emulator.log").open("w") as log:
        environment = {**os.environ, "TMPDIR": str(folder)}  # fakesnow's folder for stages
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(process, port, folder / "emulator.log")
            yield Account(port, key)
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}{HISTORY}", timeout=5)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"The emulator did not start: {log.read_text()}")
