#!/bin/sh
# Runs OpenSMTPD, whose folders and users are built in, in a mount namespace: there these are the ones
# below the given folder, and the system's own are not touched. Arguments: folder, program.
set -e
cd "$1"
cp /etc/passwd /etc/group .
for user in opensmtpd:64001 opensmtpq:64002; do
    echo "${user%:*}:x:${user#*:}:${user#*:}::/var/lib/opensmtpd/empty:/bin/false" >>passwd
    echo "${user%:*}:x:${user#*:}:" >>group
done
mkdir -p spool run lib/opensmtpd/empty
mount --bind spool /var/spool
mount --bind run /run
mount --bind lib /var/lib
mount --bind passwd /etc/passwd
mount --bind group /etc/group
exec "$2" -d -f smtpd.conf
