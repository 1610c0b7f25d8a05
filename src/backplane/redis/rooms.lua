-- Lists rooms of a partition. Changes nothing.
--
-- KEYS[1]     rooms: see log.lua
-- ARGV[1]     where to go on; 0 to begin
-- ARGV[2]     about how many; Redis gives all of a small partition at once
-- ARGV[3]     what their names begin with
--
-- Reply: where to go on, 0 when that is all; then names, some perhaps of rooms that were forgotten

local page = redis.call('ZSCAN', KEYS[1], ARGV[1], 'MATCH', ARGV[3] .. '*', 'COUNT', ARGV[2])
local reply = { page[1] }
for i = 1, #page[2], 2 do reply[#reply + 1] = page[2][i] end
return reply
