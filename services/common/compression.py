"""Answers that go over the wire smaller, where whoever asks can take that."""

from aiohttp import web

LEAST_BYTES = 1_024
"""Less than this fits into one packet anyway."""


def compressed(request: web.Request, response: web.Response) -> web.Response:
    """Return an answer that will be sent as gzip, if it is wanted so and worth it."""
    response.headers["Vary"] = ", ".join([*response.headers.getall("Vary", []), "Accept-Encoding"])
    if (
        takes_gzip(request.headers.get("Accept-Encoding", ""))
        and (response.content_length or 0) >= LEAST_BYTES
    ):
        response.enable_compression(web.ContentCoding.gzip)
    return response


def takes_gzip(accepted: str) -> bool:
    """Say whether an `Accept-Encoding` header names gzip, and not as what is unwanted (RFC 9110, 12.5.3)."""
    for each in accepted.lower().replace(" ", "").split(","):
        name, _, weight = each.partition(";q=")
        if name == "gzip":
            return not weight or weight.strip("0.") != ""
    return False
