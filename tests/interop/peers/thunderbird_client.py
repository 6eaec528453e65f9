"""Has the Thunderbird that runs send messages on one connection; fails where it is refused.

Arguments: port, transport, mechanism, user, secret, CA, sender, recipient, files. PORT_FILE in the
environment is the file where Thunderbird says which port its Marionette listens on.
"""

import json
import os
import pathlib
import socket
import sys
import tempfile
import time

# Runs in Thunderbird. Leaves the result in a file, as sending goes on when the script has ended.
SEND = r"""
const [port, transport, mechanism, user, secret, ca, sender, recipient, ...files] = arguments[0];
const resultFile = arguments[1];
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");

const socketTypes = {
    none: Ci.nsMsgSocketType.plain,
    starttls: Ci.nsMsgSocketType.alwaysSTARTTLS,
    implicit: Ci.nsMsgSocketType.SSL,
};
const authMethods = {
    PLAIN: Ci.nsMsgAuthMethod.passwordCleartext,
    LOGIN: Ci.nsMsgAuthMethod.passwordCleartext,
    "CRAM-MD5": Ci.nsMsgAuthMethod.passwordEncrypted,
    XOAUTH2: Ci.nsMsgAuthMethod.OAuth2,
};

// Where it is refused, it asks what to do, and this says: cancel.
const cancel = {
    observe(dialog) {
        dialog.Dialog.ui.button1.click();
    },
};

function trust(pem) {
    const base64 = pem.replace(/-----[^-]*-----|\s/g, "");
    const certificates = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
    certificates.addCertFromBase64(base64, "C,,");
}

// Thunderbird asks the user for a token in a page of whoever issues it. Here it is known already.
function knowToken() {
    const { OAuth2Module } = ChromeUtils.importESModule("resource:///modules/OAuth2Module.sys.mjs");
    const authenticators = "resource:///modules/MailAuthenticator.sys.mjs";
    const { SmtpAuthenticator } = ChromeUtils.importESModule(authenticators);
    const known = { accessToken: secret, connect: async () => {} };
    const module = Object.assign(new OAuth2Module(), { _username: user, _oauth: known });
    SmtpAuthenticator.prototype.getOAuthModule = () => module;
}

// Hands a message over as it is, as sending does with the one that it has composed.
async function sendFile(server, path) {
    const file = await IOUtils.getFile(path);
    const recipients = MailServices.headerParser.parseEncodedHeaderW(recipient);
    return new Promise((resolve, reject) => {
        const listener = {
            QueryInterface: ChromeUtils.generateQI(["nsIMsgOutgoingListener"]),
            onSendStart() {},
            onSendStop(uri, status, security, message) {
                const failure = message || `error ${status.toString(16)}`;
                Components.isSuccessCode(status) ? resolve() : reject(new Error(failure));
            },
        };
        const password = mechanism === "XOAUTH2" ? null : secret;
        server.sendMailMessage(
            file, recipients, [], null, sender, password, null, false, "", listener
        );
    });
}

async function send() {
    trust(await IOUtils.readUTF8(ca));
    if (mechanism === "XOAUTH2") {
        knowToken();
    }
    const server = MailServices.outgoingServer.createServer("smtp");
    server.QueryInterface(Ci.nsISmtpServer);
    server.hostname = "localhost";
    server.port = Number(port);
    server.username = user;
    server.socketType = socketTypes[transport];
    server.authMethod = authMethods[mechanism];
    Services.obs.addObserver(cancel, "common-dialog-loaded");
    try {
        for (const file of files) {
            await sendFile(server, file);
        }
    } finally {
        Services.obs.removeObserver(cancel, "common-dialog-loaded");
        server.closeCachedConnections();
        MailServices.outgoingServer.deleteServer(server);
    }
}

const ended = send().then(() => "sent", (error) => error.message || String(error));
ended.then((result) => IOUtils.writeUTF8(resultFile, result, { tmpPath: resultFile + ".part" }));
"""


def execute(port, script, arguments):
    """Runs a script in Thunderbird's own context, to its end."""
    with socket.create_connection(("localhost", port), timeout=20) as connection:
        stream = connection.makefile("rwb")
        answer(stream)
        commands = [
            ("WebDriver:NewSession", {}),
            ("Marionette:SetContext", {"value": "chrome"}),
            ("WebDriver:ExecuteScript", {"script": script, "args": arguments, "sandbox": "system"}),
            ("WebDriver:DeleteSession", {}),
        ]
        for number, (name, parameters) in enumerate(commands):
            packet = json.dumps([0, number, name, parameters]).encode()
            stream.write(b"%d:%s" % (len(packet), packet))
            stream.flush()
            _, _, error, _ = answer(stream)
            if error:
                sys.exit(f"{name}: {error['message']}")


def answer(stream):
    """The next packet: its length, a colon, JSON."""
    length = b""
    while (octet := stream.read(1)) != b":":
        if not octet:
            sys.exit("Marionette hung up")
        length += octet
    return json.loads(stream.read(int(length)))


port_file = pathlib.Path(os.environ["PORT_FILE"])
with tempfile.TemporaryDirectory(dir=port_file.parent) as folder:
    result = pathlib.Path(folder, "result")
    execute(int(port_file.read_text()), SEND, [sys.argv[1:], str(result)])
    deadline = time.monotonic() + 30
    while not result.exists():
        if time.monotonic() > deadline:
            sys.exit("neither sends nor fails")
        time.sleep(0.02)
    said = result.read_text()
if said != "sent":
    sys.exit(said)
