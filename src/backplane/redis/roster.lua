-- What scripts know of names; put in front of those that give, take or keep them, after `log.lua` and
-- `partition.lua`.
--
-- KEYS[1..4]  rooms, replicas, dead, lingering
-- ARGV[6]     milliseconds of a lease

REPLICAS, DEAD, LINGERING, LEASE = KEYS[2], KEYS[3], KEYS[4], tonumber(ARGV[6])

-- Whether the room that is open was there before.
local was_there

-- Opens a room, whose live channel this is.
local function enter(room, log, live)
  local entry = redis.call('HGET', room, 'log')
  was_there = entry and true or false
  open(room, log, KEYS[1], live, entry)
end

-- The entry of a member.
local function member(skeleton)
  return redis.call('HGET', ROOM, '@' .. skeleton)
end

local function count_members()
  return redis.call('HLEN', ROOM) - (was_there and 1 or 0)
end

local function finish()
  if count_members() > 0 then return close(OCCUPIED + longest, {}) end
  longest = 0
  -- Nobody is there, and nothing was said: it stays for a lease, for whoever still reads how that came.
  local time = said == 0 and LEASE or remember
  if forgotten > now + time + time / 8 then forgotten = 0 end
  close(time, {})
end

-- Whether a position is part of this log.
local function includes(e, s)
  if e == epoch then return s <= seq end
  local last = string.match(past, e .. ':(%d+)')
  return last and s <= tonumber(last)
end

-- What stands where in a member's entry.
local function session_of(entry) return string.sub(entry, 17, 48) end
local function token_of(entry) return string.sub(entry, 49, 80) end
local function incarnation_of(entry) return string.sub(entry, 81, 96) end
local function lingers(entry) return string.sub(entry, 97, 97) == 'l' end
local function lingers_until(entry) return tonumber(string.sub(entry, 98, 112)) end
local function linger_of(entry) return tonumber(string.sub(entry, 113, 122)) end
local function attempt_of(entry) return string.sub(entry, 123, 142) end
local function roles_of(entry) return string.sub(entry, 152, 153) end
local function spoke_of(entry) return struct.unpack('>d', entry, 162) end
local function began_of(entry) return struct.unpack('>d', entry, 170) end

-- The stream that a token belongs to.
local function stream(token)
  return string.sub(token, 1, 16)
end

-- Writes a member's entry: all of its last fields are `rest`.
local function write(skeleton, last, last_seq, session, token, incarnation, ends, rest)
  redis.call('HSET', ROOM, '@' .. skeleton, table.concat({ struct.pack('>dd', last, last_seq), session,
    token, incarnation, ends and 'l' or 'h', string.format('%015d', ends or 0), rest }))
end

-- The member that lingers, in the partition's index.
local function place(skeleton)
  return string.match(ROOM, ':room:(.*)$') .. ' ' .. skeleton
end

local function index_lingering(skeleton, ends)
  redis.call('ZADD', LINGERING, int(ends), place(skeleton))
  keep_until(LINGERING, now, ends + OCCUPIED)
end

-- The entry with another role set, or another end of its silence.
local function with_role(entry, letter)
  return string.sub(entry, 1, 152) .. letter .. string.sub(entry, 154)
end
local function with_silence(entry, ends)
  return string.sub(entry, 1, 153) .. struct.pack('>d', ends) .. string.sub(entry, 162)
end

-- Notes that a session is over, or, of one that may go on, a stream: a join of it may still be under way, on a
-- connection that was given up. Returns whether it is the first to note the session's end.
-- It is noted for longer than a connection can hold a request back.
local ALL, KICKED, STREAMS, HELD_BACK = 'a', 'k', 4 * 16, 30000
local function is_all(ended)
  local first = ended and string.sub(ended, 1, 1)
  return first == 'a' and #ended == 1 or first == 'k'
end
local function note_end(mark, token, time)
  local ended = redis.call('GET', mark)
  if is_all(ended) then return false end
  local ends = token and string.sub(stream(token) .. (ended or ''), 1, STREAMS) or ALL
  redis.call('SET', mark, ends, 'PX', int(math.max(time, HELD_BACK, redis.call('PTTL', mark))))
  return not token
end

-- Notes that a moderator has ended a session, and why.
local function note_kick(mark, reason, time)
  redis.call('SET', mark, KICKED .. reason, 'PX', int(math.max(time, HELD_BACK)))
end

-- Whether a session or this stream of it is over; and why, if a moderator has ended it.
local function has_ended(mark, token)
  local ended = redis.call('GET', mark)
  if not ended then return false end
  if string.sub(ended, 1, 1) == KICKED then return true, string.sub(ended, 2) end
  return is_all(ended) or string.find(ended, stream(token), 1, true) ~= nil
end

-- Until when a name is kept: to the end of the lease of its holder's replica and for as long as the session may
-- linger after it, or to the end of its lingering. Of a replica that nothing is known of, the lease begins now.
local function kept_until(skeleton, entry)
  if lingers(entry) then return lingers_until(entry) end
  local incarnation, linger = incarnation_of(entry), linger_of(entry)
  local ends = redis.call('ZSCORE', REPLICAS, incarnation)
  if ends then return tonumber(ends) + linger end
  local indexed = linger > 0 and redis.call('ZSCORE', LINGERING, place(skeleton))
  if indexed then return tonumber(indexed) end
  ends = redis.call('ZSCORE', DEAD, incarnation)
  if not ends then
    ends = now + LEASE
    declare_dead(incarnation, ends, now)
  end
  return tonumber(ends) + linger
end

-- Whether a member that is overdue may be reaped by whoever has seen this Redis at work for so long: its holder
-- had a lease's time to renew it, or its client the time to come back that it was promised, at most as long.
local function may_reap(entry, since, upto)
  local needs = lingers(entry) and math.min(linger_of(entry), LEASE) or LEASE
  return has_lasted(needs, since, upto, now)
end

-- Removes a member.
local function remove(skeleton, entry)
  redis.call('HDEL', ROOM, '@' .. skeleton)
  if lingers(entry) or linger_of(entry) > 0 then redis.call('ZREM', LINGERING, place(skeleton)) end
end

-- Removes a member that is overdue, if that may be, and tells the room.
local function evict(skeleton, session, payload, since, upto)
  local entry = member(skeleton)
  if not entry or session_of(entry) ~= session or kept_until(skeleton, entry) > now
      or not may_reap(entry, since, upto) then
    return false
  end
  if not lingers(entry) then
    -- A replica that was paused may come back with a member that it still believes in; where the log is gone by
    -- then, it would have it come in untold.
    said = 1
    -- It is to hear of it.
    local ended = redis.call('ZSCORE', REPLICAS, incarnation_of(entry))
    if ended then declare_dead(incarnation_of(entry), tonumber(ended), now) end
  end
  remove(skeleton, entry)
  emit(payload)
  return true
end
