"""Reports: one set of words in three forms, safe to open, and silent about who and where."""

import base64
import hashlib
import html
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cli.main as cli
from analyzers.finding import Row
from common.text import visible
from jobs import api
from library import cache
from reports.about import ReportedWindow, ReportOptions
from reports.diagnosis import REASONS, diagnosis_report
from reports.document import Cell, Document, DocumentTable, Section, Sentence, TableColumn
from reports.html import to_html
from reports.json import to_json
from reports.markdown import to_markdown
from reports.privacy import KINDS, Privacy, privacy_of
from tests import scenarios
from traces.nsys_writer import Recording

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"
SAMPLES = sorted((ROOT / "traces" / "synthetic").iterdir())
MADE = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LARGEST = 100_000  # bytes of HTML; plotly.js alone is 4.7 MB
VOID = {"meta", "line", "rect", "br"}


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv(cache.DATA_DIR_VARIABLE, str(tmp_path_factory.mktemp("library")))
    yield
    patch.undo()


def document_of(path, window="", base_url="", included=()):
    opened = api.open_recording(path, window=window)
    where = ReportedWindow(trace_id=opened.trace.id, window=window)
    options = ReportOptions(privacy=privacy_of(included), base_url=base_url, made_at=MADE)
    return diagnosis_report(opened.trace, opened.stored, where, options)


class Page(HTMLParser):
    """What a browser would make of the file: elements, their attributes, and all text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self._open = [], [], []
        self.feed(text)
        self.close()
        assert self._open == [], "an element was never closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag
        elif tag == "rect":
            pass

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)


def attributes(page, name):
    return [attrs[name] for _, attrs in page.elements if name in attrs]


def without_signs(markdown):
    """Return what Markdown shows: escapes resolved, without what keeps a name from a mention."""
    return re.sub(r"\\(.)", r"\1", markdown).replace("\u200b", "")


def words_of(answer):
    """Yield every sentence and every cell of a report's JSON."""
    yield answer["title"]
    for section in answer["sections"]:
        yield section["title"]
        for block in section["blocks"]:
            if "sentence" in block:
                yield block["sentence"]
            elif "figure" in block:
                yield block["figure"]
            else:
                yield block["table"]
                yield from (column["name"] for column in block["columns"])
                yield from (cell["text"] for row in block["rows"] for cell in row)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_every_word_of_the_json_stands_in_the_html_and_in_the_markdown(path):
    document = document_of(path)
    answer = json.loads(to_json(document))
    page = Page(to_html(document))
    shown = page.text + "".join(attributes(page, "aria-label"))
    markdown = without_signs(to_markdown(document)).replace("`", "")
    words = list(words_of(answer))
    assert len(words) > 20
    for text in words:
        assert visible(text).replace("`", "") in shown.replace("`", "")
        assert visible(text).replace("`", "") in markdown


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_the_html_fetches_and_runs_nothing(path):
    text = to_html(document_of(path))
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base", "use"}
    for _, attrs in page.elements:
        assert not {name for name in attrs if name.startswith("on")}
        assert not attrs.keys() & {"src", "srcset", "style", "xlink:href", "action"}
    assert all(link.startswith("#w") for link in attributes(page, "href"))
    assert "@import" not in text
    assert "url(" not in text
    assert len(text.encode()) < LARGEST


def test_the_policy_allows_the_style_sheet_in_the_file_and_nothing_else():
    text = to_html(document_of(scenarios.sync()))
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [
        attrs["content"]
        for tag, attrs in Page(text).elements
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert text.index("Content-Security-Policy") < text.index("<style>")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_every_number_leads_to_its_window(path):
    document = document_of(path)
    answer = json.loads(to_json(document))
    windows = answer["windows"]
    measured = [
        cell
        for section in answer["sections"]
        for block in section["blocks"]
        if "table" in block
        for row in block["rows"]
        for cell in row
        if cell["value"] is not None
    ]
    assert measured
    for cell in measured:
        window = windows[cell["window"]]
        assert window["start_ns"] <= window["end_ns"]
        assert window["address"].startswith("timeline?trace=")
    page = Page(to_html(document))
    anchors = set(attributes(page, "id"))
    assert {link.removeprefix("#") for link in attributes(page, "href")} <= anchors
    assert anchors == set(windows)


def test_the_longest_stretch_of_a_row_is_where_the_segments_say():
    opened = api.open_recording(scenarios.sync())
    segments = opened.stored.segments()
    answer = json.loads(to_json(document_of(scenarios.sync())))
    table = next(
        b for s in answer["sections"] for b in s["blocks"] if ": where " in b.get("table", "")
    )
    rows = {row[0]["text"]: row for row in table["rows"]}
    code = list(Row).index(Row.SYNC)
    mine = segments[segments["row"] == code]
    longest = int((mine["end_ns"] - mine["start_ns"]).max())
    cell = rows["sync"][4]
    window = answer["windows"][cell["window"]]
    assert cell["value"] == longest == window["end_ns"] - window["start_ns"]
    assert int(mine["start_ns"].min()) <= window["start_ns"]
    assert sum(row[2]["value"] for row in rows.values()) == opened.stored.report.window.duration_ns


def test_links_lead_to_the_dashboard_when_its_address_is_known():
    document = document_of(scenarios.sync(), base_url="http://127.0.0.1:8501/")
    links = [u for u in attributes(Page(to_html(document)), "href") if not u.startswith("#")]
    assert links
    assert all(u.startswith("http://127.0.0.1:8501/timeline?trace=") for u in links)
    assert f"]: <{links[0]}>" in to_markdown(document)


def test_a_report_tells_what_it_was_made_of():
    path = scenarios.sync()
    data = path.read_bytes()
    text = Page(to_html(document_of(path))).text
    assert hashlib.sha256(data).hexdigest() in text
    assert f"{len(data):,} bytes" in text
    assert "2026-11-21 12:00 UTC" in text
    assert "divergence" in text.partition("The recording says nothing about ")[2][:60]


HOSTILE = (
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[click](javascript:alert(1))",
    "![x](//evil.invalid/x.png)",
    "a|b\n# heading\n```\n<!--",
    "\u202eevil\u2066\u0000\x1b[31m",
    "&lt;b&gt;&amp;",
    "=cmd|' /C calc'!A0",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_only_shown(name, tmp_path):
    recording = Recording(program=name)
    for n in range(4):
        start = 1_000_000 * n
        recording.nvtx(name, start, start + 900_000)
        recording.api("cudaLaunchKernel", start + 10, start + 20, correlationId=n)
        recording.kernel(name, start + 100, start + 400_000, correlationId=n)
    path = recording.write(tmp_path / "hostile.sqlite")
    document = document_of(path)
    plain = document_of(scenarios.sync())
    page = Page(to_html(document))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in Page(to_html(plain)).elements}
    markdown = to_markdown(document)
    ours = (f"<details><summary>{REASONS}</summary>\n", "\n</details>\n")
    for tag in ours:
        assert markdown.count(tag) == 1
        markdown = markdown.replace(tag, "")
    assert not re.search(r"(?<!\\)<(?!https?:)", markdown)
    assert not re.search(r"(?<!\\)\](\(|:(?! <http))", markdown)
    assert "\u202e" not in page.text + markdown


@given(text=st.text(max_size=60), other=st.text(max_size=60))
def test_any_text_comes_back_from_the_html_as_it_was(text, other):
    document = Document(
        kind="diagnosis",
        title="t",
        sections=(
            Section(
                title="s",
                blocks=(
                    Sentence(text=text),
                    DocumentTable(columns=(TableColumn(name="c"),), rows=((Cell(text=other),),)),
                ),
            ),
        ),
        data={},
    )
    page = Page(to_html(document))
    assert "".join(page.texts).count(visible(other)) >= 1
    assert visible(text).replace("`", "") in page.text.replace("`", "")
    assert {t for t, _ in page.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "section", "h2", "p"),
        *("code", "div", "table", "thead", "tbody", "tr", "th", "td"),
    }
    json.loads(to_json(document))


# What a recording may betray, by the form in which it would; each with the word that must go.
SECRETS = {
    "hosts": (
        ("node at 10.31.7.44 answered", "10.31.7.44"),
        ("served by gpu7.cluster.canaryhost.com", "canaryhost"),
        ("on ip-10-0-3-17 now", "ip-10-0-3-17"),
        ("HOSTNAME=canaryhost9 then canaryhost9", "canaryhost9"),
    ),
    "users": (
        ("run of canaryuser@machine7", "canaryuser"),
        ("mail canary.user@example.invalid", "canary.user"),
        ("job of canaryu from /home/canaryu/x", "canaryu"),
    ),
    "paths": (
        ("load /home/canary/secret/train.py", "secret"),
        ("load ~/canary/model.bin", "canary"),
        (r"load C:\Users\canary\model.bin", "canary"),
        ("fetch s3://canary-bucket/key", "canary-bucket"),
        ("file:///opt/canary/data", "canary"),
        ("run projects/canary/train.py(12): step", "canary"),
    ),
    "commands": (
        ("python3 train.py --canary-flag 7", "canary-flag"),
        ("srun -N 2 ./canary.sh", "canary"),
        ("bash -c canary", "canary"),
    ),
    "environment": (
        ("WANDB_API_KEY=canary123", "canary123"),
        ("PATH=canary", "canary"),
        ("password: canary", "canary"),
    ),
}
ALL_SECRETS = [(kind, *secret) for kind, secrets in SECRETS.items() for secret in secrets]


@pytest.mark.parametrize(("kind", "text", "canary"), ALL_SECRETS)
def test_no_field_of_a_recording_brings_a_private_text_into_a_report(kind, text, canary, tmp_path):
    kernel = "kernel" if kind == "commands" else ""  # no function is called like a command
    path = canary_recording(text, tmp_path / "recording.sqlite", kernel)
    document = document_of(path)
    for form in (to_html, to_markdown, to_json):
        shown = form(document)
        assert canary not in html.unescape(shown).replace("\\", "")
        assert f"[{kind.rstrip('s')} removed]".split()[0][1:] in shown


@pytest.mark.parametrize(("kind", "text", "canary"), ALL_SECRETS)
def test_private_texts_stay_when_asked_for(kind, text, canary, tmp_path):
    path = canary_recording(text, tmp_path / "recording.sqlite")
    shown = to_json(document_of(path, included=KINDS))
    assert canary in shown.replace("\\\\", "\\")


def canary_recording(text, path, kernel=""):
    """Return a recording that holds ``text`` wherever a recording can hold text."""
    recording = Recording(program=text)
    recording.thread(recording.pid, 77, text)
    recording.diagnostic(text, 5, severity=3)
    for n in range(6):
        start = 1_000_000 * n
        recording.nvtx(text, start, start + 900_000)
        recording.nvtx(text, start + 5, None)
        recording.os_call(text, start + 500_000, start + 800_000)
        recording.overhead(text, start + 810_000, start + 820_000)
        recording.api("cudaLaunchKernel", start + 10, start + 20, correlationId=n)
        recording.kernel(kernel or text, start + 100, start + 400_000, correlationId=n)
    return recording.write(path)


def test_the_host_in_the_name_of_a_torch_trace_is_removed():
    name = "canarybox_4711.1623143089861.pt.trace.json"
    learned = privacy_of().learned([], [name])
    assert learned.text(f"Why {name} is slow") == (
        "Why [host removed]_4711.1623143089861.pt.trace.json is slow"
    )


@pytest.mark.parametrize(
    "sentence",
    [
        "run `ncu --set full --launch-count 3 -o counters PROGRAM`",
        "record with `nsys profile -t cuda,nvtx --cuda-graph-trace=node`",
        "598 GB/s of 3.35 TB/s (p50/p95), 12/40 launches, 2026-11-21",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>",
        "forward/layer1/conv took 3.1 µs",
        "Nsight Systems 2024.5.1.113, driver 550.54",
        "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
    ],
)
def test_what_is_not_private_stays_as_it_is(sentence):
    privacy = Privacy(users=frozenset({"alice"}), hosts=frozenset({"node17"}))
    assert privacy.text(sentence) == sentence


@given(parts=st.lists(st.sampled_from(["a", "9", "_", ".", "-"]).map("x".__add__), min_size=2))
def test_no_absolute_path_survives(parts):
    path = "/canary/" + "/".join(parts)
    assert "canary" not in privacy_of().text(f"open {path} now")


def test_removing_twice_changes_nothing_more():
    privacy = privacy_of()
    for _, text, _ in ALL_SECRETS:
        once = privacy.text(text)
        assert privacy.text(once) == once


def run(capsys, *arguments):
    status = cli.main([str(a) for a in arguments])
    return status, *capsys.readouterr()


def test_the_command_writes_every_form_that_is_asked_for(tmp_path, capsys):
    names = {"--html": "a.html", "--markdown": "a.md", "--json": "a.json"}
    options = [x for option, name in names.items() for x in (option, tmp_path / name)]
    status, out, err = run(capsys, "report", scenarios.sync(), *options)
    assert (status, err) == (0, "")
    assert str(tmp_path / "a.html") in out
    verdict = json.loads((tmp_path / "a.json").read_text())["diagnosis"]["verdict"]["sentence"]
    assert verdict.replace("`", "") in Page((tmp_path / "a.html").read_text()).text
    assert verdict in without_signs((tmp_path / "a.md").read_text())
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.html", "a.json", "a.md"]


def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path, capsys):
    target = tmp_path / "a.md"
    target.write_text("mine")
    asked = ("report", scenarios.sync(), "--json", tmp_path / "a.json", "--markdown", target)
    status, out, err = run(capsys, *asked)
    assert (status, out, target.read_text()) == (2, "", "mine")
    assert (
        err
        == f"whyslow: {target}: exists already. Add --force to replace it, or choose another name\n"
    )
    assert not (tmp_path / "a.json").exists()
    assert run(capsys, *asked, "--force")[0] == 0
    assert target.read_text() != "mine"


def test_the_report_of_a_window_is_about_that_window(tmp_path, capsys):
    target = tmp_path / "a.json"
    run(capsys, "report", scenarios.sync(), "--window", "iteration:2", "--json", target)
    answer = json.loads(target.read_text())
    window = answer["diagnosis"]["window"]
    assert answer["windows"]["w1"]["start_ns"] == window["start_ns"]
    assert answer["windows"]["w1"]["address"].endswith("&window=iteration%3A2")


def test_two_sides_give_the_report_of_their_comparison(tmp_path, capsys):
    target = tmp_path / "a.json"
    both = (scenarios.sync(), "--", scenarios.scenario("healthy"))
    status, _, err = run(capsys, "report", *both, "--json", target)
    assert (status, err) == (0, "")
    answer = json.loads(target.read_text())
    assert answer["kind"] == "comparison"
    told = answer["comparison"]
    assert sum(told["waterfall"].values()) == told["delta_ns_per_iteration"]
    names = {w["recording"] for w in answer["windows"].values()}
    assert names == {"baseline", "new"}


def test_the_report_of_two_sides_tells_what_was_predicted_from_the_baseline(tmp_path, capsys):
    target = tmp_path / "a.md"
    both = (scenarios.sync(), "--", scenarios.scenario("sync", iterations=8))
    status, _, err = run(capsys, "report", *both, "--markdown", target)
    assert (status, err) == (0, "")
    told = target.read_text()
    assert "Predicted and measured" in told
    assert "Removing the" in told
    assert "measured" in told.partition("Predicted and measured")[2]


def test_counters_cannot_be_joined_to_a_comparison(tmp_path, capsys):
    both = (scenarios.sync(), scenarios.sync(), "--counters", "x.ncu-rep")
    status, _, err = run(capsys, "report", *both, "--json", tmp_path / "a.json")
    assert status == 2
    assert "--counters: joined to one recording" in err


@pytest.mark.skipif(not REAL.is_dir(), reason="no real recordings")
def test_the_report_of_a_real_pair_says_that_the_host_was_the_cause(tmp_path, capsys):
    base, new = sorted((REAL / "torch_trace").glob("kineto__resnet50_num_workers_[04]*"))
    target = tmp_path / "a.json"
    status, _, err = run(capsys, "report", base, "--", new, "--json", target)
    assert (status, err) == (0, "")
    told = json.loads(target.read_text())["comparison"]
    assert told["verdict"] == "improved"
    assert min(told["waterfall"], key=told["waterfall"].get) == "host"


@pytest.mark.parametrize(
    ("options", "trouble"),
    [
        ([], "no file to write the report to"),
        (["--html", "{}/a", "--json", "{}/a"], "cannot be the same file"),
        (["--html", "{}/a", "--include-private", "hosts,names"], "names is none of hosts, users"),
        (["--html", "{}/a", "--base-url", "javascript:alert(1)"], "--base-url: not an address"),
    ],
)
def test_a_report_that_cannot_be_is_refused_in_one_line(options, trouble, tmp_path, capsys):
    given_options = [o.format(tmp_path) for o in options]
    status, out, err = run(capsys, "report", scenarios.sync(), *given_options)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert trouble in err


def test_a_report_never_replaces_a_recording(tmp_path, capsys):
    recording = tmp_path / "mine.sqlite"
    recording.write_bytes(Path(scenarios.sync()).read_bytes())
    before = recording.read_bytes()
    status, _, err = run(capsys, "report", recording, "--html", recording, "--force")
    assert status == 2
    assert "is an SQLite database" in err
    assert recording.read_bytes() == before


def test_a_recording_without_gpu_work_has_a_report(tmp_path):
    path = ROOT / "traces" / "cpu_training.sqlite"
    document = document_of(path)
    assert "no time of a GPU is accounted for" in Page(to_html(document)).text
    assert "None" not in to_markdown(document)
