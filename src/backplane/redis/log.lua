-- Common to all scripts that change a room; put in front of each of them. It opens the room's log:
-- statements rather than functions, since a script makes its functions anew in every call.
--
-- KEYS[1] meta    hash: epoch, seq, replid, past ("epoch:seq epoch:seq ...", the latest last), oldest
--                 (no entry of the log is older, in milliseconds of Redis's clock; an earlier version
--                 of roomcast does not say), first (no entry has a lower seq), bytes (of all payloads), gone
--                 (bytes of those that were dropped), said (there once the log tells more than who came
--                 and went by themselves)
-- KEYS[2] log     stream: entries <seq>-0 with t (milliseconds of Redis's clock) and p (payload), and
--                 every 64th with b (bytes of all payloads before it, with those that were dropped)
-- KEYS[3] roster  hash: skeleton -> "<session> <last client seq> <last seq> <joined> <member>", where
--                 <joined> is the seq of the join behind a t if the room was told, else a u, and
--                 <member> is encoded and ends with: b, a byte 16 and the stream that has the session or
--                 had it last; j, a byte 20 and the number of its attempt; r, a byte 10 and for how
--                 many milliseconds it may linger; an x and a byte that is 1 while the member lingers
-- KEYS[4] leases  sorted set: skeleton -> until when the name is kept, in milliseconds of Redis's
--                 clock: to the end of the lease and, if the stream did not end before, for as long as
--                 the session may linger after it
-- ARGV[1] the replication id of this Redis, as the connection read it when it opened
-- ARGV[2] a random epoch, for a log that is born now
-- ARGV[3] the live channel
-- ARGV[4] how many entries the log keeps, a space, and how many bytes of payloads
-- ARGV[5] how many milliseconds the log keeps them
-- ARGV[6] how many milliseconds the room outlives its last change
--
-- A lease holds a token of 32 digits, the first 16 of which are those of the stream that holds it, and
-- an l behind them while the name lingers.
--
-- Every reply begins with: replication id, epoch, seq, past.

local META, LOG, ROSTER, LEASES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local PAST_EPOCHS = 8
local SLACK, MARK, ROUNDS = 64, 64, 8
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
local meta =
  redis.call('HMGET', META, 'epoch', 'seq', 'replid', 'past', 'oldest', 'first', 'bytes', 'said', 'gone')
local epoch, seq, replid, past, oldest =
  meta[1], tonumber(meta[2]), meta[3], meta[4] or '', tonumber(meta[5] or 0)
local first, bytes, said, gone =
  tonumber(meta[6] or 1), tonumber(meta[7] or 0), meta[8], tonumber(meta[9] or 0)
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
  if seq % MARK == 0 then
    redis.call('XADD', LOG, int(seq), 't', NOW, 'p', payload, 'b', int(gone + bytes))
  else
    redis.call('XADD', LOG, int(seq), 't', NOW, 'p', payload)
  end
  payloads[seq - before] = payload
  bytes = bytes + #payload
  return seq
end

-- Drops what is too many for a log up to an entry that says how much that is: nothing else is read.
local function trim_by_length(most)
  local mark = seq + 1 - most
  mark = mark - mark % MARK
  if mark <= first then return end
  local entry = redis.call('XRANGE', LOG, int(mark), int(mark))[1]
  local passed = entry and tonumber(entry[2][6])
  -- An earlier version of roomcast says nothing.
  if not passed or passed < gone or passed > gone + bytes then return end
  redis.call('XTRIM', LOG, 'MINID', int(mark))
  first, oldest, bytes, gone = mark, tonumber(entry[2][2]), gone + bytes - passed, passed
end

-- Drops the oldest entries of a log that has too many, too large or too old ones. It may have so by a
-- thirty-second part: else there would be some in every other call. What one call appends, it can drop.
local function trim()
  local most, room = string.match(ARGV[4], '^(%d+) (%d+)$')
  most, room = tonumber(most), tonumber(room)
  local age = tonumber(ARGV[5])
  local cutoff = now - age
  local function fits_about()
    return seq - first < most + math.max(SLACK, most / 32) and bytes <= room + room / 32
      and oldest >= cutoff - age / 32
  end
  if fits_about() then return end
  trim_by_length(most)
  for _ = 1, fits_about() and 0 or ROUNDS do
    -- Not more at a time than a script should have in its hands.
    local average = bytes / math.max(1, seq + 1 - first)
    local count = math.max(1, math.min(100, math.floor(65536 / (average + 1))))
    local fits = false
    local entries = redis.call('XRANGE', LOG, '-', '+', 'COUNT', count)
    if #entries == 0 then first = seq + 1 end
    for _, entry in ipairs(entries) do
      first, oldest = tonumber(string.match(entry[1], '^%d+')), tonumber(entry[2][2])
      fits = seq - first < most and bytes <= room and oldest >= cutoff
      if fits then break end
      local size = math.min(bytes, #entry[2][4])
      first, bytes, gone = first + 1, bytes - size, gone + size
    end
    redis.call('XTRIM', LOG, 'MINID', int(first))
    if first > seq then bytes, gone, oldest, fits = 0, gone + bytes, now, true end
    if fits then break end
  end
  redis.call('HSET', META, 'first', int(first), 'bytes', int(bytes), 'gone', int(gone), 'oldest', int(oldest))
end

-- Publishes what was appended, and drops from the log what is too much.
local function publish()
  if seq > before then
    redis.call('HSET', META, 'seq', int(seq), 'bytes', int(bytes))
    redis.call('PUBLISH', ARGV[3], epoch .. ' ' .. int(before + 1) .. '\n' .. table.concat(payloads))
  end
  trim()
end

-- The log tells something that a room is remembered for.
local function note_said()
  if not said then redis.call('HSET', META, 'said', '1') end
  said = '1'
end

-- Gives the room its time to live, and an eighth more, so that this need not be done in every call.
local function live_on()
  -- A name that lingers for long keeps the room.
  local latest = redis.call('ZRANGE', LEASES, -1, -1, 'WITHSCORES')[2]
  local ttl = math.max(tonumber(ARGV[6]), latest and tonumber(latest) - now + tonumber(ARGV[5]) or 0)
  -- Nobody is there, and nothing was said: it stays for a lease, for whoever still reads how that came.
  if not latest and not said then ttl = tonumber(ARGV[6]) - tonumber(ARGV[5]) end
  for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], int(ttl + ttl / 8)) end
end
