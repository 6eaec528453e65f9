"""aiosmtpd on asyncio: port, certificate, key, then the accounts as NAME:PASSWORD.

A message is let go, and acknowledged if it has the octets that MAIL said.
"""

import asyncio
import hmac
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


class Sink:
    async def handle_DATA(self, server, session, envelope):
        whole = f"SIZE={len(envelope.content)}" in envelope.mail_options
        return "250 OK" if whole else "554 another size than MAIL said"


async def main():
    port, cert, key, *accounts = sys.argv[1:]
    passwords = {name.encode(): word.encode() for name, word in (a.split(":", 1) for a in accounts)}
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)

    def authenticate(server, session, envelope, mechanism, data):
        expected = passwords.get(data.login, b"") if isinstance(data, LoginPassword) else b""
        return AuthResult(success=expected != b"" and hmac.compare_digest(expected, data.password))

    loop = asyncio.get_running_loop()

    def connection():
        return SMTP(
            Sink(),
            hostname="localhost",
            tls_context=tls,
            auth_require_tls=False,
            authenticator=authenticate,
            loop=loop,
        )

    server = await loop.create_server(connection, "127.0.0.1", int(port), backlog=4096)
    await server.serve_forever()


asyncio.run(main())
