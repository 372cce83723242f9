"""The real server refuses strange names and sites, and asks who comes in where others reach it."""

import base64
import http.client
import json
import os
import re
import socket
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from itsdangerous import TimestampSigner

from benchmarks.served import serve
from benchmarks.tabs import open_tab
from tests.view_fakes import library, open_sample
from views.server import access, hosts
from views.server.hosts import host_name, is_own_origin
from views.shared import access as page_access
from views.shared.access import Role

EDITOR, VIEWER = "e" * 30, "v" * 30
EVERY_ROUTE = ("/", "/timeline", "/api/health", "/api/upload", "/api/timeline")
STREAMLIT_ROUTES = ("/_stcore/health", "/_stcore/host-config", "/static/x.js", "/media/x")
ALWAYS = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


@dataclass
class Reply:
    status: int
    headers: dict
    body: bytes


def ask(address, path="/", method="GET", body=None, **headers):
    """Ask with exactly these headers; None leaves one out."""
    parts = urlsplit(address)
    sent = {"host": parts.netloc} | {k.replace("_", "-"): v for k, v in headers.items()}
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in sent.items():
        if value is not None:
            connection.putheader(name, value)
    if body is not None:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    names = {k.lower(): v for k, v in answer.getheaders()}
    reply = Reply(answer.status, names, b"" if answer.status == 101 else answer.read())
    connection.close()
    return reply


def open_socket(address, **headers):
    """Return the status of the answer to a browser that opens the WebSocket of the pages."""
    key = base64.b64encode(os.urandom(16)).decode()
    wanted = {"connection": "Upgrade", "upgrade": "websocket", "sec_websocket_version": "13"}
    return ask(address, "/_stcore/stream", sec_websocket_key=key, **wanted, **headers).status


def drawn(address, page="", query="", **headers):
    """Return all that a page sends to a browser."""
    with open_tab(address, headers) as tab:
        return tab.run(page, query)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def launch(data):
    return open_sample("synthetic/synthetic_launch.sqlite", data)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secret-parent") / "watched"
    folder.mkdir()
    (folder / "a.sqlite").write_bytes(b"SQLite format 3\0")
    (folder.parent / "outside.sqlite").write_bytes(b"SQLite format 3\0")
    (folder / "linked.sqlite").symlink_to(folder.parent / "outside.sqlite")
    return folder


@pytest.fixture(scope="module")
def server(data, launch, watched):
    variables = {"WHYSLOW_TRACE_ROOTS": str(watched), "WHYSLOW_LIMIT_UPLOADS_GB": "0.000001"}
    with serve(data, variables) as running:
        yield running.address


@pytest.fixture(scope="module")
def asking(data, launch, watched, tmp_path_factory):
    """A server that asks for tokens, as one that others reach does."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"# ours\nviewer {VIEWER}\neditor {EDITOR}\n")
    variables = {"WHYSLOW_TOKENS_FILE": str(tokens), "WHYSLOW_TRACE_ROOTS": str(watched)}
    with serve(data, variables | {"WHYSLOW_ALLOWED_HOSTS": "gpu.lab.example"}) as running:
        yield running.address


def cookie_from(reply):
    return reply.headers["set-cookie"].split(";")[0]


@pytest.fixture(scope="module")
def viewer(asking):
    return cookie_from(ask(asking, f"/?token={VIEWER}"))


@pytest.fixture(scope="module")
def editor(asking):
    return cookie_from(ask(asking, f"/?token={EDITOR}"))


# --- names and sites --------------------------------------------------------------------------


def test_a_foreign_name_gets_nothing_from_any_route_even_with_its_own_origin(server):
    for path in EVERY_ROUTE + STREAMLIT_ROUTES:
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "[::1"):
            for origin in (None, f"http://{host}"):
                reply = ask(server, path, host=host, origin=origin)
                assert reply.status == 403, (path, host, origin)
                assert b"<html" not in reply.body
        assert ask(server, path, host=None).status in (400, 403)
    evil = {"host": "evil.example:80", "origin": "http://evil.example:80"}
    assert open_socket(server, **evil) == 403


def test_own_names_are_answered_and_nobody_is_asked(server):
    port = urlsplit(server).port
    for name in ("localhost", "127.0.0.1", "[::1]", "LOCALHOST"):
        host = f"{name}:{port}"
        assert ask(server, host=host).status == 200
        assert open_socket(server, host=host.lower(), origin=f"http://{host.lower()}") == 101
    assert ask(server, host="gpu.lab.example").status == 403


@pytest.mark.parametrize("header", ["forwarded", "via", "x_real_ip", "x_forwarded_proto"])
def test_what_comes_through_a_proxy_is_asked_whatever_name_it_used(server, header):
    for host in ("localhost", urlsplit(server).netloc):
        assert ask(server, host=host, **{header: "10.0.0.9"}).status == 401
    assert open_socket(server, **{header: "10.0.0.9"}) == 403


@pytest.mark.parametrize(
    "origin", ["http://[", "null", "file://", "http://evil.example", "x" * 999]
)
def test_a_strange_or_malformed_origin_is_403_everywhere(server, origin):
    for path in ("/", "/api/upload", "/api/timeline", "/_stcore/health"):
        assert ask(server, path, origin=origin).status == 403
    assert open_socket(server, origin=origin) == 403


def test_every_answer_says_what_a_browser_may_do_with_it(server):
    for path in EVERY_ROUTE + STREAMLIT_ROUTES:
        for host in (urlsplit(server).netloc, "evil.example"):
            headers = ask(server, path, host=host).headers
            assert headers.items() >= ALWAYS.items(), (path, host)
            policy = headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "unsafe-eval" not in policy
            assert "script-src 'self' 'sha256-" in policy or "default-src 'none'" in policy


def test_a_page_that_a_browser_has_kept_keeps_its_own_policy(server):
    kept = ask(server, "/").headers
    again = ask(server, "/", if_none_match=kept["etag"])
    assert again.status == 304
    assert (
        again.headers.get("content-security-policy", kept["content-security-policy"])
        == (kept["content-security-policy"])
    )


def test_what_the_pages_do_not_use_is_closed(server):
    for path in ("/_stcore/upload_file/x/y", "/_stcore/agent/openapi.json", "/_stcore/metrics"):
        assert ask(server, path).status == 404


# --- no path of the server --------------------------------------------------------------------

PATHS = re.compile(rb"/(?:work|tmp|home|root|usr|var)/[\w./-]+")


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("", ""),
        ("", "trace=" + "A" * 5_000),
        ("", "trace=../../../etc/passwd&counters=" + "B" * 5_000),
        ("timeline", "window=" + "C" * 5_000),
        ("compare", "base=" + "D" * 5_000 + "&new=E"),
        ("capture", "capture=../../etc"),
        ("open", ""),
    ],
)
def test_no_page_tells_where_anything_lies_on_the_server(server, launch, page, query):
    sent = drawn(server, page, query or f"trace={launch.trace.id}")
    assert PATHS.findall(sent.replace(b"/home/me/report.nsys-rep", b"")) == []  # an example
    assert b"Errno" not in sent
    assert b"defect in whyslow" not in sent


def upload_token(sent):
    return re.search(rb'"token": ?"(upload[^"]+)"', sent)[1].decode()


def test_an_upload_over_quota_is_told_no_path(server):
    token = upload_token(drawn(server, "open"))
    query = "key=0011223344556677&name=a.sqlite&size=5000&off=0"
    reply = ask(
        server,
        f"/api/upload?{query}",
        "PUT",
        b"SQLite format 3\0" * 20,
        origin=server,
        x_whyslow_token=token,
    )
    assert reply.status == 413
    line = json.loads(reply.body)["error"]
    assert "WHYSLOW_LIMIT_UPLOADS_GB" in line
    assert "Delete some in the data folder/inbox" in line
    assert not PATHS.search(reply.body)


# --- who comes in -----------------------------------------------------------------------------


def test_the_log_says_where_the_pages_are_and_never_a_token_of_ones_own(asking, data):
    log = (data / "server.log").read_text()
    assert f"whyslow is at {asking} (stop it with Ctrl-C)" in log
    assert "whyslow: who comes in needs a token of" in log
    assert EDITOR not in log


def test_without_a_token_nothing_is_read(asking):
    for path in ("/", "/open", "/api/timeline", "/static/x.js", "/_stcore/host-config"):
        assert ask(asking, path).status == 401
        assert ask(asking, f"{path}?token=guess").status == 401
        assert ask(asking, path, cookie=f"whyslow_access_{urlsplit(asking).port}=x").status == 401
        # What a program claims about itself counts for nothing.
        assert ask(asking, path, x_whyslow_role="owner").status == 401
    assert open_socket(asking, origin=asking) == 403
    assert ask(asking, "/api/health").status == 200
    page = ask(asking, "/", accept="text/html")
    assert page.status == 401
    assert b'<form method="post" action="/api/enter">' in page.body
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_further_name_is_answered_to_who_may_come_in(asking, viewer):
    for name in ("gpu.lab.example", "localhost"):
        assert ask(asking, host=name).status == 401
        assert ask(asking, host=name, cookie=viewer).status == 200
    assert ask(asking, host="evil.example", cookie=viewer).status == 403


def test_a_link_with_a_token_becomes_a_cookie_and_a_link_without_it(asking):
    reply = ask(asking, f"/timeline?trace=a%26b&token={VIEWER}")
    assert reply.status == 303
    assert reply.headers["location"] == "/timeline?trace=a%26b"
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert VIEWER not in cookie
    assert ask(asking, "/", cookie=cookie_from(reply)).status == 200
    # However the path begins, the link stays here.
    assert ask(asking, f"//evil.example/?token={VIEWER}").headers["location"] == "/evil.example/"
    body = f"token={EDITOR}".encode()
    entered = ask(asking, "/api/enter", "POST", body, origin=asking)
    assert (entered.status, entered.headers["location"]) == (303, "/")
    assert ask(asking, "/api/enter", "POST", b"token=x", origin=asking).status == 401
    assert ask(asking, "/api/enter", "POST", b"x" * 9_000, origin=asking).status == 401


def test_a_viewer_reads_and_an_editor_opens(asking, viewer, editor, launch):
    query = f"trace={launch.trace.id}"
    for cookie in (viewer, editor):
        assert b"2,000 launches" in drawn(asking, "", query, cookie=cookie)
    seen = drawn(asking, "open", cookie=viewer)
    assert b"Only editors of this server" in seen
    assert b"Path on the machine" not in seen
    assert b'"token"' not in seen  # nothing to upload with
    assert b"Capture" not in seen  # its page shows what programs printed, paths and all

    opened = drawn(asking, "open", cookie=editor)
    assert b"Path on the machine" in opened
    assert b"a\\.sqlite" in opened
    assert b"linked" not in opened  # it leads out of the watched folder
    assert b"Capture" in opened
    put = {"origin": asking, "x_whyslow_token": upload_token(opened)}
    query = "/api/upload?key=0011223344556677&name=a.sqlite&size=5000&off=0"
    assert ask(asking, query, "PUT", b"SQLite format 3\0", cookie=viewer, **put).status == 403
    assert ask(asking, query, "PUT", b"SQLite format 3\0", cookie=editor, **put).status == 200


# --- the parts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:80", "localhost"),
        ("LOCALHOST.", "localhost"),
        ("[::1]:8501", "::1"),
        ("a.b", "a.b"),
        ("", None),
        (":80", None),
        ("a:b", None),
        ("a:99999", None),
        ("a/b", None),
        ("u@a", None),
        ("[::1", None),
        ("ä.b", None),
        ("a b", "a b"),
    ],
)
def test_the_name_of_a_host_is_read_strictly(header, name):
    assert host_name(header) == name


def test_an_origin_is_ours_only_with_the_same_name_and_port():
    assert is_own_origin("http://a:1", "a:1")
    assert is_own_origin("https://a", "a")
    for origin in ("http://a:2", "http://a", "ftp://a:1", "null", "http://[", "http://a:x", ""):
        assert not is_own_origin(origin, "a:1")


@pytest.mark.parametrize(
    ("bound", "name", "expected"),
    [
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "10.0.0.5", False),
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.5", "localhost", True),
        ("10.0.0.5", "evil.example", False),
        ("0.0.0.0", "10.0.0.5", True),
        ("0.0.0.0", "evil.example", False),
        ("", socket.gethostname().lower(), True),
        ("127.0.0.1", "x.lab", True),
        ("127.0.0.1", "xlab", False),
    ],
)
def test_the_bound_address_and_listed_names_are_ours(monkeypatch, bound, name, expected):
    monkeypatch.setenv(hosts.HOSTS_VARIABLE, " other, *.lab ")
    assert hosts.is_allowed(name, bound) is expected


@pytest.mark.parametrize(
    ("bound", "local", "host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", "localhost", False),
        ("localhost", "::1", "::1", False),
        ("0.0.0.0", "127.0.0.1", "localhost", True),
        ("", "127.0.0.1", "localhost", True),
        ("127.0.0.1", "10.0.0.5", "localhost", True),  # whatever the option says
        ("127.0.0.1", "127.0.0.1", "gpu.lab", True),  # a proxy is in front
    ],
)
def test_only_what_this_machine_alone_reaches_asks_nobody(
    monkeypatch, bound, local, host, expected
):
    assert access.asks_for_access(bound, local, host) is expected
    assert access.asks_for_access(bound, local, host, is_forwarded=True)
    monkeypatch.setenv(hosts.HOSTS_VARIABLE, "gpu.lab")  # a proxy passes on any Host
    assert access.asks_for_access(bound, local, host)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (page_access.role_header(Role.VIEWER), Role.VIEWER),
        (page_access.role_header(Role.OWNER), Role.OWNER),
        (page_access.role_header(Role.SIGN_IN), None),  # nobody has signed in
        ("owner", None),
        ("owner.", None),
        (f"owner.{'x' * 43}", None),
        ("\udcff.\udcff", None),
        ("", Role.OWNER),  # not served by app.py, and bound to this machine only
    ],
    ids=["viewer", "owner", "nobody yet", "bare", "cut", "guessed", "junk", "none"],  # no secret
)
def test_a_page_believes_a_role_only_from_its_own_server(monkeypatch, header, expected):
    headers = {page_access.ROLE_HEADER: header} if header else {}
    monkeypatch.setattr(page_access.st, "context", SimpleNamespace(headers=headers))
    monkeypatch.setattr(page_access.st, "user", SimpleNamespace(to_dict=dict))
    assert page_access.role() is expected


def test_tokens_are_made_once_private_and_long(tmp_path):
    with library(tmp_path):
        first = access.tokens()
        assert set(first) == {Role.VIEWER, Role.EDITOR}
        assert access.tokens() == first
        path = tmp_path / access.TOKENS_FILE
        assert path.stat().st_mode & 0o777 == 0o600
        assert min(map(len, first.values())) >= 40
        cookie = access.cookie_of(Role.VIEWER)
        assert access.role_of_cookie(cookie) is Role.VIEWER
        assert access.role_of_cookie(cookie.replace("viewer", "editor")) is None
        forged = TimestampSigner(first[Role.VIEWER], salt="whyslow access").sign("editor")
        assert access.role_of_cookie(forged.decode()) is None
        path.write_text(f"viewer {'n' * 30}\n")
        os.utime(path, (1, 1))
        assert access.role_of_cookie(cookie) is None  # a new token ends the old cookies
        path.write_text("viewer short\n")
        os.utime(path, (2, 2))
        with pytest.raises(access.TokensError, match="fewer than 24"):
            access.tokens()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"viewer {VIEWER}\nviewer {EDITOR}\n", "two lines for viewers"),
        (f"viewer {VIEWER}\neditor {VIEWER}\n", "viewers and editors have the same token"),
    ],
)
def test_a_file_of_tokens_that_means_two_things_is_refused(monkeypatch, tmp_path, text, line):
    (tmp_path / "tokens").write_text(text)
    monkeypatch.setenv(access.TOKENS_VARIABLE, str(tmp_path / "tokens"))
    with pytest.raises(access.TokensError, match=line):
        access.role_of_cookie("")


@pytest.mark.parametrize(
    ("user", "role"),
    [
        ({}, None),
        ({"email": "e@a.org"}, None),  # not signed in
        ({"is_logged_in": True}, None),
        ({"is_logged_in": True, "email": "E@a.org"}, Role.EDITOR),
        ({"is_logged_in": True, "email": "e@a.org"}, Role.EDITOR),
        ({"is_logged_in": True, "email": "x@lab.org"}, Role.VIEWER),
        ({"is_logged_in": True, "email": "x@sub.lab.org"}, None),
        ({"is_logged_in": True, "email": "*@lab.org.evil"}, None),
    ],
)
def test_who_signed_in_may_do_what_the_lists_say(monkeypatch, user, role):
    user = {"email_verified": True} | user
    monkeypatch.setattr(page_access.st, "user", SimpleNamespace(to_dict=lambda: user))
    assert page_access.role_of_user() is None  # nobody is listed
    monkeypatch.setenv(page_access.EDITORS_VARIABLE, "e@a.org")
    monkeypatch.setenv(page_access.VIEWERS_VARIABLE, " e@a.org , *@lab.org")
    assert page_access.role_of_user() is role


@pytest.mark.parametrize(
    ("claim", "role", "role_without_claim_allowed"),
    [
        (True, Role.EDITOR, Role.EDITOR),
        ("true", Role.EDITOR, Role.EDITOR),
        (None, None, Role.EDITOR),  # the provider says nothing
        (False, None, None),
        ("false", None, None),
        ("", None, None),
        (1, None, None),
    ],
)
def test_an_address_of_mail_counts_only_when_it_is_verified(
    monkeypatch, claim, role, role_without_claim_allowed
):
    user = {"is_logged_in": True, "email": "e@a.org", "email_verified": claim}
    monkeypatch.setattr(page_access.st, "user", SimpleNamespace(to_dict=lambda: user))
    monkeypatch.setenv(page_access.EDITORS_VARIABLE, "e@a.org")
    assert page_access.role_of_user() is role
    monkeypatch.setenv(page_access.UNVERIFIED_VARIABLE, "1")
    assert page_access.role_of_user() is role_without_claim_allowed
