"""A server of aiosmtpd with STARTTLS and one account; each message goes into a file of its own.

Arguments: port, certificate, key, user, password, folder, and, where SCRAM-SHA-256-PLUS of scramp is
wanted, TLS's version. It has to be TLSv1_2: in TLS 1.3 clients prefer `tls-exporter`, which Python
does not have. The certificate's signature has to be by SHA-256.
"""

import hashlib
import os
import ssl
import sys
import threading

import scramp
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import MISSING, AuthResult

port, certificate, key, user, password, folder, *version = sys.argv[1:]


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


class BoundStore(Store):
    async def auth_SCRAM__SHA__256__PLUS(self, server, args):
        with open(certificate) as f:
            der = ssl.PEM_cert_to_DER_cert(f.read())
        binding = ("tls-server-end-point", hashlib.sha256(der).digest())
        mechanism = scramp.ScramMechanism("SCRAM-SHA-256-PLUS")
        keys = {user: mechanism.make_auth_info(password)}
        exchange = mechanism.make_server(keys.__getitem__, channel_binding=binding)
        first = scramp.utils.b64dec(args[1]) if len(args) > 1 else await server.challenge_auth("")
        try:
            exchange.set_client_first(first.decode())
            last = await server.challenge_auth(exchange.get_server_first())
            exchange.set_client_final(last.decode())
        except scramp.ScramException:
            return AuthResult(success=False, handled=False)
        confirmed = await server.challenge_auth(exchange.get_server_final())
        return AuthResult(success=confirmed == b"", handled=confirmed is MISSING)


def check(server, session, envelope, mechanism, data):
    good = data.login == user.encode() and data.password == password.encode()
    return AuthResult(success=good, handled=False)


tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(certificate, key)
if version:
    tls.maximum_version = ssl.TLSVersion[version[0]]
Controller(
    BoundStore() if version else Store(),
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
