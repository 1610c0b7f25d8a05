-- What scripts know of names; put in front of those that give, take or keep them, after `log.lua`.
--
-- KEYS[1..3]  room, log, names
-- ARGV[6]     the live channel

local NAMES = KEYS[3]
local standing = redis.call('HGET', KEYS[1], 'log')
open(KEYS[1], KEYS[2], ARGV[6], standing)

-- The entry of a member.
local function member(skeleton)
  return redis.call('HGET', ROOM, '@' .. skeleton)
end

local function count_members()
  return redis.call('HLEN', ROOM) - (standing and 1 or 0)
end

local function finish()
  -- A name that lingers for long keeps the room.
  local latest = redis.call('ZRANGE', NAMES, -1, -1, 'WITHSCORES')[2]
  local time = math.max(remember, latest and tonumber(latest) - now + age or 0)
  -- Nobody is there, and nothing was said: it stays for a lease, for whoever still reads how that came.
  if not latest and said == 0 then time = remember - age end
  if forgotten > now + time + time / 8 then forgotten = 0 end
  close(time, {}, { ROOM, LOG, NAMES })
  -- It may have been made just now.
  redis.call('PEXPIREAT', NAMES, int(forgotten))
end

-- Whether a position is part of this log.
local function includes(e, s)
  if e == epoch then return s <= seq end
  local last = string.match(past, e .. ':(%d+)')
  return last and s <= tonumber(last)
end

local function split(entry)
  return string.match(entry, '^(%x+) (%d+) (%d+) ([tu]%d+) (.*)$')
end

-- Whether a member's entry is this session's. All sessions are written with as many digits.
local function belongs(entry, session)
  return entry and string.sub(entry, 1, #session) == session
end

local LINGERS, STAYS = 'x\1', 'x\0'

-- Whether a member's entry, or the member in it, lingers.
local function lingers(entry)
  return string.sub(entry, -2) == LINGERS
end

-- The same entry, lingering. One by an earlier version of roomcast does not say that it stays.
local function made_to_linger(entry)
  local tail = string.sub(entry, -2)
  if tail == LINGERS or tail == STAYS then entry = string.sub(entry, 1, -3) end
  return entry .. LINGERS
end

-- The stream that a token belongs to.
local function stream(token)
  return string.sub(token, 1, 16)
end

-- What a member's entry says of the stream that has the session: which one it is, the number of
-- its attempt, and for how many milliseconds the session may linger. Nothing in one by an earlier
-- version of roomcast.
local function carrier(entry)
  local has, attempt, linger =
    string.match(string.sub(entry, -54), '^b\16(%x+)j\20(%d+)r\10(%d+)x.$')
  return has, attempt, tonumber(linger)
end

-- The token that a lease holds, if it is held.
local function holder(lease)
  local held = redis.call('GET', lease)
  return held and string.sub(held, 1, TOKEN)
end

-- Notes that a session is over, or, of one that may go on, a stream: a join of it may still be under way, on a
-- connection that was given up. Returns whether it is the first to note the session's end.
-- It is noted for longer than a connection can hold a request back.
local ALL, STREAMS, HELD_BACK = '1', 4 * 16, 30000
local function note_end(mark, token, time)
  local ended = redis.call('GET', mark)
  if ended == ALL then return false end
  local ends = token and string.sub(stream(token) .. (ended or ''), 1, STREAMS) or ALL
  redis.call('SET', mark, ends, 'PX', int(math.max(time, HELD_BACK, redis.call('PTTL', mark))))
  return not token
end

-- Whether a session or this stream of it is over.
local function has_ended(mark, token)
  local ended = redis.call('GET', mark)
  return ended and (ended == ALL or string.find(ended, stream(token), 1, true)) and true or false
end

-- The session that has a name, by the roster.
local function session_of(skeleton)
  local entry = member(skeleton)
  return entry and (split(entry))
end

-- Milliseconds until the room's earliest lease ends; -1 when nobody is there.
local function next_deadline()
  local earliest = redis.call('ZRANGE', NAMES, 0, 0, 'WITHSCORES')
  if not earliest[2] then return -1 end
  return math.max(0, tonumber(earliest[2]) - now)
end

-- Whether the time has passed until which a name is kept without a lease.
local function is_late(skeleton)
  local deadline = redis.call('ZSCORE', NAMES, skeleton)
  return not deadline or tonumber(deadline) <= now
end

-- Whether a session has a name, its lease ended unrenewed, and its time to linger is over.
local function is_overdue(lease_key, skeleton, session)
  return redis.call('EXISTS', lease_key) == 0 and session_of(skeleton) == session
    and is_late(skeleton)
end

-- Whether a member that is overdue may be reaped by whoever has seen this Redis at work from `since`
-- on and knows it to be so until `upto`, all in milliseconds: its holder had a lease's time to renew it,
-- or its client the time to come back that it was promised, at most as long.
local function may_reap(entry, lease, since, upto)
  local needs = lease
  if lingers(entry) then
    local _, _, linger = carrier(entry)
    needs = math.min(linger or lease, lease)
  end
  return since + needs <= now and now <= upto
end

-- Removes a member that is overdue, if that may be, and tells the room.
local function evict(lease_key, skeleton, session, payload, lease, since, upto)
  if not is_overdue(lease_key, skeleton, session) then return false end
  local entry = member(skeleton)
  if not may_reap(entry, lease, since, upto) then return false end
  -- A replica that was paused may come back with a member that it still believes in; where the log is gone by
  -- then, it would have it come in untold.
  if not lingers(entry) then said = 1 end
  redis.call('HDEL', ROOM, '@' .. skeleton)
  redis.call('ZREM', NAMES, skeleton)
  emit(payload)
  return true
end
