-- Extends leases of one room, and mends what is not as it was.
--
-- KEYS[1..4], ARGV[1..6]: see log.lua
-- KEYS[5..]   the lease of each hold
-- ARGV[7]     milliseconds of a lease
-- ARGV[8..]   skeleton, token, session of each hold
--
-- Reply: ..., milliseconds to the earliest deadline or -1, then for each hold
-- 1 held, 2 gone, 3 taken, 4 moved

local verdicts, deadlines, skeletons = {}, {}, {}
local deadline = int(now + tonumber(ARGV[7]))
for i = 1, #KEYS - 4 do skeletons[i] = ARGV[5 + 3 * i] end
local tokens, entries, seen = {}, {}, {}
if skeletons[1] then
  tokens = redis.call('MGET', unpack(KEYS, 5))
  entries = redis.call('HMGET', ROSTER, unpack(skeletons))
end
for i, skeleton in ipairs(skeletons) do
  local lease, held, entry = KEYS[4 + i], tokens[i], entries[i]
  -- Two holds of one name: the first may just have taken the lease again.
  if seen[skeleton] then
    held = holder(lease)
  elseif held then
    held = string.sub(held, 1, TOKEN)
  end
  seen[skeleton] = true
  local token = ARGV[6 + 3 * i]
  local mine = belongs(entry, ARGV[7 + 3 * i])
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
    if held then
      redis.call('PEXPIRE', lease, ARGV[7])
    else
      -- The lease had ended, and nobody noticed: so nobody has to hear of it.
      redis.call('SET', lease, token, 'PX', ARGV[7])
    end
    deadlines[#deadlines + 1] = deadline
    deadlines[#deadlines + 1] = skeleton
    verdicts[i] = 1
  else
    if held then redis.call('DEL', lease) end
    verdicts[i] = 2
  end
end
if deadlines[1] then redis.call('ZADD', LEASES, unpack(deadlines)) end
finish()
return { replid, epoch, seq, past, next_deadline(), verdicts }
