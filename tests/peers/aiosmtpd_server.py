"""A server of aiosmtpd with STARTTLS and one account; each message goes into a file of its own.

Arguments: port, certificate, key, user, password, folder.
"""

import os
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

port, certificate, key, user, password, folder = sys.argv[1:]


class Store:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        Store.count += 1
        name = os.path.join(folder, f"{Store.count}")
        with open(name + ".part", "wb") as f:
            f.write(envelope.original_content)
        os.rename(name + ".part", name + ".eml")
        return "250 2.0.0 OK"


def check(server, session, envelope, mechanism, data):
    good = data.login == user.encode() and data.password == password.encode()
    return AuthResult(success=good, handled=False)


tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(certificate, key)
Controller(
    Store(),
    hostname="127.0.0.1",
    port=int(port),
    tls_context=tls,
    require_starttls=True,
    authenticator=check,
    auth_required=True,
    decode_data=False,
).start()
print("listening", flush=True)
threading.Event().wait()
