"""Lines for a browser lose where things lie on the server, and keep their words."""

from library import cache
from tests.view_fakes import library
from views.shared.server_paths import without_server_paths


def test_lines_of_trouble_keep_their_words_and_lose_their_paths(tmp_path):
    with library(tmp_path / "d"):
        folder = cache.data_dir()
        assert without_server_paths(f"{folder}: no disk space left") == (
            "The data folder: no disk space left"
        )
    for line, shown in [
        ("cannot read '/home/me/x/a.sqlite': gone", "cannot read '…/a.sqlite': gone"),
        (r"no C:\Users\bob smith\x.json, D:\y", r"no …\x.json, …\y"),
        (r"'C:\Users\bob\' is a folder", r"'…\' is a folder"),
        (r"a regex \d:\w, nvtx:\x", None),
        ("see https://docs.nvidia.com/cuda/x.html and 5 GB/s", None),
        ("at::native/foo/bar, 3 / 4", None),
    ]:
        assert without_server_paths(line) == (shown or line)


def test_folders_with_spaces_are_taken_out_of_lines(tmp_path, monkeypatch):
    home, root = tmp_path / "home of me", tmp_path / "our traces"
    deep = home / "my files" / "a (b), c: d"
    deep.mkdir(parents=True)
    root.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WHYSLOW_TRACE_ROOTS", str(root))
    for line, shown in [
        (f"{deep}/r 1.sqlite: and 5 GB/s", "…/r 1.sqlite: and 5 GB/s"),
        (f"not '{deep}/r.sqlite' but {root}/x.nsys-rep", "not '…/r.sqlite' but …/x.nsys-rep"),
        (f"file://{home}/r.sqlite, {home}/gone/s.sqlite", "file:///…/r.sqlite, …/s.sqlite"),
        (f"{root}: no recordings", "…/our traces: no recordings"),
    ]:
        assert without_server_paths(line) == shown
