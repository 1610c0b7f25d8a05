-- Declares replicas of a partition dead whose leases have ended, and names whoever may have lingered for too long.
--
-- KEYS[1..3]  replicas, dead, lingering
-- ARGV[1]     milliseconds of a lease
-- ARGV[2]     the incarnation of the replica that asks
-- ARGV[3,4]   from when on this Redis was seen at work, and until when that counts, in milliseconds of
--             its clock
-- ARGV[5]     at most so many
-- ARGV[6]     1 to look for members of the dead whatever others do
--
-- Reply: milliseconds to the earliest deadline or -1, then "<room> <skeleton>" of each that may have lingered for
-- too long, then the incarnations whose members are to be looked for

REPLICAS, DEAD, LINGERING, LEASE = KEYS[1], KEYS[2], KEYS[3], tonumber(ARGV[1])
local at = clock()
local now = string.format('%d', at)

local seeks = ARGV[6] == '1'
if has_lasted(LEASE, tonumber(ARGV[3]), tonumber(ARGV[4]), at) then
  local late = redis.call('ZRANGEBYSCORE', REPLICAS, '-inf', now, 'WITHSCORES')
  for i = 1, #late, 2 do
    if late[i] ~= ARGV[2] then
      declare_dead(late[i], tonumber(late[i + 1]), at)
      seeks = true
    end
  end
end
local lingered = redis.call('ZRANGEBYSCORE', LINGERING, '-inf', now, 'LIMIT', 0, ARGV[5])
-- What another replica has begun, and not done in half a lease, it will not do any more.
local latest = seeks and now or string.format('%d', at - LEASE / 2)
local dead = redis.call('ZRANGEBYSCORE', DEAD, '-inf', latest)
return { next_deadline(ARGV[2], at), lingered, dead }
