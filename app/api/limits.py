"""Bodies are counted while they stream in, so that memory is bounded by a setting."""

from starlette.requests import Request

from app.errors import BodyTooLarge, UnsupportedMediaType


def media_type(request: Request) -> str:
    """What the body says it is, without parameters such as the charset."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, *, bytes_max: int) -> bytes:
    """The whole body.

    Raises BodyTooLarge as soon as it is known to be longer than `bytes_max`, and
    UnsupportedMediaType for a compressed one, whose true length nobody has counted.
    """
    if request.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > bytes_max:
        raise too_large(bytes_max)
    chunks: list[bytes] = []
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > bytes_max:
            raise too_large(bytes_max)
        chunks.append(chunk)
    return b"".join(chunks)


def too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have at most {bytes_max:,} bytes here.")
