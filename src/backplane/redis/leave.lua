-- Gives a name back and tells the room.
--
-- KEYS[1..3], ARGV[1..6]: see log.lua and roster.lua
-- KEYS[4]     the lease of the name
-- KEYS[5]     what has ended of the session
-- ARGV[7..9]  skeleton, token, session
-- ARGV[10]    the payload of `left`
-- ARGV[11,12] epoch and seq at which the hold was last confirmed; an empty epoch when it never was
-- ARGV[13]    milliseconds of a lease
--
-- Reply: ..., the seq of `left`, or 0 when there was nothing to give back

local skeleton, token, session = ARGV[7], ARGV[8], ARGV[9]
local held = holder(KEYS[4])
local entry = member(skeleton)
local mine = belongs(entry, session)
-- The stream that carries the session on, as far as is known.
local has = mine and carrier(entry) or (mine or not entry) and held and stream(held)
-- A session that another stream carries on has not left.
local over = not has or has == stream(token)
local first_time = note_end(KEYS[5], not over and token, tonumber(ARGV[13]))
local left = 0
-- Should the room be lost, a lease of this stream is proof enough.
if over and (mine or (has and not entry)) then
  redis.call('DEL', KEYS[4])
  redis.call('HDEL', ROOM, '@' .. skeleton)
  redis.call('ZREM', NAMES, skeleton)
  left = emit(ARGV[10])
elseif first_time and not held and not entry and ARGV[11] ~= ''
    and not includes(ARGV[11], tonumber(ARGV[12])) then
  -- Its join is lost, and with it the roster's entry: the room knew it all the same.
  left = emit(ARGV[10])
end
finish()
return { replid, epoch, seq, past, left }
