-- Tells who has a name. Changes nothing.
--
-- KEYS[1]     room: see log.lua
-- ARGV[1]     skeleton
--
-- Reply: nothing when nobody has it, else the member's entry

local entry = redis.call('HGET', KEYS[1], '@' .. ARGV[1])
return { entry or nil }
