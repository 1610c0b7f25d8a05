-- Keeps what all replicas are told about a subject.
--
-- KEYS[1]     what they are told, a hash. Fields: `r` and `d` before a subject for its revocation and its disconnection,
--             and `v`, which counts changes. Values: when that has served in milliseconds of Redis's clock, in 16 digits,
--             then what it is
-- ARGV[1]     the field
-- ARGV[2]     for how many milliseconds it is kept
-- ARGV[3]     what it is
-- ARGV[4]     the most fields
--
-- Reply: 1, or 0 when there are too many

local all, field, most = KEYS[1], ARGV[1], tonumber(ARGV[4])
local at = redis.call('TIME')
local now = at[1] * 1000 + math.floor(at[2] / 1000)
if redis.call('HLEN', all) >= most and not redis.call('HGET', all, field) then
  local cursor = '0'
  repeat
    local page = redis.call('HSCAN', all, cursor, 'COUNT', '500')
    cursor = page[1]
    for i = 1, #page[2], 2 do
      if page[2][i] ~= 'v' and tonumber(string.sub(page[2][i + 1], 1, 16)) <= now then
        redis.call('HDEL', all, page[2][i])
      end
    end
  until cursor == '0'
  if redis.call('HLEN', all) >= most then return { 0 } end
end
local ends = now + tonumber(ARGV[2])
-- A number that no earlier state had, also where Redis has lost some of them.
local version = math.max(tonumber(redis.call('HGET', all, 'v') or '0') + 1, now)
redis.call('HSET', all, field, string.format('%016d', ends) .. ARGV[3], 'v', string.format('%d', version))
if now + redis.call('PTTL', all) < ends then redis.call('PEXPIREAT', all, string.format('%d', ends)) end
return { 1 }
