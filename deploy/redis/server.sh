#!/bin/sh
# Starts a Redis that Sentinels watch:
#
#   [NAME=ITS_NAME] server.sh FIRST_MASTER redis-server FLAG...
#
# Whom it follows is in a file of its own, because that changes: Sentinels tell it, and it writes it down. Only the
# first time is it decided here.
set -eu
master=$1 program=$2
shift 2

name=${NAME:-$(hostname)}
file=/data/redis.conf
if [ ! -s "$file" ]; then
    if [ "$name" = "$master" ]; then : >"$file"; else echo "replicaof $master 6379" >"$file"; fi
fi

# Others know it by name, since a container that starts again may have another address. A master that is cut off
# from its replicas refuses writes rather than take what a failover would lose; so does one that was promoted, until
# it has a replica, which therefore is given its data without the usual wait for others.
exec "$program" "$file" "$@" \
    --replica-announce-ip "$name" \
    --repl-diskless-sync-delay 0 \
    --min-replicas-to-write 1 \
    --min-replicas-max-lag 3
