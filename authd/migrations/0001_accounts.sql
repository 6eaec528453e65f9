-- Both databases run this file, so it uses only what SQLite and PostgreSQL have in common.
-- Times are seconds since 1970 in UTC. Flags are 0 or 1.

CREATE TABLE account (
    name TEXT NOT NULL PRIMARY KEY, -- folded
    enabled BIGINT NOT NULL DEFAULT 1,
    created BIGINT NOT NULL
);

-- A password: the account's own has an empty label, each application password a label of its own.
CREATE TABLE password (
    account TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    label TEXT NOT NULL DEFAULT '',
    created BIGINT NOT NULL,
    expires BIGINT,
    last_used BIGINT,
    PRIMARY KEY (account, label)
);

-- A name to authenticate with, folded: the account's own, an alias, or `account/label` of an application password.
CREATE TABLE login (
    name TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    label TEXT NOT NULL DEFAULT ''
);
CREATE INDEX login_account ON login (account);

-- What is kept of a password. `checks` marks the credential that PLAIN and LOGIN are checked with.
CREATE TABLE credential (
    account TEXT NOT NULL,
    label TEXT NOT NULL DEFAULT '',
    scheme TEXT NOT NULL,
    value TEXT NOT NULL,
    cost TEXT NOT NULL,
    checks BIGINT NOT NULL,
    PRIMARY KEY (account, label, scheme),
    FOREIGN KEY (account, label) REFERENCES password (account, label) ON DELETE CASCADE
);

-- Secrets that all processes share, in hexadecimal: the key of decoy salts and that of the rate limits' hashes.
CREATE TABLE setting (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
