-- Common to all scripts that change a room; put in front of each of them.
--
-- KEYS[1] meta    hash: epoch, seq, replid, past ("epoch:seq epoch:seq ...", the latest last)
-- KEYS[2] log     stream: entries <seq>-0 with t (milliseconds of Redis's clock) and p (payload)
-- KEYS[3] roster  hash: skeleton -> "<session> <last client seq> <last seq> <joined> <member>", where
--                 <joined> is the seq of the join behind a t if the room was told, else a u, and
--                 <member> is encoded and ends with an x and a byte that is 1 while the member lingers
-- KEYS[4] leases  sorted set: skeleton -> deadline in milliseconds of Redis's clock
-- ARGV[1] the replication id of this Redis, as the connection read it when it opened
-- ARGV[2] a random epoch, for a log that is born now
-- ARGV[3] the live channel
-- ARGV[4] how many entries the log keeps
-- ARGV[5] how many milliseconds the log keeps them
-- ARGV[6] how many milliseconds the room outlives its last change
--
-- A lease holds a token of 32 digits, the first 16 of which are those of the stream that holds it.
--
-- Every reply begins with: replication id, epoch, seq, past.

local META, LOG, ROSTER, LEASES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local PAST_EPOCHS = 8

local epoch, seq, replid, past
local payloads, first = {}, nil

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Doubles print in scientific notation from 1e15 on; positions must not.
local function int(number)
  return string.format('%d', number)
end

local NOW = int(now)

local function current_replid()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end

-- Reads where the log stands. A room without meta begins a new log. A log that another Redis
-- wrote goes on in a new epoch: its tail may be missing here, and numbers given out twice must
-- not mean the same position.
local function open()
  local meta = redis.call('HMGET', META, 'epoch', 'seq', 'replid', 'past')
  epoch, seq, replid, past = meta[1], tonumber(meta[2]), meta[3], meta[4] or ''
  if not epoch then
    redis.call('DEL', LOG)
    epoch, seq, replid, past = ARGV[2], 0, current_replid(), ''
    redis.call('HSET', META, 'epoch', epoch, 'seq', '0', 'replid', replid, 'past', past)
  elseif replid ~= ARGV[1] then
    -- Perhaps only the connection is out of date: a Redis renames itself when it gets its
    -- first replica.
    local here = current_replid()
    if here ~= replid then
      local kept = {}
      for e, s in string.gmatch(past, '(%x+):(%d+)') do
        kept[#kept + 1] = e .. ':' .. int(math.min(tonumber(s), seq))
      end
      kept[#kept + 1] = epoch .. ':' .. int(seq)
      past = table.concat(kept, ' ', math.max(1, #kept - PAST_EPOCHS + 1))
      epoch, replid = ARGV[2], here
      redis.call('HSET', META, 'epoch', epoch, 'replid', replid, 'past', past)
    end
  end
end

-- Whether a position is part of this log.
local function includes(e, s)
  if e == epoch then return s <= seq end
  local last = string.match(past, e .. ':(%d+)')
  return last and s <= tonumber(last)
end

-- Appends one event. Visible to nobody before `finish`.
local function emit(payload)
  seq = seq + 1
  first = first or seq
  redis.call('XADD', LOG, 'MAXLEN', '~', ARGV[4], int(seq) .. '-0', 't', NOW, 'p', payload)
  payloads[#payloads + 1] = payload
  return seq
end

-- Drops entries that are too old, at most a hundred a call.
local function trim_by_age()
  local cutoff = now - tonumber(ARGV[5])
  local oldest = redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
  if not oldest or tonumber(oldest[2][2]) >= cutoff then return end
  local keep_from
  for _, entry in ipairs(redis.call('XRANGE', LOG, '-', '+', 'COUNT', 100)) do
    keep_from = entry[1]
    if tonumber(entry[2][2]) >= cutoff then break end
  end
  redis.call('XTRIM', LOG, 'MINID', keep_from)
end

-- Publishes what was appended.
local function publish()
  if first then
    redis.call('HSET', META, 'seq', int(seq))
    redis.call('PUBLISH', ARGV[3], epoch .. ' ' .. int(first) .. '\n' .. table.concat(payloads))
  end
  trim_by_age()
end

-- Gives the room its time to live, and an eighth more, so that this need not be done in every call.
local function live_on()
  -- A name that lingers for long keeps the room.
  local latest = redis.call('ZRANGE', LEASES, -1, -1, 'WITHSCORES')[2]
  local ttl = math.max(tonumber(ARGV[6]), latest and tonumber(latest) - now + tonumber(ARGV[5]) or 0)
  for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], int(ttl + ttl / 8)) end
end

local function finish()
  publish()
  live_on()
end

-- The same of a script that is called all the time. Of all keys it can only have made the log.
local function finish_often()
  publish()
  local lives = redis.call('PTTL', META) >= tonumber(ARGV[6])
  if not lives or (first and redis.call('PTTL', LOG) < 0) then live_on() end
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
  redis.call('HDEL', ROSTER, skeleton)
  redis.call('ZREM', LEASES, skeleton)
  emit(payload)
  return true
end
