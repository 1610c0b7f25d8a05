-- Says how many partitions the deployment has, and notes it unless another number is noted.
--
-- KEYS[1]     how many there are
-- ARGV[1]     how many there should be
-- ARGV[2]     for how many milliseconds it is noted
--
-- Reply: how many there are

local stored = redis.call('GET', KEYS[1])
if stored and stored ~= ARGV[1] then return stored end
-- One that refuses writes for now can be used for what it does.
redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
