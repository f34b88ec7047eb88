"""What callers must never send, and where they could send it.

A place is a request with a hole (HOLE) for a number or a text; DATASET, JOB and MODEL stand for the
ids of things that exist.
"""

import gzip
from typing import NamedTuple

JSON = "application/json"
CSV = "text/csv"
HOLE = b"HOLE"


class Place(NamedTuple):
    path: str
    body: bytes
    media_type: str = JSON


NOT_NUMBERS: dict[str, bytes] = {
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "1e400": b"1e400",
    "-1e400": b"-1e400",
    "huge exponent": b"1e99999999999",
    "100k digits": b"1" * 100_000,
    "leading zero": b"007",
    "hexadecimal": b"0x10",
    "underscore": b"1_000",
    "plus": b"+1",
    "bare point": b".5",
    "nothing": b"",
}
ODD_NUMBERS: dict[str, bytes] = {
    "2**31": b"2147483648",
    "2**53+1": b"9007199254740993",
    "2**63": b"9223372036854775808",
    "-2**63-1": b"-9223372036854775809",
    "2**64": b"18446744073709551616",
    "10**40": b"1" + b"0" * 40,
    "100k decimals": b"0." + b"1" * 100_000,
    "largest": b"1.7976931348623157e308",
    "smallest": b"5e-324",
    "vanishing": b"1e-99999999999",
    "minus zero": b"-0.0",
    "true": b"true",
    "null": b"null",
    "digits as text": b'"7"',
    "list": b"[1]",
    "object": b'{"a": 1}',
}
JOB = b'{"dataset_id": "DATASET", "targets": ["y"], %s}'
NUMBER_PLACES: dict[str, Place] = {
    "seed": Place("/v1/jobs", JOB % b'"seed": HOLE'),
    "epochs": Place("/v1/jobs", JOB % b'"solver": {"epochs": HOLE}'),
    "learning rate": Place("/v1/jobs", JOB % b'"solver": {"learning_rate": HOLE}'),
    "batch size": Place("/v1/jobs", JOB % b'"solver": {"batch_size": HOLE}'),
    "l2": Place("/v1/jobs", JOB % b'"regularization": {"l2": HOLE}'),
    "fraction": Place("/v1/jobs", JOB % b'"validation": {"fraction": HOLE}'),
    "cell by name": Place(
        "/v1/models/MODEL/predict", b'{"rows": [{"kind": "u", "a": HOLE}, {"kind": "v", "a": 1}]}'
    ),
    "cell of a matrix": Place("/v1/models/MODEL/predict", b'{"x": [["u", HOLE]]}'),
    "level": Place("/v1/models/MODEL/predict", b'{"x": [[HOLE, 1]]}'),
    "target": Place("/v1/models/MODEL/invert", b'{"target": {"y": HOLE}}'),
    "start": Place("/v1/models/MODEL/invert", b'{"target": {"y": 1}, "from": {"a": HOLE}}'),
    "bound": Place(
        "/v1/models/MODEL/invert", b'{"target": {"y": 1}, "features": {"a": {"max": HOLE}}}'
    ),
    "steps": Place(
        "/v1/models/MODEL/invert", b'{"target": {"y": 1}, "method": "gradient", "steps_max": HOLE}'
    ),
    "end of an interval": Place("/v1/models/MODEL/invert", b'{"target": {"y": {"min": HOLE}}}'),
    "probability": Place(
        "/v1/models/MODEL/invert", b'{"target": {"y": {"class": "u", "probability": HOLE}}}'
    ),
    "step of a number": Place(
        "/v1/models/MODEL/invert", b'{"target": {"y": 9}, "features": {"a": {"step": HOLE}}}'
    ),
    "cost of a change": Place(
        "/v1/models/MODEL/invert",
        b'{"target": {"y": {"min": 99}}, "features": {"a": {"cost": HOLE}}}',
    ),
    "factor": Place(
        "/v1/models/MODEL/invert",
        b'{"target": {"y": 9}, "constraints": [{"terms": {"a": HOLE}, "op": "<=", "value": 1}]}',
    ),
    "right side": Place(
        "/v1/models/MODEL/invert",
        b'{"target": {"y": 9}, "constraints": [{"terms": {"a": 1}, "op": ">=", "value": HOLE}]}',
    ),
    "changes": Place("/v1/models/MODEL/invert", b'{"target": {"y": 9}, "max_changed": HOLE}'),
    "answers": Place("/v1/models/MODEL/invert", b'{"target": {"y": 9}, "k": HOLE}'),
    "rounding": Place(
        "/v1/models/MODEL/invert", b'{"target": {"y": {"min": 9}}, "robust_epsilon": HOLE}'
    ),
    "seconds": Place(
        "/v1/models/MODEL/invert", b'{"target": {"y": 9}, "time_limit_seconds": HOLE}'
    ),
    "start of an item": Place(
        "/v1/models/MODEL/invert", b'{"target": {"y": 9}, "items": [{"from": {"a": HOLE}}]}'
    ),
    "point of a frontier": Place(
        "/v1/models/MODEL/invert", b'{"frontier": {"output": "y", "values": [HOLE]}}'
    ),
    "stored by row": Place("/v1/datasets", b'{"rows": [{"a": 1}, {"a": HOLE}]}'),
    "stored by column": Place("/v1/datasets", b'{"columns": {"a": [1, HOLE]}}'),
    "stored matrix": Place("/v1/datasets", b'{"x": [[1], [HOLE]], "y": [1, 2]}'),
}

# As they stand between the quotes of a JSON string.
HOSTILE_TEXTS: dict[str, bytes] = {
    "high surrogate": rb"\ud800",
    "low surrogate": rb"a\udc00b",
    "surrogates in UTF-8": b"\xed\xa0\x80",
    "no UTF-8": b"\xff\xfe",
    "NUL": rb"a\u0000b",
    "raw NUL": b"a\x00b",
    "escape sequence": rb"\u001b[2J",
    "line break": rb"a\r\nSet-Cookie: b=c",
    "right-to-left override": rb"\u202eevil",
    "isolate": rb"\u2067evil",
    "line separator": rb"a\u2028b",
    "1 MB": b"a" * 1_000_000,
    "200 characters that NFC makes 600": "\ufb2c".encode() * 200,
    "empty": b"",
}
TEXT_PLACES: dict[str, Place] = {
    "job name": Place("/v1/jobs", JOB % b'"name": "HOLE"'),
    "dataset id": Place("/v1/jobs", b'{"dataset_id": "HOLE", "targets": ["y"]}'),
    "training target": Place("/v1/jobs", b'{"dataset_id": "DATASET", "targets": ["HOLE"]}'),
    "training input": Place("/v1/jobs", JOB % b'"inputs": ["a", "HOLE"]'),
    "activation": Place("/v1/jobs", JOB % b'"activation": "HOLE"'),
    "field": Place("/v1/jobs", JOB % b'"HOLE": 1'),
    "inner field": Place("/v1/jobs", JOB % b'"solver": {"HOLE": 1}'),
    "input": Place("/v1/models/MODEL/predict", b'{"rows": [{"kind": "u", "a": 1, "HOLE": 1}]}'),
    "level": Place("/v1/models/MODEL/predict", b'{"x": [["HOLE", 1]]}'),
    "predict field": Place("/v1/models/MODEL/predict", b'{"x": [["u", 1]], "HOLE": 1}'),
    "target": Place("/v1/models/MODEL/invert", b'{"target": {"HOLE": 1}}'),
    "feature": Place("/v1/models/MODEL/invert", b'{"target": {"y": 1}, "features": {"HOLE": {}}}'),
    "start": Place("/v1/models/MODEL/invert", b'{"target": {"y": 1}, "from": {"kind": "HOLE"}}'),
    "wanted class": Place("/v1/models/MODEL/invert", b'{"target": {"y": {"class": "HOLE"}}}'),
    "goal": Place("/v1/models/MODEL/invert", b'{"target": {"y": "HOLE"}}'),
    "wanted level": Place(
        "/v1/models/MODEL/invert",
        b'{"target": {"y": 9}, "features": {"kind": {"levels": ["u", "HOLE"]}}}',
    ),
    "term": Place(
        "/v1/models/MODEL/invert",
        b'{"target": {"y": 9}, "constraints": [{"terms": {"HOLE": 1}, "op": "<=", "value": 1}]}',
    ),
    "output of a frontier": Place(
        "/v1/models/MODEL/invert", b'{"frontier": {"output": "HOLE", "values": [1]}}'
    ),
    "start of an item": Place(
        "/v1/models/MODEL/invert", b'{"target": {"y": 9}, "items": [{"from": {"HOLE": 1}}]}'
    ),
    "column by row": Place("/v1/datasets", b'{"rows": [{"HOLE": 1}]}'),
    "column": Place("/v1/datasets", b'{"columns": {"HOLE": [1, 2]}}'),
    "column of a matrix": Place("/v1/datasets", b'{"x": [[1]], "x_names": ["HOLE"]}'),
    "table field": Place("/v1/datasets", b'{"x": [[1]], "HOLE": 1}'),
}

DOCUMENTS: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n" * 100_000,
    "null": b"null",
    "empty list": b"[]",
    "empty object": b"{}",
    "text": b'"x"',
    "number": b"1",
    "true": b"true",
    "deep lists": b"[" * 100_000,
    "closed deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep rows": b'{"rows":' + b"[" * 900 + b"]" * 900 + b"}",
    "deep target": b'{"target":' * 900 + b"1" + b"}" * 900,
    "cut off": b'{"rows": [{"a": 1',
    "trailing text": b'{"x": [[1, 2]]} true',
    "two documents": b'{"x": [["u", 2]]}{"x": [["u", 2]]}',
    "trailing comma": b'{"x": [["u", 2],]}',
    "comment": b'{"x": [["u", 2]]} // here',
    "single quotes": b"{'x': [['u', 2]]}",
    "UTF-16": '{"x": [["u", 2]]}'.encode("utf-16"),
    "open string": b'{"' + rb"\"" * 100_000,
    "backslashes": b'{"a": "' + b"\\" * 100_001,
    "10k unknown fields": b"{" + b",".join(b'"u%d":1' % i for i in range(10_000)) + b"}",
    "100k unknown fields": b"{" + b",".join(b'"u%d":1' % i for i in range(100_000)) + b"}",
    "100k empty rows": b'{"rows":[' + b"{}," * 100_000 + b"{}]}",
    "300k empty lists": b'{"x":[' + b"[]," * 300_000 + b"[]]}",
    "100k unknown inputs": b'{"rows":[{'
    + b",".join(b'"u%d":1' % i for i in range(100_000))
    + b"}]}",
    "100k unknown targets": b'{"target":{'
    + b",".join(b'"u%d":1' % i for i in range(100_000))
    + b"}}",
    "deep features": b'{"target":{"y":1},"features":' + b'{"a":' * 900 + b"1" + b"}" * 901,
    "deep terms": b'{"target":{"y":1},"constraints":' + b"[" * 900 + b"]" * 900 + b"}",
    "10k constraints": b'{"target":{"y":1},"constraints":['
    + b",".join([b'{"terms":{"a":1},"op":"<=","value":1}'] * 10_000)
    + b"]}",
    "constraints of nothing": b'{"target":{"y":1},"constraints":[{"terms":{},"op":"=","value":0}]}',
    "100k items": b'{"target":{"y":1},"items":[' + b"{}," * 100_000 + b"{}]}",
    "100k points": b'{"frontier":{"output":"y","values":[' + b"1," * 100_000 + b"1]}}",
    "100k levels": b'{"target":{"y":1},"features":{"kind":{"levels":['
    + b'"u",' * 100_000
    + b'"v"]}}}',
    "unknown fields all over": b'{"target":{"y":{"value":1,"unit":"MPa"}},"features":{"a":{"x":1}},'
    b'"items":[{"to":1}],"frontier":{"output":"y","values":[1],"more":1}}',
    "repeated keys": b'{"target":{"y":1},"target":{"y":2}}',
    "repeated key by escape": rb'{"x":[["u",2]],"\u0078":[["u",3]]}',
    "prototype": b'{"__proto__":{"a":1},"constructor":1}',
    "gzip": gzip.compress(b"{}"),
}

CSV_BODIES: dict[str, bytes] = {
    "empty": b"",
    "NUL in a cell": b"a,b\n1,x\x00y\n",
    "NUL in a name": b"a,b\x00\n1,2\n",
    "no UTF-8": b"a,b\n1,\xff\n",
    "surrogates in UTF-8": b"a,b\n1,\xed\xa0\x80\n",
    "bidi in a name": "a,\u202eb\n1,2\n".encode(),
    "open quote": b'a,b\n1,"' + b"x" * 100_000,
    "repeated name": b"a,a\n1,2\n",
    "ragged": b"a,b\n1\n1,2,3\n",
    "10k columns": b",".join(b"c%d" % i for i in range(10_000)) + b"\n",
    "long name": b"a" * 1_000_000 + b"\n1\n",
    "long cell": b"a,b\n1," + b"x" * 1_000_000 + b"\n",
    "JSON": b'{"rows": [{"a": 1}]}',
}

IDS: dict[str, str] = {
    "traversal": "../../etc/passwd",
    "escaped traversal": "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "backslashes": "..%5c..%5cetc%5cpasswd",
    "NUL": "%00",
    "id and NUL": "DATASET%00",
    "id and line break": "DATASET%0A",
    "id and header": "DATASET%0D%0ASet-Cookie:a=b",
    "10 KB": "a" * 10_240,
    "unicode digits": "%D9%A1%D9%A2",
    "no UTF-8": "%FF%FE",
    "surrogates in UTF-8": "%ED%A0%80",
    "right-to-left override": "%E2%80%AEevil",
    "quote": "'%20OR%201=1--",
    "percent": "%25s%25n",
    "template": "%7B%7B7*7%7D%7D",
    "dots": "..",
    "2**63": "9223372036854775808",
    "minus": "-1",
    "blank": "%20",
    "another kind": "JOB",
}
ID_PATHS: list[tuple[str, str]] = [
    ("GET", "/v1/datasets/{}"),
    ("GET", "/v1/datasets/{}/rows"),
    ("DELETE", "/v1/datasets/{}"),
    ("GET", "/v1/jobs/{}x"),
    ("GET", "/v1/jobs/{}x/history"),
    ("POST", "/v1/jobs/{}x/cancel"),
    ("GET", "/v1/models/{}"),
    ("GET", "/v1/models/{}/parameters"),
    ("POST", "/v1/models/{}/predict"),
    ("POST", "/v1/models/{}/invert"),
]

NUMBERS_IN_QUERIES: dict[str, str] = {
    "2**63": "9223372036854775808",
    "2**64": "18446744073709551616",
    "minus": "-1",
    "5k digits": "9" * 5000,
    "text": "x",
    "empty": "",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "exponent": "1e400",
    "fraction": "1.5",
    "unicode digits": "%D9%A1",
    "NUL": "%00",
    "no UTF-8": "%FF",
    "list": "[1]",
    "quote": "1'--",
}
TEXTS_IN_QUERIES: dict[str, str] = {
    "NUL": "%00",
    "10 KB": "a" * 10_240,
    "no UTF-8 at 201 characters": "%FF" * 201,
    "line break": "a%0D%0Ab",
    "right-to-left override": "%E2%80%AEa",
    "escape sequence": "%1B%5B2J",
    "surrogates in UTF-8 at 201 characters": "%ED%A0%80" * 67,
    "200 characters that NFC makes 600": "%EF%AC%AC" * 200,
    "blank": "%20%E2%80%83",
    "empty": "",
}
QUERIES_OF_NUMBERS = [
    "/v1/datasets?limit=",
    "/v1/jobs?limit=",
    "/v1/models?limit=",
    "/v1/datasets/DATASET/rows?limit=",
    "/v1/datasets/DATASET/rows?cursor=",
    "/v1/jobs/JOB/history?max_points=",
]
QUERIES_OF_TEXTS = [
    "/v1/datasets?cursor=",
    "/v1/jobs?cursor=",
    "/v1/jobs?state=",
    "/v1/models?cursor=",
    "/v1/models/MODEL/parameters?space=",
]
