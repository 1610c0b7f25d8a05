-- Tells what all replicas are told about subjects, if that has changed. Changes nothing.
--
-- KEYS[1]     what they are told, see direct.lua
-- ARGV[1]     the count of changes that is known
--
-- Reply: the count of changes, then, if it is another one, field and value of each

local version = redis.call('HGET', KEYS[1], 'v') or '0'
local reply = { version }
if version == ARGV[1] then return reply end
local at = redis.call('TIME')
local now = at[1] * 1000 + math.floor(at[2] / 1000)
local cursor = '0'
repeat
  local page = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', '500')
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local field, value = page[2][i], page[2][i + 1]
    if field ~= 'v' and tonumber(string.sub(value, 1, 16)) > now then
      local count = #reply
      reply[count + 1], reply[count + 2] = field, string.sub(value, 17)
    end
  end
until cursor == '0'
return reply
