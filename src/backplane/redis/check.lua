-- Judges holds of one room.
--
-- KEYS[1..4], ARGV[1..6]: see log.lua and roster.lua
-- KEYS[5,6]   room, log
-- ARGV[7]     the live channel
-- ARGV[8]     the incarnation of the replica
-- ARGV[9..]   skeleton, token, session and attempt of each hold
--
-- Reply: ..., how many streams have lost their sessions, then for each hold
-- 1 held, 2 gone, 3 taken, 4 moved

local HELD, GONE, TAKEN, MOVED = 1, 2, 3, 4

enter(KEYS[5], KEYS[6], ARGV[7])
local fields = {}
for a = 9, #ARGV, 4 do fields[#fields + 1] = '@' .. ARGV[a] end
local entries = fields[1] and redis.call('HMGET', ROOM, unpack(fields)) or {}
local leased = redis.call('ZSCORE', REPLICAS, ARGV[8]) and true or false

local function judge(skeleton, entry, token, session, attempt)
  if not entry then return GONE end
  if session_of(entry) ~= session then
    return kept_until(skeleton, entry) > now and TAKEN or GONE
  end
  local held = token_of(entry)
  if stream(held) ~= stream(token) then
    -- A newer one; or an older one that came back when Redis had lost the newer one's join, which the
    -- next join mends.
    return attempt > attempt_of(entry) and GONE or MOVED
  end
  if lingers(entry) then return lingers_until(entry) > now and HELD or GONE end
  -- Under another token of its stream, its own join is still to come.
  return held == token and incarnation_of(entry) == ARGV[8] and leased and HELD or GONE
end

local verdicts = {}
for i, field in ipairs(fields) do
  local a = 5 + 4 * i
  verdicts[i] = judge(ARGV[a], entries[i], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
end
finish()
return { replid, epoch, seq, past, takeovers, verdicts }
