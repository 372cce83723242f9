"""The few HTTP routes beside the pages: health, upload straight to disk, views of the timeline.

Streamlit protects its own routes only. Ours ask for a token that a page of this very server has
made, and for a request that comes from such a page.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import importlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import streamlit as st
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from analyzers.facts.facts import WindowError
from analyzers.words import size_text
from collectors import collectors, input_file, known_as
from collectors.errors import TraceError
from collectors.torch_profiler.file import begins_like_json
from library import cache
from views.server.tiles import AskedWronglyError, answer
from views.shared import session
from views.shared.units import visible

TOKEN_HEADER = "x-whyslow-token"
TOKEN_LASTS_S = 12 * 3600  # a working day without touching the page
SLICE_BYTES = 32 << 20  # measured: larger ones are not faster, smaller ones cost round trips
QUOTA_VARIABLE, QUOTA_GB = "WHYSLOW_LIMIT_UPLOADS_GB", 64.0
MIN_FREE_BYTES = 1 << 30  # on the disk, after the upload: ingest needs room too
MAX_NAME = 80
SQLITE_MAGIC = b"SQLite format 3\0"
MAGICS = (SQLITE_MAGIC, b"NVIDIA Tegra Profiler Report", b"NVR\0")
SNIFFED_BYTES = 32
NEVER_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_SECRET = secrets.token_bytes(32)
_KEY = re.compile(r"[0-9a-f]{16,64}")
_busy: set[str] = set()  # uploads of which a slice is being written


class UploadError(Exception):
    """An upload was refused; the message is one line, ``status`` its HTTP status."""

    def __init__(self, status: int, line: str, **more: int) -> None:
        super().__init__(line)
        self.status = status
        self.more = more


def mint_token(purpose: str, now_s: float | None = None) -> str:
    """Return a token for ``purpose`` (``upload`` or ``timeline``), for the script of a page."""
    expiry = str(int((time.time() if now_s is None else now_s) + TOKEN_LASTS_S))
    return f"{expiry}.{_signature(purpose, expiry)}"


def is_token(token: str, purpose: str) -> bool:
    """Tell whether ``token`` was made for ``purpose`` by this server and is not too old."""
    expiry, _, signature = token.partition(".")
    if not expiry.isdecimal() or len(expiry) > 12 or int(expiry) < time.time():
        return False
    return hmac.compare_digest(signature.encode(), _signature(purpose, expiry).encode())


def _signature(purpose: str, expiry: str) -> str:
    return hmac.new(_SECRET, f"{purpose} {expiry}".encode(), hashlib.sha256).hexdigest()


def api_path(name: str) -> str:
    """Return the address of a route, below the path that the server is mounted at."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}/api/{name}" if base else f"/api/{name}"


def inbox() -> Path:
    """Return the folder that holds uploads."""
    return cache.data_dir() / "inbox"


def uploaded_file(key: str) -> Path | None:
    """Return the finished upload named ``key``, None when there is none."""
    if not _KEY.fullmatch(key):
        return None
    folder = _folder(key)
    files = [f for f in folder.iterdir() if f.is_file()] if folder.is_dir() else []
    return files[0] if len(files) == 1 else None


def _folder(key: str) -> Path:
    # The name on disk is ours; what the browser calls the upload only selects it.
    return inbox() / hashlib.sha256(key.encode()).hexdigest()[:32]


def _forbidden(request: Request, purpose: str) -> Response | None:
    if not is_token(request.headers.get(TOKEN_HEADER, ""), purpose):
        return _refusal(403, "The page is too old; reload it.")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return _refusal(403, "The request comes from another site.")
    if origin is None and request.method not in ("GET", "HEAD"):
        return _refusal(403, "The request does not say where it comes from.")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return _refusal(403, "The request comes from another site.")
    return None


def _refusal(status: int, line: str, **more: int) -> Response:
    return JSONResponse({"error": line, **more}, status, headers=NEVER_STORE)


async def health(_request: Request) -> Response:
    """Say that the server lives."""
    return JSONResponse({"status": "ok"}, headers=NEVER_STORE)


async def upload(request: Request) -> Response:
    """Take one slice of a recording (PUT), or say how much of it is there (GET).

    The address carries ``key`` (the browser's name of the upload), ``name``, ``size`` and
    ``off``, the place of the slice. A slice at the wrong place answers 409 with the right one.
    """
    if (forbidden := _forbidden(request, "upload")) is not None:
        return forbidden
    try:
        if request.method == "GET":
            key = request.query_params.get("key", "")
            size = await anyio.to_thread.run_sync(_size_so_far, key)
            return JSONResponse({"off": size}, headers=NEVER_STORE)
        return JSONResponse(await _take(request), headers=NEVER_STORE)
    except UploadError as error:
        return _refusal(error.status, str(error), **error.more)
    except ClientDisconnect:
        return _refusal(400, "The connection was lost; the upload can go on where it stopped.")
    except OSError as error:
        line = cache.storage_error(error)
        return _refusal(507, str(line) if line else f"{inbox()}: cannot be written")


async def _take(request: Request) -> dict[str, int | str | bool]:
    query = request.query_params
    key, name = query.get("key", ""), safe_name(query.get("name", ""))
    size, off = _number(query.get("size")), _number(query.get("off"))
    if not _KEY.fullmatch(key):
        raise UploadError(400, "The upload has no valid key.")
    if size < len(SQLITE_MAGIC):
        raise UploadError(415, f"{name}: too short to be a recording. Known are {known_as()}.")
    if key in _busy:
        raise UploadError(409, f"{name}: is being uploaded already", off=_size_so_far(key))
    _busy.add(key)
    try:
        part = await anyio.to_thread.run_sync(_part_at, key, name, size, off)
        await _append(request, part, name, size, off)
        there = part.stat().st_size
        await anyio.to_thread.run_sync(_sniff, part, name, there == size)
        if there == size:
            await anyio.to_thread.run_sync(_finish, key, part, name)
        return {"off": there, "done": there == size, "key": key}
    finally:
        _busy.discard(key)


async def _append(request: Request, part: Path, name: str, size: int, off: int) -> None:
    written = off
    async with await anyio.open_file(part, "ab") as file:
        async for chunk in request.stream():
            written += len(chunk)
            if written > min(size, off + SLICE_BYTES):
                await file.truncate(off)
                raise UploadError(413, f"{name}: the slice is larger than announced")
            await file.write(chunk)


def _number(text: str | None) -> int:
    if text is None or not re.fullmatch(r"\d{1,15}", text):
        raise UploadError(400, "The upload has no valid size or place.")
    return int(text)


def safe_name(name: str) -> str:
    """Return a file name of letters, digits, dots, dashes and underscores; never hidden or long."""
    plain = re.sub(r"[^0-9A-Za-z._-]+", "_", name.replace("\\", "/").rpartition("/")[2])
    stem, dot, suffix = plain.strip("._-").rpartition(".")
    if not dot:
        stem, suffix = suffix, ""
    return (stem[: MAX_NAME - len(suffix) - 1] or "recording") + dot + suffix[: MAX_NAME // 2]


def _size_so_far(key: str) -> int:
    part = _folder(key).with_suffix(".part")
    return part.stat().st_size if part.is_file() else 0


def _part_at(key: str, name: str, size: int, off: int) -> Path:
    """Return the file to append to, after looking whether the slice fits there."""
    inbox().mkdir(parents=True, exist_ok=True)
    there = _size_so_far(key)
    if off != there:
        raise UploadError(409, f"{name}: the upload goes on elsewhere", off=there)
    quota = int(float(os.environ.get(QUOTA_VARIABLE) or QUOTA_GB) * 1e9)
    stored = sum(f.stat().st_size for f in inbox().rglob("*") if f.is_file()) - there
    if stored + size > quota:
        raise UploadError(
            413,
            f"{name}: uploads may take {quota / 1e9:g} GB ({QUOTA_VARIABLE}), and "
            f"{size_text(stored)} are taken. Delete some in {inbox()}, or open it by path.",
        )
    if shutil.disk_usage(inbox()).free < size - there + MIN_FREE_BYTES:
        raise UploadError(507, f"{name}: not enough disk space in {inbox()}. Free some.")
    return _folder(key).with_suffix(".part")


def _sniff(part: Path, name: str, whole: bool) -> None:
    """Refuse by content, as soon as the content can be told; a text only when it is whole."""
    with part.open("rb") as file:
        head = file.read(SNIFFED_BYTES)
    known = any(m.startswith(head[: len(m)]) for m in MAGICS) or begins_like_json(part)
    text = not known and _may_be_text(head)
    if text and whole:
        known = any(collector.recognizes(part) for collector in collectors())
    if not known and (whole or not text):
        line = input_file.unknown(part, known_as()).partition(": ")[2]  # the command's words
        part.unlink()
        raise UploadError(415, f"{name}: {line}")


def _may_be_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16, as PowerShell writes
        return True
    return all(byte >= 0x20 or byte in b"\t\r\n" for byte in head)


def _finish(key: str, part: Path, name: str) -> None:
    folder = _folder(key)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    part.replace(folder / name)


async def timeline(request: Request) -> Response:
    """Answer what the timeline's canvas asks, as ``views.server.tiles`` packs it."""
    if (forbidden := _forbidden(request, "timeline")) is not None:
        return forbidden
    query = dict(request.query_params)
    try:
        body = await anyio.to_thread.run_sync(timeline_answer, query)
    except AskedWronglyError as error:
        return _refusal(400, str(error))
    except (TraceError, WindowError) as error:
        return _refusal(404, trouble(error))
    except OSError as error:
        return _refusal(507, trouble(error))
    return Response(body, media_type="application/octet-stream", headers=NEVER_STORE)


def trouble(error: Exception) -> str:
    """Return one line about what keeps a timeline from being shown; no path of the server in it."""
    if isinstance(error, OSError):
        return visible(str(cache.storage_error(error) or "The timeline's index cannot be read."))
    return visible(str(error))


def timeline_answer(query: Mapping[str, str]) -> bytes:
    """Return the answer to one question of the canvas.

    Args:
        query: ``trace``, ``window``, ``device`` and ``counters``, and what
            ``views.server.tiles.answer`` takes.

    Raises:
        AskedWronglyError: The question makes no sense.
        TraceError: The recording is gone or damaged.
        WindowError: It has no such window.
    """
    device = query.get("device", "-1")
    key = int(device) if re.fullmatch(r"-1|\d{1,4}", device) else -1
    named = (query.get("trace", ""), query.get("window", ""), key, query.get("counters", ""))
    shown = session.timeline(*named)
    return answer(shown, query)


@contextlib.asynccontextmanager
async def lifespan(_app: object) -> AsyncIterator[dict[str, object]]:
    """Import what the pages need while the browser starts."""
    threading.Thread(target=_warm_up, daemon=True).start()
    yield {}


def _warm_up() -> None:
    for module in ("plotly.graph_objects", "analyzers", "pyarrow.parquet"):
        importlib.import_module(module)


ROUTES: tuple[BaseRoute, ...] = (
    Route(api_path("health"), health),
    Route(api_path("upload"), upload, methods=["GET", "PUT"]),
    Route(api_path("timeline"), timeline),
)
