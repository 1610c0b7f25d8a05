-- Tells who has a name. Changes nothing.
--
-- KEYS[1]     room: see log.lua
-- KEYS[2]     the lease of the name
-- ARGV[1]     skeleton
--
-- Reply: nothing when nobody has it, else the member's entry, and the stream that holds the lease
-- or an empty string when the lease has ended

local entry = redis.call('HGET', KEYS[1], '@' .. ARGV[1])
if not entry then return {} end
return { entry, string.sub(redis.call('GET', KEYS[2]) or '', 1, 16) }
