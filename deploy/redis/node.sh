#!/bin/sh
# Starts a node of a Redis Cluster:
#
#   [NAME=ITS_NAME] node.sh redis-server FLAG...
set -eu

# Nodes find each other by address, and containers that start again may have other ones, or each other's. So the
# addresses in a node's file are looked up anew, by the names that nodes announce. A node that is not there yet
# is not found; it will find this one.
file=/data/nodes.conf
if [ -s "$file" ]; then
    for name in $(sed -n 's/^[0-9a-f]* [^ ]*@[0-9]*,\([^ ,]*\)[ ,].*/\1/p' "$file"); do
        found=$(getent hosts "$name") || continue
        sed -i "s/^\([0-9a-f]* \)[^ ]*\(:[0-9]*@[0-9]*,$name[ ,]\)/\1${found%% *}\2/" "$file"
    done
fi

# Clients are told names. A shard that is lost costs its own rooms only. A master counts as down after two seconds
# of silence: with the election that is less than the five for which messages wait (redis.timeout). There is no
# min-replicas-to-write: each master has one replica, so one that was promoted has none, and would take no writes
# until the former one is back.
exec "$@" \
    --cluster-enabled yes \
    --cluster-config-file "$file" \
    --cluster-announce-hostname "${NAME:-$(hostname)}" \
    --cluster-preferred-endpoint-type hostname \
    --cluster-require-full-coverage no \
    --cluster-node-timeout 2000
