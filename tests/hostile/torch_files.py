"""Traces of the torch profiler: values that cannot be, JSON that is nearly none, damage."""

import functools
import gzip
import json

from tests.torch_traces import GPU, call, kernel, x

# What may stand where a number should, as it is written; JSON puts no bound on numbers.
_VALUES = {
    "null": "null",
    "a word": '"many"',
    "a number as text": '"160"',
    "NaN": "NaN",
    "1e400": "1e400",
    "308 digits": "9" * 308,
    "5,000 digits": "9" * 5_000,
    "2^63": str(2**63),
    "2^64": str(2**64),
    "below zero": "-5",
    "a list": "[1]",
    "an object": "{}",
    "true": "true",
}
_FIELDS = {  # the first such text is of the first kernel
    "ts": '"ts": 111',
    "dur": '"dur": 50',
    "pid": '"pid": 0, ',
    "tid": '"tid": 7, ',
    "correlation": '"correlation": 1, "end"',
    "device": '"device": 0',
    "registers": '"registers per thread": 40',
    "grid": '"grid": [8, 2, 1]',
}
_EVERYWHERE = ("ts", "dur")
_OF_OTHERS = ("null", "308 digits", "2^63", "2^64", "a list", "below zero")


@functools.cache
def trace() -> bytes:
    """Return a trace of 10 launches, in operators, with the text of one kernel easy to change."""
    events = [
        e
        for n in range(1, 11)
        for e in (
            x("cpu_op", "aten::mm", 100 * n - 5, 20),
            call(100 * n, n),
            kernel(100 * n + 11, n, end=1),
        )
    ]
    head = {"schemaVersion": 1, "deviceProperties": [GPU]}
    return json.dumps({**head, "traceEvents": events}).encode()


def packed_trace() -> bytes:
    """Return the same, compressed."""
    return gzip.compress(trace(), mtime=0)


def _with_value(field: str, value: str) -> bytes:
    text = trace().decode()
    place = text.index(_FIELDS[field])
    key, colon, _ = _FIELDS[field].partition(": ")
    rest = text[place + len(_FIELDS[field]) :]
    tail = {"correlation": ', "end"', "pid": ", ", "tid": ", "}.get(field, "")
    return f"{text[:place]}{key}{colon}{value}{tail}{rest}".encode()


def _events(*events: object) -> bytes:
    return json.dumps({"schemaVersion": 1, "traceEvents": events}).encode()


def _plain():
    whole = trace()
    begin, end = whole.index(b'[{"ph"'), whole.rindex(b"]")
    first = json.loads(whole)["traceEvents"][2]
    yield "a bare list", whole[begin : end + 1]
    yield "a list without its end", whole[begin:end]
    yield "an object without its end", whole[: end + 1]
    for share in (0.02, 0.4, 0.9):
        yield f"the first {share:.0%}", whole[: int(share * len(whole))]
    yield "text behind its end", whole + b"\n{}"
    yield "a byte-order mark", b"\xef\xbb\xbf" + whole
    yield "UTF-16", whole.decode().encode("utf-16")
    yield "bytes that are not UTF-8", whole.replace(b"gemm", b"g\xffmm")
    yield "half of a surrogate pair", whole.replace(b"gemm", b"g\\ud800mm")
    yield "control characters", whole.replace(b"gemm", b"g\x01\nmm")
    yield "a name of 1 MB", whole.replace(b"gemm", b"g" * (1 << 20), 1)
    yield "a name with events in it", whole.replace(b"gemm", b'}, {\\"ph\\": \\"X\\"', 1)
    yield (
        "arrays 300 deep",
        _events(first, {**first, "args": {"a": 0}}).replace(
            b'{"a": 0}', b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}"
        ),
    )
    yield "objects 100,000 deep", b'{"a":' * 100_000
    yield (
        "20,000 arguments",
        _events(
            *json.loads(whole)["traceEvents"],
            {**first, "args": {f"k{n}": n for n in range(20_000)}},
        ),
    )
    yield (
        "members that are no events",
        _events(*json.loads(whole)["traceEvents"], 1, "two", None, [3], {}),
    )
    yield "two lists of events", whole[:-1] + b', "traceEvents": []}'
    yield "no list of events", b'{"schemaVersion": 1}'
    for value in (b"null", b"7", b'"x"', b"{}", b"[]"):
        yield f"events that are {value.decode()}", b'{"traceEvents": ' + value + b"}"
    yield "spaces only", b" " * 5_000
    yield "an open bracket", b"["
    yield "an open brace and zeros", b"{" + b"\0" * 10_000
    yield "lines of JSON", b"\n".join(json.dumps(e).encode() for e in ({"a": 1}, {"a": 2}))
    yield "a number", b"12345678901234567890"
    yield (
        "head with numbers of 5,000 digits",
        whole.replace(b'"schemaVersion": 1', b'"schemaVersion": ' + b"9" * 5_000),
    )
    yield (
        "a rank beyond 64 bits",
        whole.replace(b'"schemaVersion": 1', b'"distributedInfo": {"rank": 99999999999999999999}'),
    )
    yield (
        "a begin beyond 64 bits",
        whole.replace(b'"schemaVersion": 1', b'"baseTimeNanoseconds": 99999999999999999999'),
    )
    yield "a GPU of impossible size", whole.replace(b'"numSms": 108', b'"numSms": 1e99')
    yield "one kernel of an hour", whole.replace(b'"dur": 50', b'"dur": 3600000000', 1)
    yield "kernels before their calls", whole.replace(b'"ts": 1', b'"ts": -1')
    yield "every id the same", whole.replace(b'"correlation": ', b'"correlation": 1, "was": ')
    yield "an export of whyslow", b'{"otherData": {"origin_ns": 1}, "traceEvents": []}'
    yield "a trace of a browser", _events({"ph": "X", "cat": "v8", "name": "V8", "ts": 1, "dur": 2})
    yield "an Ascend trace", _events({"ph": "M", "name": "process_name", "args": {"name": "CANN"}})


def _packed():
    whole, packed = trace(), packed_trace()
    yield "packed", packed
    yield "packed twice", gzip.compress(packed, mtime=0)
    yield "packed three times", gzip.compress(gzip.compress(packed, mtime=0), mtime=0)
    yield "packed, with a wrong checksum", packed[:-8] + b"\1\2\3\4" + packed[-4:]
    yield "packed, with a wrong length", packed[:-4] + b"\1\2\3\4"
    yield "packed, without its checksum", packed[:-8]
    for lost in (20, len(packed) // 2, len(packed) - 30, len(packed) - 5):
        yield f"packed, {lost:,} of {len(packed):,} bytes lost", packed[:-lost]
    yield "packed, noise in the middle", packed[:200] + b"\xff" * 20 + packed[220:]
    yield "packed, text behind its end", packed + b"hello"
    yield "packed, zeros behind its end", packed + b"\0" * 5_000
    yield "packed in two parts", gzip.compress(whole[:900], mtime=0) + gzip.compress(whole[900:])
    yield "packed nothing", gzip.compress(b"", mtime=0)
    yield "packed spaces that explode", gzip.compress(b'{"traceEvents": [' + b" " * (70 << 20), 1)
    yield "no packing at all", whole


def torch_files():
    """Yield a name, the file's name, and its content."""
    for field in _FIELDS:
        for kind, value in _VALUES.items():
            if field in _EVERYWHERE or kind in _OF_OTHERS:
                yield f"torch: {field} is {kind}", "a.json", _with_value(field, value)
    for name, content in _plain():
        yield f"torch: {name}", "a.json", content
    for name, content in _packed():
        yield f"torch: {name}", "a.json.gz", content
