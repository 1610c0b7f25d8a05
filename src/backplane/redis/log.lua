-- Common to all scripts that change a room; put in front of each of them. It opens the room's log:
-- statements rather than functions, since a script makes its functions anew in every call.
--
-- KEYS[1] meta    hash: epoch, seq, replid, past ("epoch:seq epoch:seq ...", the latest last), oldest
--                 (no entry of the log is older, in milliseconds of Redis's clock; an earlier version
--                 of roomcast does not say)
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
-- A lease holds a token of 32 digits, the first 16 of which are those of the stream that holds it, and
-- an l behind them while the name lingers.
--
-- Every reply begins with: replication id, epoch, seq, past.

local META, LOG, ROSTER, LEASES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local PAST_EPOCHS = 8
local TOKEN = 32

-- Doubles print in scientific notation from 1e15 on; positions must not.
local function int(number)
  return string.format('%d', number)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local NOW = int(now)

-- Where the log stands. A room without meta begins a new log. A log that another Redis wrote goes on
-- in a new epoch: its tail may be missing here, and numbers given out twice must not mean the same
-- position.
local meta = redis.call('HMGET', META, 'epoch', 'seq', 'replid', 'past', 'oldest')
local epoch, seq, replid, past, oldest =
  meta[1], tonumber(meta[2]), meta[3], meta[4] or '', tonumber(meta[5] or 0)
if replid ~= ARGV[1] then
  -- Perhaps only the connection is out of date: a Redis renames itself when it gets its first replica.
  local here = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  if not epoch then
    redis.call('DEL', LOG)
    epoch, seq, replid, oldest = ARGV[2], 0, here, now
    redis.call('HSET', META, 'epoch', epoch, 'seq', '0', 'replid', replid, 'past', past, 'oldest', NOW)
  elseif replid ~= here then
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

local before, payloads = seq, {}

-- Appends one event. Visible to nobody before `publish`.
local function emit(payload)
  seq = seq + 1
  redis.call('XADD', LOG, int(seq), 't', NOW, 'p', payload)
  payloads[seq - before] = payload
  return seq
end

-- Drops entries that are too old, at most a hundred a call. They may be so by a thirty-second part: else
-- there would be one in every other call.
local function trim_by_age()
  local age = tonumber(ARGV[5])
  local cutoff = now - age
  if oldest >= cutoff - age / 32 then return end
  local entries = redis.call('XRANGE', LOG, '-', '+', 'COUNT', 100)
  local keep_from
  for _, entry in ipairs(entries) do
    keep_from, oldest = entry[1], tonumber(entry[2][2])
    if oldest >= cutoff then break end
  end
  if oldest < cutoff then
    if #entries < 100 then oldest = now end
    -- The first id after the last one that was looked at.
    keep_from = keep_from and string.gsub(keep_from, '0$', '1')
  end
  if keep_from then redis.call('XTRIM', LOG, 'MINID', keep_from) end
  redis.call('HSET', META, 'oldest', int(oldest))
end

-- Publishes what was appended, and drops from the log what is too much or too old.
local function publish()
  if seq > before then
    redis.call('XTRIM', LOG, 'MAXLEN', '~', ARGV[4])
    redis.call('HSET', META, 'seq', int(seq))
    redis.call('PUBLISH', ARGV[3], epoch .. ' ' .. int(before + 1) .. '\n' .. table.concat(payloads))
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
