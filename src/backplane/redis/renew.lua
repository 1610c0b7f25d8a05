-- Extends leases of one room.
--
-- KEYS[1..4], ARGV[1..6]: see lib.lua
-- KEYS[5..]   the lease of each hold
-- ARGV[7]     milliseconds of a lease
-- ARGV[8..]   skeleton, token, session of each hold
--
-- Reply: ..., milliseconds to the earliest deadline or -1, then for each hold
-- 1 held, 2 gone, 3 taken, 4 moved

open()
local verdicts = {}
for i = 1, #KEYS - 4 do
  local lease, a = KEYS[4 + i], 8 + (i - 1) * 3
  local skeleton, token, session = ARGV[a], ARGV[a + 1], ARGV[a + 2]
  local held = redis.call('GET', lease)
  local entry = redis.call('HGET', ROSTER, skeleton)
  local mine = entry and (split(entry)) == session
  if held and held ~= token then
    if not mine then
      verdicts[i] = 3
    elseif stream(held) == stream(token) then
      -- Its own join under this token is still to come.
      verdicts[i] = 2
    else
      verdicts[i] = 4
    end
  elseif mine and lingers(entry) then
    -- Under way when the stream dropped.
    verdicts[i] = held and 1 or 2
  elseif mine then
    -- Also when the lease had ended: nobody noticed, so nobody has to hear of it.
    redis.call('SET', lease, token, 'PX', ARGV[7])
    redis.call('ZADD', LEASES, int(now + tonumber(ARGV[7])), skeleton)
    verdicts[i] = 1
  else
    if held then redis.call('DEL', lease) end
    verdicts[i] = 2
  end
end
finish()
return { replid, epoch, seq, past, next_deadline(), verdicts }
