-- Tells the time, if this Redis takes writes: one that refuses them lets leases end.
--
-- KEYS[1]     written for that
-- ARGV[1]     for how many milliseconds
--
-- Reply: seconds and microseconds of Redis's clock

redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return redis.call('TIME')
