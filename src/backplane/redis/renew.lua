-- Extends leases of one room, and mends what is not as it was.
--
-- KEYS[1..3], ARGV[1..6]: see log.lua and roster.lua
-- KEYS[4..]   the lease of each hold
-- ARGV[7]     milliseconds of a lease
-- ARGV[8..]   skeleton, token, session and attempt of each hold
--
-- Reply: ..., milliseconds to the earliest deadline or -1, then for each hold
-- 1 held, 2 gone, 3 taken, 4 moved

local HELD, GONE, TAKEN, MOVED = 1, 2, 3, 4

local verdicts, deadlines, skeletons, fields = {}, {}, {}, {}
local ends = now + tonumber(ARGV[7])
for i = 1, #KEYS - 3 do
  skeletons[i] = ARGV[4 + 4 * i]
  fields[i] = '@' .. skeletons[i]
end
local tokens, entries, seen = {}, {}, {}
if skeletons[1] then
  tokens = redis.call('MGET', unpack(KEYS, 4))
  entries = redis.call('HMGET', ROOM, unpack(fields))
end
for i, skeleton in ipairs(skeletons) do
  local lease, held, entry = KEYS[3 + i], tokens[i], entries[i]
  -- Two holds of one name: the first may just have taken the lease again.
  if seen[skeleton] then
    held = holder(lease)
  elseif held then
    held = string.sub(held, 1, TOKEN)
  end
  seen[skeleton] = true
  local token, attempt = ARGV[5 + 4 * i], ARGV[7 + 4 * i]
  local mine = belongs(entry, ARGV[6 + 4 * i])
  local has, latest, linger
  if mine then has, latest, linger = carrier(entry) end
  -- Where the roster does not tell which stream has the session, the lease does.
  has = has or held and stream(held)
  if mine and has and has ~= stream(token) then
    -- A newer one; or an older one that came back when Redis had lost the newer one's join, which the
    -- next join mends.
    verdicts[i] = latest and attempt > latest and GONE or MOVED
  elseif held and held ~= token then
    -- Unless it is another session's: its own join under this token is still to come.
    verdicts[i] = stream(held) == stream(token) and GONE or TAKEN
  elseif mine and lingers(entry) then
    -- Under way when the stream dropped.
    verdicts[i] = held and HELD or GONE
  elseif mine then
    if held then
      redis.call('PEXPIRE', lease, ARGV[7])
    else
      -- The lease had ended, and nobody noticed: so nobody has to hear of it.
      redis.call('SET', lease, token, 'PX', ARGV[7])
    end
    deadlines[#deadlines + 1] = int(ends + (linger or 0))
    deadlines[#deadlines + 1] = skeleton
    verdicts[i] = HELD
  else
    -- Should only the roster be lost, the lease shows at the next join that it was held throughout.
    if held and entry then redis.call('DEL', lease) end
    verdicts[i] = GONE
  end
end
if deadlines[1] then redis.call('ZADD', NAMES, unpack(deadlines)) end
finish()
return { replid, epoch, seq, past, next_deadline(), verdicts }
