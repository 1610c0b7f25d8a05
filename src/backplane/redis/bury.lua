-- Forgets dead replicas that have no members any more.
--
-- KEYS[1]     dead
-- ARGV        the incarnations

redis.call('ZREM', KEYS[1], unpack(ARGV))
return {}
