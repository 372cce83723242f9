"""Uploads reach the disk whole or not at all, and only from pages of this server."""

import errno
import gzip
import hashlib
import shutil
import time
from unittest import mock

import anyio
import httpx
import pytest
import streamlit as st
from itsdangerous import TimestampSigner
from starlette.applications import Starlette

from collectors import open_trace
from collectors.errors import RefusedError
from collectors.sqlite_file import MAGIC as SQLITE_MAGIC
from library import inbox
from library.inbox import uploaded_file
from tests.view_fakes import draw, library, open_sample
from traces.ncu_writer import Launch, raw_page, report
from views.server.routes import ROUTES
from views.server.tokens import TOKEN_HEADER, mint_token
from views.shared import session

HOST = "http://testserver"
KEY = "00" + hashlib.sha256(b"one").hexdigest()[:16]
BODY = SQLITE_MAGIC + bytes(range(256)) * 40


class Client:
    """Asks the routes without a network."""

    def __init__(self):
        self.headers = {}
        self.app = Starlette(routes=list(ROUTES))

    def request(self, method, path, headers=None, **more):
        async def ask():
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
                sent = self.headers | (headers or {})
                return await client.request(method, path, headers=sent, **more)

        return anyio.run(ask)

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def put(self, path, **more):
        return self.request("PUT", path, **more)


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setattr(inbox, "MIN_FREE_BYTES", 0)
    with library(tmp_path):
        client = Client()
        client.headers[TOKEN_HEADER] = mint_token("upload")
        yield client


def put(client, body, *, off=0, size=None, key=KEY, name="report.sqlite", origin=HOST):
    query = {"key": key, "name": name, "size": size or len(body), "off": off}
    headers = {"origin": origin} if origin else {}
    return client.put("/api/upload", params=query, content=body, headers=headers)


def files():
    return (
        sorted(f.name for f in inbox.inbox().rglob("*") if f.is_file())
        if inbox.inbox().exists()
        else []
    )


def token_of_the_past(purpose, age_s):
    with mock.patch.object(TimestampSigner, "get_timestamp", lambda _: int(time.time()) - age_s):
        return mint_token(purpose)


def test_health_answers_without_a_token(client):
    del client.headers[TOKEN_HEADER]
    assert client.get("/api/health").json() == {"status": "ok"}


def test_one_slice_becomes_the_file(client):
    answer = put(client, BODY)
    assert answer.json() == {"off": len(BODY), "done": True, "key": KEY}
    assert uploaded_file(KEY).read_bytes() == BODY
    assert uploaded_file(KEY).name == "report.sqlite"


def test_an_upload_goes_on_where_it_stopped(client):
    assert put(client, BODY[:4_000], size=len(BODY)).json()["done"] is False
    assert client.get("/api/upload", params={"key": KEY}).json() == {"off": 4_000}
    assert put(client, BODY[4_000:], off=4_000, size=len(BODY)).json()["done"] is True
    assert uploaded_file(KEY).read_bytes() == BODY


def test_a_slice_at_the_wrong_place_is_told_the_right_one(client):
    put(client, BODY[:4_000], size=len(BODY))
    answer = put(client, BODY[5_000:], off=5_000, size=len(BODY))
    assert answer.status_code == 409
    assert answer.json()["off"] == 4_000


@pytest.mark.parametrize(
    "token",
    [
        lambda: "",
        lambda: "x",
        lambda: "9999999999.00",
        lambda: mint_token("timeline"),
        lambda: token_of_the_past("upload", 13 * 3600),
    ],
    ids=["none", "no token", "made up", "of another route", "expired"],
)
def test_without_a_fresh_token_of_this_server_nothing_is_taken(client, token):
    client.headers[TOKEN_HEADER] = token()
    assert put(client, BODY).status_code == 403
    assert files() == []


@pytest.mark.parametrize("origin", ["https://evil.example", "http://testserver:81", "null", None])
def test_a_request_from_elsewhere_is_refused(client, origin):
    assert put(client, BODY, origin=origin).status_code == 403
    assert files() == []


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_torch_trace_can_be_uploaded_in_slices(client, pack):
    body = pack(b'{"traceEvents": []}')
    first = put(client, body[:3], size=len(body), name="trace.json.gz")
    assert first.json()["off"] == 3
    rest = put(client, body[3:], off=3, size=len(body), name="trace.json.gz")
    assert rest.json()["done"]


def test_junk_is_refused_by_content_and_leaves_nothing(client, tmp_path):
    answer = put(client, b"<html>" + BODY, name="report.sqlite")
    assert answer.status_code == 415
    junk = tmp_path / "report.sqlite"
    junk.write_bytes(b"<html>" + BODY)
    with pytest.raises(RefusedError) as refused:  # in the words of the command line
        open_trace(junk, tmp_path / "cache")
    assert answer.json()["error"] == str(refused.value)
    assert files() == []


@pytest.mark.parametrize("data", [report([Launch()]), raw_page([Launch()]).encode()])
def test_counters_are_taken_as_a_report_and_as_text(client, data):
    for off in (0, 20):
        answer = put(client, data[off : off + 20 if not off else None], off=off, size=len(data))
        assert answer.status_code == 200
    assert uploaded_file(KEY).read_bytes() == data


def test_other_text_is_refused_when_it_is_whole(client):
    assert put(client, b"a,b\n" * 10).status_code == 415
    assert files() == []


@pytest.mark.parametrize("size", [0, 1, 15])
def test_a_file_too_short_to_be_one_is_refused(client, size):
    assert put(client, b"x" * size, size=size or 1).status_code == 415


def test_the_quota_is_a_number_in_the_message(client, monkeypatch):
    monkeypatch.setenv("WHYSLOW_LIMIT_UPLOADS_GB", "0.000005")
    answer = put(client, BODY)
    assert answer.status_code == 413
    assert "WHYSLOW_LIMIT_UPLOADS_GB" in answer.json()["error"]
    assert files() == []


def test_a_full_disk_is_told_before_anything_is_written(client, monkeypatch):
    monkeypatch.setattr(inbox, "MIN_FREE_BYTES", 1 << 60)
    assert put(client, BODY).status_code == 507
    assert files() == []


def test_a_slice_larger_than_announced_is_cut_back(client):
    answer = put(client, BODY, size=len(BODY) - 10)
    assert answer.status_code == 413
    assert uploaded_file(KEY) is None
    assert client.get("/api/upload", params={"key": KEY}).json() == {"off": 0}


@pytest.mark.parametrize("key", ["", "../../etc", "A" * 20, "0" * 200, "0" * 15])
def test_a_key_never_names_a_place_on_disk(client, key):
    assert put(client, BODY, key=key).status_code == 400
    assert uploaded_file(key) is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\tmp\\a b.sqlite", "a_b.sqlite"),
        ("-rf.nsys-rep", "rf.nsys-rep"),
        ("\u202egnp.sqlite", "gnp.sqlite"),
        ("", "recording"),
        ("x" * 300 + ".sqlite", "x" * 73 + ".sqlite"),
    ],
)
def test_file_names_are_made_harmless(given, kept):
    assert inbox.safe_name(given) == kept


def test_sizes_and_places_are_numbers(client):
    for query in ({"size": "-1"}, {"off": "x"}, {"size": "9" * 30}):
        params = {"key": KEY, "name": "a", "size": "100", "off": "0"} | query
        answer = client.put("/api/upload", params=params, headers={"origin": HOST})
        assert answer.status_code == 400


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_timeline_is_served_to_its_own_token_only(tmp_path, monkeypatch):
    opened = open_sample("synthetic/synthetic_launch.sqlite", tmp_path)
    with library(tmp_path):
        client = Client()
        view = {"trace": opened.trace.id, "device": "-1", "what": "tile", "lanes": "0"}
        view |= {"start": "0", "end": "1000000"}
        assert client.get("/api/timeline", params=view).status_code == 403
        headers = {TOKEN_HEADER: mint_token("upload")}
        assert client.get("/api/timeline", params=view, headers=headers).status_code == 403
        headers = {TOKEN_HEADER: mint_token("timeline")}
        answer = client.get("/api/timeline", params=view, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/octet-stream"
        missing = client.get("/api/timeline", params=view | {"trace": "nope"}, headers=headers)
        assert missing.status_code == 404
        assert "not in the library" in missing.json()["error"]
        outside = client.get("/api/timeline", params=view | {"trace": "../x"}, headers=headers)
        assert outside.status_code == 404
        elsewhere = headers | {"origin": "https://evil.example"}
        assert client.get("/api/timeline", params=view, headers=elsewhere).status_code == 403
        with monkeypatch.context() as patched:
            patched.setattr(session, "_timeline", full)
            answer = client.get("/api/timeline", params=view, headers=headers)
            assert answer.status_code == 507
            assert "no disk space left" in answer.json()["error"]
        for wrong in ({"start": "x"}, {"end": "inf"}, {"what": "all"}, {"lanes": "a"}):
            answer = client.get("/api/timeline", params=view | wrong, headers=headers)
            assert answer.status_code == 400


def test_a_view_of_what_is_not_made_says_so_and_a_child_makes_it(tmp_path, monkeypatch):
    opened = open_sample("synthetic/synthetic_launch.sqlite", tmp_path)
    window = opened.stored.report.window
    half = f"span:{window.start_ns}-{(window.start_ns + window.end_ns) // 2}"
    monkeypatch.setattr("analyzers.facts.facts.build_facts", computed_in_the_server)
    monkeypatch.setattr("analyzers.analysis.investigate", computed_in_the_server)
    view = {"trace": opened.trace.id, "device": "-1", "what": "layout", "window": half}
    headers = {TOKEN_HEADER: mint_token("timeline")}
    with library(tmp_path):
        client = Client()
        first = client.get("/api/timeline", params=view, headers=headers)
        assert first.status_code == 202
        assert "%" in first.json()["stage"]
        deadline = time.monotonic() + 60
        while (
            answer := client.get("/api/timeline", params=view, headers=headers)
        ).status_code == 202:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert answer.status_code == 200
        wrong = view | {"window": "nvtx:not there"}
        while (
            answer := client.get("/api/timeline", params=wrong, headers=headers)
        ).status_code == 202:
            time.sleep(0.1)
        assert answer.status_code == 404


def computed_in_the_server(*_arguments, **_options):
    raise AssertionError("a recording was analysed inside the server")


def test_pages_compute_nothing_about_a_recording_in_the_server(tmp_path, monkeypatch):
    opened = open_sample("synthetic/synthetic_sync.sqlite", tmp_path)
    window = opened.stored.report.window
    half = f"span:{window.start_ns}-{(window.start_ns + window.end_ns) // 2}"
    monkeypatch.setattr("analyzers.facts.facts.build_facts", computed_in_the_server)
    monkeypatch.setattr("analyzers.analysis.investigate", computed_in_the_server)
    monkeypatch.setattr("timeline.store.add_recording_index", computed_in_the_server)
    with library(tmp_path):
        for page in ("overview", "timeline", "kernels"):
            assert not draw(page, trace=opened.trace.id, window=half).exception
        shutil.rmtree(opened.trace.folder / "timeline")
        st.cache_resource.clear()
        assert not draw("timeline", trace=opened.trace.id).exception
