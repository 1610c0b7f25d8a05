-- Tells the time, if this Redis takes writes: one that refuses them lets leases end.
--
-- KEYS[1]     written for that
-- KEYS[2]     how many partitions there are, which is kept
-- ARGV[1,2]   for how many milliseconds
--
-- Reply: seconds and microseconds of Redis's clock

redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return redis.call('TIME')
