-- Tells how somebody stands in a room by what was decided there. Changes nothing.
--
-- KEYS[1]     what is decided, see decide.lua
-- ARGV[1]     of whom; empty for nobody in particular
--
-- Reply: milliseconds of Redis's clock, then what holds in the room, the ban, the silence and the role, as they are kept

local at = redis.call('TIME')
local found = redis.call('HMGET', KEYS[1], 'room', 'b' .. ARGV[1], 'm' .. ARGV[1], 'r' .. ARGV[1])
return { string.format('%d', at[1] * 1000 + math.floor(at[2] / 1000)), found }
