-- Common to all scripts that change a room; put in front of each of them.
--
-- Of each room there are
--   room    hash: `log`, and for each member a field `@<skeleton>`
--   log     stream: entries <seq>-0 with t (milliseconds of Redis's clock) and p (payload), and every
--           64th with b (bytes of all payloads before it, with those that were dropped)
-- and of each partition, all times being milliseconds of Redis's clock,
--   replicas   sorted set: incarnation of a replica -> when its lease ends
--   dead       sorted set: incarnation that was declared dead and may have members yet -> when its lease ended
--   lingering  sorted set: "<room> <skeleton>" -> when its session ends, of members without a stream. Only an index
--              where a member lingers by itself; of one whose replica is dead it is all that tells
--   rooms      sorted set: room -> when it is forgotten, or was to be before that was put off
--
-- The field `log` is packed (see FORM): epoch, the replication id of the Redis that wrote it, then as numbers
-- seq        of the last entry
-- oldest     no entry of the log is older, in milliseconds of Redis's clock
-- first      no entry has a lower seq
-- bytes      of all payloads
-- gone       bytes of those that were dropped
-- said       1 once the log tells more than who came and went by themselves
-- until      when the room is forgotten, in milliseconds of Redis's clock
-- longest    no member's session lingers for longer, in milliseconds; members that have gone may have
-- takeovers  how many streams have lost their sessions to newer ones
-- settings   what holds for all but moderators: milliseconds of slow mode times 4, plus 2 where history is hidden, plus
--            1 where nobody speaks
-- and then, as text, "epoch:seq epoch:seq ...", where earlier epochs ended, the latest last.
--
-- A member is, at these places of its field,
--     1   as numbers: its last client seq, its last seq
--    17   its session, the token of its hold, the incarnation of the replica that has the stream: 32, 32, 16
--    97   l while it lingers, else h
--    98   when its lingering ends, in 15 digits
--   113   for how many milliseconds the session may linger, in 10 digits
--   123   the number of its client's attempt, in 20 digits
--   143   t if the room was told of its join, else u
--   144   as a number: the seq of the join, or of the last entry before it
--   152   its role by its token, and the one that was set for it or -, a letter each: n none, r reader, m member,
--         d moderator, o owner
--   154   as numbers: until when it may not speak, or 0, and when it last spoke in slow mode, or 0, in milliseconds of
--         Redis's clock
--   170   as a number: the seq of the session's first join, or of the last entry before it
--   178   encoded, what is of no interest to scripts
-- The first 16 digits of a token are those of the stream.
--
-- ARGV[1] the replication id of this Redis, as the connection read it when it opened
-- ARGV[2] a random epoch, for a log that is born now
-- ARGV[3] as packed numbers: how many entries the log keeps, and how many bytes of payloads
-- ARGV[4] how many milliseconds the log keeps them
-- ARGV[5] how many milliseconds the room outlives its last change
--
-- Every reply about a room begins with: replication id, epoch, seq, past.

local PAST_EPOCHS, FEW_EPOCHS = 64, 8
local SLACK, MARK, ROUNDS = 64, 64, 8
local FORM = '>c16c40dddddddddd'

-- Doubles print in scientific notation from 1e15 on; positions must not.
local function int(number)
  return string.format('%d', number)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local NOW = int(now)
local most, most_bytes = struct.unpack('>dd', ARGV[3])
local age, remember = tonumber(ARGV[4]), tonumber(ARGV[5])
-- A room with members lives for six leases at least, whatever its age: replicas ask for it every four.
local OCCUPIED = math.max(remember, 6 * (remember - age))
-- A log may have a thirty-second part more than that: else there would be something to drop in every other call.
local MOST, MOST_BYTES = most + math.max(SLACK, most / 32), most_bytes + most_bytes / 32
local OLDEST = now - age - age / 32

-- The room that is open: its keys, its channel, and where its log stands.
local ROOM, LOG, ROOMS, LIVE
local epoch, replid, seq, oldest, first, bytes, gone, said, forgotten, longest, takeovers, settings, past
local before, payloads
-- The field `log` as it is.
local STANDING

-- Opens a room, of which `entry` is the field `log`. A room without one begins a new log. A log that another
-- Redis wrote goes on in a new epoch: its tail may be missing here, and numbers given out twice must not mean
-- the same position.
local function open(room, log, rooms, live, entry)
  ROOM, LOG, ROOMS, LIVE, STANDING = room, log, rooms, live, entry
  if entry then
    local rest
    epoch, replid, seq, oldest, first, bytes, gone, said, forgotten, longest, takeovers, settings, rest =
      struct.unpack(FORM, entry)
    past = string.sub(entry, rest)
  else
    epoch, replid, seq, oldest, first, bytes, gone, said, forgotten, longest, takeovers, settings, past =
      ARGV[2], nil, 0, now, 1, 0, 0, 0, 0, 0, 0, 0, ''
  end
  before, payloads = seq, {}
  if replid == ARGV[1] then return end
  -- Perhaps only the connection is out of date: a Redis renames itself when it gets its first replica.
  local here = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  if not entry then
    redis.call('DEL', LOG)
  elseif replid ~= here then
    local ends, names = {}, {}
    for e, s in string.gmatch(past .. ' ' .. epoch .. ':' .. int(seq), '(%x+):(%d+)') do
      ends[#ends + 1] = math.min(tonumber(s), seq)
      names[#names + 1] = e .. ':' .. int(ends[#ends])
    end
    -- As far as the log reaches, it has to be known in which epoch an entry was written.
    local oldest_kept = math.max(1, #names - PAST_EPOCHS + 1)
    while #names - oldest_kept >= FEW_EPOCHS and ends[oldest_kept] < first do
      oldest_kept = oldest_kept + 1
    end
    past, epoch = table.concat(names, ' ', oldest_kept), ARGV[2]
  end
  replid = here
end

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

-- Publishes what was appended.
local function publish()
  if seq == before then return end
  redis.call('SPUBLISH', LIVE,
    epoch .. ' ' .. int(before + 1) .. '\n' .. (payloads[2] and table.concat(payloads) or payloads[1]))
end

-- Whether nothing has to be dropped.
local function fits_about()
  return seq - first < MOST and bytes <= MOST_BYTES and oldest >= OLDEST
end

-- Drops the oldest entries of a log that has too many, too large or too old ones, if it has. What one call appends,
-- it can drop.
local function trim()
  if fits_about() then return false end
  -- What is too many, up to an entry that says how much that is: nothing else is read.
  local mark = seq + 1 - most
  mark = mark - mark % MARK
  local entry = mark > first and redis.call('XRANGE', LOG, int(mark), int(mark))[1]
  local passed = entry and tonumber(entry[2][6])
  if passed and passed >= gone and passed <= gone + bytes then
    redis.call('XTRIM', LOG, 'MINID', int(mark))
    first, oldest, bytes, gone = mark, tonumber(entry[2][2]), gone + bytes - passed, passed
  end
  for _ = 1, fits_about() and 0 or ROUNDS do
    -- Not more at a time than a script should have in its hands.
    local average = bytes / math.max(1, seq + 1 - first)
    local count = math.max(1, math.min(100, math.floor(65536 / (average + 1))))
    local fits = false
    local entries = redis.call('XRANGE', LOG, '-', '+', 'COUNT', count)
    if #entries == 0 then first = seq + 1 end
    for _, entry in ipairs(entries) do
      first, oldest = tonumber(string.match(entry[1], '^%d+')), tonumber(entry[2][2])
      fits = seq - first < most and bytes <= most_bytes and oldest >= now - age
      if fits then break end
      local size = math.min(bytes, #entry[2][4])
      first, bytes, gone = first + 1, bytes - size, gone + size
    end
    redis.call('XTRIM', LOG, 'MINID', int(first))
    if first > seq then bytes, gone, oldest, fits = 0, gone + bytes, now, true end
    if fits then break end
  end
  return true
end

-- Writes where the log stands beside these fields and values, as far as that is new, and has the room live for
-- so long and an eighth more, unless it does: so that this need not be done in every call.
local function keep(time, changes)
  -- What was appended to a log that had nothing may have made it.
  local lives = forgotten >= now + time and before >= first
  if not lives then forgotten = now + time + math.floor(time / 8) end
  local packed = struct.pack(FORM, epoch, replid, seq, oldest, first, bytes, gone, said, forgotten, longest,
    takeovers, settings) .. past
  if packed ~= STANDING then
    local count = #changes
    changes[count + 1], changes[count + 2] = 'log', packed
    STANDING = packed
  end
  if changes[1] then redis.call('HSET', ROOM, unpack(changes)) end
  if not lives then
    local ends = int(forgotten)
    redis.call('PEXPIREAT', ROOM, ends)
    redis.call('PEXPIREAT', LOG, ends)
    redis.call('ZADD', ROOMS, ends, string.match(ROOM, ':room:(.*)$'))
    -- It lives for as long as the room that lives longest.
    if now + redis.call('PTTL', ROOMS) < forgotten then redis.call('PEXPIREAT', ROOMS, ends) end
  end
end

-- Keeps what was appended, beside these fields and values, before anything else that may fail: a log must not have
-- more than it is known to have. Then tells of it, and drops what is too much.
local function close(time, changes)
  keep(time, changes)
  publish()
  if trim() then keep(time, {}) end
end
