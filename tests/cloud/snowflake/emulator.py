"""A Snowflake emulator on a socket: the fakesnow server, with additions that Boat needs.

Additions: checks of key-pair logins, `COPY INTO @stage` (several files with unsorted rows), `GET`, `REMOVE`, temporary
tables in a schema, null times, a history of statements with their tags, and an `UPDATE` that waits for the transaction
of an earlier one instead of failing as in DuckDB. Unlike in Snowflake, a transaction does not see later commits.

Run: `python -m tests.cloud.snowflake.emulator PORT PUBLIC_KEY_FILE`
"""

import asyncio
import gzip
import json
import re
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

import fakesnow.arrow
import fakesnow.server as fakesnow_server
import jwt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import uvicorn
from fakesnow.transforms.stage import internal_dir
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

REFUSED_TOKEN = "390144"
FAILED = "000603"
UNAVAILABLE = "/* out of order */"
HISTORY = "/emulator/history"

_UNLOAD = re.compile(r"\s*copy\s+into\s+@(?P<stage>\S+)\s+from\s+\((?P<sql>.*)\)\s*file_format\s*=", re.I | re.S)
_GET = re.compile(r"\s*get\s+@(?P<stage>\S+)\s+'file://(?P<into>[^']*)'", re.I)
_REMOVE = re.compile(r"\s*remove\s+@(?P<stage>\S+)", re.I)
# A temporary table in a schema fails in fakesnow. Only dbt creates such tables, and it drops them.
_TEMPORARY = re.compile(r"(?:/\*.*?\*/\s*)?(\s*create\s+(?:or\s+replace\s+)?)temporary\s+table", re.I | re.S)
# The only table that several transactions update.
_UPDATE = re.compile(r"\s*update\s+(?P<table>raw\.turn)\s", re.I)
_END = re.compile(r"\s*(commit|rollback)\b", re.I)
_ROWS_A_FILE = 100_000

_public_key = ""
_tags: dict[str, str] = {}
_history: list[dict[str, str]] = []
_locks: dict[str, asyncio.Lock] = {}
_holders: dict[str, asyncio.Lock] = {}
_plain_struct = fakesnow.arrow.timestamp_to_sf_struct


def _struct_with_nulls(times: pa.ChunkedArray) -> pa.Array:
    """Convert a null time to null. fakesnow converts it to 1970."""
    structs = _plain_struct(times)
    mask = pc.is_null(times)
    return pa.StructArray.from_arrays(
        [structs.field(index) for index in range(structs.type.num_fields)],
        fields=list(structs.type),
        mask=mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask,
    )


async def _body(request: Request) -> dict[str, Any]:
    body = await request.body()
    content: dict[str, Any] = json.loads(gzip.decompress(body) if request.headers.get("Content-Encoding") else body)
    return content


async def login(request: Request) -> Response:
    """Accept logins that are signed with the private key."""
    data = (await _body(request))["data"]
    try:
        assert data["AUTHENTICATOR"] == "SNOWFLAKE_JWT"
        jwt.decode(data["TOKEN"], _public_key, algorithms=["RS256"])
    except (AssertionError, KeyError, jwt.PyJWTError):
        return JSONResponse({"success": False, "code": REFUSED_TOKEN, "message": "JWT token is invalid.", "data": {}})
    answer = await fakesnow_server.login_request(request)
    token = json.loads(bytes(answer.body))["data"]["token"]
    if request.query_params.get("databaseName") and not request.query_params.get("schemaName"):
        # The default schema of a new database.
        for sql in ("create schema if not exists public", "use schema public"):
            fakesnow_server.to_conn(token).cursor().execute(sql)
    _tags[token] = data.get("SESSION_PARAMETERS", {}).get("QUERY_TAG", "")
    return answer


async def query(request: Request) -> Response:
    """Answer a statement. Report a failure as Snowflake does, because its clients retry after HTTP 500."""
    if UNAVAILABLE in (await _body(request))["sqlText"]:
        return Response(status_code=500)
    try:
        answer = await _answer(request)
    except Exception as error:
        return JSONResponse({"success": False, "code": FAILED, "message": repr(error), "data": {"sqlState": "XX000"}})
    if answer.status_code != 500:
        return answer
    message = json.loads(bytes(answer.body))["message"]
    return JSONResponse({"success": False, "code": FAILED, "message": message, "data": {"sqlState": "XX000"}})


async def _answer(request: Request) -> Response:
    """Run statements that fakesnow does not support."""
    sql = (await _body(request))["sqlText"]
    token = fakesnow_server.to_token(request)
    _history.append({"tag": _tags.get(token, ""), "sql": sql})
    connection = fakesnow_server.to_conn(token)
    if match := _UNLOAD.match(sql):
        return _unload(connection, match["sql"], _folder(connection, match["stage"]))
    if match := _GET.match(sql):
        return _download(_folder(connection, match["stage"]), match["into"])
    if match := _REMOVE.match(sql):
        shutil.rmtree(_folder(connection, match["stage"]), ignore_errors=True)
        return _row(name=match["stage"], result="removed")
    if _TEMPORARY.match(sql):
        _rewrite(request, await _body(request), _TEMPORARY.sub(r"\1transient table", sql))
    if match := _UPDATE.match(sql):
        await _lock(token, f"{connection.database}.{match['table']}")
    answer = await fakesnow_server.query_request(request)
    if _END.match(sql):
        _unlock(token)
    return answer


async def _lock(token: str, table: str) -> None:
    """Wait for the end of the transaction that has updated a table."""
    if token not in _holders:
        lock = _locks.setdefault(table, asyncio.Lock())
        await lock.acquire()
        _holders[token] = lock


def _unlock(token: str) -> None:
    if lock := _holders.pop(token, None):
        lock.release()


async def close(request: Request) -> Response:
    """Close a session and roll its transaction back."""
    if request.query_params.get("delete"):
        _unlock(fakesnow_server.to_token(request))
    return await fakesnow_server.session(request)


def _rewrite(request: Request, body: dict[str, Any], sql: str) -> None:
    """Return the statement to pass to fakesnow."""
    content = json.dumps({**body, "sqlText": sql}).encode()
    request._body = gzip.compress(content) if request.headers.get("Content-Encoding") else content


def _folder(connection: Any, stage: str) -> Path:
    name, _, path = stage.partition("/")
    return Path(internal_dir(f"{connection.database}.{name.upper()}")) / path


def _unload(connection: Any, sql: str, folder: Path) -> Response:
    cursor = connection.cursor()
    cursor.execute(sql, server=True)
    rows = cursor._arrow_table
    folder.mkdir(parents=True, exist_ok=True)
    shuffled = rows.take(pa.array(sorted(range(rows.num_rows), key=lambda row: row * 7919 % 1_000_003), pa.int64()))
    for start in range(0, rows.num_rows, _ROWS_A_FILE):
        pq.write_table(shuffled.slice(start, _ROWS_A_FILE), folder / f"data_{start}.snappy.parquet")
    return _row(rows_unloaded=rows.num_rows, input_bytes=rows.nbytes, output_bytes=rows.nbytes)


def _download(folder: Path, into: str) -> Response:
    data = {
        "command": "DOWNLOAD",
        "localLocation": into,
        "src_locations": [path.name for path in folder.iterdir()],
        "stageInfo": {"locationType": "LOCAL_FS", "location": str(folder), "creds": {}},
        "parallel": 4,
        "encryptionMaterial": [],
        "overwrite": True,
    }
    return JSONResponse({"success": True, "data": data})


def _row(**values: int | str) -> Response:
    kinds = {name: "text" if isinstance(value, str) else "fixed" for name, value in values.items()}
    data = {
        "rowtype": [
            {"name": name, "type": kind, "nullable": True, "length": None, "scale": 0, "precision": 38}
            for name, kind in kinds.items()
        ],
        "rowset": [[str(value) for value in values.values()]],
        "total": 1,
        "returned": 1,
        "queryResultFormat": "json",
        "queryId": str(uuid.uuid4()),
        "parameters": [],
    }
    return JSONResponse({"success": True, "data": data})


async def history(_request: Request) -> Response:
    return JSONResponse(_history)


def _app() -> Starlette:
    replaced = {"/session/v1/login-request": login, "/queries/v1/query-request": query, "/session": close}
    unchanged = [route for route in fakesnow_server.routes if route.path not in replaced]
    ours = [Route(path, endpoint, methods=["POST"]) for path, endpoint in replaced.items()]
    return Starlette(routes=[*ours, Route(HISTORY, history), *unchanged])


if __name__ == "__main__":
    fakesnow.arrow.timestamp_to_sf_struct = _struct_with_nulls
    _public_key = Path(sys.argv[2]).read_text()
    uvicorn.run(_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
