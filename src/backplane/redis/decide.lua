-- Keeps what moderators decide of a room. It outlives the room.
--
-- KEYS[1]     what is decided, a hash. Fields: `b`, `m` and `r` before an identity for its ban, its silence and its
--             role, and `room` for what holds for all. Values: when that ends in milliseconds of Redis's clock, in 16
--             digits, then a note, a role's letter, or a number
-- ARGV[1]     the field
-- ARGV[2]     for how many milliseconds; 0 for no longer, negative for ever
-- ARGV[3]     what stands behind the time
-- ARGV[4]     the most fields
--
-- Reply: 1 and when it ends, or 0 when there are too many

local FOREVER = 9007199254740991
local decided, field, time = KEYS[1], ARGV[1], tonumber(ARGV[2])
if time == 0 then
  redis.call('HDEL', decided, field)
  return { 1, '0' }
end
local at = redis.call('TIME')
local now = at[1] * 1000 + math.floor(at[2] / 1000)
local ends = time < 0 and FOREVER or now + time

-- Removes what has ended.
local function sweep()
  local cursor = '0'
  repeat
    local page = redis.call('HSCAN', decided, cursor, 'COUNT', '500')
    cursor = page[1]
    for i = 1, #page[2], 2 do
      if tonumber(string.sub(page[2][i + 1], 1, 16)) <= now then redis.call('HDEL', decided, page[2][i]) end
    end
  until cursor == '0'
end

local most = tonumber(ARGV[4])
if redis.call('HLEN', decided) >= most and not redis.call('HGET', decided, field) then
  sweep()
  if redis.call('HLEN', decided) >= most then return { 0, '0' } end
end
redis.call('HSET', decided, field, string.format('%016d', ends) .. ARGV[3])
-- All of it lives for as long as what lasts longest.
if now + redis.call('PTTL', decided) < ends then
  redis.call('PEXPIREAT', decided, string.format('%d', ends))
end
return { 1, string.format('%d', ends) }
