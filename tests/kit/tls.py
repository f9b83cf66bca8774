"""A gateway behind TLS, under a certificate of any dates that only AWS_CA_BUNDLE trusts."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from kit.gateway import Gateway

_EXTENSIONS = "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n"
_CONFIG = """
[ca]
default_ca = own
[own]
database = {here}/index.txt
new_certs_dir = {here}
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
"""


def certificate(here: Path, *, begins: str, ends: str) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself; return its file and that of its key.

    It is valid between two times like `20200101000000Z`.
    """
    key, request, made = here / "key.pem", here / "request.pem", here / "certificate.pem"
    (here / "index.txt").touch()
    (here / "ca.conf").write_text(_CONFIG.format(here=here))
    (here / "extensions").write_text(_EXTENSIONS)
    ask = "openssl req -new -newkey rsa:2048 -nodes -subj /CN=127.0.0.1"
    sign = f"openssl ca -batch -notext -selfsign -startdate {begins} -enddate {ends}"
    files = ("-config", here / "ca.conf", "-extfile", here / "extensions", "-keyfile", key)
    for command in (
        [*ask.split(), "-keyout", key, "-out", request],
        [*sign.split(), *files, "-in", request, "-out", made],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return made, key


def behind_tls(gateway: Gateway, made: Path, key: Path) -> str:
    """Let the gateway accept TLS only; return its new URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    gateway._server.socket = context.wrap_socket(gateway._server.socket, server_side=True)
    return gateway.url.replace("http://", "https://")
