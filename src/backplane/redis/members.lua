-- Lists some members of a room. Changes nothing.
--
-- KEYS[1]     room: see log.lua
-- ARGV[1]     where to go on, as HSCAN told it; 0 to begin
-- ARGV[2]     about how many
--
-- Reply: where the next page begins or 0, how many members there are, then the entry of each

local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local entries = {}
for i = 1, #page[2], 2 do
  if string.sub(page[2][i], 1, 1) == '@' then entries[#entries + 1] = page[2][i + 1] end
end
-- All fields but one are members.
return { page[1], math.max(0, redis.call('HLEN', KEYS[1]) - 1), entries }
