-- Does what was decided to members who are in a room, and tells it. Where the room is not there, nothing.
--
-- KEYS[1..4], ARGV[1..6]: see log.lua and roster.lua
-- KEYS[5,6]   room, log
-- KEYS[7..]   of each member: what has ended of its session
-- ARGV[7]     the live channel
-- ARGV[8,9]   what: `remove` and why, `mute` and until when in milliseconds of Redis's clock, `role` and its letter or
--             -, `room` and what holds in it, `nothing`
-- ARGV[10]    the payload of what is told where nobody is concerned; empty for nothing
-- ARGV[11..]  of each member: skeleton, session, the payload of what is told, the payload of its `left`
--
-- Reply: ..., to how many members it was done

local what, value = ARGV[8], ARGV[9]
enter(KEYS[5], KEYS[6], ARGV[7])

local acts = {
  remove = function(skeleton, entry, mark)
    remove(skeleton, entry)
    note_kick(mark, value, LEASE)
  end,
  mute = function(skeleton, entry)
    redis.call('HSET', ROOM, '@' .. skeleton, with_silence(entry, tonumber(value)))
  end,
  role = function(skeleton, entry)
    redis.call('HSET', ROOM, '@' .. skeleton, with_role(entry, value))
  end,
}

local done = 0
if was_there then
  if what == 'room' then settings = tonumber(value) end
  for key = 7, #KEYS do
    local a = 11 + 4 * (key - 7)
    local skeleton = ARGV[a]
    local entry = member(skeleton)
    if entry and session_of(entry) == ARGV[a + 1] then
      if acts[what] then acts[what](skeleton, entry, KEYS[key]) end
      emit(ARGV[a + 2])
      if what == 'remove' then emit(ARGV[a + 3]) end
      done = done + 1
    end
  end
  if done == 0 and ARGV[10] ~= '' then emit(ARGV[10]) end
  if seq > before then said = 1 end
  finish()
end
return { replid, epoch, seq, past, done }
