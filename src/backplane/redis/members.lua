-- Lists some members of a room. Changes nothing.
--
-- KEYS[1]     roster: see log.lua
-- ARGV[1]     where to go on, as HSCAN told it; 0 to begin
-- ARGV[2]     about how many
--
-- Reply: where the next page begins or 0, how many members there are, then skeleton and roster entry
-- of each

local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
return { page[1], redis.call('HLEN', KEYS[1]), page[2] }
