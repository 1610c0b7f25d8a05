#!/bin/sh
# Starts a Sentinel:
#
#   [NAME=ITS_NAME] sentinel.sh FIRST_MASTER
#
# What it learns, it writes into its file: who is the master now, and who else is there.
set -eu

file=/data/sentinel.conf
if [ ! -s "$file" ]; then
    # By name, since a container that starts again may have another address. A master counts as down after a second
    # of silence; redis.timeout has to be longer than the whole failover, of which that is a part.
    cat >"$file" <<CONF
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip ${NAME:-$(hostname)}
sentinel monitor roomcast $1 6379 2
sentinel down-after-milliseconds roomcast 1000
sentinel failover-timeout roomcast 10000
CONF
fi
exec redis-server "$file" --sentinel
