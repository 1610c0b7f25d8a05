-- Has a name stay for a while although its stream is gone. Tells the room nothing.
--
-- KEYS[1..4], ARGV[1..6]: see log.lua and roster.lua
-- KEYS[5,6]   room, log
-- KEYS[7]     what has ended of the session
-- ARGV[7]     the live channel
-- ARGV[8..10] skeleton, token, session
-- ARGV[11]    the incarnation of the replica
-- ARGV[12]    milliseconds until the session ends; 0 to end it now
--
-- Reply: ..., 1, or 0 when the session is over or another stream has it

local skeleton, token, session, time = ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[12])
enter(KEYS[5], KEYS[6], ARGV[7])
local done = 0
local entry = member(skeleton)
if entry and session_of(entry) == session and stream(token_of(entry)) == stream(token) then
  local last, last_seq = struct.unpack('>dd', entry)
  write(skeleton, last, last_seq, session, token, ARGV[11], now + time, string.sub(entry, 113))
  index_lingering(skeleton, now + time)
  longest = math.max(longest, time)
  done = 1
end
note_end(KEYS[7], token, time + LEASE)
finish()
return { replid, epoch, seq, past, done }
