"""Sends messages on one connection with Python's smtplib; fails where it is refused.

Arguments: port, transport, mechanism, user, secret, CA, sender, recipient, files.
"""

import smtplib
import ssl
import sys

port, transport, mechanism, user, secret, ca, sender, recipient, *files = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)

if transport == "implicit":
    smtp = smtplib.SMTP_SSL("localhost", int(port), "client.example.org", timeout=30, context=context)
else:
    smtp = smtplib.SMTP("localhost", int(port), "client.example.org", timeout=30)
with smtp:
    if transport == "starttls":
        smtp.starttls(context=context)
    smtp.ehlo()
    smtp.user, smtp.password = user, secret
    smtp.auth(mechanism, getattr(smtp, "auth_" + mechanism.lower().replace("-", "_")))
    for file in files:
        with open(file, "rb") as f:
            smtp.sendmail(sender, [recipient], f.read(), ["BODY=8BITMIME"])
