-- Gives a name back and tells the room.
--
-- KEYS[1..4], ARGV[1..6]: see log.lua and roster.lua
-- KEYS[5,6]   room, log
-- KEYS[7]     what has ended of the session
-- ARGV[7]     the live channel
-- ARGV[8..10] skeleton, token, session
-- ARGV[11]    the payload of `left`
-- ARGV[12,13] epoch and seq at which the hold was last confirmed; an empty epoch when it never was
--
-- Reply: ..., the seq of `left`, or 0 when there was nothing to give back

local skeleton, token, session = ARGV[8], ARGV[9], ARGV[10]
enter(KEYS[5], KEYS[6], ARGV[7])
local entry = member(skeleton)
local mine = entry and session_of(entry) == session
-- A session that another stream carries on has not left.
local over = not mine or stream(token_of(entry)) == stream(token)
local first_time = note_end(KEYS[7], not over and token, LEASE)
local left = 0
if mine and over then
  remove(skeleton, entry)
  left = emit(ARGV[11])
elseif first_time and not entry and ARGV[12] ~= ''
    and not includes(ARGV[12], tonumber(ARGV[13])) then
  -- Its join is lost, and with it the roster's entry: the room knew it all the same.
  left = emit(ARGV[11])
end
finish()
return { replid, epoch, seq, past, left }
