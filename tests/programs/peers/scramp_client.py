"""Signs in with smtplib by a SCRAM mechanism of scramp; prints `signed in`, or the server's refusal.

Arguments: port, TLS version (TLSv1_2 or TLSv1_3), mechanism, channel binding, user, password,
certificate. The binding is `none`, the name of a type, or `forged`, as one who stands between would
have it. With a binding and a mechanism without, the client says that it has seen no -PLUS on offer.
"""

import smtplib
import ssl
import sys

import scramp

port, version, mechanism, binding, user, password, certificate = sys.argv[1:]

context = ssl.create_default_context(cafile=certificate)
context.minimum_version = context.maximum_version = ssl.TLSVersion[version]

with smtplib.SMTP("localhost", int(port), timeout=30) as smtp:
    smtp.starttls(context=context)
    smtp.ehlo()
    if binding == "none":
        bound = None
    elif binding == "forged":
        bound = ("tls-server-end-point", bytes(32))
    else:
        bound = scramp.make_channel_binding(binding, smtp.sock)
    client = scramp.ScramClient([mechanism], user, password, channel_binding=bound)

    def respond(challenge=None):
        if challenge is None:
            return client.get_client_first()
        if client.stage == scramp.core.ClientStage.get_client_first:
            client.set_server_first(challenge.decode())
            return client.get_client_final()
        client.set_server_final(challenge.decode())
        return ""

    try:
        smtp.auth(mechanism, respond)
    except smtplib.SMTPAuthenticationError as error:
        print(error.smtp_code, error.smtp_error.decode())
    else:
        assert client.stage == scramp.core.ClientStage.set_server_final
        print("signed in")
