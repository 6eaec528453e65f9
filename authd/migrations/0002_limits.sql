-- The rate limits that the processes share. Keys are hashes under a secret key, as some people type their password in
-- place of the name. Times are milliseconds since 1970.

-- Failures that leak away one by one; all that has to be known of a bucket is when it will be empty.
CREATE TABLE failure (
    bucket BIGINT NOT NULL PRIMARY KEY,
    empty_at BIGINT NOT NULL,
    changed BIGINT NOT NULL
);
CREATE INDEX failure_changed ON failure (changed);

-- The networks from which an account has authenticated.
CREATE TABLE known_network (
    account BIGINT NOT NULL,
    network BIGINT NOT NULL,
    last BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (account, network)
);
CREATE INDEX known_network_changed ON known_network (changed);
