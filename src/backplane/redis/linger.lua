-- Has a name stay for a while although its stream is gone. Tells the room nothing.
--
-- KEYS[1..3], ARGV[1..6]: see log.lua and roster.lua
-- KEYS[4]     the lease of the name
-- KEYS[5]     what has ended of the session
-- ARGV[7..9]  skeleton, token, session
-- ARGV[10]    milliseconds until the lease ends; 0 to end it now
-- ARGV[11]    milliseconds of a lease
--
-- Reply: ..., 1, or 0 when the session is over or another stream has it

local skeleton, token, session, time = ARGV[7], ARGV[8], ARGV[9], tonumber(ARGV[10])
local done = 0
local entry = member(skeleton)
local mine = belongs(entry, session)
local has = mine and carrier(entry)
-- The lease may have ended while nobody could renew it; an earlier version says the stream there only.
if mine and (has == stream(token) or (not has and holder(KEYS[4]) == token)) then
  if time > 0 then
    redis.call('SET', KEYS[4], token .. 'l', 'PX', int(time))
  else
    redis.call('DEL', KEYS[4])
  end
  redis.call('ZADD', NAMES, int(now + time), skeleton)
  redis.call('HSET', ROOM, '@' .. skeleton, made_to_linger(entry))
  done = 1
end
note_end(KEYS[5], token, time + tonumber(ARGV[11]))
finish()
return { replid, epoch, seq, past, done }
