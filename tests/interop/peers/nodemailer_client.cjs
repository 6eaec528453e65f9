// Sends messages on one connection with nodemailer; fails where it is refused.
// Arguments: port, transport, mechanism, user, secret, CA, sender, recipient, files.
"use strict";

const { readFileSync } = require("node:fs");
const nodemailer = require("nodemailer");

const [port, transport, mechanism, user, secret, ca, sender, recipient, ...files] =
    process.argv.slice(2);

const oauth = mechanism === "XOAUTH2";
const mailer = nodemailer.createTransport({
    host: "localhost",
    port: Number(port),
    name: "client.example.org",
    secure: transport === "implicit",
    requireTLS: transport === "starttls",
    ignoreTLS: transport === "none",
    tls: { ca: readFileSync(ca) },
    pool: true,
    maxConnections: 1,
    auth: oauth ? { type: "OAuth2", user, accessToken: secret } : { user, pass: secret },
    authMethod: mechanism,
});

const send = (file) =>
    mailer.sendMail({ envelope: { from: sender, to: recipient }, raw: readFileSync(file) });

Promise.all(files.map(send))
    .catch((error) => {
        console.error(error.message);
        process.exitCode = 1;
    })
    .finally(() => mailer.close());
