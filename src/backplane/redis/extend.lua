-- Extends leases in many rooms, where all is as it was when they were taken. A room where anything is
-- otherwise is for `renew.lua`: its answer is empty.
--
-- KEYS        of each room: room, names, then the lease of each hold
-- ARGV[1]     the replication id of this Redis, as the connection read it when it opened
-- ARGV[2]     milliseconds of a lease
-- ARGV[3]     how many milliseconds a log keeps its entries
-- ARGV[4]     how many milliseconds a room outlives its last change
-- ARGV[5..]   of each room: how many holds, all their tokens in one, then of each for how many
--             milliseconds its session may linger, and its skeleton
--
-- Reply: for each room nothing, or epoch, seq, past, milliseconds to the earliest deadline

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[2])
-- Until when a name is kept whose session may linger for so long: mostly a few different times.
local kept = {}
-- As in `log.lua`.
local cutoff = now - tonumber(ARGV[3]) * 33 / 32
local remember = tonumber(ARGV[4])

-- Whether each key holds its token and nothing more, as it does while the name does not linger.
local function all_hold(tokens, from, to)
  local held = redis.call('MGET', unpack(KEYS, from, to))
  for i = 1, #held do
    if not held[i] then return false end
  end
  return table.concat(held) == tokens
end

local reply = {}
local key, arg = 1, 5
while key <= #KEYS do
  local room, names = KEYS[key], KEYS[key + 1]
  local count = tonumber(ARGV[arg])
  local standing = redis.call('HGET', room, 'log')
  local epoch, replid, seq, oldest, forgotten, past, _
  if standing then
    -- As log.lua packs it.
    epoch, replid, seq, oldest, _, _, _, _, forgotten, past = struct.unpack('>c16c40ddddddd', standing)
    past = string.sub(standing, past)
  end
  local deadlines, soonest, latest = {}, math.huge, 0
  for i = 1, count do
    local linger = ARGV[arg + 2 * i]
    local ends = kept[linger]
    if not ends then
      ends = now + lease + tonumber(linger)
      kept[linger] = ends
    end
    soonest, latest = math.min(soonest, ends), math.max(latest, ends)
    deadlines[2 * i - 1], deadlines[2 * i] = string.format('%d', ends), ARGV[arg + 1 + 2 * i]
  end
  local answer = {}
  if replid == ARGV[1] and oldest >= cutoff
      and forgotten >= remember + latest - lease
      and redis.call('HLEN', room) - 1 == redis.call('ZCARD', names)
      and all_hold(ARGV[arg + 1], key + 2, key + 1 + count) then
    for i = 1, count do redis.call('PEXPIRE', KEYS[key + 1 + i], ARGV[2]) end
    if redis.call('ZADD', names, 'XX', 'CH', unpack(deadlines)) == count then
      -- Mostly all others' end later than these.
      local sooner = redis.call(
        'ZRANGEBYSCORE', names, '-inf', string.format('(%d', soonest), 'WITHSCORES', 'LIMIT', 0, 1)
      local left = math.max(0, tonumber(sooner[2] or soonest) - now)
      answer = { epoch, seq, past, left }
    end
  end
  reply[#reply + 1] = answer
  key, arg = key + 2 + count, arg + 2 + 2 * count
end
return reply
