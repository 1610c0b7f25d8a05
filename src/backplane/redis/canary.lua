-- Publishes a canary by the way that events take: what cannot be written is not published.
--
-- KEYS[1]     a stream that nobody else uses; nothing is left of it
-- ARGV[1]     the channel
-- ARGV[2]     what is published
--
-- Reply: how many heard it

redis.call('XADD', KEYS[1], '1-0', 'p', ARGV[2])
redis.call('DEL', KEYS[1])
return redis.call('SPUBLISH', ARGV[1], ARGV[2])
