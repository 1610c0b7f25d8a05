-- Gives a name back and tells the room.
--
-- KEYS[1..4], ARGV[1..6]: see log.lua
-- KEYS[5]     the lease of the name
-- KEYS[6]     whether the session has left already
-- ARGV[7..9]  skeleton, token, session
-- ARGV[10]    the payload of `left`
-- ARGV[11,12] epoch and seq at which the hold was last confirmed; an empty epoch when it never was
-- ARGV[13]    milliseconds of a lease
--
-- Reply: ..., the seq of `left`, or 0 when there was nothing to give back

local held = holder(KEYS[5])
local left = 0
local holder = session_of(ARGV[7])
-- A session that another stream, or a later hold, carries on has not left.
local over = not (held and held ~= ARGV[8] and holder == ARGV[9])
local first_time = over and redis.call('SET', KEYS[6], '1', 'NX', 'PX', ARGV[13])
if (held == ARGV[8] or not held) and holder == ARGV[9] then
  redis.call('DEL', KEYS[5])
  redis.call('HDEL', ROSTER, ARGV[7])
  redis.call('ZREM', LEASES, ARGV[7])
  left = emit(ARGV[10])
elseif first_time and not held and not holder and ARGV[11] ~= ''
    and not includes(ARGV[11], tonumber(ARGV[12])) then
  -- Its join is lost, and with it the roster's entry: the room knew it all the same.
  left = emit(ARGV[10])
end
finish()
return { replid, epoch, seq, past, left }
