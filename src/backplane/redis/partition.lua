-- What scripts know of the leases of replicas in a partition; put in front of those that judge them, after
-- `log.lua` where they have that too. They set these before they call anything here:

-- Keys of the partition, see log.lua, and milliseconds of a lease.
local REPLICAS, DEAD, LINGERING, LEASE

-- In milliseconds of Redis's clock.
local function clock()
  local at = redis.call('TIME')
  return at[1] * 1000 + math.floor(at[2] / 1000)
end

-- Whether whoever has seen this Redis at work from `since` on, and knows it to be so until `upto`, has seen it for
-- so long.
local function has_lasted(needs, since, upto, at)
  return since + needs <= at and at <= upto
end

-- Has keys of a partition live until then, unless they live for longer.
local function keep_until(key, at, ends)
  if at + redis.call('PTTL', key) < ends then
    redis.call('PEXPIREAT', key, string.format('%d', ends))
  end
end

-- Declares a replica dead whose lease has ended.
local function declare_dead(incarnation, ended, at)
  local lives = math.max(100 * LEASE, redis.call('PTTL', REPLICAS))
  redis.call('ZREM', REPLICAS, incarnation)
  redis.call('ZADD', DEAD, string.format('%d', ended), incarnation)
  -- For longer than any room that it may have members in.
  keep_until(DEAD, at, at + lives)
end

-- Milliseconds until the partition's earliest lease ends that is not `own`, or somebody's time to linger; -1 when there
-- is none. Whoever declares a replica dead looks for its members at once; others do half a lease after it ended.
local function next_deadline(own, at)
  local soonest = math.huge
  for rank = 0, 1 do
    local first = redis.call('ZRANGE', REPLICAS, rank, rank, 'WITHSCORES')
    if first[1] ~= own then
      soonest = tonumber(first[2] or soonest)
      break
    end
  end
  local lingers = redis.call('ZRANGE', LINGERING, 0, 0, 'WITHSCORES')[2]
  if lingers then soonest = math.min(soonest, tonumber(lingers)) end
  local dead = redis.call('ZRANGE', DEAD, 0, 0, 'WITHSCORES')[2]
  if dead then soonest = math.min(soonest, tonumber(dead) + LEASE / 2) end
  if soonest == math.huge then return -1 end
  return math.max(0, math.floor(soonest - at))
end
