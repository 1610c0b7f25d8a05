-- What scripts know of names; put in front of those that give, take or keep them, after `log.lua`.

local function finish()
  publish()
  live_on()
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

-- Whether an entry of the roster is this session's. All sessions are written with as many digits.
local function belongs(entry, session)
  return entry and string.sub(entry, 1, #session) == session
end

local LINGERS, STAYS = 'x\1', 'x\0'

-- Whether an entry of the roster, or the member in it, lingers.
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

-- The token that a lease holds, if it is held.
local function holder(lease)
  local held = redis.call('GET', lease)
  return held and string.sub(held, 1, TOKEN)
end

-- The session that has a name, by the roster.
local function session_of(skeleton)
  local entry = redis.call('HGET', ROSTER, skeleton)
  return entry and (split(entry))
end

-- Milliseconds until the room's earliest lease ends; -1 when nobody is there.
local function next_deadline()
  local earliest = redis.call('ZRANGE', LEASES, 0, 0, 'WITHSCORES')
  if not earliest[2] then return -1 end
  return math.max(0, tonumber(earliest[2]) - now)
end

-- Whether a session has a name, and its lease ended unrenewed.
local function is_overdue(lease_key, skeleton, session)
  return redis.call('EXISTS', lease_key) == 0 and session_of(skeleton) == session
end

-- Removes a member whose lease ended unrenewed, and tells the room.
local function evict(lease_key, skeleton, session, payload)
  if not is_overdue(lease_key, skeleton, session) then return false end
  -- A replica that was paused may come back with a member that it still believes in; where the log is gone by
  -- then, it would have it come in untold.
  if not said and not lingers(redis.call('HGET', ROSTER, skeleton)) then note_said() end
  redis.call('HDEL', ROSTER, skeleton)
  redis.call('ZREM', LEASES, skeleton)
  emit(payload)
  return true
end
