"""aiosmtpd, which puts each message into a folder as it came.

Arguments: port of STARTTLS and cleartext, port of implicit TLS, certificate, key, folder, user,
password.
"""

import asyncio
import hmac
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

port, tls_port, certificate, key, folder, user, password = sys.argv[1:]
tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(certificate, key)


class Store:
    count = 0

    async def handle_DATA(self, server, session, envelope):
        Store.count += 1
        with open(os.path.join(folder, "tmp", str(Store.count)), "wb") as f:
            f.write(envelope.original_content)
        os.rename(f.name, os.path.join(folder, "new", str(Store.count)))
        return "250 2.0.0 stored"


def authenticate(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and data.login == user.encode()
    right = right and hmac.compare_digest(data.password, password.encode())
    # It is not answered yet.
    return AuthResult(success=right, handled=False)


def smtp(context):
    return SMTP(
        Store(),
        hostname="localhost",
        tls_context=context,
        auth_require_tls=False,
        auth_required=True,
        authenticator=authenticate,
    )


async def main():
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: smtp(tls), "127.0.0.1", int(port))
    server = await loop.create_server(lambda: smtp(None), "127.0.0.1", int(tls_port), ssl=tls)
    await server.serve_forever()


asyncio.run(main())
