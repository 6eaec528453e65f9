// smtp-server of npm, which puts each message into a folder as it came.
// Arguments: port of STARTTLS and cleartext, port of implicit TLS, certificate, key, folder, user,
// password, token. Without the last three nobody can sign in, or needs to.
"use strict";

const { readFileSync, renameSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");
const { SMTPServer } = require("smtp-server");

const [port, tlsPort, cert, key, folder, user, password, token] = process.argv.slice(2);
let count = 0;

const isRight = (auth) => {
    if (auth.username !== user) return false;
    if (auth.method === "CRAM-MD5") return auth.validatePassword(password);
    return auth.method === "XOAUTH2" ? auth.accessToken === token : auth.password === password;
};

const store = (stream, session, done) => {
    const pieces = [];
    stream.on("data", (piece) => pieces.push(piece));
    stream.on("end", () => {
        const name = String(++count);
        writeFileSync(join(folder, "tmp", name), Buffer.concat(pieces));
        renameSync(join(folder, "tmp", name), join(folder, "new", name));
        done(null, "stored");
    });
};

for (const [at, secure] of [[port, false], [tlsPort, true]]) {
    const server = new SMTPServer({
        name: "localhost",
        secure,
        cert: readFileSync(cert),
        key: readFileSync(key),
        disabledCommands: user === undefined ? ["AUTH"] : [],
        authMethods: ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"],
        allowInsecureAuth: true,
        disableReverseLookup: true,
        onAuth(auth, session, done) {
            done(isRight(auth) ? null : new Error("wrong credentials"), { user: auth.username });
        },
        onData: store,
    });
    // A client that breaks off is no reason to end.
    server.on("error", () => {});
    server.listen({ port: Number(at), host: "127.0.0.1" });
}
