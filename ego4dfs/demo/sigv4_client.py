"""S3 bucket calls that obstore lacks, signed by AWS Signature Version 4."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import http.client
from dataclasses import dataclass, field
from urllib.parse import urlsplit

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair; its repr does not contain the secret."""

    access_key: str
    secret_key: str = field(repr=False)


def request(
    identity: Identity, method: str, url: str, body: bytes = b"", *, timeout_s: float = 10.0
) -> tuple[int, bytes]:
    """Send one request signed by AWS Signature Version 4; return its status and body.

    The path must be plain ASCII and a query is one `name=` pair: enough for bucket calls.
    Raises OSError or http.client.HTTPException when there is no answer.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = _signed_headers(identity, method, parts.netloc, parts.path, parts.query, body)
    try:
        connection.request(method, target, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _signed_headers(
    identity: Identity, method: str, host: str, path: str, query: str, body: bytes
) -> dict[str, str]:
    """Sign as in "Signature Calculations for the Authorization Header" of the S3 API reference."""
    now = dt.datetime.now(dt.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": now}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashed}"
    key = f"AWS4{identity.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    credential = f"Credential={identity.access_key}/{scope}"
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    )
    return headers
