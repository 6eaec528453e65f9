"""Sends a message with Python's smtplib by one mechanism; prints `sent`, or the refusal's codes.

Arguments: port, mechanism, user, password, certificate, file.
"""

import smtplib
import ssl
import sys

port, mechanism, user, password, certificate, file = sys.argv[1:]
with open(file, "rb") as f:
    message = f.read()

with smtplib.SMTP("localhost", int(port), timeout=30) as smtp:
    smtp.starttls(context=ssl.create_default_context(cafile=certificate))
    smtp.ehlo()
    smtp.user, smtp.password = user, password
    method = getattr(smtp, "auth_" + mechanism.lower().replace("-", "_"))
    try:
        smtp.auth(mechanism, method)
    except smtplib.SMTPAuthenticationError as error:
        print(error.smtp_code, error.smtp_error.decode().split()[0])
    else:
        smtp.sendmail("tim@example.org", ["ann@example.org"], message, ["BODY=8BITMIME"])
        print("sent")
