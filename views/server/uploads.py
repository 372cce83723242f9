"""The upload route: a recording of any size, slice by slice, straight to disk."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from library import cache, inbox
from library.inbox import UploadError
from views.server.tokens import NEVER_STORE, forbidden, refusal

SLICE_BYTES = 32 << 20  # measured: larger ones are not faster, smaller ones cost round trips


async def upload(request: Request) -> Response:
    """Take one slice of a recording (PUT), or say how much of it has arrived (GET).

    The address carries ``key`` (the browser's name of the upload), ``name``, ``size`` and
    ``off``, where the slice begins. A slice at the wrong place answers 409 with the right one.
    """
    if (refused := forbidden(request, "upload")) is not None:
        return refused
    try:
        if request.method == "GET":
            key = request.query_params.get("key", "")
            size = await anyio.to_thread.run_sync(inbox.received_bytes, key)
            return JSONResponse({"off": size}, headers=NEVER_STORE)
        return JSONResponse(await _take(request), headers=NEVER_STORE)
    except UploadError as error:
        return refusal(error.status, str(error), **error.details)
    except ClientDisconnect:
        return refusal(400, "The connection was lost; the upload can continue where it stopped.")
    except OSError as error:
        line = cache.storage_error(error)
        return refusal(507, str(line) if line else f"{inbox.inbox()}: cannot be written")


async def _take(request: Request) -> dict[str, int | str | bool]:
    query = request.query_params
    key, name = query.get("key", ""), inbox.safe_name(query.get("name", ""))
    size, offset = _number(query.get("size")), _number(query.get("off"))
    with inbox.slice_lock(key, name):
        part = await anyio.to_thread.run_sync(inbox.part_file, key, name, size, offset)
        await _append(request, part, name, size, offset)
        received = part.stat().st_size
        is_whole = received == size
        await anyio.to_thread.run_sync(lambda: inbox.check_content(part, name, whole=is_whole))
        if is_whole:
            await anyio.to_thread.run_sync(inbox.finish, key, part, name)
        return {"off": received, "done": is_whole, "key": key}


async def _append(request: Request, part: Path, name: str, size: int, offset: int) -> None:
    end = offset
    async with await anyio.open_file(part, "ab") as file:
        async for chunk in request.stream():
            end += len(chunk)
            if end > min(size, offset + SLICE_BYTES):
                await file.truncate(offset)
                raise UploadError(413, f"{name}: the chunk is larger than announced")
            await file.write(chunk)


def _number(text: str | None) -> int:
    if text is None or not re.fullmatch(r"\d{1,15}", text):
        raise UploadError(400, "The upload has no valid size or offset.")
    return int(text)
