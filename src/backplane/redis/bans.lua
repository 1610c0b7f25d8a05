-- Lists some bans of a room. Changes nothing.
--
-- KEYS[1]     what is decided, see decide.lua
-- ARGV[1]     where to go on, as HSCAN told it; 0 to begin
-- ARGV[2]     about how many fields to look at
--
-- Reply: where the next page begins or 0, milliseconds of Redis's clock, then field and value of each ban

local at = redis.call('TIME')
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local bans = {}
for i = 1, #page[2], 2 do
  if string.sub(page[2][i], 1, 1) == 'b' then
    local count = #bans
    bans[count + 1], bans[count + 2] = page[2][i], page[2][i + 1]
  end
end
return { page[1], string.format('%d', at[1] * 1000 + math.floor(at[2] / 1000)), bans }
