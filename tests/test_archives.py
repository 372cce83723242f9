"""Zip archives: one recording opens, of several one is named, and nothing in one is believed."""

import errno
import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from cli.main import exit_status
from collectors import foreign_files, is_recording, may_become_recording, open_trace
from collectors.errors import RefusedError, SeveralRecordingsError
from common.files import file_holding
from jobs import api, steps
from library import cache
from tests.torch_traces import launches, trace_bytes
from traces.nsys_writer import Recording

TRACE = trace_bytes(launches())


def packed(*members, method=zipfile.ZIP_DEFLATED):
    """Return an archive of names (or whole entries) and contents."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return raw.getvalue()


@pytest.fixture
def write(tmp_path):
    def write_it(content, name="runs.zip"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write_it


@pytest.fixture
def refusal(tmp_path, write):
    def refuse(content, member=""):
        path = write(content)
        with pytest.raises(RefusedError) as refused:
            open_trace(path / member if member else path, tmp_path / "cache")
        line = str(refused.value)
        assert "\n" not in line
        assert len(line) < 400
        assert not list((tmp_path / "cache" / "tmp").glob("*"))
        return line

    return refuse


@pytest.fixture(scope="module")
def export_bytes(tmp_path_factory):
    made = Recording()
    made.api("cudaLaunchKernel", 0, 5_000, correlationId=1)
    made.kernel("k", 6_000, 9_000, correlationId=1)
    return made.write(tmp_path_factory.mktemp("export") / "e.sqlite").read_bytes()


# --- what opens ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", ["trace.json", "a/b c/ü \N{BULLET}.json", "x\\y.json"])
def test_an_archive_with_one_recording_is_that_recording(tmp_path, write, name, method):
    plain = open_trace(write(TRACE, "plain.json"), tmp_path / "cache")
    content = packed(("notes.txt", "none"), (name, TRACE), ("dir/", ""), method=method)
    trace = open_trace(write(content), tmp_path / "cache")
    assert trace.count("kernels") == 3
    assert trace.id == plain.id  # the same bytes, so the same recording
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "plain.json", "runs.zip"]


def test_what_lies_beside_recordings_is_none(tmp_path, write, export_bytes):
    """A report beside its own export is the same recording, and the export needs no nsys."""
    content = packed(
        ("r/report1.sqlite", export_bytes),
        ("r/report1.nsys-rep", b"NVIDIA Tegra Profiler Report"),
        *(("r/report1.sqlite.telemetry.sqlite", export_bytes), ("telemetry.sqlite", export_bytes)),
        *(("r/state.json", b"{}"), ("r/a.workload.json", b"{}"), ("notes.csv", b"a,b\n1,2\n")),
        *(("__MACOSX/r/._report1.sqlite", export_bytes), ("r/._b.nsys-rep", b"x")),
        ("inner.zip", packed(("t.json", TRACE))),
    )
    assert open_trace(write(content), tmp_path / "cache").count("kernels") == 1


def test_of_several_recordings_one_is_named_like_a_file_in_a_folder(tmp_path, write):
    path = write(packed(("a.json", TRACE), ("rank 1/b.json", trace_bytes(launches(5)))))
    with pytest.raises(SeveralRecordingsError) as asked:
        open_trace(path, tmp_path / "cache")
    assert asked.value.choices == ("a.json", "rank 1/b.json")
    assert "runs.zip: 2 recordings in one archive: a.json, rank 1/b.json." in str(asked.value)
    assert open_trace(path / "rank 1" / "b.json", tmp_path / "cache").count("kernels") == 5
    with pytest.raises(
        RefusedError, match=r"holds no c\.json; it is a zip archive with a\.json, b"
    ):
        open_trace(path / "c.json", tmp_path / "cache")


def test_the_command_line_lists_what_can_be_named(tmp_path, write, capsys, monkeypatch):
    monkeypatch.setenv("WHYSLOW_DATA_DIR", str(tmp_path / "data"))
    path = write(packed(("a.json", TRACE), ("b\u202e.json", trace_bytes(launches(5)))))
    job = api.begin_opening(path)
    with pytest.raises(SeveralRecordingsError) as asked:
        job.wait()
    assert job.progress().choices == ("a.json", "b\u202e.json")
    assert exit_status(asked.value, path) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[0].startswith("whyslow: runs.zip: 2 recordings in one archive: a.json, ")
    assert error[1] == f"  {path}/a.json"
    assert "\u202e" not in error[2]


def test_a_recording_in_an_archive_is_remembered_as_any_other(tmp_path, write, monkeypatch):
    monkeypatch.setenv("WHYSLOW_DATA_DIR", str(tmp_path / "data"))
    path = write(packed(("a.json", TRACE), ("b.json", trace_bytes(launches(5)))))
    steps.read(path / "a.json", lambda *_: None)
    assert cache.find(path / "a.json").count("kernels") == 3
    assert cache.find(path / "b.json") is cache.find(path) is None
    write(packed(("a.json", TRACE)))  # changed since
    assert cache.find(path / "a.json") is None


def test_a_path_goes_on_behind_a_file_only_where_that_is_an_archive(tmp_path, write):
    plain = write(TRACE, "plain.json")
    assert file_holding(plain / "a") == plain
    assert file_holding(tmp_path / "none" / "a") == tmp_path / "none" / "a"
    assert file_holding(tmp_path) == tmp_path
    assert file_holding(Path("none")) == Path("none")
    with pytest.raises(RefusedError, match="no such file"):
        open_trace(plain / "a", tmp_path / "cache")


def test_the_first_bytes_of_an_archive_may_be_uploaded(write):
    content = packed(("a.json", TRACE))
    assert all(may_become_recording(write(content[:n])) for n in (1, 3, 4, 60))
    assert is_recording(write(content))


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.json", "a/../../b.json", "..\\a.json", "C:\\a.json", "C:/a.json"]
)
def test_a_name_that_leads_out_of_the_archive_is_refused(refusal, name):
    assert "which lies outside of the archive" in refusal(packed((name, TRACE)))


@pytest.mark.parametrize("name", ["a\x1b[31m.json", "a\n.json", "x" * 401])
def test_a_name_that_is_no_file_name_is_refused(refusal, name):
    assert "a name that is no file name" in refusal(packed((name, TRACE)))


def test_an_archive_without_a_recording_says_what_it_holds(refusal):
    line = refusal(packed(("notes.txt", "x"), ("run/readme.md", "x"), ("a.zip", packed())))
    assert "zip archive with notes.txt, readme.md, a.zip inside, and no recording" in line
    assert "without any file" in refusal(packed())


def test_what_its_reader_refuses_names_archive_and_file(refusal):
    assert refusal(packed(("a.json", b'{"x": 1}'))).startswith("runs.zip: a.json: JSON, but")
    assert refusal(packed(("a.json", b"hello")), "a.json").startswith("runs.zip: a.json: not a ")


def _changed(content, what, offset, layout, value):
    """Return the archive with one number of its first such record changed."""
    raw = bytearray(content)
    struct.pack_into(layout, raw, raw.index(what) + offset, value)
    return bytes(raw)


ENTRY, END = b"PK\x01\x02", b"PK\x05\x06"


@pytest.mark.parametrize(
    ("what", "offset", "layout", "value", "words"),
    [
        (ENTRY, 24, "<L", 100 << 20, "unpacks to more than 200 times its size"),
        (ENTRY, 24, "<L", 5, "is damaged: it unpacks to 5 of 5 bytes, or its checksum"),
        (ENTRY, 24, "<L", len(TRACE) + 1, "is damaged: it unpacks to"),
        (ENTRY, 16, "<L", 1, "its checksum is wrong"),
        (ENTRY, 8, "<H", 1, "needs a password"),
        (ENTRY, 10, "<H", 14, "packed in a way that is not read (method 14)"),
        (ENTRY, 42, "<L", 1, "cut off or damaged"),
        (ENTRY, 42, "<L", 0x7FFFFFFF, "cut off or damaged"),
        (ENTRY, 20, "<L", 0x7FFFFFFF, "cut off or damaged"),
        (ENTRY, 28, "<H", 60_000, "cut off or damaged"),
        (END, 10, "<H", 2, "cut off or damaged"),
        (END, 10, "<H", 1_001, "a zip archive of 1,001 files; the limit is 1,000"),
        (END, 12, "<L", 0x7FFFFFFF, "a zip archive of"),
        (END, 16, "<L", 0x7FFFFFFF, "cut off or damaged"),
        (END, 16, "<L", 0xFFFFFFFF, "cut off or damaged"),
    ],
)
def test_the_directory_of_an_archive_is_not_believed(refusal, what, offset, layout, value, words):
    assert words in refusal(_changed(packed(("a.json", TRACE)), what, offset, layout, value))


def test_files_that_overlap_are_refused(refusal):
    """What makes an archive explode: many entries of the directory for the same packed bytes."""
    content = packed(("a.json", TRACE), ("b.json", TRACE))
    second = content.rindex(ENTRY)
    raw = bytearray(content)
    struct.pack_into("<L", raw, second + 42, 0)
    assert "files in the archive overlap" in refusal(bytes(raw))


@pytest.mark.parametrize("same", ["x/a.json", "x//a.json", "./x/a.json", "x/./a.json", "x\\a.json"])
def test_two_files_of_one_name_are_refused(refusal, same):
    other = "b" * len(same)  # written by a module that warns of two names alike
    content = packed(("x/a.json", TRACE), (other, TRACE)).replace(other.encode(), same.encode())
    assert "two files of the same name" in refusal(content)


@pytest.mark.parametrize("chunk_bytes", [1_000, 1 << 20])
def test_what_follows_the_end_of_a_packed_file_is_not_looked_at(refusal, monkeypatch, chunk_bytes):
    """Zlib gathers it in memory; of a chunk with both it goes on handing back the rest."""
    made = []

    class Inflating:
        def __init__(self, wbits):
            self._real = make(wbits=wbits)
            made.append(self)

        def decompress(self, chunk, most):
            assert not self.eof
            return self._real.decompress(chunk, most)

        def __getattr__(self, name):
            return getattr(self._real, name)

    make = zlib.decompressobj
    monkeypatch.setattr("collectors.archive.archive.zlib.decompressobj", Inflating)
    monkeypatch.setattr("collectors.archive.archive.CHUNK_BYTES", chunk_bytes)
    deflate = zlib.compressobj(wbits=-15)
    body = deflate.compress(TRACE) + deflate.flush()
    content = packed(("a.json", body + b"x" * 5_000), method=zipfile.ZIP_STORED)
    line = refusal(_changed(content, ENTRY, 10, "<H", zipfile.ZIP_DEFLATED), "a.json")
    assert f"is damaged: it unpacks to {len(TRACE):,} of {len(body) + 5_000:,} bytes" in line
    assert made


def test_an_archive_that_may_not_be_read_is_refused_with_a_line(refusal, monkeypatch):
    def locked(_path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(foreign_files, "is_zip", locked)
    line = refusal(packed(("a.json", TRACE)), "a.json")
    assert line == "a.json: no permission to read it. Ask its owner, or give the path of a copy"


def test_a_link_is_not_followed(refusal):
    link = zipfile.ZipInfo("a.json")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    assert "is a link" in refusal(packed((link, "/etc/passwd")))


def test_damaged_data_is_refused(refusal):
    content = bytearray(packed(("a.json", TRACE)))
    content[60:80] = b"\xff" * 20
    assert "is damaged" in refusal(bytes(content))


@pytest.mark.parametrize("lost", [1, 22, 100, 1_000])
def test_an_archive_that_is_cut_off_is_refused(refusal, lost):
    content = packed(("a.json", TRACE), method=zipfile.ZIP_STORED)
    assert "cut off or damaged" in refusal(content[:-lost])


def test_what_unpacks_too_far_is_refused_at_the_limit(refusal, monkeypatch):
    monkeypatch.setenv("WHYSLOW_LIMIT_ZIP_GB", "0.0625")  # 64 MiB, which is always allowed
    content = _changed(packed(("a.json", TRACE)), ENTRY, 24, "<L", (64 << 20) + 1)
    monkeypatch.setenv("WHYSLOW_LIMIT_GZIP_RATIO", "1e9")
    assert "unpacks to more than 0.0625 GB (WHYSLOW_LIMIT_ZIP_GB)" in refusal(content)


def test_a_path_goes_on_behind_an_archive_on_windows_too(tmp_path, write, monkeypatch):
    """There, what goes on behind a file is said to be absent, and no more than that."""
    archive, plain_stat = write(packed(("x/a.json", TRACE))), Path.stat

    def windows_stat(path, **how):
        try:
            return plain_stat(path, **how)
        except NotADirectoryError as error:
            raise FileNotFoundError(errno.ENOENT, "no such file") from error

    monkeypatch.setattr(Path, "stat", windows_stat)
    assert file_holding(archive / "x" / "a.json") == archive
    assert file_holding(tmp_path / "none" / "a") == tmp_path / "none" / "a"
    assert open_trace(archive / "x" / "a.json", tmp_path / "cache").count("kernels") == 3
