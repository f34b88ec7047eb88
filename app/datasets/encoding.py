"""Uploads are UTF-8: what else comes is named, with the place and the way out."""

import codecs
from typing import Final

from app.datasets.table import refuse
from app.errors import Fault, TableTooLarge

_SAVE_AS_UTF8: Final = "Save the file as UTF-8 (in Excel: 'CSV UTF-8') and send it again."
_OTHER_BOMS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # begins like UTF-16-LE, so it is looked for first
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_BYTES_MAX: Final = 2_000_000_000
_CHUNK_BYTES: Final = 1 << 20


def utf8_without_bom(body: bytes) -> bytes:
    """The body without its byte order mark, proved to be UTF-8 without NUL characters.

    Raises MalformedTable with the first byte and line that is not, and TableTooLarge beyond two
    gigabytes, whatever the settings say: Arrow counts the text of a column in 32 bits.
    """
    if len(body) > _BYTES_MAX:
        detail = f"The body has {len(body):,} bytes; at most {_BYTES_MAX:,} can be read."
        raise TableTooLarge(f"{detail} Send fewer rows or columns.")
    for bom, encoding in _OTHER_BOMS:
        if body.startswith(bom):
            refuse([Fault(f"The body is {encoding}, not UTF-8. {_SAVE_AS_UTF8}")])
    nul_at = body.find(b"\0")
    if nul_at >= 0:
        where = _place(body, nul_at)
        refuse([Fault(f"There is a NUL character at {where}: not UTF-8 text. {_SAVE_AS_UTF8}")])
    if not body.isascii():
        _refuse_invalid_utf8(body)
    return body.removeprefix(codecs.BOM_UTF8)


def _refuse_invalid_utf8(body: bytes) -> None:
    start = 0
    while start < len(body):
        # No UTF-8 sequence holds a line feed, so a cut behind one splits no character.
        end = body.find(b"\n", start + _CHUNK_BYTES) + 1 or len(body)
        try:
            body[start:end].decode()
        except UnicodeDecodeError as error:
            at = start + error.start
            where = _place(body, at)
            refuse([Fault(f"The byte 0x{body[at]:02X} at {where} is not UTF-8. {_SAVE_AS_UTF8}")])
        start = end


def _place(body: bytes, at: int) -> str:
    line = body.count(b"\n", 0, at) + 1
    return f"byte {at + 1:,} (line {line:,})"
