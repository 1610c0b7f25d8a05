#!/bin/sh
# Makes a Redis Cluster of nodes that are empty, each master with one replica; the first half of them become
# masters. Does nothing if they are a cluster already.
#
#   create-cluster.sh NODE...
set -eu

nodes=
for name; do
    until [ "$(redis-cli -h "$name" ping)" = PONG ]; do sleep 1; done
    # Nodes are introduced to each other by address.
    found=$(getent hosts "$name")
    nodes="$nodes ${found%% *}:6379"
done

if redis-cli -h "$1" cluster info | grep -q '^cluster_slots_assigned:16384'; then
    echo "There is a cluster already."
else
    # One word each.
    # shellcheck disable=SC2086
    redis-cli --cluster create $nodes --cluster-replicas 1 --cluster-yes
    # A node takes writes a moment after it has joined.
    for name; do
        until redis-cli -h "$name" cluster info | grep -q '^cluster_state:ok'; do sleep 1; done
    done
fi
