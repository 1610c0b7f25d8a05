-- Extends the leases of a replica, in one partition or in many.
--
-- KEYS        of each partition: rooms, replicas, dead, lingering
-- ARGV[1]     milliseconds of a lease
-- ARGV[2..]   of each partition: the incarnation of the replica, empty when it has not held a name yet
--
-- Reply: for each partition 1, or 0 where the lease is lost, milliseconds to the earliest deadline or -1

-- At most so many rooms that were forgotten are removed at a time.
local FORGET = 16

local at = clock()
LEASE = tonumber(ARGV[1])
local ends = string.format('%d', at + LEASE)

local reply = {}
for i = 1, #KEYS / 4 do
  local rooms, own = KEYS[4 * i - 3], ARGV[1 + i]
  REPLICAS, DEAD, LINGERING = KEYS[4 * i - 2], KEYS[4 * i - 1], KEYS[4 * i]
  local held = 1
  if own ~= '' then
    if redis.call('ZSCORE', REPLICAS, own) then
      -- Whoever looks for members of a replica whose lease has ended finds it for longer than any room lives that it may
      -- have members in. A Redis that is full takes what needs no memory, and what follows in the same step.
      local lives = math.max(100 * LEASE, 2 * redis.call('PTTL', rooms))
      redis.call('PEXPIRE', REPLICAS, string.format('%d', lives))
      redis.call('ZADD', REPLICAS, ends, own)
    else
      held = 0
    end
  end
  local forgotten =
    redis.call('ZRANGEBYSCORE', rooms, '-inf', string.format('%d', at), 'LIMIT', 0, FORGET)
  if forgotten[1] then redis.call('ZREM', rooms, unpack(forgotten)) end
  reply[#reply + 1] = held
  reply[#reply + 1] = next_deadline(own, at)
end
return reply
