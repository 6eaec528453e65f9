"""Sends messages on one connection with aiosmtplib; fails where it is refused.

Arguments: port, transport, mechanism, user, secret, CA, sender, recipient, files.
"""

import asyncio
import ssl
import sys

import aiosmtplib

port, transport, mechanism, user, secret, ca, sender, recipient, *files = sys.argv[1:]


async def main():
    smtp = aiosmtplib.SMTP(
        hostname="localhost",
        port=int(port),
        local_hostname="client.example.org",
        timeout=30,
        use_tls=transport == "implicit",
        start_tls=transport == "starttls",
        tls_context=ssl.create_default_context(cafile=ca),
    )
    async with smtp:
        await smtp.ehlo()
        await getattr(smtp, "auth_" + mechanism.lower().replace("-", ""))(user, secret)
        for file in files:
            with open(file, "rb") as f:
                await smtp.sendmail(sender, [recipient], f.read(), mail_options=["BODY=8BITMIME"])


asyncio.run(main())
