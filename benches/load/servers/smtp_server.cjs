// smtp-server of npm: port, certificate, key, then the accounts as NAME:PASSWORD.
// A message is let go, and acknowledged if it has the octets that MAIL said.
"use strict";

const { timingSafeEqual } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { SMTPServer } = require("smtp-server");

const [port, cert, key, ...accounts] = process.argv.slice(2);
const passwords = new Map(accounts.map((account) => account.split(/:(.*)/s).slice(0, 2)));

const equal = (a, b) => a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));

const server = new SMTPServer({
    name: "localhost",
    cert: readFileSync(cert),
    key: readFileSync(key),
    authMethods: ["PLAIN", "CRAM-MD5"],
    allowInsecureAuth: true,
    disableReverseLookup: true,
    onAuth(auth, session, done) {
        const expected = passwords.get(auth.username);
        const right =
            expected !== undefined &&
            (auth.method === "CRAM-MD5"
                ? auth.validatePassword(expected)
                : equal(expected, auth.password));
        done(right ? null : new Error("wrong credentials"), { user: auth.username });
    },
    onData(stream, session, done) {
        const said = Number(session.envelope.mailFrom.args.SIZE);
        let octets = 0;
        stream.on("data", (piece) => (octets += piece.length));
        stream.on("end", () =>
            done(octets === said ? null : new Error("another size than MAIL said")),
        );
    },
});
// A client that breaks off is no reason to end.
server.on("error", () => {});
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 });
